"""The kernels of classes that no built-in stands for, in Triton's interpreter: several reads per token,
decays of any sign, softmax, sums over the value axis.

What the kernels write is allocated full of NaN, so that nothing that was not written passes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

import rnnc
from rnnc.ops.builtin import builtin
from rnnc.ops.errors import UnavailableError
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance
from rnnc.ops.trial import draw_trial

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("poisoned")

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_read_delta.rnn"
# Declarations beside q[K], k[K], v[V] and b; statements.
SPECS = {
    "two_reads_per_channel": (
        "input e[K]\ninput g[K] in (-inf, 0]",
        "S <- exp(g) * S - b * k @ (e.T @ S) + 0.3 * e @ (k.T @ S) + k @ v.T\no <- S.T @ q",
    ),
    "three_reads": (
        "input e[K], f[K]\nlet u = unit(k)\nlet w = unit(e)\nlet x = 0.2 * unit(f)",
        "S <- sigmoid(b) * (S - u @ (u.T @ S) - 0.3 * w @ (w.T @ S) - x @ (w.T @ S)) + x @ v.T\no <- S.T @ q",
    ),
    "signed_scalar": (
        "input a",
        "S <- tanh(a) * (S - sigmoid(b) * unit(k) @ (unit(k).T @ S)) + k @ v.T\no <- S.T @ q",
    ),
    "signed_per_channel": (
        "input d[K] in [-1, 1]",
        "S <- d * S\nS <- S - sigmoid(b) * unit(k) @ (unit(k).T @ S) + k @ v.T\no <- S.T @ q",
    ),
    "sums_of_readouts": (
        "input z[V]\noutput y",
        "S <- sigmoid(b) * S + k @ v.T\no <- unit(S.T @ q) * silu(z)\ny <- sum((S.T @ k) * z, V)",
    ),
    "unit_values": ("", "S <- S + k @ unit(v).T\no <- S.T @ q"),
    "sums_of_values": (
        "input e[K], z[V]\nparam w[V]",
        "S <- S - b * k @ (e.T @ S) + sum(z, V) * k @ unit(v * w).T\no <- sum(z, V) * softmax(S.T @ q, V)",
    ),
    "sums_per_channel": (
        "input g[K] in (-inf, 0]",
        "S <- exp(g) * S + softmax(k, K) @ softmax(v, V).T\no <- (S.T @ q) * rsqrt(1 + sum((S.T @ q)**2, V))",
    ),
    "square": (
        "param R[K, K]\nlet u = unit(R @ k)",
        "S <- sigmoid(b) * (S - u @ (u.T @ S)) + u @ v.T\no <- S.T @ (R.T @ q)",
    ),
    "square_per_channel": (
        "input g[K] in (-inf, 0]\nparam R[K, K] shared",
        "S <- exp(g) * S + (R @ R.T @ k) @ v.T\no <- S.T @ q",
    ),
    "softmax_keys": ("", "S <- sigmoid(b) * S + softmax(k, K) @ v.T\no <- S.T @ softmax(q, K)"),
}
# Lengths, sizes of the key and the value axis, heads; packed.
CASES = {
    "odd": ((21,), (5, 3), 2, False),
    "wide": ((15, 15), (24, 40), 1, False),
    "packed": ((0, 33, 0, 5), (5, 3), 1, True),
}


@cache
def operator(name: str) -> Operator:
    if name not in SPECS:
        return rnnc.compile(EXAMPLE)
    declared, statements = SPECS[name]
    lines = ["input q[K], k[K], v[V]", "input b", *declared.splitlines(), "state S[K, V]", "output o[V]"]
    text = "".join(f"    {line}\n" for line in (*lines, *statements.splitlines()))
    return rnnc.compile(f"recurrence {name}[K, V]:\n{text}")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["two_read_delta", *SPECS])
def test_values_and_gradients(name: str, case: str) -> None:
    lengths, sizes, heads, packed = CASES[case]
    axes = dict(zip(("K", "V"), sizes, strict=True))
    drawn = draw_trial(operator(name), Case(7, lengths, packed, heads, axes, {}, case != "wide", packed, 16))
    found = drawn.to(torch.float32).evaluate("chunked", backend="triton")
    for what, value in found.items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, (what, str(drawn.case))


@pytest.mark.parametrize("name", ["signed_scalar", "signed_per_channel"])
def test_a_decay_of_zero_cuts_the_sequence(name: str) -> None:
    """The values and gradients are those of two sequences, and so is the derivative by the zero itself."""
    op, T, cut = operator(name), 20, 9
    source = torch.Generator().manual_seed(3)
    shapes = [(1, T, 1, *(3 for _ in item.axes)) for item in op.recurrence.inputs]
    given = [torch.randn(shape, generator=source) for shape in shapes]
    gate = given[-1].clamp(-1, 1)
    gate[:, cut] = 0
    given[-1] = gate
    results = []
    for bounds in (None, torch.tensor([0, cut, T])):
        arguments = [x.clone().requires_grad_() for x in given]
        outputs, _ = op(*arguments, backend="triton", chunk_size=16, cu_seqlens=bounds)
        results.append([outputs, *torch.autograd.grad(outputs.sin().sum(), arguments)])
    for one, other in zip(*(result[:-1] for result in results), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    exact = [x.double().requires_grad_() for x in given]
    outputs, _ = op.reference(*exact, check=False)
    (expected,) = torch.autograd.grad(outputs.sin().sum(), exact[-1])
    torch.testing.assert_close(results[0][-1].double(), expected, rtol=1e-5, atol=1e-5)
    assert expected[:, cut].abs().max() > 1e-2


@pytest.mark.parametrize(("name", "most"), [("delta_net", 64), ("gla", 128)])
def test_the_tokens_of_a_chunk_are_limited(name: str, most: int) -> None:
    op = builtin(name)
    given = [torch.randn(1, 5, 1, *(3 for _ in d.axes)) for d in op.recurrence.inputs]
    given += [torch.randn(1, *(3 for _ in d.axes)) for d in op.recurrence.params]
    refused = f"triton takes at most {most} tokens for {name} with .*, got 256"
    with pytest.raises(UnavailableError, match=refused):
        op(*given, backend="triton", chunk_size=256)


def test_the_rows_of_a_chunk_are_limited() -> None:
    q, a = torch.randn(1, 40, 1, 3), torch.randn(1, 40, 1)
    arguments = [q, q, q, q, a, a, a, torch.zeros(1), torch.zeros(1)]
    op = operator("two_read_delta")
    with pytest.raises(UnavailableError) as caught:
        op(*arguments, backend="triton", chunk_size=64)
    assert str(caught.value) == (
        "chunk_size: triton takes at most 32 tokens for two_read_delta with K = 3, V = 3, got 64: leave"
        " it out, or use backend='torch'"
    )
    torch.testing.assert_close(op(*arguments, backend="triton")[0], op(*arguments)[0])
