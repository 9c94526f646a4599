"""Specs at the edges of the class: each is proven on fractions and holds the property tests."""

from __future__ import annotations

import pytest

import rnnc
from rnnc.codegen.compiler import analyse
from rnnc.codegen.proof import rational_checks
from rnnc.ops.testing import property_test

SPECS = {
    "everything a parameter": """
    input v[V]
    param q[K], d[K]
    param k[K] shared
    state S[K, V]
    output o[V]
    S <- sigmoid(d) * S - k @ (k.T @ S) * 0.1 + k @ v.T
    o <- S.T @ q
""",
    "no input in the update": """
    input v[V], q[K]
    param k[K], w[V] shared
    state S[K, V]
    output o[V]
    S <- 0.5 * S + k @ w.T
    o <- S.T @ q + v
""",
    "the state is overwritten by parameters": """
    input v[V], q[K]
    param k[K], w[V] shared
    state S[K, V]
    output o[V]
    S <- k @ w.T
    o <- S.T @ q + v
""",
    "the state is overwritten": """
    input q[K], k[K], v[V]
    state S[K, V]
    output o[V]
    S <- k @ v.T
    o <- S.T @ q
""",
    "the state is cleared": """
    input q[K], k[K], v[V]
    state S[K, V]
    output o[V]
    o <- S.T @ q + v
    S <- 0 * S
""",
    "nothing is written": """
    input q[K], k[K], v[V], b
    state S[K, V]
    output o[V]
    S <- S - sigmoid(b) * unit(k) @ (unit(k).T @ S)
    o <- S.T @ q + v
""",
    "nothing is read out": """
    input k[K], v[V]
    state S[K, V]
    output o[V]
    S <- 0.5 * S + k @ v.T
    o <- v
""",
    "a learned start": """
    input v[V], q[K], k[K], a
    param S0[K, V]
    state S[K, V] = S0
    output o[V]
    S <- sigmoid(a) * S + k @ v.T
    o <- S.T @ q
""",
    "names that the generated text uses": """
    input B[K], C[K], x[V], dt, M, steps, kept, torch[V]
    param args, h0, valid, a, tiles
    state dS[K, V]
    output out[V], douts[V]
    dS <- exp(-softplus(dt * args)) * dS + M * a * B @ x.T * h0 * valid
    out <- dS.T @ C * steps * tiles
    douts <- kept * torch
""",
    "outputs over other axes": """
    input q[K], k[K], v[V]
    param c[V]
    state S[K, V]
    output o, p[K], r[K, V], s[V], t
    S <- 0.9 * S + k @ v.T
    o <- sum((S.T @ q) * v, V)
    p <- k * sum(q, K)
    r <- k @ (S.T @ q).T
    s <- c
    t <- 2
""",
    "matrices": """
    input q[K], k[K], v[V], w[M], z[M]
    param R[K, K], P[M, K]
    state S[K, V]
    output o[V], p[M]
    S <- 0.9 * S - 0.1 * (R.T @ k) @ ((P.T @ z).T @ S) + (R @ R.T @ k + P.T @ w) @ v.T
    o <- S.T @ (P.T @ z)
    p <- P @ k + w
""",
    "divided by a norm": """
    input q[K], k[K], v[V], b
    let u = k / norm(k)
    state S[K, V]
    output o[V]
    S <- (I - sigmoid(b) * u @ u.T) @ S + u @ v.T
    o <- (S.T @ q) / norm(S.T @ q)
""",
    "sizes and constants": """
    input q[K], k[K], v[V]
    state S[K, V]
    output o[V]
    S <- (1 - 0.5 / K) * sigmoid(2) * S + silu(V**-0.5) * k @ v.T
    o <- S.T @ q * max(K, 3)**(1/3) + relu(-1)
""",
    "decay, read and write in turn": """
    input q[K], k[K], v[V], b
    param d[K] in (0, 1)
    state S[K, V]
    output o[V], p[V]
    o <- S.T @ q
    S <- d * S
    p <- S.T @ k
    S <- S + sigmoid(b) * unit(k) @ (v - S.T @ unit(k)).T
""",
}


@pytest.mark.parametrize("name", SPECS)
def test_odd_spec(name: str, tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNC_CACHE_DIR", str(tmp_path))
    axes = "K, V, M" if "[M" in SPECS[name] else "K, V"
    text = f"recurrence r[{axes}]:{SPECS[name]}"
    assert not [check for check in rational_checks(analyse(text)) if check.failure]
    # Sequences that end inside a chunk, packed ones, states: seeds 0 to 2 have them all.
    report = property_test(rnnc.compile(text), cases=3)
    assert report, str(report)
