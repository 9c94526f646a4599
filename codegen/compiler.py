"""The driver: from the text of a spec to everything the compiler knows about it.

| stage | from -> to | file |
|---|---|---|
| parse | text -> Declaration | rnnc.dsl.parser |
| check | Declaration -> Recurrence: axes, ranges, order of statements | rnnc.dsl.checker |
| split | Recurrence -> stages, of which each feeds later ones | rnnc.dsl.stages |
| normalise | Recurrence -> Normal: decay plus low rank | rnnc.dsl.normaliser |
| derive | Normal -> Program: recurrent and chunked tile programs | forms |
| stabilise | Program -> Program: exponents and signs, from the declared ranges | numerics |
| differentiate | Program -> Program: the backward pass, rule by rule | gradients |
| schedule | Program -> Plan: before, in and after the scan; what is kept | schedule |
| print | Plan -> text | torch_module |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from rnnc.codegen.explain import explain, explain_stages, normal_equations
from rnnc.codegen.layer_printer import check_layer
from rnnc.codegen.numerics import describe
from rnnc.codegen.plans import Kernels, cheapest
from rnnc.codegen.torch_module import Form, print_module, print_stages, schedule_forms
from rnnc.dsl.checker import check
from rnnc.dsl.delays import delayed, without_delays
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.earlier import inside
from rnnc.dsl.exponentials import apart
from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse
from rnnc.dsl.ranges import check_ranges, environment, infer
from rnnc.dsl.recurrence import Recurrence
from rnnc.dsl.spectrum import check_claim
from rnnc.dsl.stages import handed, in_float32, moved, split, splits


@dataclass(frozen=True)
class Compiled:
    """A spec, analysed: its forms are scheduled and printed when first asked for.

    `in_float32` names what is float32 beside vectors of lower precision (see `rnnc.dsl.stages`).
    """

    recurrence: Recurrence
    normal: Normal
    warnings: tuple[Diagnostic, ...]
    declared: Recurrence  # with its delays, which `recurrence` is given as inputs
    in_float32: frozenset[str] = frozenset()

    @property
    def stages(self) -> tuple[Compiled, ...]:
        """Itself: there is one stage."""
        return (self,)

    @cached_property
    def inside(self) -> Compiled | str:
        """With what is delayed formed in the kernels, of earlier inputs; or why it is formed before them."""
        if not delayed(self.declared):
            return "nothing is delayed"
        try:
            recurrence = inside(self.declared)
            return Compiled(recurrence, normalise(recurrence), (), recurrence)
        except SpecError as error:
            return error.diagnostics[0].message

    @cached_property
    def decay_ranges(self) -> tuple[Interval, ...]:
        """The ranges of the factors of the decay."""
        known = environment(self.recurrence)
        return tuple(infer(decay, known) for decay in self.normal.decays)

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The chunked and the recurrent form, scheduled."""
        return schedule_forms(self.normal, self.decay_ranges)

    @cached_property
    def kernels(self) -> Kernels:
        """Those of the chunked form. Raises UnsupportedOnGpu."""
        form = next(form for form in self.forms if form.name == "chunked")
        return cheapest(form, self.normal)

    @cached_property
    def source(self) -> str:
        """The generated module."""
        return print_module(self.normal, self.forms, normal_equations(self.normal))

    def explain(self) -> str:
        """What was declared, derived and decided, as text."""
        apart = self.inside if isinstance(self.inside, str) else ""
        return explain(self.normal, describe(self.normal, self.decay_ranges), delayed(self.declared), apart)


@dataclass(frozen=True)
class Staged:
    """A spec in stages (see `rnnc.dsl.stages`): each is compiled by itself, and hands on what it computes."""

    recurrence: Recurrence
    stages: tuple[Compiled, ...]
    warnings: tuple[Diagnostic, ...]
    declared: Recurrence
    inside = "stages hand on what is delayed"

    @cached_property
    def others(self) -> tuple[Staged, ...]:
        """The other ways to divide the spec into stages (see `rnnc.dsl.stages.splits`)."""
        own = tuple(stage.recurrence for stage in self.stages)
        found = []
        for parts in splits(self.declared):
            exact = frozenset().union(*(handed(self.declared, part) for part in parts))
            stages = tuple(Compiled(part, normalise(part), (), part, exact) for part in parts)
            if parts != own:
                found.append(Staged(self.recurrence, stages, (), self.declared))
        return tuple(found)

    @cached_property
    def source(self) -> str:
        """The generated module: the passes of all stages."""
        stages = [(stage.normal, stage.forms) for stage in self.stages]
        return print_stages(self.recurrence, stages, self.equations)

    @property
    def equations(self) -> str:
        """Those of the stages one after the other."""
        parts = (normal_equations(stage.normal) for stage in self.stages)
        return "\n\n".join(f"Stage {number}\n\n{part}" for number, part in enumerate(parts, 1))

    def explain(self) -> str:
        """What is handed from stage to stage, and the account of each."""
        stages = [(stage.recurrence, stage.explain()) for stage in self.stages]
        ways = [moved(self.declared, parts) for parts in splits(self.declared)]
        return explain_stages(self.recurrence, stages, delayed(self.declared), ways)


Spec = Compiled | Staged


def analyse(text: str, path: str = "<spec>") -> Spec:
    """Parse, check and normalise a spec; raises SpecError with everything that is wrong."""
    recurrence = check(parse(text, path))
    findings = [*check_ranges(recurrence), *check_layer(recurrence)]
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise SpecError(errors, recurrence.source, recurrence.path)
    stages = []
    for part in split(recurrence):
        normal = normalise(part)
        findings += check_claim(normal)
        stages.append(Compiled(part, normal, (), part, in_float32(recurrence, part)))
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise SpecError(errors, recurrence.source, recurrence.path)
    warnings = (*recurrence.warnings, *dict.fromkeys(findings))
    if len(stages) == 1:
        return replace(stages[0], warnings=warnings, declared=recurrence)
    return Staged(apart(without_delays(recurrence)), tuple(stages), warnings, recurrence)


def compile_text(text: str, path: str = "<spec>") -> Spec:
    """A spec compiled to its generated module; raises SpecError."""
    compiled = analyse(text, path)
    _ = compiled.source
    return compiled
