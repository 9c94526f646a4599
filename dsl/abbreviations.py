"""Puts the names of lets back into canonical expressions, where they were looked through."""

from __future__ import annotations

from rnnc.dsl.algebra import all_steps
from rnnc.dsl.expansion import to_expression
from rnnc.dsl.expression import Constant, Expression, Multiply, Name, Rename, map_children, names
from rnnc.dsl.inference import Inference
from rnnc.dsl.recurrence import Let, Recurrence, unrolled


class Abbreviations:
    """The lets of a recurrence that do not read the state, in canonical form; later ones are tried first."""

    def __init__(self, recurrence: Recurrence, known: Inference) -> None:
        hidden = {state.name for state in recurrence.states}
        self._lets: list[tuple[Name, Expression]] = []
        for statement in unrolled(recurrence.statements):
            if not isinstance(statement, Let):
                continue
            if names(statement.value) & hidden:
                hidden.add(statement.name)
                continue
            polynomial = known.canonical(statement.value)
            if polynomial is not None:
                value = to_expression(all_steps(polynomial))
                if not isinstance(value, Constant | Name):
                    self._lets.insert(0, (Name(statement.name, statement.value.axes), value))

    @property
    def lets(self) -> tuple[tuple[Name, Expression], ...]:
        """The lets in order, with their values."""
        return tuple(reversed(self._lets))

    def shorten(self, expression: Expression) -> Expression:
        """The expression with lets in place of their values."""
        for name, value in self._lets:
            if expression == value:
                return name
            primed = _primed(name, value)
            if primed is not None and expression == primed[1]:
                return primed[0]
            if isinstance(expression, Multiply):
                rest = _without(expression, value)
                if rest is not None:
                    return self.shorten(_after_number(name, rest))
        return map_children(expression, self.shorten)


def _primed(name: Name, value: Expression) -> tuple[Expression, Expression] | None:
    """The let and its value over the second copy of its axis, as in `u @ u.T`."""
    if len(name.axes) != 1:
        return None
    (axis,) = name.axes

    def moved(node: Expression) -> Expression:
        if isinstance(node, Name):
            return Rename(node, axis, axis + "'") if axis in node.axes else node
        return map_children(node, moved)

    return Rename(name, axis, axis + "'"), moved(value)


def _without(product: Multiply, value: Expression) -> tuple[Expression, ...] | None:
    """The factors of the product that are left when those of the value are taken out."""
    wanted = value.factors if isinstance(value, Multiply) else (value,)
    factors = list(product.factors)
    for factor in wanted:
        if factor in factors:
            factors.remove(factor)
        elif isinstance(factor, Constant) and Constant(-factor.value) in factors:
            factors[factors.index(Constant(-factor.value))] = Constant(-factor.value / factor.value)
        else:
            return None
    return tuple(factors)


def _after_number(name: Name, rest: tuple[Expression, ...]) -> Expression:
    """The name times the rest, a number first."""
    if not rest:
        return name
    first = rest[:1] if isinstance(rest[0], Constant) else ()
    return Multiply((*first, name, *rest[len(first) :]))
