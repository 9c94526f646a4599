"""Decays over the value axis, reads and readouts from the right: proven on fractions, held to the loop."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch

import rnnc
from rnnc.codegen.compiler import Compiled, analyse
from rnnc.codegen.proof import rational_checks
from rnnc.codegen.triton_module import chunk_kernels
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import draw_case
from rnnc.ops.testing import Report, check_case

INPUTS = ["q[K]", "p[V]", "k[K]", "v[V]", "x[n, K]", "y[n, V]", "a", "b", "c[n]", "gk[K]", "gv[V]"]
INPUTS += ["d in [0, 1]", "dk[K] in [-1, 1]", "dv[V] in [0, 1]"]
LEFT = "S <- S - sigmoid(b) * u @ (u.T @ S - v.T)"
RIGHT = "S <- S + sigmoid(b) * (k - S @ w) @ w.T"
BOTH = ["o <- S.T @ q", "z <- S @ p"]
STEPS = ["for i in n:", "    let e = unit(y[i])", "    S <- S + sigmoid(c[i]) * (x[i] - S @ e) @ e.T"]
SPECS = {
    "a decay over V": ["S <- sigmoid(gv) * S + k @ v.T", *BOTH],
    "resets over V": ["S <- dv * S + k @ v.T", *BOTH],
    "a complement over V": ["S <- (1 - sigmoid(gv)) * S + k @ v.T", *BOTH],
    "decays over both": ["S <- exp(-softplus(gk + a)) * exp(-softplus(gv)) * S + k @ v.T", *BOTH],
    "the exponential of a sum": [
        "let both = exp(-softplus(gk + a) - softplus(gv))",
        "S <- both * S + exp(-softplus(k) - softplus(v)) * both",
        *BOTH,
    ],
    "products over both": ["S <- dk * dv * S + k @ v.T + q @ p.T", *BOTH],
    "both, read out before": [*BOTH, "S <- sigmoid(a) * tanh(gk) * sigmoid(gv) * S + k @ v.T"],
    "delta under a decay over V": ["S <- sigmoid(gv) * S", LEFT, *BOTH],
    "delta under resets over V": ["S <- dv * d * S", LEFT, *BOTH],
    "delta under decays over both": ["S <- sigmoid(gk) * sigmoid(gv) * S", LEFT, *BOTH],
    "two reads under decays over both": [
        "S <- sigmoid(gk) * sigmoid(gv) * S",
        "S <- S - sigmoid(b) * u @ (u.T @ S) - 0.2 * q @ (k.T @ S) + q @ p.T + k @ v.T",
        *BOTH,
    ],
    "Oja": [RIGHT, *BOTH],
    "Oja under a scalar decay": ["S <- sigmoid(a) * S", RIGHT, "o <- S.T @ q", "z <- k"],
    "Oja under a decay over V": ["S <- sigmoid(gv) * S", RIGHT, *BOTH],
    "Oja under resets over V": ["S <- dv * S", RIGHT, *BOTH],
    "Oja of the state before its decay": [
        "S <- sigmoid(gv) * S - sigmoid(b) * (S @ w) @ w.T + k @ v.T",
        *BOTH,
    ],
    "Oja under decays over both": ["S <- sigmoid(gv) * dk * S", RIGHT, *BOTH],
    "two reads from the right": [
        *BOTH,
        "S <- sigmoid(gk) * sigmoid(gv) * S",
        "S <- S + sigmoid(b) * (k - S @ w) @ w.T - 0.2 * (S @ p) @ v.T + q @ p.T",
    ],
    "steps under a decay over V": [
        "S <- sigmoid(gv) * S",
        "for i in n:",
        "    let e = unit(x[i])",
        "    S <- S + sigmoid(c[i]) * e @ (y[i] - S.T @ e).T",
        *BOTH,
    ],
    "steps from the right": [*STEPS, *BOTH],
    "steps from the right under decays over both": ["S <- sigmoid(gv) * sigmoid(gk) * S", *STEPS, *BOTH],
    "sums of what is read out from the right": [
        "S <- sigmoid(gv) * S + k @ v.T",
        "o <- tanh(S.T @ q) * sum(p, V)",
        "z <- unit(S @ p) * sum((S @ v) * q, K) + sum((S.T @ k) * p, V) * q",
    ],
}


def text(name: str) -> str:
    """The spec with the inputs that it uses."""
    body = "\n".join(f"    {line}" for line in SPECS[name])
    lets = "".join(f"    let {x} = unit({y})\n" for x, y in ("uk", "wv") if re.search(rf"\b{x}\b", body))
    used = set(re.findall(r"\w+", lets + body))
    inputs = [f"    input {x}\n" for x in INPUTS if re.split(r"\W", x)[0] in used]
    state = "    state S[K, V]\n    output o[V], z[K]\n"
    return f"recurrence r[K, V{', n' if 'n' in used else ''}]:\n{''.join(inputs)}{lets}{state}{body}\n"


@cache
def compiled(name: str) -> Compiled:
    return analyse(text(name))


@cache
def operator(name: str) -> Operator:
    return rnnc.compile(text(name))


@pytest.mark.parametrize("name", SPECS)
def test_proven_on_fractions(name: str) -> None:
    checks = list(rational_checks(compiled(name)))
    assert checks
    assert not [check for check in checks if check.failure]


@pytest.mark.parametrize("name", list(SPECS)[::2])
def test_against_the_naive_loop(name: str) -> None:
    report = Report(name)
    number = list(SPECS).index(name)
    check_case(operator(name), draw_case(operator(name).recurrence, number), report)
    assert not report.failures, str(report)


def test_a_value_side_is_a_key_side_transposed() -> None:
    """Oja's rule and the delta rule are one recurrence, of S and of S^T."""
    declared = "input q[A], k[A], v[B], g[A], b\n    let u = unit(k)\n    state S[{0}]\n    output o[B]\n    "
    delta = "S <- exp(-softplus(g)) * S\n    S <- S + sigmoid(b) * u @ (v - S.T @ u).T\n    o <- S.T @ q\n"
    oja = "S <- exp(-softplus(g)) * S\n    S <- S + sigmoid(b) * (v - S @ u) @ u.T\n    o <- S @ q\n"
    specs = [
        f"recurrence r[A, B]:\n    {declared.format(axes)}{body}"
        for axes, body in (("A, B", delta), ("B, A", oja))
    ]
    one, two = map(analyse, specs)
    assert one.normal.axes == two.normal.axes == ("A", "B")
    assert (one.normal.decay, one.normal.writes) == (two.normal.decay, two.normal.writes)
    x = [torch.randn(2, 20, 2, *size, dtype=torch.float64) for size in ((3,), (3,), (4,), (3,), ())]
    (o, S), (p, Z) = (rnnc.compile(spec)(*x, output_final_state=True, chunk_size=16) for spec in specs)
    torch.testing.assert_close(o, p)
    torch.testing.assert_close(S, Z.mT)


@pytest.mark.parametrize("name", SPECS)
def test_all_have_kernels_of_chunks(name: str) -> None:
    forward, backward = chunk_kernels(compiled(name))
    roles = [kernel.role for kernel in (*forward, *backward)]
    assert roles.count("scan") == roles.count("reverse") == 1


def test_the_exponential_of_a_multiple_of_a_sum_is_a_product_too() -> None:
    """exp(-(a + b)): the factor goes to both terms."""
    text = """recurrence both[K, V]:
    input q[K], k[K], v[V], a[K], b[V]
    state S[K, V]
    S <- exp(-(softplus(a) + softplus(b))) * S + k @ v.T
    output o[V]
    o <- S.T @ q
"""
    apart = text.replace("exp(-(softplus(a) + softplus(b)))", "exp(-softplus(a)) * exp(-softplus(b))")
    assert analyse(text).normal.decays == analyse(apart).normal.decays
