"""The parser: the tree of a spec, round trips, bounds on what is read, recovery after errors."""

from __future__ import annotations

import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest

from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_SYNTAX_ERRORS, parse
from rnnc.dsl.spelling import expression, spell
from rnnc.dsl.syntax import (
    Binary,
    Declaration,
    Declared,
    EigenvalueClaim,
    LayerBinding,
    LayerBlock,
    LayerCall,
    LayerName,
    LayerNumber,
    LetStatement,
    Negate,
    Number,
    Reference,
    Syntax,
    Update,
    Word,
)

ROOT = Path(__file__).parents[2]
SPECS = sorted(
    [*Path(__file__).parent.glob("specs/*.rnn"), *ROOT.glob("ops/*.rnn"), *ROOT.glob("examples/*.rnn")]
)
HEAD = "recurrence f[K, V]:\n"

pytestmark = pytest.mark.smoke


def value(text: str) -> Syntax:
    """The syntax of one expression."""
    item = parse(f"{HEAD}    let a = {text}\n").items[0]
    assert isinstance(item, LetStatement)
    return item.value


def codes(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text)
    return [finding.code for finding in caught.value.diagnostics]


def messages(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text)
    return [finding.message for finding in caught.value.diagnostics]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_survive_a_round_trip(path: Path) -> None:
    declaration = parse(path.read_text(encoding="utf-8"), str(path))
    again = parse(spell(declaration))
    assert again == declaration
    assert spell(again) == spell(declaration)


def test_declaration() -> None:
    text = 'rnnc 1\nrecurrence f[K, V]:\n    "What it is."\n    input q[K], a in (0, 1]\n    S <- q\n'
    assert parse(text) == Declaration(
        Word("f"),
        (Word("K"), Word("V")),
        "What it is.",
        (
            declared(value_of="q", axes=(Word("K"),)),
            declared(value_of="a", axes=()),
            Update(Word("S"), Reference("q")),
        ),
    )


def declared(value_of: str, axes: tuple[Word, ...]) -> Declared:
    items = parse(f"{HEAD}    input q[K], a in (0, 1]\n").items
    (found,) = [i for i in items if isinstance(i, Declared) and i.word.text == value_of]
    assert found.axes == axes
    assert found.bounds is not None
    assert (found.bounds.low_open, found.bounds.high_open) == (True, False)
    return found


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a * b @ c / d", "((a * b) @ c) / d"),
        ("-a * b", "(-a) * b"),
        ("-a**2", "-(a**2)"),
        ("a**-b**2", "a**(-(b**2))"),
        ("K**-0.5", "K**(-0.5)"),
        ("S.T @ u.T", "(S.T) @ (u.T)"),
        ("k[i].T @ S", "((k[i]).T) @ S"),
        ("+a", "a"),
    ],
)
def test_precedence(text: str, grouped: str) -> None:
    assert value(text) == value(grouped)


@pytest.mark.parametrize(
    "text", ["(a + b).T", "(a - (b - c)) * -d", "(-a)**2", "(2).T", "f(a, b)[i]", "(a * b)[i]"]
)
def test_expressions_keep_their_parentheses(text: str) -> None:
    assert value(expression(value(text))) == value(text)


def test_numbers_are_exact() -> None:
    assert value("0.1") == Number(Fraction(1, 10), "0.1")
    assert value("-1e-3") == Negate(Number(Fraction(1, 1000), "1e-3"))


def test_spans_are_those_of_the_text() -> None:
    node = value("alpha * (b + c)")
    assert isinstance(node, Binary)
    assert (node.span.column, node.span.end_column) == (13, 28)
    assert (node.operator_span.column, node.operator_span.end_column) == (19, 20)
    assert (node.right.span.column, node.right.span.end_column) == (21, 28)


def test_words_of_the_language_are_names_elsewhere() -> None:
    names = "B, T, dt, per, group, shared, complex, rnnc"
    text = f"{HEAD}    input {names}\n    B <- T * dt + per - group * shared\n"
    assert len(parse(text).items) == 9


def test_lines_go_on_while_a_bracket_is_open() -> None:
    split = f"{HEAD}    let a = (b\n  + c  # why\n\n      + d)\n    eigenvalues in [\n0,\n1)\n"
    joined = f"{HEAD}    let a = (b + c + d)\n    eigenvalues in [0, 1)\n"
    assert parse(split) == parse(joined)
    assert isinstance(parse(split).items[1], EigenvalueClaim)


@pytest.mark.parametrize(
    "text",
    [
        "recurrence f:\r\n    a <- b\r\n",
        "recurrence f:\r    a <- b",
        "\ufeffrecurrence f:\n    a <- b\n",
        "\n\n  # a comment\n    recurrence f:\n        a <- b\n\n  # less\n            # more\n",
        "recurrence f:\n\ta <- b\n",
    ],
)
def test_layout_is_free(text: str) -> None:
    assert parse(text) == parse("recurrence f:\n    a <- b\n")


def test_layer() -> None:
    text = f"{HEAD}    layer:\n        q, k = conv(linear(x, rank=8), 4)\n"
    call = LayerCall("linear", (LayerName("x"),), (("rank", LayerNumber(8)),))
    binding = LayerBinding(("q", "k"), LayerCall("conv", (call, LayerNumber(4))))
    assert parse(text).items == (LayerBlock((binding,)),)


def test_a_docstring_keeps_what_stands_in_it() -> None:
    quotes = "'" * 3
    text = f'recurrence f:\n    {quotes}one \\ {{{{ """ }}}}\n\n    two{quotes}\n    a <- b\n'
    declaration = parse(text)
    assert declaration.doc == 'one \\ {{ """ }}\n\ntwo'
    assert parse(spell(declaration)) == declaration


# Errors -----------------------------------------------------------------------------------------------


def test_every_wrong_line_is_reported() -> None:
    lines = ["input q K", "a <- b +", "let c <- 3", "ok <- 1", "for i in n", "    a <- b c", "d = 4"]
    text = HEAD + "".join(f"    {line}\n" for line in lines)
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert [finding.span.line for finding in caught.value.diagnostics] == [2, 3, 4, 6, 8]


def test_errors_are_not_reported_without_end() -> None:
    assert len(codes(HEAD + "    a <-\n" * 50)) == MAX_SYNTAX_ERRORS


def test_messages_hold_nothing_of_the_machinery() -> None:
    for text in [
        "",
        "x",
        "recurrence",
        HEAD,
        f"{HEAD}    a",
        f"{HEAD}    input",
        f"{HEAD}    a <- (",
        f"{HEAD}    layer:\n  3",
    ]:
        shown = "\n".join(messages(text))
        assert not any(word in shown for word in ("_NL", "NAME", "LPAR", "INDENT", "Token", "$END", "lark"))


@pytest.mark.parametrize(
    "text",
    [
        "9" * 41,
        "1e301",
        "1e99999999",
        "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1),
        "(" * 9_000 + "a" + ")" * 9_000,
        "-" * 10_000 + "a",
        "a" + " + a" * 9_000,
        "a" + " + a" * 30_000,
        "a" + ".T" * 100,
        "f(" * 100 + "a" + ")" * 100,
        "a" * MAX_CHARACTERS,
    ],
    ids=lambda text: f"{text[:8]} ({len(text)})",
)
def test_limits(text: str) -> None:
    start = time.process_time()
    assert codes(f"{HEAD}    a <- {text}\n") == ["limit"]
    assert time.process_time() - start < 5


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f", "\udc80", "\u2028", "\x0c"])
def test_what_is_not_text_is_refused(character: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(f"{HEAD}    a <- b # {character}\n")
    assert [finding.code for finding in caught.value.diagnostics] == ["syntax"]
    assert character not in str(caught.value)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("text", ["", " \n\t\n", "# only a comment\n"])
def test_an_empty_spec_is_refused(text: str) -> None:
    assert codes(text) == ["syntax"]


def test_parsing_costs_nothing_at_import_and_little_later() -> None:
    code = """
import sys, time
start = time.process_time()
import rnnc.dsl.parser as parser
print(time.process_time() - start)
assert 'lark' not in sys.modules and 'torch' not in sys.modules
start = time.process_time()
parser.parse('recurrence f:\\n  a <- b\\n')
print(time.process_time() - start)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, parsed = map(float, result.stdout.split())
    assert imported < 0.25  # seconds of the processor: seven times what it takes
    assert parsed < 0.5
