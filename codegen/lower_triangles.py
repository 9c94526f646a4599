"""Which matrices between tokens, or their rows, are lower triangular: of what they are formed of."""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.operations import COLUMN, COLUMNS, ROW, ROWS
from rnnc.codegen.program import Node, reachable


def is_lower(matrix: Node) -> bool:
    """Whether a value over rows and columns is surely zero above its diagonal: of [ROW, COLUMNS], in the
    columns of later tokens.
    """
    lower: set[Node] = set()
    for node in reachable([matrix]):
        if _is_lower(node, lower):
            lower.add(node)
    return matrix in lower and matrix.axes in ((ROW, COLUMN), (ROWS, COLUMNS), (ROW, COLUMNS))


def _is_lower(node: Node, lower: set[Node]) -> bool:
    """The same of the first time axis before the second; `lower` are the arguments of which it is true."""
    if len(node.axes) != 2 or not set(node.axes) <= set(ir.TIME_AXES):
        return False
    along = [argument for argument in node.args if len(argument.axes) == 2]
    match node.op:
        case ir.Mask() | ir.DecayDot() | ir.Path() | ir.Inverse() | ir.InverseAdjoint():
            return True
        case ir.Apply("exp2"):
            return isinstance(_renamed_from(node.args[0]).op, ir.Segment)  # -inf there
        case ir.Multiply():
            return any(argument in lower and argument.axes == node.axes for argument in along)
        case ir.Add():
            return all(argument in lower and argument.axes == node.axes for argument in node.args)
        case ir.Keep(0):
            return node.args[0] in lower and node.args[0].axes == node.axes
        case ir.Block():
            return node.args[0] in lower
        case ir.Rename(old, new):
            return node.args[0] in lower and node.axes == tuple(
                new if axis == old else axis for axis in node.args[0].axes
            )
        case ir.Dot(axis) if {*node.axes, axis} <= {ROW, ir.MIDDLE, COLUMN}:
            first, second = node.args
            chained = first.axes == (node.axes[0], axis) and second.axes == (axis, node.axes[1])
            return chained and first in lower and second in lower
        case _:
            return False


def _renamed_from(node: Node) -> Node:
    return _renamed_from(node.args[0]) if isinstance(node.op, ir.Rename) else node
