"""The decay of a chunk along one axis of the state: between two tokens, from the start, to the end.

With G[i] = D[1] ... D[i], D a scalar or one factor per channel of the axis, a pair of tokens j <= i has the
factor G[i] / G[j]. Nothing is divided: the factors stand as products (`Path`, `RunningProduct`, `DecayDot`)
until numerics decides how to form them.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnnc.codegen.builder import Builder
from rnnc.codegen.operations import (
    COLUMN,
    COLUMNS,
    ROW,
    ROWS,
    DecayDot,
    DecayDotRows,
    Path,
    RunningProduct,
)
from rnnc.codegen.program import Node


@dataclass(frozen=True)
class Side:
    """An axis of the state with its decay (None: 1); with micro-steps, tokens have several rows."""

    build: Builder
    axis: str
    decay: Node | None
    micro: str | None

    @property
    def channels(self) -> bool:
        """Whether the decay differs along the axis."""
        return self.decay is not None and self.axis in self.decay.axes

    def rows(self, value: Node, time: str = ROW) -> Node:
        """A value per token as one for every row."""
        return value if self.micro is None else self.build.flatten(value, self.micro, time)

    def columns(self, value: Node) -> tuple[Node, str]:
        """A value per row as one per column, and the axis of the columns."""
        row, column = (ROWS, COLUMNS) if ROWS in value.axes else (ROW, COLUMN)
        return self.build.rename(value, row, column), column

    def from_start(self, value: Node, exclusive: bool) -> Node:
        """value * G[i], or G[i-1]."""
        if self.decay is None:
            return value
        running = self.build.node(RunningProduct("prefix", exclusive), [self.decay], self.decay.axes)
        return self.build.multiply([value, self.rows(running) if ROWS in value.axes else running])

    def total(self, value: Node) -> Node:
        """value * G[C]."""
        if self.decay is None:
            return value
        whole = self.build.node(RunningProduct("suffix", False), [self.decay], self.decay.axes)
        return self.build.multiply([self.build.first(whole), value])

    def to_end(self, value: Node) -> Node:
        """value * G[C] / G[i]."""
        if self.decay is None:
            return value
        suffix = self.build.node(RunningProduct("suffix", True), [self.decay], self.decay.axes)
        return self.build.multiply([value, self.rows(suffix)])

    def scores(self, left: Node, right: Node, exclusive: bool, strict: bool, masked: bool = True) -> Node:
        """left[i]^T (G[i] / G[j]) right[j] of the pairs j <= i; exclusive: G[i-1], which leaves j < i alone.

        strict: without j = i. Where not `masked`, other pairs may have any value.
        """
        build, axis = self.build, self.axis
        right, column = self.columns(right)
        if self.channels and self.decay is not None:
            op = DecayDot(axis, "product", exclusive, strict)
            return build.node(op, [left, right, self.decay], (ROWS if ROWS in left.axes else ROW, column))
        return self.between(build.dot(left, right, axis), exclusive, strict, masked)

    def pairs(self, left: Node, right: Node, exclusive: bool) -> Node:
        """What a solve reads: as `scores`, with no care for the diagonal and above."""
        return self.scores(left, right, exclusive, strict=self.channels, masked=False)

    def between(self, matrix: Node, exclusive: bool, strict: bool, masked: bool = True) -> Node:
        """matrix[i,j] * G[i] / G[j] for one D per token, as in `scores`."""
        build, rows = self.build, ROWS in matrix.axes
        if self.decay is None:
            return build.mask(matrix, strict) if masked else matrix
        path = build.node(Path(exclusive, strict and not rows), [self.decay], (ROW, COLUMN))
        if rows:  # within a token, rows follow each other without a decay
            path, matrix = self.rows(path), build.mask(matrix, strict) if masked else matrix
        return build.multiply([self.rows(path, COLUMN), matrix])

    def weighted(self, matrix: Node, values: Node, exclusive: bool, strict: bool) -> Node:
        """The sum over j of matrix[i,j] (G[i] / G[j]) values[j]; without a decay the matrix is masked."""
        build = self.build
        values, column = self.columns(values)
        if not self.channels or self.decay is None:
            return build.dot(self.between(matrix, exclusive, strict, masked=False), values, column)
        op = DecayDotRows(self.axis, "product", exclusive, strict)
        row = ROWS if ROWS in matrix.axes else ROW
        return build.node(op, [matrix, values, self.decay], (row, self.axis))
