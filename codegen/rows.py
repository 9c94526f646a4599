"""The rows that read what the rows before them wrote: one triangular solve for the reads of all tokens."""

from __future__ import annotations

from collections.abc import Sequence

from rnnc.codegen.builder import Builder
from rnnc.codegen.operations import COLUMN, ROW, Const
from rnnc.codegen.program import Node


def solved(
    build: Builder, blocks: Sequence[Node], rights: Sequence[Node], row: str = ROW, column: str = COLUMN
) -> list[Node]:
    """The U_r with U_r = right_r + sum_s block_rs U_s; blocks row-major, strictly lower triangular.

    Several reads of a token are rows side by side; one read may have rows of its own, over `row`.
    """
    count = len(rights)
    if all(isinstance(block.op, Const) and not block.op.value for block in blocks):
        return list(rights)  # what is read nobody writes into: one state of several, say
    if count == 1:
        return [build.solve(blocks[0], build.rename(rights[0], row, column))]
    right = build.rename(build.interleave(rights), "@m", "@n")
    stacked = build.solve(build.assemble(blocks), right)
    return [build.deinterleave(stacked, index, count) for index in range(count)]
