"""Between which ends the values of a recurrence lie, and what is wrong with them.

An input ranges over what is promised for it, a parameter likewise (how it is initialised promises nothing), a
state over all numbers; a let is looked through as long as it does not read the state.
"""

from __future__ import annotations

from collections.abc import Mapping

from rnnc.dsl.diagnostics import NOWHERE, Diagnostic, Span
from rnnc.dsl.enclosures import domain
from rnnc.dsl.expression import Call, Expression, Power, names, walk
from rnnc.dsl.inference import Inference
from rnnc.dsl.interval import REAL, Interval
from rnnc.dsl.recurrence import Input, Let, Param, Recurrence, unrolled


def infer(expression: Expression, context: Mapping[str, Interval] | Recurrence) -> Interval:
    """The values that the expression can take, given the ranges of names or the recurrence it stands in."""
    known = inference(context) if isinstance(context, Recurrence) else Inference(context)
    return known.expression(expression)


def environment(recurrence: Recurrence) -> dict[str, Interval]:
    """The range of every input, parameter, state and let."""
    return inference(recurrence).ranges


def inference(recurrence: Recurrence) -> Inference:
    """What is known about the names of a recurrence, ready to infer expressions over them."""
    ranges: dict[str, Interval] = {}
    declarations: list[Input | Param] = [*recurrence.inputs, *recurrence.params]
    for declared in declarations:
        promised = declared.range or REAL
        ranges[declared.name] = REAL if promised.empty else promised
    states = {state.name for state in recurrence.states}
    known = Inference(ranges | dict.fromkeys(sorted(states), REAL))
    for statement in unrolled(recurrence.statements):
        if isinstance(statement, Let):
            known.define(statement.name, statement.value, opaque=bool(names(statement.value) & states))
            if names(statement.value) & states:
                states.add(statement.name)
    return known


def check_ranges(recurrence: Recurrence) -> list[Diagnostic]:
    """What is wrong with the ranges: defaults that break a promise, arguments outside a function's domain."""
    found = []
    for item in recurrence.arguments:
        found += _default(item)
    known = inference(recurrence)
    for statement in unrolled(recurrence.statements):
        found += _outside(statement.value, known)
    for item in recurrence.arguments:
        if item.default is not None:
            found += _outside(item.default, known)
    return list(dict.fromkeys(found))


def _default(declared: Input | Param) -> list[Diagnostic]:
    promised = declared.range
    if promised is None or declared.default is None:
        return []
    default = infer(declared.default, {})
    if not default.disjoint(promised):
        return []
    message = f"the default of '{declared.name}' lies outside its promised range {promised}"
    return [_error(message, declared.default.span, f"in {default}")]


def _outside(expression: Expression, known: Inference) -> list[Diagnostic]:
    """Calls and powers in the expression that have no value whatever the inputs are."""
    found = []
    for node in walk(expression):
        match node:
            case Call(function, (argument,)) if known.expression(argument).disjoint(domain(function)):
                found.append(_no_value(f"'{function}'", argument, known, node.span))
            case Power(base, exponent) if exponent < 0 and known.expression(base) == Interval(0.0, 0.0):
                found.append(_error("division by zero", _place(base, node.span), "always 0"))
            case Power(base, exponent) if exponent.denominator != 1:
                if known.expression(base).disjoint(Interval(0.0)):
                    found.append(_no_value(f"the power {exponent}", base, known, node.span))
            case _:
                continue
    return found


def _no_value(what: str, argument: Expression, known: Inference, span: Span) -> Diagnostic:
    label = f"in {known.expression(argument)}"
    return _error(f"{what} of a value that is never positive", _place(argument, span), label)


def _place(inner: Expression, outer: Span) -> Span:
    return outer if inner.span == NOWHERE else inner.span


def _error(message: str, span: Span, label: str) -> Diagnostic:
    return Diagnostic("range", message, span, label)
