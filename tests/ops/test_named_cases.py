"""The cases that break recurrent kernels, by name: every class is held to all of them.

float32 against the float64 token loop (or, over long sequences, another form in float64), outputs, states
and all gradients. The inputs of a case are made from what a spec declares: a gate is whatever its decay
depends on. On a GPU, with RNNC_TEST_DEVICE=cuda TRITON_INTERPRET=0, it is the kernels that are compared.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from math import isfinite

import pytest
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

every = pytest.mark.parametrize("name", NAMES)


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


@every
@pytest.mark.parametrize("T", [1, 63, 64, 65])
def test_lengths(name: str, T: int) -> None:
    compare(make(name, T, size=8, H=1))


@every
def test_a_thousand_tokens(name: str) -> None:
    compare(make(name, 1000, size=8, H=1), reference="chunked")


@every
def test_one_strong_decay_among_weak(name: str) -> None:
    trial = with_decay(with_decay(make(name, 130), 1), 0, slice(20, None, 64))
    compare(trial)


@every
def test_all_decays_one_over_8192_tokens(name: str) -> None:
    compare(with_decay(make(name, 8192, size=4, H=1), 1), reference="chunked")


@every
def test_resets(name: str) -> None:
    compare(with_decay(make(name, 70, size=8), 0, slice(5, None, 9)))


@every
def test_nothing_but_resets(name: str) -> None:
    compare(with_decay(make(name, 40, size=8), 0))


def over_all_gates(name: str, dtype: torch.dtype, chunk: int = 64, size: int = 4) -> Trial:
    """4,096 tokens whose decays go over all their range, up and down, its ends included."""
    trial = make(name, 4096, size=size, H=1, chunk=chunk)
    ranges = environment(trial.operator.recurrence)
    found = hull(infer(decay, ranges) for decay in decays(name))
    low, high = max(found.low, -1.0), min(found.high, 1.0)
    for part in range(17):
        target = low + (high - low) * min(part, 16 - part) / 8
        trial = with_decay(
            trial, target, slice(part, 4096, 17) if part % 2 else slice(part * 240, part * 240 + 240)
        )
    count = len(trial.operator.recurrence.inputs)
    inputs = tuple(x.to(dtype) for x in trial.arguments[:count])
    return replace(trial, arguments=(*inputs, *trial.arguments[count:]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@every
def test_gates_over_their_whole_range(name: str, dtype: torch.dtype) -> None:
    if not gates(make(name, 1, size=4, H=1)):
        pytest.skip("its decays are constant: they depend on no input")
    rounded = {torch.float32: (OUTPUTS, GRADIENTS), torch.float16: (1e-3, 1e-3)}[dtype]
    params = dtype == torch.float32
    trial = over_all_gates(name, dtype)
    compare(trial, reference="chunked", outputs=rounded[0], gradients=rounded[1], params=params)


# One recurrence for each way of computing decays, with chunks as long as its kernels take them; where the
# interpreter is slow, in one precision.
HALF, SINGLE, BOTH = (torch.float16,), (torch.float32,), (torch.float32, torch.float16)
SWEPT = {
    "log_decay": (128, BOTH),  # base-2 logarithms, one per token
    "log_decays": (128, BOTH),  # per channel
    "log_delta": (64, BOTH),  # under a read of the state
    "mamba2_signed": (128, BOTH),  # products
    "channel_signed": (128, BOTH),  # products per channel
    "decays_of_both": (128, HALF),  # over both axes of the state
    "value_resets": (64, SINGLE),  # the value side, by products
    "resetting_momentum": (64, SINGLE),  # coupled states
    "mean_gate": (128, HALF),  # a state of one number, which is the gate of another
    "gated_delta_product": (32, SINGLE),  # micro-steps
    "preconditioned_delta": (64, HALF),  # a state of one axis, whose readout is another's key
}
# A delta rule that forgets nothing: where keys of a chunk are in few dimensions, what tokens write cancels,
# but not its rounding as an operand (1e-3 in float16, as of `delta_net`).
WIDE = {"preconditioned_delta": 16}


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, (_, dtypes) in SWEPT.items() for dtype in dtypes]
)
def test_kernels_over_the_whole_range_of_gates(name: str, dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    rounded = {torch.float32: (OUTPUTS, GRADIENTS), torch.float16: (1e-3, 2e-3)}[dtype]
    trial = over_all_gates(name, dtype, SWEPT[name][0], WIDE.get(name, 4))
    params = dtype == torch.float32
    compare(trial, "chunked", "chunked", *rounded, params, "triton")


@pytest.mark.parametrize(
    "name",
    ["resets", "signed", "channel_resets", "channel_signed", "value_resets", "resetting_momentum", "turning"],
)
def test_a_reset_cuts_the_sequence(name: str) -> None:
    """A decay of zero: the same as two packed sequences, values and gradients."""
    count, cut = 150, 70
    trial = with_decay(make(name, count, size=8), 0, slice(cut, cut + 1))
    bounds = torch.tensor([0, cut, count])
    found = []
    for cu_seqlens in (None, bounds):
        leaves = [x.clone().requires_grad_() for x in trial.arguments]
        options = {"chunk_size": 64, "output_final_state": True, "cu_seqlens": cu_seqlens}
        out, state = trial.operator(*leaves, **options)
        final = [x[-1:] for x in ((state,) if isinstance(state, Tensor) else state)]
        loss = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
        loss = loss + torch.stack([x.square().sum() for x in final]).sum()
        found.append([out, torch.stack(final), *torch.autograd.grad(loss, leaves)])
    for whole, packed, declared in zip(*found, (None, None, *trial.operator.recurrence.inputs), strict=True):
        if (
            declared is not None and declared.name == "d"
        ):  # what the first sequence would have added at the cut
            whole, packed = (torch.cat([x[:, :cut], x[:, cut + 1 :]], 1) for x in (whole, packed))
        torch.testing.assert_close(whole, packed, rtol=1e-5, atol=1e-5)


@every
def test_strong_writes_of_correlated_keys(name: str) -> None:
    """Gates that are not decays at their upper end, keys alike, nothing forgotten."""
    trial = with_decay(make(name, 200), 1)
    kept = {x.name for x in gates(trial, momentum=True)}
    generator = torch.Generator().manual_seed(3)

    def change(x: Input, value: Tensor) -> Tensor:
        if x.name in kept:
            return value
        if not x.axes:
            return torch.full_like(value, 8.0 if x.range is None else min(x.range.high, 8.0))
        return value[:, :1] + 1e-3 * torch.randn(value.shape, generator=generator) * value[:, :1].abs().mean()

    compare(set_inputs(trial, change), reference="recurrent")


@every
def test_small_operands_under_strong_decay(name: str) -> None:
    compare(with_decay(make(name, 70, scale=1e-6), 0.0067))


@every
def test_packed_with_empty_sequences(name: str) -> None:
    compare(make(name, 0, 65, 0, 1, 17, 0, size=8))


@every
def test_nan_stays_in_its_sequence(name: str) -> None:
    trial = make(name, 20, 0, 70, 3, size=8)

    def change(x: Input, value: Tensor) -> Tensor:
        value[:, 25] = float("nan")
        return value

    clean, spoilt = trial.evaluate("chunked"), set_inputs(trial, change).evaluate("chunked")
    count = sum(trial.case.lengths)
    for what, value in spoilt.items():
        if value.shape[:2] == (1, count):
            assert torch.equal(value[:, :20], clean[what][:, :20]), what
            assert torch.equal(value[:, 90:], clean[what][:, 90:]), what
        elif value.shape[0] == 4 and what.startswith(("final", "gradient of initial")):
            assert torch.equal(value[[0, 1, 3]], clean[what][[0, 1, 3]]), what
    assert spoilt[next(iter(spoilt))][:, 25:90].isnan().any()


@every
def test_two_calls_are_one(name: str) -> None:
    trial = make(name, 100, size=8).to(torch.float64)
    count = len(trial.operator.recurrence.inputs)

    def run(*cuts: int) -> list[Tensor]:
        leaves = [x.clone().requires_grad_() for x in (*trial.arguments, *trial.states)]
        first = count + len(trial.operator.recurrence.params)
        inputs, params, state = leaves[:count], leaves[count:first], packed(leaves[first:])
        parts = []
        for start, stop in itertools.pairwise((0, *cuts, 100)):
            given = (x[:, start:stop] for x in inputs)
            out, state = trial.operator(*given, *params, initial_state=state, output_final_state=True)
            parts.append(out if isinstance(out, Tensor) else torch.cat(out, -1))
        whole = torch.cat(parts, 1)
        weight = torch.linspace(-1, 1, whole.numel(), dtype=torch.float64).view_as(whole)
        final = [state] if isinstance(state, Tensor) else list(state)
        loss = (whole * weight).sum() + torch.stack([x.square().sum() for x in final]).sum()
        return [whole, *final, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)]

    for once, twice in zip(run(), run(37), strict=True):
        torch.testing.assert_close(once, twice, rtol=1e-9, atol=1e-9)


@every
def test_the_future_leaves_no_trace(name: str) -> None:
    """Outputs of a prefix, and their gradients, are the same bit for bit whatever follows."""
    trial, cut = make(name, 150), 70
    other = make(name, 150, scale=30.0 if calm(name, 150) == 1 else 3.0)

    def change(x: Input, value: Tensor) -> Tensor:
        index = trial.operator.recurrence.inputs.index(x)
        value[:, cut:] = other.arguments[index][:, cut:]
        return value

    found = []
    for each in (trial, with_decay(set_inputs(trial, change), 0, slice(cut, None, 3))):
        leaves = [x.clone().requires_grad_() for x in each.arguments]
        out, _ = each.operator(*leaves, initial_state=packed(each.states), chunk_size=64)
        prefix = [x[:, :cut] for x in ((out,) if isinstance(out, Tensor) else out)]
        loss = torch.stack([x.square().sum() for x in prefix]).sum()
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        count = len(each.operator.recurrence.inputs)
        found.append([*prefix, *(g[:, :cut] for g in gradients[:count]), *gradients[count:]])
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)
