"""Everything that can be said of a spec without computing anything: what `rnnc check` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import inf
from typing import Any

from rnnc.console import diagnostic_record
from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.interval import REAL
from rnnc.dsl.normal import Coupled, Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse
from rnnc.dsl.ranges import check_ranges, environment
from rnnc.dsl.recurrence import Input, Let, Param, Recurrence, unrolled
from rnnc.dsl.spectrum import Spectrum, check_claim, spectrum
from rnnc.dsl.stages import split
from rnnc.dsl.tracking import Statement, signs, tracking
from rnnc.files import read_spec


@dataclass(frozen=True, slots=True)
class Analysis:
    """The findings about a spec and, as far as they could be established, its class and its ranges.

    `title` is the docstring's first line; `facts` are lines of text by what they tell (and the number of the
    stage, where there are several); `ranges` maps a name to its interval and to where that comes from;
    `tracking` is what theory says of long sequences, of each stage by itself.
    """

    path: str
    source: str = ""
    name: str = ""
    title: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    tracking: tuple[Statement, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(diagnostic.severity == "error" for diagnostic in self.diagnostics)

    def record(self) -> dict[str, Any]:
        """The analysis as plain data."""
        return {
            "path": self.path,
            "ok": self.ok,
            "name": self.name,
            "title": self.title,
            "diagnostics": [diagnostic_record(diagnostic) for diagnostic in self.diagnostics],
            "facts": dict(self.facts),
            "ranges": {
                name: {"interval": text, "from": origin} for name, (text, origin) in self.ranges.items()
            },
            "tracking": [asdict(statement) for statement in self.tracking],
        }


def analyse_file(name: str, over_time: bool = True) -> Analysis:
    """The analysis of a spec given on the command line; raises Refusal where there is no such file."""
    try:
        return analyse(*read_spec(name), over_time)
    except SpecError as error:
        return Analysis(error.path, diagnostics=error.diagnostics)


def analyse(text: str, path: str, over_time: bool = True) -> Analysis:
    """The analysis of a spec; never raises SpecError: its findings are part of the result.

    `over_time`: with the statements on long sequences, which take longest.
    """
    try:
        recurrence = check(parse(text, path))
    except SpecError as error:
        return Analysis(path, text, diagnostics=error.diagnostics)
    findings = [*recurrence.warnings]
    findings += _collect(lambda: check_ranges(recurrence))
    stages: list[tuple[Normal, Spectrum]] = []
    try:
        stages = [(normal, spectrum(normal)) for normal in map(normalise, split(recurrence))]
    except SpecError as error:
        findings += error.diagnostics
    for normal, _ in stages:
        findings += _collect(partial(check_claim, normal))
    return Analysis(
        path,
        text,
        recurrence.name,
        recurrence.doc.strip().partition("\n")[0],
        tuple(sorted(set(findings), key=lambda finding: (finding.span, finding.code))),
        _all_facts(stages),
        _ranges(recurrence),
        tuple(_tracking(stages)) if over_time else (),
    )


def _tracking(stages: Sequence[tuple[Normal, Spectrum]]) -> Iterator[Statement]:
    """What is said of every stage, each with its number where there are several."""
    for number, stage in enumerate(stages, 1):
        for statement in tracking(*stage):
            several = len(stages) > 1
            yield replace(statement, topic=f"{statement.topic} ({number})") if several else statement


def _collect(stage: Callable[[], list[Diagnostic]]) -> list[Diagnostic]:
    try:
        return stage()
    except SpecError as error:
        return list(error.diagnostics)


def _all_facts(stages: Sequence[tuple[Normal, Spectrum]]) -> dict[str, str]:
    """The facts of every stage, each with its number where there are several."""
    if len(stages) == 1:
        return _facts(*stages[0])
    return {
        f"{key} {number}": fact
        for number, stage in enumerate(stages, 1)
        for key, fact in _facts(*stage).items()
    }


def _facts(normal: Normal, found: Spectrum) -> dict[str, str]:
    if normal.elementwise is not None:
        axes = ", ".join(normal.axes)
        entries = f"the entries of the state {normal.state}[{axes}] do not mix"
        number = f"the state {normal.state} is one number"
        return {
            "class": f"{entries if axes else number}: a decay and what is added",
            "decay": _decay(normal),
            "eigenvalues": _eigenvalues(found),
            "forms": "recurrent, chunked, parallel",
        }
    axes = ", ".join(normal.state_axes)
    reads = len(normal.reads)
    step = "token" if normal.micro is None else f"micro-step, {normal.micro} for each token"
    if normal.coupled is not None:
        return _facts_of_several(normal, normal.coupled, found)
    return {
        "class": f"linear in the state {normal.state}[{axes}]: a decay and low-rank writes",
        "decay": _decay(normal),
        "writes": f"{len(normal.writes)} per {step}, {reads or 'none'} of them reading the old state",
        "eigenvalues": _eigenvalues(found),
        "transitions": signs(normal, found),
        "forms": "recurrent, chunked, parallel",
    }


def _facts_of_several(normal: Normal, coupled: Coupled, found: Spectrum) -> dict[str, str]:
    axes, reads = ", ".join(normal.axes), sum(write.reading for write in coupled.writes)
    return {
        "class": f"linear in the states {', '.join(coupled.states)}, each [{axes}], which mix by scalars",
        "decay": f"a {len(coupled.states)} x {len(coupled.states)} matrix over the states",
        "writes": f"{len(coupled.writes)} per token, {reads or 'none'} of them reading the old states",
        "eigenvalues": _eigenvalues(found),
        "transitions": signs(normal, found),
        "forms": "recurrent, chunked, parallel",
    }


def _decay(normal: Normal) -> str:
    if not normal.decays:
        return "none"
    kinds = [f"a vector over {decay.axes[0]}" if decay.axes else "a scalar" for decay in normal.decays]
    changes = normal.gates & {x.name for x in normal.recurrence.inputs}
    return f"{' times '.join(kinds)} per {'token' if changes else 'head'}"


def _eigenvalues(found: Spectrum) -> str:
    if found.real and found.interval != REAL:
        return f"real, in {found.interval}"
    high = found.interval.high
    unbounded = "real, no bound was found" if found.real else "no bound was found"
    return unbounded if high == inf else f"of modulus at most {high:.6g}"


def _ranges(recurrence: Recurrence) -> dict[str, tuple[str, str]]:
    ranges = environment(recurrence)
    declarations: list[Input | Param] = [*recurrence.inputs, *recurrence.params]
    found = {
        declared.name: (str(declared.range), "promised")
        for declared in declarations
        if declared.range is not None
    }
    for statement in unrolled(recurrence.statements):
        if isinstance(statement, Let):
            found[statement.name] = (str(ranges[statement.name]), "inferred")
    return found
