"""Factors of matrix products move to the operand over the value axis.

    sum_j (s[j] x[i,j]) y[j,v]  =  sum_j x[i,j] (s[j] y[j,v])

Kernels tile the value axis, so that operand is small, while the other reaches the product as it lies in
memory; a vector along the columns of a matrix between tokens would take a register for every entry.
"""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program
from rnnc.codegen.rewriting import rewritten


def scale_values(program: Program, builder: Builder, value_axis: str) -> Program:
    """The program with such factors moved."""

    def rule(node: Node, args: list[Node], build: Builder) -> Node | None:
        if not isinstance(node.op, ir.Dot) or len(node.axes) != 2 or value_axis not in node.axes:
            return None
        axis = node.op.axis
        index = 0 if value_axis in args[0].axes else 1
        values, matrix = args[index], args[1 - index]
        core, factors = _split(matrix, axis, build)
        if not factors:
            return None
        operands = [core, _over_rows(build.multiply([*factors, values]), build)]
        return build.node(node.op, operands[::-1] if index == 0 else operands, node.axes)

    return rewritten(program, builder, rule)


def _over_rows(values: Node, build: Builder) -> Node:
    """The same values, computed over ROW (ROWS), as all that is elementwise is."""
    for row, column in ((ir.ROW, ir.COLUMN), (ir.ROWS, ir.COLUMNS)):
        if column in values.axes:
            renamed = build.rename(values, column, row)
            return build.node(ir.Rename(row, column), [renamed], values.axes)
    return values


def _split(matrix: Node, axis: str, build: Builder) -> tuple[Node, list[Node]]:
    """A matrix without its factors along the axis, and these."""
    if isinstance(matrix.op, ir.Rename):
        old, new = matrix.op.old, matrix.op.new
        core, factors = _split(matrix.args[0], old if axis == new else axis, build)
        if not factors:
            return matrix, []
        return build.rename(core, old, new), [build.rename(factor, old, new) for factor in factors]
    if not isinstance(matrix.op, ir.Multiply):
        return matrix, []
    factors = [factor for factor in matrix.args if factor.axes == (axis,)]
    rest = [factor for factor in matrix.args if factor.axes != (axis,)]
    if not factors or all(len(factor.axes) < 2 for factor in rest):
        return matrix, []
    return build.multiply(rest, matrix.op.coefficient), factors
