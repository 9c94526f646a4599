"""Whatever is read as a spec, the answer is a recurrence or a SpecError."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.parser import parse
from rnnc.dsl.spelling import spell

SPECS = [path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "specs").glob("*.rnn"))]
WORDS = """
recurrence input param state output let for in eigenvalues layer per group shared complex rnnc I inf
K V n S q k v o a x y i exp sum unit prev delay final softmax norm linear conv re max sigmoid ones normal
( ) [ ] [K] [K,V] [i] , : = <- ~ + - * / @ ** .T . 0 1 2 -0.5 1e9 1e999 9**9**9 # ' " \'\'\' \\ ^ { } ; é
"""
PIECES = [*WORDS.split(), '"' * 3, "\n", "\n    ", "\n        ", "\n\t", " ", "\t"]


def answer(text: str) -> None:
    """Read the text. What can be read at all can be spelled and read again."""
    found: tuple[Diagnostic, ...] = ()
    try:
        declaration = parse(text)
        assert parse(spell(declaration)) == declaration
        found = check(declaration).warnings
        assert all(finding.severity == "warning" for finding in found)
    except SpecError as error:
        found = error.diagnostics
    lines = text.count("\n") + text.count("\r") + 1
    assert all(1 <= finding.span.line <= lines and finding.message for finding in found)


@given(st.lists(st.sampled_from(PIECES), max_size=40))
@settings(max_examples=300, deadline=None)
def test_pieces_of_the_language(pieces: list[str]) -> None:
    answer(
        "recurrence f[K, V, n]:\n    input q[K], k[K], v[V], a\n    state S[K, V]\n    " + " ".join(pieces)
    )


@given(st.lists(st.sampled_from(PIECES), max_size=12))
@settings(max_examples=300, deadline=None)
def test_pieces_of_expressions(pieces: list[str]) -> None:
    words = [piece for piece in pieces if "\n" not in piece]
    answer(
        "recurrence f[K, V]:\n    input q[K], k[K], v[V], a\n    state S[K, V]\n    S <- S " + " ".join(words)
    )


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
@example("\ud800")
@example("recurrence f:\n    a <- b\n  c")
@example("recurrence f:\n  a <- " + "f(" * 70)
@example("recurrence f:\n  for i in n:\n    for j in n:\n      for k in n:\n        a <- b")
def test_any_text(text: str) -> None:
    answer(text)


@pytest.mark.parametrize("seed", range(400))
def test_mutated_specs(seed: int) -> None:
    source = random.Random(seed)
    text = source.choice(SPECS)
    for _ in range(source.randint(1, 5)):
        text = mutated(text, source)
    answer(text)


def mutated(text: str, source: random.Random) -> str:
    """The text with one thing wrong: a character, a piece, a line, or two of them exchanged."""
    i, j = sorted(source.randrange(len(text) + 1) for _ in range(2))
    lines = text.split("\n")
    match source.randrange(6):
        case 0:
            return text[:i] + text[i + source.randint(1, 4) :] or "\n"
        case 1:
            return text[:i] + source.choice(PIECES) + text[i:]
        case 2:
            return text[:i] + source.choice(PIECES) + text[i + 1 :]
        case 3:
            return text[: i + 5] + text[i : i + source.randint(1, 60)] + text[i + 5 :]
        case 4:
            source.shuffle(lines)
            return "\n".join(lines)
        case _:
            del lines[source.randrange(len(lines))]
            return "\n".join(lines) or text[:j] or "\n"
