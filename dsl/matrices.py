"""Matrix products: `left @ right` over named axes."""

from __future__ import annotations

from rnnc.dsl.axes import Value, refuse, with_size
from rnnc.dsl.diagnostics import Span, SpecError
from rnnc.dsl.expression import Multiply, Sum
from rnnc.dsl.labels import UNKNOWN, base, renamed


def matmul(left: Value, right: Value, span: Span) -> Value:
    """left @ right: the left's last axis contracted with the right's first, or the outer product.

    Raises SpecError (`not-a-matrix`, `axis-mismatch`) with the span.
    """
    for side, value in (("left", left), ("right", right)):
        if len(value.axes) not in (1, 2):
            message = f"the {side} of '@' is {value}"
            hint = "'*' multiplies by a scalar" if not value.axes else "'@' takes vectors and matrices"
            raise refuse("not-a-matrix", message, span, "", hint)
    outer_left, inner_left = _ends(left)
    outer_right, inner_right = _ends(right, first=True)
    if inner_left is None and inner_right is None:
        return _outer(left, right, span)
    if inner_left is None or inner_right is None:
        raise _shapes_differ(left, right, span)
    left, right = _sized(left, inner_right), _sized(right, inner_left)
    if base(left.axes[-1]) != base(right.axes[0]):
        raise _axes_differ(left, right, span)
    rows = left.axes[0] if outer_left else None
    columns = right.axes[-1] if outer_right else None
    return _contract(left, right, rows, columns, span)


def _ends(value: Value, first: bool = False) -> tuple[str | None, str | None]:
    """The outer and the inner axis of an operand of '@', which are None for the missing axis of a vector."""
    if len(value.axes) == 2:
        outer, inner = value.axes[::-1] if first else value.axes
        return outer, inner
    return (None, value.axes[0]) if value.row != first else (value.axes[0], None)


def _sized(value: Value, axis: str) -> Value:
    return with_size(value, base(axis)) if value.unknown and base(axis) != UNKNOWN else value


def _outer(left: Value, right: Value, span: Span) -> Value:
    rows, columns = left.axes[0], right.axes[0]
    new = rows + "'" if columns == rows else columns
    expression = Multiply((left.expression, renamed(right.expression, {columns: new})), span)
    return Value(expression, (rows, new), traits=left.traits | right.traits)


def _contract(left: Value, right: Value, rows: str | None, columns: str | None, span: Span) -> Value:
    """The sum over the shared axis, under labels that keep the three axes apart."""
    axes = tuple(base(axis) for axis in (rows, columns) if axis is not None)
    if len(set(axes)) < len(axes):
        axes = (axes[0], axes[1] + "'")
    shared = base(left.axes[-1])
    while shared in axes:
        shared += "'"
    left_names = dict(zip(left.axes, (*axes[: rows is not None], shared), strict=True))
    right_names = dict(zip(right.axes, (shared, *axes[len(axes) - (columns is not None) :]), strict=True))
    factors = (renamed(left.expression, left_names), renamed(right.expression, right_names))
    expression = Sum(Multiply(factors, span), shared, span)
    diagonal = left.diagonal and right.diagonal
    row = rows is None and columns is not None
    return Value(expression, axes, row, diagonal, left.traits | right.traits)


def _shapes_differ(left: Value, right: Value, span: Span) -> SpecError:
    label = f"left is {left}, right is {right}"
    both = len(left.axes) == len(right.axes) == 1
    if both and not left.row:
        hints = ("'left @ right.T' is the outer product, 'left.T @ right' the dot product",)
    elif both:
        hints = ("'left @ right.T' is the dot product, 'left.T @ right' the outer product",)
    else:
        hints = ("'.T' turns a column into a row",)
    return refuse("axis-mismatch", f"'@' cannot multiply {left} and {right}", span, label, *hints)


def _axes_differ(left: Value, right: Value, span: Span) -> SpecError:
    last, first = base(left.axes[-1]), base(right.axes[0])
    label = f"left is {left}, right is {right}"
    hints = []
    if len(left.axes) == 2 and base(left.axes[0]) == first:
        hints.append("transpose the left: '.T'")
    if len(right.axes) == 2 and base(right.axes[-1]) == last:
        hints.append("transpose the right: '.T'")
    return refuse("axis-mismatch", f"'@' contracts '{last}' with '{first}'", span, label, *hints)
