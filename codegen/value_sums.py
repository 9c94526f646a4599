"""Sums over the value axis beside the kernels that walk the chunks.

These tile the value axis over programs, so they can sum nothing along it. What the state waits for is no
such sum of the state: a readout that is normalised, say, leaves the scan as it is, and the sums, with
everything after them, are the work of a kernel that is parallel over chunks and loops over the tiles. Sums
that depend on no state are formed before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.operands import is_plain_value, place_of
from rnnc.codegen.phases import is_accumulated, is_free, levels
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import plain

ELEMENTWISE = (ir.Multiply, ir.Apply, ir.Keep, ir.Within)


def after_sums(nodes: Sequence[Node], moving: Collection[int], axis: str) -> set[Node]:
    """The values that depend on a sum of the state over the axis."""
    found: set[Node] = set()
    for node in nodes:
        args = [plain(argument) for argument in node.args]
        summed = node.number in moving and is_accumulated(node, axis)
        if summed or any(argument in found for argument in args):
            found.add(node)
    return found


def before_sums(nodes: Sequence[Node], moving: Collection[int], axis: str) -> list[Node]:
    """The values free of the state that depend on a sum over the axis, for where the state meets them.

    Matrix products of such values that are not per token are left to the scan, which costs less memory.
    """
    level, multiplied = levels(nodes, axis), _multiplied(nodes, axis)
    stack = [plain(a) for node in nodes if node.number in moving for a in node.args]
    found: set[Node] = set()
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen or not level.get(node) or node.number in moving or is_free(node):
            continue
        seen.add(node)
        if node in multiplied and node.axes[:1] not in ((ir.ROW,), (ir.ROWS,)):
            stack.extend(plain(argument) for argument in node.args)
        else:
            found.add(node)
    return sorted(found, key=lambda node: node.number)


def _multiplied(nodes: Sequence[Node], axis: str) -> set[Node]:
    """The values that a matrix product was formed for, after any sum over the axis."""
    found: set[Node] = set()
    for node in nodes:
        product = isinstance(node.op, ir.Dot) and len(node.axes) == 2
        if not is_accumulated(node, axis) and (product or any(plain(a) in found for a in node.args)):
            found.add(node)
    return found


def meeting(after: Iterable[Node], moving: Collection[int], starts: Collection[Node]) -> list[Node]:
    """The values of the scan that those after it are computed from: what elementwise functions are taken of,
    not these.
    """
    late = set(after)
    stack = [plain(argument) for node in late for argument in node.args]
    found: set[Node] = set()
    while stack:
        node = stack.pop()
        if node.number not in moving or node in late or node in starts:
            continue
        args = [plain(argument) for argument in node.args]
        if isinstance(node.op, ELEMENTWISE) and not any(argument in starts for argument in args):
            stack.extend(args)
        else:
            found.add(node)
    return sorted(found, key=lambda node: node.number)


def between(nodes: Iterable[Node]) -> tuple[Array, ...]:
    """Arrays for what one kernel hands to another; plain values are read as inputs are."""
    arrays = (Array(node, f"x{node.number}", place_of(node)) for node in nodes)
    return tuple(
        replace(array, place="value") if array.place == "token" and is_plain_value(array.node) else array
        for array in arrays
    )
