"""Products of matrices -> calls of `gemm` of `templates/tiles_products.h`."""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.c_body import Body
from rnnc.codegen.c_values import POINTWISE, SQUARES, Index, Loop
from rnnc.codegen.program import Node

FULL, LOWER, UPPER = range(3)


def add_product(body: Body, node: Node) -> None:
    """A product of two matrices."""
    only = LOWER if only_lower(body, node) else FULL
    body.formed(node, [_call(body, node, body.values.called[node], "1", False, only)])


def add_sum_of_products(body: Body, node: Node) -> None:
    """A sum: the elementwise terms, then the products, each added as it is formed."""
    assert isinstance(node.op, ir.Add)
    terms = list(zip(node.op.coefficients, node.args, strict=True))
    rest = [term for term in terms if term[1] not in body.values.absorbed]

    def value(index: Index, loop: Loop) -> str:
        return body.values.sum((c, body.values.text(argument, index, loop)) for c, argument in rest)

    lines = body.assigned(node, value) if rest else []
    for coefficient, argument in (term for term in terms if term not in rest):
        factors, product = [float(coefficient)], argument
        scalars = []
        if isinstance(argument.op, ir.Multiply):
            factors.append(float(argument.op.coefficient))
            (product,) = (a for a in argument.args if a.axes)
            scalars = [body.values.text(a, {}, Loop()) for a in argument.args if a is not product]
        scale = " * ".join([body.values.number(factors[0] * (factors[1:] or [1.0])[0]), *scalars])
        lines.append(_call(body, product, body.values.called[node], scale, bool(lines), FULL))
    body.formed(node, lines)


def _call(body: Body, node: Node, place: str, scale: str, accumulate: bool, only: int) -> str:
    """place = [place +] scale * a * b."""
    assert isinstance(node.op, ir.Dot)
    axis, (row, column) = node.op.axis, node.axes
    first, second = node.args if row in node.args[0].axes else node.args[::-1]
    stride = body.leading(first.axes)
    steps = f"{stride}, 1" if first.axes == (row, axis) else f"1, {stride}"
    right = body.operand(second) if second.axes == (axis, column) else body.transposed(second)
    sizes = ", ".join(str(body.sizes.size(each)) for each in (row, column, axis))
    parts = [
        f"{place}, {body.leading((row, column))}",
        f"{body.operand(first)}, {steps}",
        f"{right}, {body.leading((axis, column))}",
        f"{sizes}, {scale}, {int(accumulate)}, {_shape(body, first, row)}, {only}",
    ]
    return f"gemm({', '.join(parts)});"


def _shape(body: Body, matrix: Node, row: str) -> int:
    """Whether the left operand, with these rows, is a triangle."""
    base, axes = matrix, list(matrix.axes)
    while isinstance(base.op, ir.Rename):
        axes = [base.op.old if axis == base.op.new else axis for axis in axes]
        base = base.args[0]
    if base not in body.values.lower or tuple(axes) != base.axes:
        return FULL
    return LOWER if matrix.axes[0] == row else UPPER


def only_lower(body: Body, node: Node) -> bool:
    """Whether all that is read of a value between tokens is its lower triangle."""
    users = body.values.users.get(node, ())
    return node.axes in SQUARES and all(
        argument is node and user is not None and _reads_below(body, user, node) for user, argument in users
    )


def _reads_below(body: Body, user: Node, node: Node) -> bool:
    """Whether what uses it reads only the lower triangle."""
    if user in body.values.lower or isinstance(user.op, ir.SegmentAdjoint):
        return True
    inside = isinstance(user.op, POINTWISE) and user not in body.values.stored
    return inside and user.axes == node.axes and only_lower(body, user)
