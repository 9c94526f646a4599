"""The kernels of chunks of decays over the value axis, or both axes, of reads from the right, and of states
of one axis, or none, in Triton's interpreter.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch

import rnnc
from rnnc.codegen.compiler import analyse
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance
from rnnc.ops.trial import draw_trial

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("poisoned")

# Declarations beside q[K], k[K], v[V] and b; statements.
SPECS = {
    "a_decay_over_values": ("input g[V]", "S <- sigmoid(g) * S + k @ v.T\no <- S.T @ q"),
    "resets_over_both": (
        "input d[K] in [-1, 1]\ninput g[V]",
        "S <- d * sigmoid(g) * S + k @ v.T\no <- S.T @ q",
    ),
    "delta_under_both": (
        "input d[K], g[V]\nlet u = unit(k)",
        "S <- sigmoid(d) * sigmoid(g) * S\nS <- S + sigmoid(b) * u @ (v - S.T @ u).T\no <- S.T @ q",
    ),
    "delta_under_decays_over_values": (
        "input g[V]\nlet u = unit(k)\noutput z[K]",
        "S <- sigmoid(g) * S\nS <- S + sigmoid(b) * u @ (v - S.T @ u).T\no <- S.T @ q\nz <- S @ v",
    ),
    "read_from_the_right": (
        "let u = unit(v)\noutput z[K]",
        "S <- sigmoid(b) * S\nS <- S + sigmoid(b) * (k - S @ u) @ u.T\no <- S.T @ q\nz <- S @ v",
    ),
}
SCANS = {
    "every_entry_its_own": "h <- sigmoid(g) * h + x * tanh(g)\no <- tanh(h) * sum(h * x, K)\np <- h * a",
    "resets": "p <- h * h\nh <- d * h + x\no <- h",
    "one_decay": "h <- sigmoid(a) * h + x\no <- unit(h)\np <- h",
}
# The state is one number for each head; 'c' is an input per group of heads.
NUMBERS = {
    "one_number": "p <- h * g\nh <- sigmoid(a) * h + sum(x * g, K) + c\no <- tanh(h) * x",
    "resets_of_one": "h <- r * (h + c)\no <- unit(x) * h\np <- sigmoid(h) * x",
    "a_sum": "h <- h + a * c\no <- sigmoid(h) * x\np <- exp(-h * h) * g",
    "a_mean": "param w\nh <- sigmoid(w) * h + (1 - sigmoid(w)) * a\no <- h * x\np <- c * h * g",
}
# Lengths, sizes of the key and the value axis, heads; packed.
CASES = {
    "a_decay_over_values": [((21,), (3, 5), 2, False), ((0, 17, 0, 5, 0), (5, 3), 1, True)],
    "resets_over_both": [((15, 15), (4, 20), 1, False)],
    "delta_under_both": [((0, 18, 2), (5, 3), 1, True)],
    "delta_under_decays_over_values": [((0, 17, 0, 20), (5, 3), 1, True)],
    "read_from_the_right": [((0, 17, 0, 5), (3, 5), 1, True)],
    "every_entry_its_own": [((0, 37, 0, 5), (20, 3), 2, True)],
    "resets": [((21, 21), (3, 3), 1, False)],
    "one_decay": [((0, 17, 33), (5, 3), 1, True)],
    "one_number": [((0, 37, 0, 5, 0), (5, 3), 2, True), ((33, 33), (3, 3), 2, False)],
    "resets_of_one": [((37, 37), (3, 3), 2, False), ((0, 17, 0, 20), (5, 3), 2, True)],
    "a_sum": [((0, 17, 0, 20), (5, 3), 2, True)],
    "a_mean": [((0, 37, 0, 5, 0), (5, 3), 2, True)],
}


@cache
def operator(name: str) -> Operator:
    if name in SCANS | NUMBERS:
        lines = ["input x[K], g[K], a", "input d[K] in [-1, 1]", "state h[K]", "output o[K], p[K]"]
        if name in NUMBERS:
            lines[1:3] = ["input c per group", "input r in [-1, 1]", "state h"]
        text = "".join(f"    {line}\n" for line in (*lines, *(SCANS | NUMBERS)[name].splitlines()))
        return rnnc.compile(f"recurrence {name}[K]:\n{text}")
    declared, statements = SPECS[name]
    lines = ["input q[K], k[K], v[V]", "input b", *declared.splitlines(), "state S[K, V]", "output o[V]"]
    text = "".join(f"    {line}\n" for line in (*lines, *statements.splitlines()))
    return rnnc.compile(f"recurrence {name}[K, V]:\n{text}")


@pytest.mark.parametrize(
    ("name", "case"), [(name, number) for name, cases in CASES.items() for number in range(len(cases))]
)
def test_values_and_gradients(name: str, case: int) -> None:
    lengths, sizes, heads, packed = CASES[name][case]
    axes = dict(zip(("K", "V"), sizes, strict=True))
    reverse = name in ("delta_under_both", "resets", "resets_of_one")
    groups = {"c": 1} if name in NUMBERS else {}
    drawn = draw_trial(operator(name), Case(7, lengths, packed, heads, axes, groups, True, reverse, 16))
    found = drawn.to(torch.float32).evaluate("chunked", backend="triton")
    for what, value in found.items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, (what, str(drawn.case))


def test_a_decay_without_reads_is_over_the_key_axis() -> None:
    """Whichever axis of the state the decay is over, the kernels hold that one whole and tile the other."""
    text = (
        "recurrence r[K, V]:\n    input q[K], k[K], v[V], g[V]\n    state S[K, V]\n"
        "    output o[V]\n    S <- sigmoid(g) * S + k @ v.T\n    o <- S.T @ q\n"
    )
    (stage,) = analyse(text).stages
    assert stage.normal.axes == ("V", "K")
    assert stage.normal.value_decay is None
