"""Everything that can be said of a spec without computing anything: what `rnnc check` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rnnc.console import diagnostic_record
from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.normal import Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse
from rnnc.dsl.ranges import check_ranges, infer
from rnnc.dsl.recurrence import Let, Loop, Recurrence, Statement
from rnnc.dsl.spectrum import check_claim, spectrum


@dataclass(frozen=True, slots=True)
class Analysis:
    """The findings about a spec and, as far as they could be established, its class and its ranges.

    `facts` are lines of text by title; `ranges` maps a name to its interval and to where that comes from.
    """

    path: str
    name: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not any(diagnostic.severity == "error" for diagnostic in self.diagnostics)

    def record(self) -> dict[str, Any]:
        """The analysis as plain data."""
        return {
            "path": self.path,
            "ok": self.ok,
            "name": self.name,
            "diagnostics": [diagnostic_record(diagnostic) for diagnostic in self.diagnostics],
            "facts": dict(self.facts),
            "ranges": {
                name: {"interval": text, "from": origin} for name, (text, origin) in self.ranges.items()
            },
        }


def analyse(text: str, path: str) -> Analysis:
    """The analysis of a spec; never raises SpecError: its findings are part of the result."""
    try:
        recurrence = check(parse(text, path))
    except SpecError as error:
        return Analysis(path, diagnostics=error.diagnostics)
    findings = [*recurrence.warnings]
    findings += _collect(lambda: check_ranges(recurrence))
    normal: Normal | None = None
    try:
        normal = normalise(recurrence)
    except SpecError as error:
        findings += error.diagnostics
    else:
        findings += _collect(lambda: check_claim(normal))
    return Analysis(
        path,
        recurrence.name,
        tuple(sorted(set(findings), key=lambda finding: (finding.span, finding.code))),
        _facts(normal) if normal else {},
        _ranges(recurrence),
    )


def _collect(stage: Callable[[], list[Diagnostic]]) -> list[Diagnostic]:
    try:
        return stage()
    except SpecError as error:
        return list(error.diagnostics)


def _facts(normal: Normal) -> dict[str, str]:
    axes = ", ".join(normal.axes)
    reads = len(normal.reads)
    decay = normal.decay
    kind = "none" if decay is None else "one factor" if not decay.axes else f"a vector over {decay.axes[0]}"
    return {
        "class": f"linear in the state {normal.state}[{axes}]: a decay and low-rank writes",
        "decay": kind,
        "writes": f"{len(normal.writes)} per token, {reads} of them read the old state",
        "eigenvalues": str(spectrum(normal)),
        "forms": "recurrent, chunked, parallel",
    }


def _ranges(recurrence: Recurrence) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for declared in (*recurrence.inputs, *recurrence.params):
        if declared.range is not None:
            found[declared.name] = (str(declared.range), "promised")
    for let in _lets(recurrence.statements):
        found[let.name] = (str(infer(let.value, recurrence)), "inferred")
    return found


def _lets(statements: tuple[Statement, ...]) -> list[Let]:
    lets: list[Let] = []
    for statement in statements:
        if isinstance(statement, Let):
            lets.append(statement)
        elif isinstance(statement, Loop):
            lets += _lets(statement.body)
    return lets
