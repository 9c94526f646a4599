"""What is said of long sequences: verdicts by theory, each with a source, none without its condition."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnc.dsl.checker import check
from rnnc.dsl.normal import Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse
from rnnc.dsl.samples import Samples
from rnnc.dsl.spectrum import spectrum
from rnnc.dsl.stages import split
from rnnc.dsl.tracking import reflections, signs, tracking

OPS = Path(__file__).parents[2] / "ops"
SPEC = """recurrence t[K, V]:
    input k[K], e[K], x[K], v[V], a, b, c, g[K]
    input z in [0, 1]
    input d in [-1, 1]
    param p in [-1, 1]
    let alpha = exp(-softplus(a))
    let beta = 2 * sigmoid(b)
    let gamma = 2 * sigmoid(c)
    let decay = exp(-softplus(g))
    let u = unit(k)
    let w = unit(e)
    state S[K, V]
    S <- {update} + k @ v.T
    output o[V]
    o <- S.T @ x
"""
# Verdicts on stability, parity, counting modulo 3, groups and regular languages ("-": nothing is said).
UPDATES = {
    "S": "yes no no no no",
    "z * S": "yes no no no no+yes",
    "alpha * S": "yes no no no no+yes",
    "decay * S": "yes no no no no+yes",
    "0.5 * S": "yes no no no no",
    "2 * S": "no no no no no",
    "-1 * S": "yes open no no -",  # turns the sign at every token: no token keeps it
    "p * S": "yes open no no -",  # the same at every token
    "d * S": "yes yes no no -",
    "0.5 * d * S": "yes open no no -",
    "exp(g) * S": "no no no no no+yes",
    "S - sigmoid(b) * u @ (S.T @ u).T": "yes no no - -",
    "S - beta * u @ (S.T @ u).T": "yes yes no yes open",
    "alpha * (S - beta * u @ (S.T @ u).T)": "yes yes no yes yes",
    "(I - beta * u @ u.T) @ (decay * S)": "yes yes no yes yes",
    "(I - 0.9 * beta * u @ u.T) @ S": "yes open no - -",
    "(I - gamma * w @ w.T) @ ((I - beta * u @ u.T) @ S)": "yes yes yes yes+yes open",
    "(I - gamma * w @ w.T) @ ((I - beta * u @ u.T) @ (alpha * S))": "yes yes yes yes+yes yes",
    "(I - sigmoid(c) * w @ w.T) @ ((I - sigmoid(b) * u @ u.T) @ S)": "yes open - - -",
    "S - k @ (S.T @ k).T": "no yes no - -",
    "S + k @ (e.T @ S)": "no yes no - -",
    "decay * S + k @ (e.T @ S) - e @ (k.T @ S)": "no open open - -",
}
NEGATIVE = ", negative for some inputs"
TOPICS = ("stability", "parity", "counting modulo 3", "groups", "regular languages")


def normal(update: str) -> Normal:
    return normalise(check(parse(SPEC.format(update=update))))


@pytest.mark.parametrize("update", UPDATES)
def test_verdicts(update: str) -> None:
    form = normal(update)
    statements = tracking(form, spectrum(form))
    found = ["+".join(s.verdict for s in statements if s.topic == topic) or "-" for topic in TOPICS]
    assert " ".join(found) == UPDATES[update], "\n".join(map(str, statements))
    assert all(s.source and s.conditions and s.topic in TOPICS for s in statements)
    assert found[0] == "yes" or not reflections(spectrum(form))


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ("alpha * S", "diagonal, any two commute; eigenvalues real, none negative"),
        ("d * S", "diagonal, any two commute; eigenvalues real, negative for some inputs"),
        (
            "S - beta * u @ (S.T @ u).T",
            "not triangular, two of them do not commute; eigenvalues real, negative for some inputs",
        ),
        (
            "(I - beta * w @ w.T) @ ((I - beta * u @ u.T) @ S)",
            "not triangular, two of them do not commute; eigenvalues complex for some inputs" + NEGATIVE,
        ),
    ],
)
def test_signs(update: str, said: str) -> None:
    form = normal(update)
    assert signs(form, spectrum(form)) == said


def test_a_token_that_turns_a_sign_has_the_parameters_of_one_that_keeps_it() -> None:
    form = normalise(check(parse((OPS / "mamba2_signed.rnn").read_text(encoding="utf-8"))))
    flips = Samples(form).flips()
    assert flips is not None
    turn, keep = flips
    assert {"A_log", "dt_bias", "dt"} < dict(turn.values).keys()
    assert not {"A_log", "dt_bias"} & dict(keep.values).keys()


PRODUCT = """recurrence t[K, V, n]:
    input q[K], k[n, K], v[n, V], b[n]
    state S[K, V]
    {decay}
    for i in n:
        let u = unit(k[i])
        S <- S + 2 * sigmoid(b[i]) * u @ (v[i] - S.T @ u).T
    output o[V]
    o <- S.T @ q
"""


@pytest.mark.parametrize(("decay", "regular"), [("", "open"), ("S <- sigmoid(a) * S", "yes")])
def test_micro_steps(decay: str, regular: str) -> None:
    declared = PRODUCT.format(decay=decay).replace("b[n]", "b[n], a" if decay else "b[n]")
    form = normalise(check(parse(declared)))
    statements = tracking(form, spectrum(form))
    found = {s.text: s for s in statements}
    assert [s.verdict for s in statements if s.topic == "regular languages"] == [regular]
    assert found["the word problem of the permutations of n + 1 in one layer"].verdict == "yes"
    (counting,) = (s for s in statements if s.topic == "counting modulo 3")
    assert "n of at least 2" in counting.conditions


STAGED = """recurrence t[K, V]:
    input q[K], k[K], v[V], a
    input z in [-1, 1]
    let u = unit(k)
    state m, S[K, V]
    m <- 0.9 * m + 0.1 * z
    S <- {update} + k @ v.T
    output o[V]
    o <- S.T @ q
"""


@pytest.mark.parametrize(
    ("update", "verdicts"),
    [
        ("sigmoid(m) * S", "yes no no no no"),  # it never reaches 0 or 1, so that nothing is reset
        ("tanh(m) * S", "yes open no no -"),  # it never reaches -1 or 1
        ("exp(m) * S", "open no no no no"),
        ("(I - 2 * sigmoid(50 * m) * u @ u.T) @ S", "yes open no - -"),
        ("sigmoid(a) * S + tanh(m) * u @ v.T", "yes no no no no+yes"),
    ],
)
def test_what_an_earlier_stage_hands_on_is_chosen_by_no_token(update: str, verdicts: str) -> None:
    form = normalise(split(check(parse(STAGED.format(update=update))))[-1])
    statements = tracking(form, spectrum(form))
    found = ["+".join(s.verdict for s in statements if s.topic == topic) or "-" for topic in TOPICS]
    assert " ".join(found) == verdicts, "\n".join(map(str, statements))


def test_a_norm_above_one_is_told_from_one() -> None:
    form = normal("(0.2 + 0.8 * alpha) * S")
    (stability,) = (s for s in tracking(form, spectrum(form)) if s.topic == "stability")
    assert "at most 1," not in stability.text


def test_nothing_is_found_where_nothing_is() -> None:
    samples = Samples(normal("alpha * S"))
    assert samples.negative() is None
    assert samples.rotates() is None
    assert samples.grows() is None
    assert samples.flips() is None
