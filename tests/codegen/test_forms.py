"""A chunk is its tokens one by one: chunked against recurrent form, many recurrences, in float64."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from rnnc.codegen.compiler import Compiled, analyse
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.operations import ROW, VALID
from rnnc.codegen.program import Program
from rnnc.dsl.interval import Interval
from rnnc.dsl.recurrence import Input, Param

pytestmark = pytest.mark.smoke

SIZES = {"K": 3, "V": 2}
TOKENS = 6

DECAYS = {
    "none": ("", "1"),
    "constant": ("", "0.9"),
    "zero": ("", "0"),
    "param": ("param g in (0, 1)", "g"),
    "scalar": ("input g", "sigmoid(g)"),
    "scalar with resets": ("input g in [0, 1]", "g"),
    "scalar of both signs": ("input g in [-1, 1]", "g"),
    "vector": ("input g[K]", "exp(-softplus(g))"),
    "vector with resets": ("input g[K] in [0, 1]", "g"),
    "vector of both signs": ("input g[K] in [-1, 1]", "g"),
    "vector param": ("param g[K]", "sigmoid(g)"),
    "scalar and vector": ("input g, h[K]", "(sigmoid(g) * sigmoid(h))"),
    "complement": ("input g", "(1 - sigmoid(g))"),
    "may round to zero": ("input g", "(1 - sigmoid(g)**2)"),
}
UPDATES = {
    "nothing": ["S <- {D} * S"],
    "one write": ["S <- {D} * S + k @ v.T"],
    "two writes": ["S <- {D} * S + k @ v.T + e @ z.T"],
    "a read of the old state": ["S <- {D} * S - b * k @ (k.T @ S) + k @ v.T"],
    "a read of the decayed state": ["S <- {D} * S", "S <- S + b * k @ (v - S.T @ k).T"],
    "a read that writes nothing": ["S <- {D} * S - e @ (k.T @ S)"],
    "two reads": ["S <- {D} * S - b * k @ (k.T @ S) - e @ (k.T @ S) - k @ (e.T @ S) + e @ v.T"],
    "two reads, one after the other": [
        "S <- {D} * S",
        "S <- S - k @ (k.T @ S - v.T)",
        "S <- S - e @ (b * e.T @ S - z.T)",
    ],
    "three reads": ["S <- {D} * S - b * k @ (k.T @ S) - e @ (e.T @ S) + q @ (z.T + k.T @ S)"],
}
OUTPUTS = {
    "new state": ["U", "o <- S.T @ q"],
    "old state": ["o <- S.T @ q", "U"],
    "both, with a bonus": ["let old = S.T @ q", "U", "o <- old + S.T @ (b * e) + sum(q * k, K) * v"],
    "an epilogue": ["U", "o <- tanh(S.T @ q) / max(abs(b), 1) + silu(z) * (S.T @ e)"],
    "a norm": ["U", "o <- (S.T @ q) * (sum((S.T @ q)**2, V) + 1)**-0.5"],
    "a skip": ["U", "o <- S.T @ q * K**-0.5 + b * v"],
}
CASES = [(decay, "a read of the old state", "new state") for decay in DECAYS]
CASES += [(decay, "a read of the decayed state", "old state") for decay in DECAYS]
CASES += [(decay, "three reads", "both, with a bonus") for decay in DECAYS]
CASES += [("vector", update, "new state") for update in UPDATES]
CASES += [("scalar of both signs", update, "old state") for update in UPDATES]
CASES += [("none", update, "both, with a bonus") for update in UPDATES]
CASES += [("scalar", "two reads", output) for output in OUTPUTS]


@cache
def compiled(decay: str, update: str, output: str) -> Compiled:
    declared, value = DECAYS[decay]
    updates = [line.format(D=value) for line in UPDATES[update]]
    lines = ["input q[K], k[K], e[K], v[V], z[V], b", *declared.splitlines(), "state S[K, V]", "output o[V]"]
    for line in OUTPUTS[output]:
        lines += updates if line == "U" else [line]
    return analyse("recurrence r[K, V]:\n" + "".join(f"    {line}\n" for line in lines))


def draw(declared: Input | Param, source: np.random.Generator, tokens: int) -> np.ndarray:
    shape = ([tokens] if isinstance(declared, Input) else []) + [SIZES[axis] for axis in declared.axes]
    range_ = declared.range or Interval(-1, 1)
    values = source.uniform(range_.low, range_.high, shape)
    if not range_.low_open and declared.range is not None and range_.low <= 0:
        values *= source.random(shape) < 0.7  # resets
    return values


def by_tokens(
    program: Program, loads: dict[str, np.ndarray], inputs: set[str], tokens: int
) -> dict[str, np.ndarray]:
    """A token's program run token by token: outputs stacked, the last state."""
    state, steps = loads["S"], []
    for t in range(tokens):
        here = {name: value[t] if name in inputs else value for name, value in loads.items()} | {"S": state}
        found = evaluate(program, here, SIZES, FLOAT64)
        state = found.pop("S")
        steps.append(found)
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]} | {"S": state}


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_chunk_is_its_tokens(case: tuple[str, str, str]) -> None:
    """Also where the last rows lie beyond the sequence."""
    spec = compiled(*case)
    source = np.random.default_rng(0)
    declared = [*spec.recurrence.inputs, *spec.recurrence.params]
    loads = {d.name: draw(d, source, TOKENS) for d in declared} | {"S": source.normal(size=(3, 2))}
    chunked, recurrent = (form.forward.program for form in spec.forms)
    inputs = {d.name for d in spec.recurrence.inputs}
    for length in (TOKENS, 4, 1):
        valid = (np.arange(TOKENS) < length).astype(float)
        found = evaluate(chunked, loads | {VALID: valid}, {**SIZES, ROW: TOKENS}, FLOAT64)
        expected = by_tokens(recurrent, loads, inputs, length)
        np.testing.assert_allclose(found["S"], expected["S"], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found["o"][:length], expected["o"], rtol=1e-10, atol=1e-12)


def test_programs_print() -> None:
    text = str(compiled("scalar", "one write", "new state").forms[0].forward.program)
    assert text.startswith("program chunked:\n")
    assert "carry S" in text
    assert "result o" in text
