"""Calls by name, of built-in and other recurrences: inputs made from what a spec declares.

A gate is whatever a decay depends on. On a GPU, with RNNC_TEST_DEVICE=cuda TRITON_INTERPRET=0, it is the
kernels that are compared.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from math import isfinite

import torch
from torch import Tensor

import rnnc
import rnnc.ops
from rnnc.codegen.numerics import own_decays
from rnnc.dsl.expression import Expression, Multiply, names
from rnnc.dsl.interpreter import evaluate
from rnnc.dsl.interval import Interval, hull
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.ranges import environment, infer
from rnnc.dsl.recurrence import Input
from rnnc.dsl.spectrum import spectrum
from rnnc.dsl.stages import split
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case, draw_arguments, draw_states
from rnnc.ops.reference import TorchArithmetic
from rnnc.ops.trial import Trial

DEVICE = os.environ.get("RNNC_TEST_DEVICE", "cpu")
SIZE = 16
OUTPUTS, GRADIENTS = 1e-5, 1e-4  # the promised ratio of the error's RMS to the result's
NATURAL = 1e-2  # a gradient is measured against itself, or this share of |results| / |argument|
NEGATIVE = (-1000, -100, -30, -10, -5, -2, -1, -0.1, -1e-3)
VALUES = (*NEGATIVE, 0, 1e-3, 0.1, 0.5, 0.9, 0.999, 1, 2, 5, 10, 30, 100, 1000)

DELTA = (
    "let u = unit(k)\n{0}\nS <- {1} * (S - sigmoid(b) * u @ (u.T @ S)) + sigmoid(b) * u @ v.T\no <- S.T @ q"
)
OLD = (
    "let u = unit(k)\n{0}\nS <- {1} * S - sigmoid(b) * u @ (u.T @ S) + sigmoid(b) * u @ v.T\n"
    "o <- S.T @ unit(q)"
)
MOMENTUM = (
    "let u = unit(k)\n{0}\nstate M[K, V]\nM <- 0.5 * {1} * M + sigmoid(b) * u @ (v - {1} * S.T @ u).T\n"
    "S <- {1} * S + sigmoid(b) * M\no <- S.T @ q"
)
TURNING = (
    "{0}\nstate M[K, V]\nlet old = S\nS <- {1} * (cos(b) * S - sin(b) * M) + k @ v.T\n"
    "M <- {1} * (sin(b) * old + cos(b) * M)\no <- S.T @ q + M.T @ k"
)
DECAYED = "let u = unit(k)\n{0}\nS <- {1} * S\nS <- S + sigmoid(b) * u @ (v - S.T @ u).T\no <- S.T @ unit(q)"
OJA = "let w = unit(v)\n{0}\nS <- {1}\nS <- S + sigmoid(b) * (k - S @ w) @ w.T\no <- S.T @ unit(q)"
MEAN = "state m\n{0}\nm <- {1} * m + (1 - {1}) * a\nS <- sigmoid(m) * S + sigmoid(m) * k @ v.T\no <- S.T @ q"
PLAIN = "{0}\nS <- {1} * S + k @ v.T\no <- S.T @ q"
EXTRA = {
    "log_decay": ("input g in (-inf, 0]", PLAIN, "exp(g)"),
    "log_decays": ("input g[K] in (-inf, 0]", PLAIN, "exp(g)"),
    "complement": ("input f", PLAIN, "(1 - sigmoid(f))"),
    "complements": ("input f[K]", PLAIN, "(1 - sigmoid(f))"),
    "resets": ("input d in [0, 1]\ninput b", DELTA, "d"),
    "signed": ("input d in [-1, 1]\ninput b", DELTA, "d"),
    "channel_resets": ("input d[K] in [0, 1]\ninput b", DELTA, "d"),
    "channel_signed": ("input d[K] in [-1, 1]", PLAIN, "d"),
    "resetting_momentum": ("input d in [0, 1]\ninput b", MOMENTUM, "d"),
    "signed_momentum": ("input d in [-1, 1]\ninput b", MOMENTUM, "d"),
    "turning": ("input d in [-1, 1]\ninput b", TURNING, "d"),
    "log_delta": ("input g in (-inf, 0]\ninput b", OLD, "exp(g)"),
    "decays_of_both": ("input g[K] in (-inf, 0]\ninput h[V]", PLAIN, "exp(g) * (1 - sigmoid(h))"),
    "value_resets": ("input d[V] in [0, 1]\ninput b", DECAYED, "d"),
    "oja_of_both": ("input g[V] in (-inf, 0]\ninput d[K] in [0, 1]\ninput b", OJA, "exp(g) * d * S"),
    "log_deltas": ("input g[K] in (-inf, 0]\ninput b", OLD, "exp(g)"),
    "mean_gate": ("input d in [0, 1]\ninput a", MEAN, "d"),
}
NAMES = [*rnnc.ops.builtin_names(), *EXTRA]


@cache
def operator(name: str) -> Operator:
    """A built-in, or one of the extra recurrences."""
    if name not in EXTRA:
        found = getattr(rnnc.ops, name)
        assert isinstance(found, Operator)
        return found
    declared, body, decay = EXTRA[name]
    state = "state S[K, V]\noutput o[V]"
    lines = ["input q[K], k[K], v[V]", *declared.splitlines(), *body.format(state, decay).splitlines()]
    return rnnc.compile(f"recurrence {name}[K, V]:\n" + "".join(f"    {line}\n" for line in lines))


def make(
    name: str, *lengths: int, size: int = SIZE, H: int = 2, scale: float = 1.0, chunk: int = 64
) -> Trial:
    """A float32 call on random arguments; several lengths are packed."""
    found = operator(name)
    recurrence = found.recurrence
    sizes = dict.fromkeys(recurrence.axes, size) | dict.fromkeys(recurrence.loops, 2)
    groups = {x.name: H for x in recurrence.inputs if x.per_group}
    case = Case(7, lengths, len(lengths) > 1, H, sizes, groups, initial=True, reverse=False, chunk_size=chunk)
    arguments = draw_arguments(recurrence, case, scale * calm(name, max(lengths)))
    return Trial(found, case, tuple(arguments), tuple(x * scale for x in draw_states(recurrence, case)))


@cache
def calm(name: str, length: int) -> float:
    """1, or what keeps the state moderate where nothing bounds the transition.

    The squares of |a| |b| add up over the tokens when I + b a^T is multiplied for random a and b.
    """
    stages = map(normalise, split(operator(name).recurrence))
    return 1.0 if all(isfinite(spectrum(stage).norm) for stage in stages) else length**-0.25


def computed(trial: Trial, form: str, backend: str) -> dict[str, Tensor]:
    """The results by the back end, or by the kernels of the device that was asked for."""
    if DEVICE == "cpu":
        return trial.evaluate(form, backend)
    arguments, states = (tuple(x.to(DEVICE) for x in xs) for xs in (trial.arguments, trial.states))
    moved = replace(trial, arguments=arguments, states=states)
    found = moved.evaluate("recurrent" if form == "recurrent" else "auto", "triton")
    return {what: x.cpu() for what, x in found.items()}


def compare(
    trial: Trial,
    reference: str | None = None,
    form: str = "chunked",
    outputs: float = OUTPUTS,
    gradients: float = GRADIENTS,
    params: bool = True,
    backend: str = "torch",
) -> None:
    """Raises where the results are further from those in float64 than promised.

    Without `params` their gradients are left out: a sum over all tokens of cotangents that float16 rounds may
    cancel to anything.
    """
    expected = trial.to(torch.float64).evaluate(reference)
    found = computed(trial, form, backend)
    leaves = trial._leaves(trial.arguments, trial.states)
    size = sum(float(x.norm()) for what, x in expected.items() if what not in leaves)
    state = max(float(x.norm()) for what, x in expected.items() if what.startswith("final"))
    wrong = {}
    summed = () if params else tuple(f"gradient of '{x.name}'" for x in trial.operator.recurrence.params)
    for what, value in found.items():
        if what in summed:
            continue
        error, natural = float((value.double() - expected[what]).norm()), float(expected[what].norm())
        if what in leaves:
            natural = max(natural, NATURAL * size / max(float(leaves[what].double().norm()), 1e-30))
        if what.startswith("final"):  # states that mix are parts of one
            natural = max(natural, state)
        ratio = error / max(natural, 1e-30)
        if not ratio <= (gradients if what in leaves else outputs):
            wrong[what] = ratio
    assert not wrong, f"{trial.operator.name}: {wrong}"


def packed(states: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
    """A state as a call takes it: one array, or several."""
    return states[0] if len(states) == 1 else tuple(states)


def set_inputs(trial: Trial, change: Callable[[Input, Tensor], Tensor]) -> Trial:
    """The trial with its inputs changed."""
    inputs = trial.operator.recurrence.inputs
    changed = [change(x, value.clone()) for x, value in zip(inputs, trial.arguments, strict=False)]
    return replace(trial, arguments=(*changed, *trial.arguments[len(inputs) :]))


@cache
def decays(name: str, momentum: bool = False) -> tuple[Expression, ...]:
    """The decay; of states that mix, those of the states that are read out, or all with `momentum`.

    A momentum that loses nothing swings for ever, and grows without bound under keys that change.
    """
    stages = [normalise(stage) for stage in split(operator(name).recurrence)]
    if stages[0].coupled is None:
        found = (Multiply(stage.decays) for stage in stages if stage.decays)
        arguments = {x.name for x in operator(name).recurrence.arguments}
        return tuple(decay for decay in found if names(decay) <= arguments)  # not those of a state
    (normal,) = stages
    read = {readout.state for readout in normal.readouts}
    return tuple(decay for state, decay in own_decays(normal.coupled) if momentum or state in read)


def gates(trial: Trial, momentum: bool = False) -> list[Input]:
    """The inputs that the decays depend on."""
    used = frozenset().union(*map(names, decays(trial.operator.name, momentum)))
    return [x for x in trial.operator.recurrence.inputs if x.name in used]


def gate_values(trial: Trial, target: float) -> dict[str, float]:
    """Values of the gates under which the decays are closest to the target."""
    found = gates(trial)
    if not found:
        return {}
    arithmetic = TorchArithmetic(trial.case.sizes, torch.float64, torch.device("cpu"))
    recurrence = trial.operator.recurrence
    params = trial.arguments[len(recurrence.inputs) :]
    scope = {p.name: x.double()[None] for p, x in zip(recurrence.params, params, strict=True)}
    every_value = itertools.product(*([v for v in VALUES if allowed(x.range, v)] for x in found))
    tried = torch.tensor(list(every_value), dtype=torch.float64)  # [attempts, gates]
    chosen = {x.name: v.view(-1, 1, *[1] * len(x.axes)) for x, v in zip(found, tried.T, strict=True)}
    reached = [evaluate(decay, arithmetic, scope | chosen) for decay in decays(trial.operator.name)]
    away = torch.stack([(x - target).abs().flatten(1).amax(1).expand(len(tried)) for x in reached])
    return dict(zip((x.name for x in found), tried[away.amax(0).argmin()].tolist(), strict=True))


def allowed(interval: Interval | None, value: float) -> bool:
    """Whether a promised range holds the value."""
    if interval is None:
        return True
    low = value > interval.low or (value == interval.low and not interval.low_open)
    return low and (value < interval.high or (value == interval.high and not interval.high_open))


def with_decay(trial: Trial, target: float, tokens: slice = slice(None)) -> Trial:
    """The trial with the gates of some tokens set so that the decay is close to the target there."""
    values = gate_values(trial, target)

    def change(x: Input, value: Tensor) -> Tensor:
        if x.name in values:
            value[:, tokens] = values[x.name]
        return value

    return set_inputs(trial, change)


def over_all_gates(
    name: str, dtype: torch.dtype, chunk: int = 64, tokens: int = 4096, size: int = 4
) -> Trial:
    """A sequence whose decays go over all their range, up and down, its ends included."""
    trial = make(name, tokens, size=size, H=1, chunk=chunk)
    ranges = environment(trial.operator.recurrence)
    found = hull(infer(decay, ranges) for decay in decays(name))
    low, high = max(found.low, -1.0), min(found.high, 1.0)
    run = tokens // 17
    for part in range(17):
        target = low + (high - low) * min(part, 16 - part) / 8
        here = slice(part, None, 17) if part % 2 else slice(part * run, part * run + run)
        trial = with_decay(trial, target, here)
    count = len(trial.operator.recurrence.inputs)
    inputs = tuple(x.to(dtype) for x in trial.arguments[:count])
    return replace(trial, arguments=(*inputs, *trial.arguments[count:]))
