"""Matrices between stacked rows as Triton: rows are padded to a power of two per token.

A padded row is zero: in the inverse it stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node


def rows_per_token(matrix: Node) -> int:
    """How many rows of a tile over (ROW, COLUMN), or (ROWS, COLUMNS), a token has."""
    match matrix.op:
        case ir.Assemble():
            return 1 << (math.isqrt(len(matrix.args)) - 1).bit_length()
        case ir.Inverse() | ir.InverseAdjoint():
            return rows_per_token(matrix.args[0])
        case _:
            return 1


def assembled(matrix: Node, blocks: Sequence[str]) -> str:
    """The blocks, row-major, interleaved into one tile."""
    count, size = math.isqrt(len(blocks)), rows_per_token(matrix)
    zero = "tl.zeros([C, C], tl.float32)"
    tiles = [zero if not node.axes else text for node, text in zip(matrix.args, blocks, strict=True)]
    lines = [
        _alternating("alternate_columns", tiles[count * row : count * row + count], zero, size)
        for row in range(count)
    ]
    blank = _alternating("alternate_columns", [], zero, size)
    return _alternating("alternate_rows", lines, blank, size)


def _alternating(function: str, parts: Sequence[str], blank: str, size: int) -> str:
    """Entry `size` * i + r is entry i of part r."""
    if size == 1:
        return parts[0] if parts else blank
    halves = (_alternating(function, parts[first::2], blank, size // 2) for first in (0, 1))
    return f"{function}({', '.join(halves)})"


def block(node: Node, matrix: str) -> str:
    """One block of an assembled matrix."""
    assert isinstance(node.op, ir.Block)
    return f"block({matrix}, {node.op.row}, {node.op.column}, {rows_per_token(node.args[0])}, C)"
