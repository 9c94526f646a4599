"""Axis labels: primes for the second copy of an axis, renaming, identities whose size is not known yet."""

from __future__ import annotations

from dataclasses import replace

from rnnc.dsl.expression import Constant, Expression, Identity, Rename, Sum, map_children

UNKNOWN = "?"  # the axis of an identity until it meets something of known size


def base(label: str) -> str:
    """The axis without primes."""
    return label.rstrip("'")


def size_given(expression: Expression, axis: str) -> Expression:
    """The expression with the identities of unknown size made those of the axis."""
    expression = map_children(expression, lambda part: size_given(part, axis))
    match expression:
        case Identity(axis=old) | Sum(axis=old):
            return replace(expression, axis=old.replace(UNKNOWN, axis))
        case Rename(old=old, new=new):
            return replace(expression, old=old.replace(UNKNOWN, axis), new=new.replace(UNKNOWN, axis))
        case _:
            return expression


def renamed(expression: Expression, names: dict[str, str]) -> Expression:
    """The expression with axes renamed, all at once: two that change places go by way of a third label."""
    moves = {old: new for old, new in names.items() if old != new}
    swapped = {old: moves.get(new) for old, new in moves.items()} == {old: old for old in moves}
    if isinstance(expression, Constant) or (isinstance(expression, Identity) and swapped):
        return expression
    while moves:
        old = next((old for old, new in moves.items() if new not in moves), None)
        if old is None:
            old = next(iter(moves))
            aside = base(old) + "'''"
            moves[aside] = moves[old]
        else:
            aside = moves[old]
        expression = Rename(expression, old, aside, expression.span)
        del moves[old]
    return expression
