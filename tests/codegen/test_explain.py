"""Explanations: the equations are specialised, use the spec's names, and say what was proven."""

from rnnc.codegen.explain import explain, normal_equations
from rnnc.dsl.checker import check
from rnnc.dsl.normal import Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse

SPEC = '''recurrence example[K, V]:
    """An example.

    More of it."""
    input q[K], v[V], b
    input k[K] per group
    input g in (-inf, 0]
    let beta = 2 * sigmoid(b)
    let u = unit(k)
    state S[K, V]
    S <- {update}
    output o[V]
    o <- S.T @ q * K**-0.5
    eigenvalues in [-1, 1]
'''
GATED = "exp(g) * (I - beta * u @ u.T) @ S + beta * u @ v.T"


def normal(update: str) -> Normal:
    return normalise(check(parse(SPEC.format(update=update))))


def test_a_gated_delta_rule() -> None:
    text = explain(normal(GATED), ("base-2 logarithms",))
    expected = [
        "example[K, V]: An example.",
        "  input   q[K], v[V], b, k[K] per group, g in (-inf, 0]",
        "  let     beta = 2 * sigmoid(b)    in (0, 2)",
        "  S[t] = exp(g) * S[t-1] + beta * u @ (v - exp(g) * (S[t-1].T @ u)).T",
        "  o[t] = K**-0.5 * (S[t].T @ q)",
        "  w = beta * u,  f = D f',  f' = -u",
        "  q_ = K**-0.5 * q",
        "  P[i,j] = f'[i]^T (G[i]/G[j]) w[j],  j < i",
        "  U = (I - P)^-1 (v + (f' * G) S_in)",
        "  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i",
        "  S_out = G[C] * S_in + (w * G[C]/G)^T U",
        "  base-2 logarithms",
        "  all eigenvalues are real and lie in (-1, 1]",
        "  claimed in [-1, 1]: proven",
    ]
    lines = text.splitlines()
    assert [line for line in expected if line not in lines] == []


def test_what_does_not_occur_is_left_out() -> None:
    text = explain(normal("S + k @ v.T"))
    assert "G[" not in text
    assert "U =" not in text
    assert "P[" not in text
    assert "A[i,j] = q_[i]^T w[j],  j <= i" in text
    assert "S_out = S_in + w^T v" in text
    assert "Numerics" not in text


def test_reads_and_plain_writes() -> None:
    text = explain(normal("exp(g) * S - u @ (S.T @ u).T + k @ v.T"))
    assert "U = (I - P_rr)^-1 ((f * G[i-1]) S_in + P_rp v_p)" in text
    assert "2 writes per token, one of which reads the state" in text


def test_headers_are_stable_and_name_their_lets() -> None:
    first, second = normal_equations(normal(GATED)), normal_equations(normal(GATED))
    assert first == second
    assert "  beta = 2 * sigmoid(b)" in first.splitlines()
