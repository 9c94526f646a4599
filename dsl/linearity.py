"""Is every update linear in the state? Answered on the statements, where the spans are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.expansion import unsupported
from rnnc.dsl.expression import Call, Delay, Expression, Final, Multiply, Name, Power, children, walk
from rnnc.dsl.recurrence import Let, Loop, Recurrence, unrolled

MAX_STATES = 4


@dataclass(frozen=True)
class _Nonlinear:
    """Where linearity is lost, and how."""

    span: Span
    label: str


def refuse_unsupported(recurrence: Recurrence) -> None:
    """Raises SpecError for what the language can say and the compiler cannot do yet."""
    found = list(_loops(recurrence))
    for statement in unrolled(recurrence.statements):
        found += [unsupported(n) for n in walk(statement.value) if isinstance(n, Delay | Final)]
    for state in recurrence.states:
        if state.complex:
            found.append(
                Diagnostic(
                    "unsupported", f"the complex state '{state.name}' cannot be compiled yet", state.span
                )
            )
        if len(state.axes) != 2 and (len(recurrence.states) > 1 or len(state.axes) > 2):
            shape = f"[{', '.join(state.axes)}]" if state.axes else "a scalar"
            expected = "expected a key and a value axis"
            message = f"the state '{state.name}' cannot be compiled yet: {expected}, found {shape}"
            found.append(Diagnostic("unsupported", message, state.span, notes=_circle(recurrence)))
    found += _several(recurrence)
    if found:
        raise SpecError(found, recurrence.source, recurrence.path)


def _several(recurrence: Recurrence) -> Iterator[Diagnostic]:
    """What several states cannot have: other axes than the first, a loop, company of more than three."""
    first, *others = recurrence.states
    names = ", ".join(f"'{state.name}'" for state in recurrence.states)
    if len(recurrence.states) > MAX_STATES:
        message = f"{len(others) + 1} states ({names}) cannot be compiled: at most {MAX_STATES} may mix"
        yield Diagnostic("unsupported", message, recurrence.states[MAX_STATES].span)
    for state in others:
        if state.axes != first.axes and len(state.axes) == 2 == len(first.axes):
            found, expected = (f"[{', '.join(each.axes)}]" for each in (state, first))
            message = f"states that mix lie over the same axes: expected {expected}, found {found}"
            yield Diagnostic("unsupported", message, state.span, related=((first.span, "the first state"),))
    for loop in (statement for statement in recurrence.statements if isinstance(statement, Loop)):
        if others:
            message = f"micro-steps of several states ({names}) cannot be compiled yet"
            yield Diagnostic("unsupported", message, loop.span)


def _loops(recurrence: Recurrence) -> Iterator[Diagnostic]:
    """Loops but for one, and loops in it."""
    loops = [statement for statement in recurrence.statements if isinstance(statement, Loop)]
    for loop in loops[1:]:
        related = ((loops[0].span, "the first loop"),)
        yield Diagnostic("unsupported", "two loops cannot be compiled yet", loop.span, related=related)
    for inner in (inner for loop in loops for inner in loop.body if isinstance(inner, Loop)):
        yield Diagnostic("unsupported", "a loop in a loop cannot be compiled yet", inner.span)


def check_linear(recurrence: Recurrence) -> None:
    """Raises SpecError for updates that multiply the state by itself or put it inside a function."""
    states = {state.name for state in recurrence.states}
    degrees: dict[str, int | _Nonlinear] = dict.fromkeys(states, 1)
    found = []
    for statement in unrolled(recurrence.statements):
        degree = _degree(statement.value, degrees)
        if isinstance(statement, Let):
            degrees[statement.name] = degree
        elif statement.target in states and isinstance(degree, _Nonlinear):
            found.append(
                Diagnostic(
                    "not-linear",
                    f"the update of '{statement.target}' is not linear in the state",
                    degree.span,
                    degree.label,
                    notes=_circle(recurrence),
                    hints=("every product may read a state once, and no function may take one",),
                )
            )
    if found:
        raise SpecError(found, recurrence.source, recurrence.path)


def _circle(recurrence: Recurrence) -> tuple[str, ...]:
    """Why several states are no stages."""
    if len(recurrence.states) == 1:
        return ()
    names = ", ".join(f"'{state.name}'" for state in recurrence.states)
    return (f"{names} depend on each other: none can be computed for all tokens before the others",)


def _degree(expression: Expression, degrees: dict[str, int | _Nonlinear]) -> int | _Nonlinear:
    parts = [(part, _degree(part, degrees)) for part in children(expression)]
    for _, degree in parts:
        if isinstance(degree, _Nonlinear):
            return degree
    reading = [part for part, degree in parts if degree]
    match expression:
        case Name(name):
            return degrees.get(name, 0)
        case Multiply() if len(reading) > 1:
            return _Nonlinear(reading[1].span, "a second factor that depends on the state")
        case Call(function) if reading:
            return _Nonlinear(expression.span, f"the state inside '{function}'")
        case Power() if reading:
            return _Nonlinear(expression.span, "a power of the state")
        case _:
            return 1 if reading else 0
