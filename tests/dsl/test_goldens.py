"""What a person reads who wrote a wrong spec: one golden for every kind of error and warning."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.parser import parse

GOLDENS = Path(__file__).parent / "goldens"
DSL = Path(__file__).parents[2] / "dsl"
STAGES = "arithmetic axes calls checker conclusions declarations indentation layer_rules lowering matrices"
MORE = "parser scope syntax_errors tree"

pytestmark = pytest.mark.smoke


def findings(path: Path) -> str:
    """All that is said of a spec."""
    text = path.read_bytes().decode("utf-8")
    try:
        recurrence = check(parse(text, path.name))
    except SpecError as error:
        return f"{error}\n"
    return "".join(f"{warning.render(recurrence.source, path.name)}\n" for warning in recurrence.warnings)


@pytest.mark.parametrize("path", sorted(GOLDENS.glob("*.rnn")), ids=lambda path: path.stem)
def test_golden(path: Path, golden: Callable[[Path, str], None]) -> None:
    said = findings(path)
    assert said.strip(), "a golden is about something wrong"
    golden(path.with_suffix(".txt"), said)


def test_every_kind_of_finding_has_a_golden() -> None:
    shown = "".join(path.read_text(encoding="utf-8") for path in GOLDENS.glob("*.txt"))
    have = set(re.findall(r": (?:error|warning)\[([a-z-]+)\]: ", shown))
    source = "".join(
        (DSL / f"{name}.py").read_text(encoding="utf-8") for name in (STAGES + " " + MORE).split()
    )
    want = set(re.findall(r"(?:Diagnostic|refuse|_refusal|_report)\(\s*\"([a-z-]+)\"", source))
    assert want - have == set()
