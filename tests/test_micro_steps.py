"""Micro-steps: loops of several shapes, proven on fractions and held to the naive loop in every form."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import rnnc
from rnnc.codegen.compiler import Compiled, analyse
from rnnc.codegen.proof import rational_checks
from rnnc.dsl.checker import check
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse
from rnnc.ops.errors import UnavailableError
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import Report, check_case, distance
from rnnc.ops.trial import draw_trial

DECAYS = {
    "none": ("", ""),
    "scalar": ("input g", "S <- sigmoid(g) * S"),
    "scalar with resets": ("input g in [0, 1]", "S <- g * S"),
    "channels": ("input g[K]", "S <- exp(-softplus(g)) * S"),
    "channels of both signs": ("input g[K] in [-1, 1]", "S <- g * S"),
    "constant": ("", "S <- 0.9 * S"),
}
BODIES = {
    "delta": ["let u = unit(k[i])", "S <- S + sigmoid(b[i]) * u @ (v[i] - S.T @ u).T"],
    "a key of its own": ["S <- S - 0.3 * tanh(e) @ (unit(k[i]).T @ S) + e @ v[i].T"],
    "no read": ["S <- S + b[i] * k[i] @ v[i].T + e @ v[i].T"],
    "a read and writes": [
        "S <- S - 0.5 * unit(k[i]) @ (unit(k[i]).T @ S) + e @ v[i].T",
        "S <- S + k[i] @ w.T",
    ],
    "gates of all steps": [
        "S <- S + softmax(b, n)[i] * unit(k[i]) @ (v[i] - sum(b, n) / n * (S.T @ unit(k[i]))).T"
    ],
}
OUTPUTS = {
    "after": ["LOOP", "o <- S.T @ q"],
    "before": ["o <- S.T @ q", "LOOP"],
    "both": ["let old = S.T @ q", "LOOP", "o <- old + S.T @ (e * sum(b, n)) + w"],
    "between": ["LOOP", "o <- tanh(S.T @ q) + w"],
}
pytestmark = pytest.mark.filterwarnings("ignore:.*unused-name")

CASES = [(decay, "delta", "after") for decay in DECAYS]
CASES += [(decay, "delta", "both") for decay in ("none", "scalar with resets", "channels")]
CASES += [("scalar", body, "before") for body in BODIES]
CASES += [("channels", body, "between") for body in BODIES]
CASES += [("none", body, "after") for body in BODIES if body != "delta"]


def text(decay: str, body: str, output: str, order: str = "K, V, n") -> str:
    declared, update = DECAYS[decay]
    lines = ["input q[K], k[n, K], e[K], v[n, V], w[V], b[n]", declared, "state S[K, V]", "output o[V]"]
    for line in OUTPUTS[output]:
        lines += (
            [update, "for i in n:", *(f"    {inner}" for inner in BODIES[body])] if line == "LOOP" else [line]
        )
    return f"recurrence r[{order}]:\n" + "".join(f"    {line}\n" for line in lines if line)


@cache
def compiled(case: tuple[str, str, str]) -> Compiled:
    return analyse(text(*case))


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_proven_on_fractions(case: tuple[str, str, str]) -> None:
    checks = list(rational_checks(compiled(case)))
    assert checks
    assert not [check for check in checks if check.failure]


@pytest.mark.parametrize("case", CASES[::2], ids=", ".join)
def test_against_the_naive_loop(case: tuple[str, str, str]) -> None:
    operator = rnnc.compile(text(*case))
    report = Report(operator.name)
    for chunk, steps, lengths in ((16, 3, (5, 0, 23)), (32, 1, (33,))):
        sizes = {"K": 4, "V": 3, "n": steps}
        check_case(operator, Case(steps, lengths, len(lengths) > 1, 2, sizes, {}, True, False, chunk), report)
        report.cases += 1
    assert report, str(report)


def test_the_order_of_the_axes_is_free() -> None:
    spec = (
        text("channels", "delta", "after", "n, K, V")
        .replace("k[n, K]", "k[K, n]")
        .replace("v[n, V]", "v[V, n]")
    )
    operator = rnnc.compile(spec)
    report = Report(operator.name, 1)
    case = Case(0, (19, 19), False, 2, {"K": 4, "V": 3, "n": 2}, {}, True, True, 16)
    check_case(operator, case, report)
    assert report, str(report)


UNROLLED = """recurrence unrolled[K, V]:
    input q[K], k0[K], k1[K], v0[V], v1[V], b0, b1, g
    state S[K, V]
    output o[V]
    S <- sigmoid(g) * S
    S <- S + sigmoid(b0) * unit(k0) @ (v0 - S.T @ unit(k0)).T
    S <- S + sigmoid(b1) * unit(k1) @ (v1 - S.T @ unit(k1)).T
    o <- S.T @ q
"""


@pytest.mark.parametrize("form", ["chunked", "recurrent"])
def test_a_loop_is_its_steps_written_out(form: str) -> None:
    torch.manual_seed(0)
    T, H, K, V = 37, 2, 5, 3
    q, e, w, g = (torch.randn(1, T, H, *axes, dtype=torch.float64) for axes in ((K,), (K,), (V,), ()))
    k, v, b = (torch.randn(1, T, H, 2, *axes, dtype=torch.float64) for axes in ((K,), (V,), ()))
    loop: Operator = rnnc.compile(text("scalar", "delta", "after"))
    found, state = loop(q, k, e, v, w, b, g, form=form, output_final_state=True)
    steps = rnnc.compile(UNROLLED)
    parts = [x[:, :, :, i] for x in (k, v, b) for i in range(2)]
    expected, end = steps(q, *parts, g, form=form, output_final_state=True)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert torch.allclose(state, end, rtol=0, atol=1e-12)


def test_normal_form() -> None:
    found = compiled(("scalar", "delta", "after")).normal
    assert found.micro == "n"
    assert [write.key.axes for write in found.writes] == [("n", "K")]
    assert found.decay is not None
    assert found.decay.axes == ()
    spelled = text("scalar", "delta", "after").replace("for i in n", "for step in n").replace("[i]", "[step]")
    other = normalise(check(parse(spelled)))
    assert (found.decay, found.writes, found.readouts) == (other.decay, other.writes, other.readouts)


# What each micro-step adds to a kernel: padded steps, sequences that end inside a chunk, states.
KERNELS = [CASES[i] for i in (1, 2, 3, 4, 8, 11, 13, 15, 16, 20)]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("case", KERNELS, ids=", ".join)
def test_kernels_against_the_naive_loop(case: tuple[str, str, str]) -> None:
    pytest.importorskip("triton")
    operator = rnnc.compile(text(*case))
    for chunk, steps, lengths in ((16, 3, (5, 0, 23)), (32, 2, (33,))):
        sizes = {"K": 4, "V": 3, "n": steps}
        check_kernels(operator, Case(steps, lengths, len(lengths) > 1, 1, sizes, {}, True, False, chunk))


def check_kernels(operator: Operator, case: Case) -> None:
    """The chunked kernels in Triton's interpreter, in float32."""
    drawn = draw_trial(operator, case)
    found = drawn.to(torch.float32).evaluate("chunked", backend="triton")
    for what, value in found.items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, (what, str(case))


def test_as_many_micro_steps_as_fit() -> None:
    pytest.importorskip("triton")
    operator = rnnc.compile(text("scalar", "delta", "after"))
    inputs = [torch.randn(1, 9, 1, *axes) for axes in ((4,), (5, 4), (4,), (5, 4), (4,), (5,), ())]
    with pytest.raises(UnavailableError, match=r"no chunked form of r for .*n = 5.*do not fit"):
        operator(*inputs, backend="triton", form="chunked")
    with pytest.warns(RuntimeWarning, match="its recurrent form runs"):
        found, _ = operator(*inputs, backend="triton")
    torch.testing.assert_close(found, operator(*inputs)[0], rtol=1e-4, atol=1e-4)


def test_explained() -> None:
    said = compiled(("scalar", "delta", "after")).explain()
    assert "for i in n:\n      S[t] <- S[t] + " in said
    assert "(v[i] - S[t].T @ u).T" in said
    assert "one row m for each of the n micro-steps of a token" in said
    assert "a product of n symmetric factors" in said


EDGES = {
    "keys are parameters": """
    input q[K], v[n, V]
    param k[n, K], b[n], d[K]
    state S[K, V]
    output o[V]
    S <- sigmoid(d) * S
    for i in n:
        S <- S + 0.3 * unit(k[i]) @ (v[i] * b[i] - S.T @ unit(k[i])).T
    o <- S.T @ q
""",
    "all steps are the same": """
    input q[K], e[K], w[V], b[n]
    state S[K, V]
    output o[V]
    for i in n:
        S <- S + 0.3 * unit(e) @ (w - S.T @ unit(e)).T
    o <- S.T @ q * sum(b, n)
""",
    "nothing but parameters": """
    input q[K]
    param k[n, K], w[V] shared
    state S[K, V]
    output o[V]
    for i in n:
        S <- S + 0.3 * unit(k[i]) @ (w - S.T @ unit(k[i])).T
    o <- S.T @ q
""",
    "nothing is written": """
    input q[K], k[n, K], b[n], z[V]
    param R[K, K]
    state S[K, V]
    output o[V]
    S <- 0.5 * S
    for i in n:
        let u = unit(R @ k[i])
        S <- S - sigmoid(b[i]) * u @ (u.T @ S)
    o <- S.T @ q + z
""",
    "the number of steps": """
    input q[K], k[n, K], v[n, V], f
    state S[K, V]
    output o[V]
    S <- sigmoid(f) * S
    for i in n:
        let e = v[i] - S.T @ unit(k[i])
        S <- S + (unit(k[i]) / n) @ e.T
    o <- S.T @ softmax(q, K) + sum(v, n)
""",
    "three readouts, two updates in a step": """
    input q[K], k[n, K], v[n, V], g
    state S[K, V]
    output o[V]
    let before = S.T @ q
    S <- tanh(g) * S
    let between = S.T @ q
    for i in n:
        S <- S - 0.4 * unit(k[i]) @ (S.T @ unit(k[i])).T
        S <- S + q @ v[i].T
    o <- before * between + S.T @ q
""",
}


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("name", ["keys are parameters", "nothing is written", "the number of steps"])
def test_kernels_at_the_edges(name: str) -> None:
    pytest.importorskip("triton")
    operator = rnnc.compile(f"recurrence r[K, V, n]:{EDGES[name]}")
    check_kernels(operator, Case(0, (19, 19), False, 1, {"K": 4, "V": 3, "n": 3}, {}, True, False, 16))


@pytest.mark.parametrize("name", EDGES)
def test_at_the_edges(name: str) -> None:
    spec = f"recurrence r[K, V, n]:{EDGES[name]}"
    assert not [check for check in rational_checks(analyse(spec)) if check.failure]
    operator = rnnc.compile(spec)
    report = Report(operator.name, 1)
    check_case(operator, Case(0, (9, 9), False, 2, {"K": 4, "V": 3, "n": 2}, {}, True, False, 16), report)
    assert report, str(report)


def test_differentiable_twice() -> None:
    operator = rnnc.compile(text("channels", "delta", "after"))
    sizes = ((2,), (2, 2), (2,), (2, 1), (1,), (2,), (2,))
    inputs = [torch.randn(1, 5, 1, *size, dtype=torch.float64, requires_grad=True) for size in sizes]
    assert torch.autograd.gradgradcheck(lambda *xs: operator(*xs, form="chunked")[0], inputs, atol=1e-4)
