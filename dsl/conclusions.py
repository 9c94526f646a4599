"""What can be said of a spec once its last line is read: what is missing, what is too much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rnnc.dsl.declarations import Declarations
from rnnc.dsl.diagnostics import Diagnostic, Span
from rnnc.dsl.scope import KIND_WORDS, Scope

Assigned = Mapping[str, Sequence[Span]]


def conclude(declarations: Declarations, assigned: Assigned, name: Span) -> list[Diagnostic]:
    """The errors: states never updated, outputs never or twice assigned, axes without a size.

    `assigned` holds the places left of '<-' for each name.
    """
    findings = []
    for state in declarations.states:
        if state.name not in assigned:
            hint = f"{state.name} <- ..."
            message = f"the state '{state.name}' is never updated"
            findings.append(Diagnostic("state-never-updated", message, state.span, hints=(hint,)))
    for output in declarations.outputs:
        findings += _output(output.name, output.span, assigned.get(output.name, ()))
    kinds = {item.kind for item in declarations.items}
    if "output" not in kinds:
        hints = ("declare one: 'output o[V]'",)
        findings.append(
            Diagnostic("no-output", "nothing is read out: the spec has no output", name, hints=hints)
        )
    if "state" not in kinds:
        hints = ("declare one: 'state S[K, V]'",)
        findings.append(
            Diagnostic("no-state", "nothing is carried: the spec has no state", name, hints=hints)
        )
    return findings + _sizes(declarations)


def _output(name: str, declared: Span, places: Sequence[Span]) -> list[Diagnostic]:
    if not places:
        message = f"the output '{name}' is never assigned"
        return [Diagnostic("output-never-assigned", message, declared, hints=(f"{name} <- ...",))]
    related = ((places[0], "first assigned here"),)
    message = f"the output '{name}' is assigned twice"
    return [Diagnostic("output-assigned-twice", message, place, related=related) for place in places[1:]]


def _sizes(declarations: Declarations) -> list[Diagnostic]:
    """Axes in use whose size no argument of a call tells."""
    items = [item for item in declarations.items if item.kind in ("input", "param")]
    told = {word.text for item in items for word in item.axes}
    findings = []
    for axis, word in declarations.words.items():
        if axis in declarations.scope.read and axis not in told:
            message = f"the size of the axis '{axis}' is never given"
            label = "no input and no parameter has it"
            findings.append(Diagnostic("unknown-size", message, word.span, label))
    return findings


def unused(scope: Scope, declarations: Declarations) -> tuple[Diagnostic, ...]:
    """The warnings: inputs, parameters, lets and axes that nothing reads."""
    used = scope.read | {state.initial for state in declarations.states if state.initial}
    findings = []
    for symbol in scope.everything():
        if symbol.kind in ("input", "param", "let", "axis") and symbol.name not in used:
            message = f"'{symbol.name}' is never used"
            label = f"{KIND_WORDS[symbol.kind]} that nothing reads"
            findings.append(Diagnostic("unused-name", message, symbol.span, label, severity="warning"))
    return tuple(sorted(findings, key=lambda finding: finding.span))
