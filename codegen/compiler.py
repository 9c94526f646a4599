"""The driver: from the text of a spec to everything the compiler knows about it.

| stage | from -> to | file |
|---|---|---|
| parse | text -> Declaration | rnnc.dsl.parser |
| check | Declaration -> Recurrence: axes, ranges, order of statements | rnnc.dsl.checker |
| normalise | Recurrence -> Normal: decay plus low rank | rnnc.dsl.normaliser |
| derive | Normal -> Program: recurrent and chunked tile programs | forms |
| stabilise | Program -> Program: exponents and signs, from the declared ranges | numerics |
| differentiate | Program -> Program: the backward pass, rule by rule | gradients |
| schedule | Program -> Plan: before, in and after the scan; what is kept | schedule |
| print | Plan -> text | torch_module |
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rnnc.codegen.explain import explain, normal_equations
from rnnc.codegen.layer_printer import check_layer
from rnnc.codegen.numerics import describe
from rnnc.codegen.torch_module import Form, print_module, schedule_forms
from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse
from rnnc.dsl.ranges import check_ranges, environment, infer
from rnnc.dsl.recurrence import Recurrence
from rnnc.dsl.spectrum import check_claim


@dataclass(frozen=True)
class Compiled:
    """A spec, analysed: its forms are scheduled and printed when first asked for."""

    recurrence: Recurrence
    normal: Normal
    warnings: tuple[Diagnostic, ...]

    @cached_property
    def decay_range(self) -> Interval | None:
        """The range of the decay, or None if there is none."""
        if self.normal.decay is None:
            return None
        return infer(self.normal.decay, environment(self.recurrence))

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The chunked and the recurrent form, scheduled."""
        return schedule_forms(self.normal, self.decay_range)

    @cached_property
    def source(self) -> str:
        """The generated module."""
        return print_module(self.normal, self.forms, normal_equations(self.normal))

    def explain(self) -> str:
        """What was declared, derived and decided, as text."""
        return explain(self.normal, describe(self.normal, self.decay_range))


def analyse(text: str, path: str = "<spec>") -> Compiled:
    """Parse, check and normalise a spec; raises SpecError with everything that is wrong."""
    recurrence = check(parse(text, path))
    findings = [*check_ranges(recurrence), *check_layer(recurrence)]
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise SpecError(errors, recurrence.source, recurrence.path)
    normal = normalise(recurrence)
    findings += check_claim(normal)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise SpecError(errors, recurrence.source, recurrence.path)
    return Compiled(recurrence, normal, (*recurrence.warnings, *findings))


def compile_text(text: str, path: str = "<spec>") -> Compiled:
    """A spec compiled to its generated module; raises SpecError."""
    compiled = analyse(text, path)
    _ = compiled.source
    return compiled
