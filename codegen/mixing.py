"""Products of the small matrices by which coupled states mix, entry by entry.

With the m x m matrix D[t] of token t,

    T[i,j] = D[i] ... D[j+1],   T[j,j] = I          G[i] = D[i] ... D[1],   G[0] = I

The diagonal entries of a triangular D multiply along time as one decay does. The others follow from the last
token l at which state a took from another state c,

    T_ab[i,j] = sum_l T_aa[i,l] sum_{c != a} D_ac[l] T_cb[l-1,j]

and likewise for G: products of C x C matrices, without a division or a logarithm of what may be 0. Where
states depend on each other in a circle, T is the inverse of I less the matrix with D[i] below its diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rnnc.codegen.builder import Builder
from rnnc.codegen.operations import (
    COLUMN,
    COLUMNS,
    LAST,
    MIDDLE,
    ROW,
    ROWS,
    AtFirst,
    Const,
    Path,
    RunningProduct,
)
from rnnc.codegen.program import Node

Matrix = Sequence[Sequence[Node | None]]


class Products(Protocol):
    """The products of D[t], entry by entry; None for 0."""

    def between(self, a: int, b: int, exclusive: bool) -> Node | None:
        """T_ab[i,j], j <= i; exclusive: T_ab[i-1,j], j < i. Zero above."""

    def from_start(self, a: int, b: int, exclusive: bool) -> Node | None:
        """G_ab[i]; exclusive: G_ab[i-1]."""

    def to_end(self, a: int, b: int) -> Node | None:
        """(D[C] ... D[j+1])_ab."""

    def whole(self, a: int, b: int) -> Node | None:
        """G_ab[C]."""


def products(build: Builder, entries: Matrix) -> Products:
    """The products of D[t], given by its entries over ROW: None for 0, the constant 1 for no decay."""
    return _Circular(build, entries) if _in_a_circle(entries) else _Triangular(build, entries)


def _in_a_circle(entries: Matrix) -> bool:
    """Whether a state takes from another that takes from it, by others perhaps."""
    waiting = set(range(len(entries)))
    while waiting:
        free = {a for a in waiting if not any(entries[a][c] is not None for c in waiting - {a})}
        if not free:
            return True
        waiting -= free
    return False


class _Triangular:
    """What a state takes from itself as one factor; constant 1: nothing is lost."""

    def __init__(self, build: Builder, entries: Matrix) -> None:
        self.build, self.entries = build, entries

    def between(self, a: int, b: int, exclusive: bool) -> Node | None:
        build = self.build
        if a == b:
            decay = self._own(a)
            if decay is None:
                ones = build.broadcast(build.broadcast(build.constant(1), ROW), COLUMN)
                return build.mask(ones, exclusive)
            return build.node(Path(exclusive, exclusive), [decay], (ROW, COLUMN))
        taken = self._taken(a, lambda c: self.between(c, b, True))
        if taken is None:
            return None
        own = self.between(a, a, exclusive)
        assert own is not None
        return build.dot(build.rename(own, COLUMN, MIDDLE), build.rename(taken, ROW, MIDDLE), MIDDLE)

    def from_start(self, a: int, b: int, exclusive: bool) -> Node | None:
        build = self.build
        if a == b:
            decay = self._own(a)
            if decay is None:
                return build.constant(1)
            return build.node(RunningProduct("prefix", exclusive), [decay], decay.axes)
        taken = self._taken(a, lambda c: self.from_start(c, b, True))
        if taken is None:
            return None
        if self._own(a) is None:
            return build.running(taken, "prefix", exclusive)
        own = self.between(a, a, exclusive)
        assert own is not None
        return build.dot(own, build.rename(taken, ROW, COLUMN), COLUMN)

    def to_end(self, a: int, b: int) -> Node | None:
        build = self.build
        if a == b:
            decay = self._own(a)
            if decay is None:
                return build.constant(1)
            return build.node(RunningProduct("suffix", True), [decay], decay.axes)
        taken = self._taken(a, lambda c: self.between(c, b, True))
        if taken is None:
            return None
        own = self.to_end(a, a)
        assert own is not None
        kept = build.sum(build.multiply([own, taken]), ROW)
        return build.rename(kept, COLUMN, ROW)

    def whole(self, a: int, b: int) -> Node | None:
        build = self.build
        if a == b:
            decay = self._own(a)
            if decay is None:
                return build.constant(1)
            return build.first(build.node(RunningProduct("suffix", False), [decay], decay.axes))
        taken = self._taken(a, lambda c: self.from_start(c, b, True))
        if taken is None:
            return None
        own = self.to_end(a, a)
        assert own is not None
        return build.sum(build.multiply([own, taken]), ROW)

    def _own(self, a: int) -> Node | None:
        """The decay of a state by itself, None for 1."""
        entry = self.entries[a][a]
        assert entry is not None
        return None if isinstance(entry.op, Const) else entry

    def _taken(self, a: int, weight: Callable[[int], Node | None]) -> Node | None:
        """sum_{c != a} D_ac[l] times the weight of c, before token l."""
        terms = []
        for c, entry in enumerate(self.entries[a]):
            if c != a and entry is not None and (factor := weight(c)) is not None:
                terms.append((1, self.build.multiply([entry, factor])))
        return self.build.add(terms) if terms else None


class _Circular:
    """T by one triangular solve over the states of all tokens, side by side."""

    def __init__(self, build: Builder, entries: Matrix) -> None:
        self.build, self.entries = build, entries
        zero = build.broadcast(build.constant(0), ROW)
        identity = build.node(Path(False, False), [zero], (ROW, COLUMN))
        self.before = build.node(Path(True, True), [zero], (ROW, COLUMN))  # 1 where j = i - 1
        states = range(len(entries))
        blocks = [
            build.multiply([d, self.before]) if d is not None else build.constant(0)
            for row in entries
            for d in row
        ]
        matrix = build.assemble(blocks)
        self.columns = []
        for b in states:
            parts = [build.rename(identity, COLUMN, LAST) if a == b else build.constant(0) for a in states]
            right = build.rename(build.interleave(parts), ROWS, COLUMNS)
            solved = build.solve(matrix, right)
            column = [build.deinterleave(solved, a, len(entries)) for a in states]
            self.columns.append([build.rename(part, LAST, COLUMN) for part in column])
        self.last = build.add([(1, build.constant(1)), (-1, build.sum(self.before, ROW))])

    def between(self, a: int, b: int, exclusive: bool) -> Node | None:
        product = self.columns[b][a]
        return self._before(product) if exclusive else product

    def from_start(self, a: int, b: int, exclusive: bool) -> Node | None:
        build = self.build
        terms = []
        for c in range(len(self.entries)):
            entry = self.entries[c][b]
            if entry is not None:
                first = build.node(AtFirst(), [build.first(build.broadcast(entry, ROW))], (ROW,))
                terms.append(build.dot(self.columns[c][a], build.rename(first, ROW, COLUMN), COLUMN))
        reached = build.add((1, term) for term in terms)
        if not exclusive:
            return reached
        before = build.dot(self.before, build.rename(reached, ROW, COLUMN), COLUMN)
        after_first = build.sum(self.before, COLUMN)
        start = build.add([(1, build.constant(1)), (-1, after_first)])
        return build.add([(1, before), *([(1, start)] if a == b else [])])

    def to_end(self, a: int, b: int) -> Node | None:
        last = self.build.rename(self.last, COLUMN, ROW)
        return self.build.rename(self.build.dot(last, self.columns[b][a], ROW), COLUMN, ROW)

    def whole(self, a: int, b: int) -> Node | None:
        build, reached = self.build, self.from_start(a, b, False)
        assert reached is not None
        return build.dot(build.rename(self.last, COLUMN, ROW), reached, ROW)

    def _before(self, product: Node) -> Node:
        """The row of the token before."""
        build = self.build
        return build.dot(
            build.rename(self.before, COLUMN, MIDDLE), build.rename(product, ROW, MIDDLE), MIDDLE
        )
