"""Nodes -> statements of C: the table of operations."""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.c_along_time import add_along_time
from rnnc.codegen.c_body import Body
from rnnc.codegen.c_loops import for_, loops, nested
from rnnc.codegen.c_products import add_product, add_sum_of_products
from rnnc.codegen.c_reductions import add_reduction
from rnnc.codegen.c_values import POINTWISE, VIEWS, Index, Loop, is_product
from rnnc.codegen.program import Node


def add(body: Body, node: Node) -> None:
    """Forms a stored value. Raises NotImplementedError for what has no C."""
    match node.op:
        case ir.Add() if node in body.values.absorbed.values():
            add_sum_of_products(body, node)
        case ir.Sum(axis) | ir.Max(axis):
            add_reduction(body, node, axis)
        case ir.Dot() if is_product(node):
            add_product(body, node)
        case ir.Dot(axis):
            add_reduction(body, node, axis)
        case ir.Interleave() | ir.Assemble():
            _add_stacked(body, node)
        case _ if isinstance(node.op, (*POINTWISE, *VIEWS)):
            _add_pointwise(body, node)
        case _:
            add_along_time(body, node)


def _add_pointwise(body: Body, node: Node) -> None:
    """Entry by entry; of a lower triangle, only that."""
    if not node.axes:
        name, value = body.values.called[node], body.values.formed(node, {}, Loop())
        body.formed(node, [f"const real {name} = {value};"])
        return
    lower = node in body.values.lower
    lines = body.assigned(node, lambda index, loop: body.values.formed(node, index, loop), lower=lower)
    body.formed(node, [*lines, *(_zeros_above(body, node) if lower else [])])


def _zeros_above(body: Body, node: Node) -> list[str]:
    """What lies above the diagonal."""
    name, (row, column) = body.values.called[node], node.axes
    entry = f"    {name}[i * {body.leading(node.axes)} + j] = 0;"
    inside = [for_("j", str(body.sizes.size(column)), "i + 1"), entry]
    return nested([for_("i", str(body.sizes.size(row)))], inside)


def _add_stacked(body: Body, node: Node) -> None:
    """Rows, or blocks of a matrix, of several values: those of a token together."""
    count, lines = body.sizes.rows // body.sizes.target.tokens, []
    blocks = isinstance(node.op, ir.Assemble)
    axes = (ir.ROW, ir.COLUMN) if blocks else (ir.ROW, *node.axes[1:])
    for number, part in enumerate(node.args):
        row, column = divmod(number, count) if blocks else (number, 0)

        def line(index: Index, loop: Loop, part: Node = part, row: int = row, column: int = column) -> str:
            at = {**index, ir.ROWS: f"{index[ir.ROW]} * {count} + {row}"}
            if blocks:
                at[ir.COLUMNS] = f"{index[ir.COLUMN]} * {count} + {column}"
            return f"{body.place(node, at)} = {body.values.text(part, index, loop)};"

        lines += loops(body.sizes, axes, line)
    body.formed(node, lines)
