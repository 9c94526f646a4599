"""Between which ends the values of a recurrence lie, and what is wrong with them.

An input ranges over what is promised for it, a parameter likewise (how it is initialised promises nothing). A
state of two axes ranges over all numbers; one of fewer over what its updates make of where it starts, by
induction: a running mean stays where its entries are. (An initial state that a call is given is one that a
call has ended with.) A let is looked through as long as it does not read the state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from rnnc.dsl.diagnostics import NOWHERE, Diagnostic, Span
from rnnc.dsl.enclosures import domain
from rnnc.dsl.expression import Call, Expression, Power, names, walk
from rnnc.dsl.inference import Inference
from rnnc.dsl.interval import REAL, Interval, point
from rnnc.dsl.recurrence import Assign, Input, Let, Param, Recurrence, unrolled

EXACT_ROUNDS = 2  # of the induction over updates, before ends that move are let go
ROUNDS = EXACT_ROUNDS + 4


def infer(expression: Expression, context: Mapping[str, Interval] | Recurrence) -> Interval:
    """The values that the expression can take, given the ranges of names or the recurrence it stands in."""
    known = inference(context) if isinstance(context, Recurrence) else Inference(context)
    return known.expression(expression)


def environment(recurrence: Recurrence) -> dict[str, Interval]:
    """The range of every input, parameter, state and let."""
    return inference(recurrence).ranges


def inference(recurrence: Recurrence) -> Inference:
    """What is known about the names of a recurrence, ready to infer expressions over them."""
    declarations: list[Input | Param] = [*recurrence.inputs, *recurrence.params]
    promised = {declared.name: declared.range or REAL for declared in declarations}
    ranges = {name: REAL if range_.empty else range_ for name, range_ in promised.items()}
    starts = {
        state.name: ranges[state.initial] if state.initial else point(0)
        for state in recurrence.states
        if len(state.axes) < 2
    }
    return _with_lets(recurrence, ranges | _reached(recurrence, ranges, starts))


def _with_lets(recurrence: Recurrence, ranges: Mapping[str, Interval]) -> Inference:
    """What follows from the ranges of inputs, parameters and states; of other states nothing is known."""
    states = {state.name for state in recurrence.states}
    known = Inference(dict.fromkeys(sorted(states), REAL) | dict(ranges))
    for statement in unrolled(recurrence.statements):
        if isinstance(statement, Let):
            known.define(statement.name, statement.value, opaque=bool(names(statement.value) & states))
            if names(statement.value) & states:
                states.add(statement.name)
    return known


def _reached(
    recurrence: Recurrence, ranges: Mapping[str, Interval], starts: Mapping[str, Interval]
) -> dict[str, Interval]:
    """The least ranges found that hold the starts of these states and what every update makes of them.

    An end that still moves after some rounds is taken to be infinite, a state that then still moves to be any
    number.
    """
    found = dict(starts)
    for number in range(ROUNDS if starts else 0):
        known = _with_lets(recurrence, {**ranges, **found})
        grown = dict(found)
        for statement in unrolled(recurrence.statements):
            if isinstance(statement, Assign) and statement.target in found:
                name = statement.target
                grown[name] = grown[name].hull(known.expression(statement.value))
        if grown == found:
            return found
        if number >= EXACT_ROUNDS:
            grown = {name: _widened(found[name], range_) for name, range_ in grown.items()}
        found = grown
    return dict.fromkeys(starts, REAL)


def _widened(before: Interval, after: Interval) -> Interval:
    """The range without the ends that moved."""
    low, high = after.low == before.low, after.high == before.high
    return Interval(
        after.low if low else -math.inf, after.high if high else math.inf, after.low_open, after.high_open
    )


def check_ranges(recurrence: Recurrence) -> list[Diagnostic]:
    """What is wrong with the ranges: defaults that break a promise, arguments outside a function's domain."""
    found = []
    for param in recurrence.params:
        found += _default(param)
    known = inference(recurrence)
    for statement in unrolled(recurrence.statements):
        found += _outside(statement.value, known)
    for param in recurrence.params:
        if param.default is not None:
            found += _outside(param.default, known)
    return list(dict.fromkeys(found))


def _default(declared: Param) -> list[Diagnostic]:
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
