"""The arrays that kernels read and write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rnnc.codegen.program import Node

Place = Literal[
    "token",
    "value",
    "row",
    "param",
    "shared",
    "start",
    "matrix",
    "pairs",
    "triangle",
    "triangles",
    "chunk",
    "kept",
    "total",
    "state",
    "partial",
]


@dataclass(frozen=True, slots=True)
class Array:
    """A value in memory, and how it is laid out.

    token: [B, T, H, axes]; param: [H, axes]; shared: [axes]; matrix: [B, T, H, C], the rows of [C, C]; pairs:
    the same with a column for each row of the tokens. What has rows has the axis of micro-steps in memory.
    triangle, triangles: the same of a lower triangular matrix, [chunks, H, entries]; see `triangles`.
    start: [N, H, axes], what was carried into each sequence, or None: zeros.
    chunk: [chunks, H, axes]; kept: the same for one chunk in several, the first of each; state: [N, H, axes];
    partial: [chunks, H, axes] in float32, summed afterwards.
    Between kernels, in float32: row: [B, T, H], a factor of every token; total: [chunks, H, axes].
    value: as token, but beyond a sequence its last token is read again, as it is of an input: whatever a spec
    computes of it is defined there.
    """

    node: Node
    name: str
    place: Place
