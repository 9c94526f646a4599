"""Stacked rows as separate values: a program over (ROWS, ...) becomes one over (ROW, ...), part by part.

Several reads of the state per token are solved for together, over rows that hold the reads of a token side
by side. Only the triangular inverse needs them so; products with it, block by block, are products over
tokens:

    (X U)_r = sum_s X_rs U_s

What remains stacked is the inverse itself and the matrix it is the inverse of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.operations import COLUMN, COLUMNS, ROW, ROWS
from rnnc.codegen.program import Node, Program, reachable

STACKED = {ROWS: ROW, COLUMNS: COLUMN}
Parts = tuple[Node, ...]
Blocks = tuple[Parts, ...]


def unstack(programs: Sequence[Program], builder: Builder) -> list[Program]:
    """The programs without stacked rows but in inverses; they already have these in the place of solves."""
    parts = _Parts(builder)
    return [
        replace(
            program,
            results={name: parts.whole(node) for name, node in program.results.items()},
            carries=tuple(replace(carry, end=parts.whole(carry.end)) for carry in program.carries),
        )
        for program in programs
    ]


def is_stacked(node: Node) -> bool:
    """Whether a value is over stacked rows."""
    return any(axis in STACKED for axis in node.axes)


class _Parts:
    """What each value becomes, made once."""

    def __init__(self, builder: Builder) -> None:
        self.build = builder
        self._whole: dict[Node, Node] = {}
        self._parts: dict[Node, Parts] = {}
        self._blocks: dict[Node, Blocks] = {}

    def whole(self, root: Node) -> Node:
        """A value that is not over stacked rows."""
        for node in reachable([root]) if root not in self._whole else ():
            if node not in self._whole and not is_stacked(node):
                self._whole[node] = self._rebuilt(node)
        return self._whole[root]

    def _rebuilt(self, node: Node) -> Node:
        match node.op:
            case ir.Deinterleave(index, _):
                return self.parts(node.args[0])[index]
            case ir.Block(row, column, _):
                return self.blocks(node.args[0])[row][column]
            case ir.Dot(axis) if axis in STACKED:
                left, right = map(self.parts, node.args)
                return self._summed(zip(left, right, strict=True), STACKED[axis])
            case ir.DecayDotDecay() if is_stacked(node.args[0]):
                return self._by_decay(node)
            case _:
                args = [self._whole[argument] for argument in node.args]
                return node if list(node.args) == args else self.build.with_args(node, args)

    def _by_decay(self, node: Node) -> Node:
        """The gradient by the decay: the sum of those of the products of all pairs of parts."""
        matrix, left, right, decay = node.args
        pairs = (
            (self.build.node(node.op, [block, x, y, self.whole(decay)], node.axes))
            for row, x in zip(self.blocks(matrix), self.parts(left), strict=True)
            for block, y in zip(row, self.parts(right), strict=True)
            if not _is_nothing(x) and not _is_nothing(y)
        )
        return self.build.add((1, pair) for pair in pairs)

    def parts(self, node: Node) -> Parts:
        """A value over one stacked axis, as its values over tokens."""
        if node not in self._parts:
            self._parts[node] = self._split(node)
        return self._parts[node]

    def _split(self, node: Node) -> Parts:
        build = self.build
        match node.op:
            case ir.Interleave():
                return tuple(self.whole(argument) for argument in node.args)
            case ir.Rename(old, new) if old in STACKED:
                return tuple(
                    build.rename(part, STACKED[old], STACKED[new]) for part in self.parts(node.args[0])
                )
            case ir.Dot(axis) if axis in STACKED:
                return self._product(node, axis)
            case ir.DecayDotRows() | ir.DecayDotColumns():
                return self._weighted(node)
            case ir.Add() | ir.Multiply() | ir.Apply() | ir.Keep() | ir.Sum() | ir.Broadcast() | ir.Dot():
                return self._elementwise(node)
            case _:
                raise AssertionError(f"stacked rows in {type(node.op).__name__}")

    def _elementwise(self, node: Node) -> Parts:
        """Part by part; values that are not stacked go into every part."""
        split = [self.parts(a) if is_stacked(a) else None for a in node.args]
        count = next(len(parts) for parts in split if parts is not None)
        columns = [parts or (self.whole(a),) * count for parts, a in zip(split, node.args, strict=True)]
        return tuple(self._with_args(node, args) for args in zip(*columns, strict=True))

    def _with_args(self, node: Node, args: Sequence[Node]) -> Node:
        if isinstance(node.op, ir.Broadcast):
            return self.build.broadcast(args[0], node.op.axis)
        if isinstance(node.op, ir.Apply | ir.Keep):
            return self.build.node(node.op, args, self.build.joined(args))
        return self.build.with_args(node, args)

    def _product(self, node: Node, axis: str) -> Parts:
        """A matrix over two stacked axes times a value over the one that is contracted."""
        matrix, right = sorted(node.args, key=lambda a: not all(axis in a.axes for axis in STACKED))
        blocks, parts = self.blocks(matrix), self.parts(right)
        if axis == ROWS:
            blocks = tuple(zip(*blocks, strict=True))
        return tuple(self._summed(zip(row, parts, strict=True), STACKED[axis]) for row in blocks)

    def _weighted(self, node: Node) -> Parts:
        """Sums over tokens under a decay, weighted by the blocks of a matrix."""
        matrix, value, decay = node.args
        blocks, parts = self.blocks(matrix), self.parts(value)
        if isinstance(node.op, ir.DecayDotColumns):
            blocks = tuple(zip(*blocks, strict=True))
        axes = (STACKED[node.axes[0]], *node.axes[1:])
        return tuple(
            self.build.add(
                (1, self.build.node(node.op, [block, part, self.whole(decay)], axes))
                for block, part in zip(row, parts, strict=True)
                if not _is_nothing(part)
            )
            for row in blocks
        )

    def _summed(self, pairs: Iterable[tuple[Node, Node]], axis: str) -> Node:
        return self.build.add((1, self.build.dot(left, right, axis)) for left, right in pairs)

    def blocks(self, node: Node) -> Blocks:
        """A value over (ROWS, COLUMNS), as its values over pairs of tokens."""
        if node not in self._blocks:
            self._blocks[node] = self._divided(node)
        return self._blocks[node]

    def _divided(self, node: Node) -> Blocks:
        build = self.build
        match node.op:
            case ir.Assemble():
                count = math.isqrt(len(node.args))
                blocks = [self.whole(argument) for argument in node.args]
                return tuple(tuple(blocks[count * row : count * row + count]) for row in range(count))
            case ir.Inverse():
                return self._blocks_of(self._inverse(node), len(self.blocks(node.args[0])))
            case ir.InverseAdjoint():
                inverse, gradient = node.args
                args = [self._inverse(inverse), self._assembled(gradient)]
                adjoint = build.node(ir.InverseAdjoint(), args, node.axes)
                return self._blocks_of(adjoint, len(self.blocks(gradient)))
            case ir.DecayDot():
                left, right, decay = node.args
                return tuple(
                    tuple(
                        build.node(node.op, [x, y, self.whole(decay)], (ROW, COLUMN))
                        for y in self.parts(right)
                    )
                    for x in self.parts(left)
                )
            case ir.Dot(axis):
                rows, columns = (self.parts(a) for a in sorted(node.args, key=lambda a: ROWS not in a.axes))
                return tuple(tuple(build.dot(row, column, axis) for column in columns) for row in rows)
            case ir.Add(coefficients):
                terms = [self.blocks(argument) for argument in node.args]
                reads = range(len(terms[0]))
                return tuple(
                    tuple(build.add(zip(coefficients, [t[r][s] for t in terms], strict=True)) for s in reads)
                    for r in reads
                )
            case _:
                raise AssertionError(f"stacked matrices in {type(node.op).__name__}")

    def _assembled(self, node: Node) -> Node:
        """The blocks of a matrix as one."""
        return self.build.assemble([block for row in self.blocks(node) for block in row])

    def _inverse(self, node: Node) -> Node:
        """What remains stacked: an inverse."""
        return self.build.node(ir.Inverse(), [self._assembled(node.args[0])], node.axes)

    def _blocks_of(self, node: Node, count: int) -> Blocks:
        reads = range(count)
        return tuple(tuple(self.build.block(node, r, s, count) for s in reads) for r in reads)


def _is_nothing(node: Node) -> bool:
    """Whether a part is zero: a read without a value of its own writes nothing else."""
    return isinstance(node.op, ir.Const) and not node.op.value
