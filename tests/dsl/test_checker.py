"""The checker: what expressions mean over named axes, what a checked spec holds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.expression import (
    Add,
    Call,
    Constant,
    Delay,
    Expression,
    Final,
    Identity,
    Multiply,
    Name,
    Power,
    Rename,
    Select,
    Size,
    Sum,
)
from rnnc.dsl.initialisers import INITIALISERS
from rnnc.dsl.interval import Interval
from rnnc.dsl.parser import parse
from rnnc.dsl.recurrence import Assign, Initialiser, Let, Loop, Param, Recurrence, State
from rnnc.dsl.syntax import LayerCall, LayerNumber

ROOT = Path(__file__).parents[2]
SPECS = sorted(
    [*Path(__file__).parent.glob("specs/*.rnn"), *ROOT.glob("ops/*.rnn"), *ROOT.glob("examples/*.rnn")]
)

pytestmark = pytest.mark.smoke

q, k, u, v, a = Name("q", ("K",)), Name("k", ("K",)), Name("u", ("K",)), Name("v", ("V",)), Name("a", ())
S, R = Name("S", ("K", "V")), Name("R", ("K", "K'"))
HALF, MINUS = Constant(Fraction(1, 2)), Constant(Fraction(-1))

FRAME = """
recurrence f[K, V, n]:
    input q[K], k[K], u[K], v[V], a, m[n, K]
    param R[K, K]
    state S[K, V]
    output o[V]
    LINE
    S <- S + k @ v.T
    o <- S.T @ q
"""


def checked(*lines: str) -> Recurrence:
    """The recurrence of a spec that holds these lines beside a plain one."""
    return check(parse(FRAME.replace("LINE", "\n    ".join(lines))))


def meaning(text: str) -> Expression:
    """What an expression means."""
    statement = checked(f"let z = {text}").statements[0]
    assert isinstance(statement, Let)
    return statement.value


def said(*lines: str) -> list[tuple[str, str]]:
    """The code of each error, and the text it underlines."""
    with pytest.raises(SpecError) as caught:
        checked(*lines)
    source = caught.value.source.splitlines()
    spans = [(d.code, d.span) for d in caught.value.diagnostics]
    return [(code, source[span.line - 1][span.column - 1 : span.end_column - 1]) for code, span in spans]


def primed(expression: Expression) -> Expression:
    return Rename(expression, "K", "K'")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_are_sound(path: Path) -> None:
    recurrence = check(parse(path.read_text(encoding="utf-8"), str(path)))
    assert not recurrence.warnings
    assert recurrence.path == str(path)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("a + a + 1", Add((a, a, Constant(Fraction(1))))),
        ("a - k", Add((a, Multiply((MINUS, k))))),
        ("a / 2", Multiply((a, HALF))),
        ("a / k", Multiply((a, Power(k, Fraction(-1))))),
        ("-k", Multiply((MINUS, k))),
        ("K**-0.5", Power(Size("K"), Fraction(-1, 2))),
        ("exp(-a)", Call("exp", (Multiply((MINUS, a)),))),
        ("max(k, 1)", Call("max", (k, Constant(Fraction(1))))),
        ("sum(S, K)", Sum(S, "K")),
        ("sum(k, K)", Sum(k, "K")),
        ("unit(k)", Call("unit", (k,), "K")),
        ("unit(S, V)", Call("unit", (S,), "V")),
        ("softmax(v, V)", Call("softmax", (v,), "V")),
        ("norm(k)", Call("sqrt", (Sum(Multiply((k, k)), "K"),))),
        ("norm(a * k)", Call("sqrt", (Sum(Power(Multiply((a, k)), Fraction(2)), "K"),))),
        ("k @ v.T", Multiply((k, v))),
        ("k * v", Multiply((k, v))),
        ("k.T @ u", Sum(Multiply((k, u)), "K")),
        ("S.T @ q", Sum(Multiply((S, q)), "K")),
        ("q.T @ S", Sum(Multiply((q, S)), "K")),
        ("S @ v", Sum(Multiply((S, v)), "V")),
        ("u @ u.T", Multiply((u, primed(u)))),
        ("R @ S", Sum(Multiply((R, primed(S))), "K'")),
        ("I @ S", Sum(Multiply((Identity("K"), primed(S))), "K'")),
        ("S @ I", Sum(Multiply((Rename(S, "V", "V'"), Identity("V"))), "V'")),
        ("R @ k", Sum(Multiply((R, primed(k))), "K'")),
        ("S @ S.T", Sum(Multiply((S, primed(S))), "V")),
        ("I * k", Multiply((Identity("K"), k))),
        ("2 * I - R", Add((Multiply((Constant(Fraction(2)), Identity("K"))), Multiply((MINUS, R))))),
        ("prev(k)", Delay(k, 1)),
        ("delay(k, 2 + 1)", Delay(k, 3)),
        ("final(S)", Final("S", ("K", "V"))),
        ("logsigmoid(sum(k, K))", Call("logsigmoid", (Sum(k, "K"),))),
    ],
)  # fmt: skip
def test_meaning(text: str, expression: Expression) -> None:
    assert meaning(text) == expression


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1 / 3 + 1 / 6", Fraction(1, 2)),
        ("-(2**-2)", Fraction(-1, 4)),
        ("0.1 * 10", Fraction(1)),
        ("2**200 / 2**199", Fraction(2)),
        ("0**0", Fraction(1)),
    ],
)
def test_constants_are_folded_exactly(text: str, number: Fraction) -> None:
    assert meaning(text) == Constant(number)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("S @ q", ("axis-mismatch", "@")),
        ("k @ v", ("axis-mismatch", "@")),
        ("a @ v", ("not-a-matrix", "@")),
        ("k + (u - q.T)", ("axis-mismatch", "-")),
        ("exp(k @ k.T) * v", ("axis-mismatch", "*")),
        ("R + k", ("axis-mismatch", "+")),
        ("a.T", ("not-a-matrix", "a.T")),
        ("sum(a, K)", ("axis-mismatch", "sum(a, K)")),
        ("norm(S)", ("axis-mismatch", "norm(S)")),
        ("2 * I", ("unknown-size", "2 * I")),
        ("nope + 1", ("unknown-name", "nope")),
        ("a**a", ("not-constant", "a")),
        ("9**9**9", ("limit", "9**9**9")),
        ("1 / 0", ("range", "0")),
        ("prev(S)", ("delay", "S")),
        ("m[i]", ("index", "i")),
        ("o", ("output-read", "o")),
        ("exec(a)", ("unknown-function", "exec")),
        ("step(a)", ("unknown-function", "step")),
        ("concat(k, k)", ("unknown-function", "concat")),
        ("inf", ("range", "inf")),
    ],
)
def test_errors_underline_the_smallest_place(text: str, error: tuple[str, str]) -> None:
    assert said(f"let z = {text}") == [error]


def test_all_errors_are_found_at_once_and_none_follows_from_another() -> None:
    lines = ["let x = nope", "let y = 2 * x @ x", "let z = exp(y) + nope2", "k <- z", "let k = 1"]
    assert [code for code, _ in said(*lines)] == [
        "unknown-name",
        "unknown-name",
        "not-assignable",
        "duplicate-name",
    ]


@pytest.mark.parametrize("word", ["I", "inf", "input", "for", "lambda", "class", "None", "__class__"])
def test_reserved_words(word: str) -> None:
    assert said(f"let {word} = 1") == [("reserved-word", word)]


@pytest.mark.parametrize(
    "word", ["B", "C", "T", "dt", "x", "y", "match", "exp", "torch", "self", "complex", "_"]
)
def test_other_words_are_free(word: str) -> None:
    assert checked(f"let {word} = a").statements[0] == Let(word, a)


def test_a_let_keeps_how_its_value_stands() -> None:
    first, second, third, *_ = checked(
        "let r = k.T", "let d = r @ u", "let M = I * k", "let N = M * q"
    ).statements
    assert first == Let("r", k)
    assert second == Let("d", Sum(Multiply((Name("r", ("K",)), u)), "K"))
    assert third == Let("M", Multiply((Identity("K"), k)))


def test_declarations() -> None:
    recurrence = checked(
        "input f, g in (-inf, 0]",
        "input w[V] per group",
        "param c[K] in [0, 1/2) shared = 1/K ~ inv_softplus(log_uniform(0.001, 0.1))",
        "param S0[K, V] ~ -1/2",
        "state T[K, V] = S0",
        "T <- T",
    )
    f, g, w = recurrence.inputs[-3:]
    assert f.range == g.range == Interval(float("-inf"), 0.0)
    assert (w.axes, w.per_group) == (("V",), True)
    start = Initialiser("inv_softplus", (Initialiser("log_uniform", (0.001, 0.1)),))
    default = Power(Size("K"), Fraction(-1))
    one = Constant(Fraction(1))
    half_open = Interval(0.0, 0.5, high_open=True)
    assert recurrence.params[1] == Param("c", ("K",), half_open, True, Multiply((one, default)), start)
    assert recurrence.params[2].initialiser == Initialiser("constant", (-0.5,))
    assert recurrence.states[1] == State("T", ("K", "V"), "S0")


def test_loops() -> None:
    loop = checked("for i in n:", "    let w = m[i]", "    S <- S + w @ v.T").statements[0]
    w = Name("w", ("K",))
    body = (Let("w", Select(Name("m", ("n", "K")), "n", "i")), Assign("S", Add((S, Multiply((w, v))))))
    assert loop == Loop("i", "n", body)


def test_loops_one_after_the_other_share_a_variable() -> None:
    lines = ["for i in n:", "    S <- S + m[i] @ v.T", "for i in n:", "    S <- S - m[i] @ v.T"]
    assert len(checked(*lines).statements) == 4
    nested = ["for i in n:", "    for i in n:", "        S <- S"]
    assert said(*nested) == [("duplicate-name", "i")]


def test_a_claim_and_a_layer() -> None:
    lines = [
        "eigenvalues in (-1, 1]",
        "layer:",
        "    q, k, u = conv(linear(x, bias=true), 4)",
        "    v = linear(x)",
    ]
    lines += ["    a = linear(x, rank=8)", "    m = linear(x)", "    y = linear(o)"]
    recurrence = checked(*lines)
    assert recurrence.claim is not None
    assert recurrence.claim.interval == Interval(-1.0, 1.0, low_open=True)
    assert recurrence.layer is not None
    call = recurrence.layer.bindings[0].value
    assert isinstance(call, LayerCall)
    inner = call.arguments[0]
    assert isinstance(inner, LayerCall)
    assert inner.keywords == (("bias", LayerNumber(1)),)


def test_unused_names_are_warnings() -> None:
    recurrence = checked("let z = a", "param gate")
    codes = [(w.code, w.severity, w.message) for w in recurrence.warnings]
    assert ("unused-name", "warning", "'z' is never used") in codes
    assert ("unused-name", "warning", "'gate' is never used") in codes


def test_initialisers_name_themselves() -> None:
    assert all(kind.name == name and kind.doc for name, kind in INITIALISERS.items())


def test_the_error_of_a_whole_spec() -> None:
    path = Path(__file__).parent / "goldens" / "typo.rnn"
    with pytest.raises(
        SpecError, match=r"typo\.rnn:8:23: error\[unknown-name\]: 'bta' is not declared"
    ) as caught:
        check(parse(path.read_text(encoding="utf-8"), path.name))
    assert caught.value.diagnostics[0].hints == ("did you mean 'beta'?",)
