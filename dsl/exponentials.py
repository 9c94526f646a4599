"""exp(a + b) with a over one axis of a state and b over the other, as exp(a) * exp(b): an outer product.

As a decay, or in a write, that has a normal form, which the exponential of the matrix a + b has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rnnc.dsl.expression import Add, Axes, Call, Expression, Multiply, map_children
from rnnc.dsl.recurrence import Assign, Loop, Recurrence, Statement, mapped


def apart(recurrence: Recurrence) -> Recurrence:
    """The recurrence with such exponentials in lets and in updates of states as products."""
    states = {state.name: state.axes for state in recurrence.states}
    sides = {frozenset(axes): axes for axes in states.values() if len(axes) == 2}

    def visit(node: Expression) -> Expression:
        node = map_children(node, visit)
        axes = sides.get(frozenset(node.axes))
        if axes and isinstance(node, Call) and node.function == "exp":
            return _product(node, axes)
        return node

    def changed(statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            return replace(statement, body=tuple(map(changed, statement.body)))
        is_output = isinstance(statement, Assign) and statement.target not in states
        return statement if is_output else mapped(statement, visit)

    statements = tuple(map(changed, recurrence.statements))
    return recurrence if statements == recurrence.statements else replace(recurrence, statements=statements)


def _product(exponential: Call, axes: Axes) -> Expression:
    """The exponential as one over each axis, terms over neither with the first; itself if a term has both."""
    terms = list(_terms(exponential.arguments[0]))
    if any(len(term.axes) > 1 for term in terms):
        return exponential
    parts = [
        [term for term in terms if (axis in term.axes) or (first and not term.axes)]
        for axis, first in zip(axes, (True, False), strict=True)
    ]
    factors = [Add(tuple(part)) if len(part) > 1 else part[0] for part in parts]
    return Multiply(tuple(replace(exponential, arguments=(factor,)) for factor in factors), exponential.span)


def _terms(value: Expression) -> Iterator[Expression]:
    """The terms of a sum; of a sum times other factors, each times these."""
    if isinstance(value, Add):
        for term in value.terms:
            yield from _terms(term)
        return
    factors = value.factors if isinstance(value, Multiply) else ()
    sums = [factor for factor in factors if isinstance(factor, Add) and len(factor.axes) > 1]
    if len(sums) != 1:
        yield value
        return
    rest = tuple(factor for factor in factors if factor is not sums[0])
    for term in _terms(sums[0]):
        yield Multiply((*rest, term), value.span)
