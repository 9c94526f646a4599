"""What C is printed for: the sizes of all axes, the dtypes in memory, how values lie in the workspace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node
from rnnc.dsl.expression import Axes

Real = Literal["float", "double"]
CType = Literal["float", "double", "bf16", "half"]

ALIGNMENT = 64  # bytes: a cache line, and the widest register
SIZES_OF: Mapping[CType, int] = {"float": 4, "double": 8, "bf16": 2, "half": 2}


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of call: the tokens of a chunk, the sizes of other axes; everything is computed in `real`,
    which is also the dtype in memory of arrays that `dtypes` does not name.
    """

    tokens: int
    axes: tuple[tuple[str, int], ...]
    real: Real
    dtypes: tuple[tuple[str, CType], ...] = ()

    @property
    def lanes(self) -> int:
        """Rows of matrices begin at multiples of this."""
        return ALIGNMENT // SIZES_OF[self.real]

    def dtype(self, name: str) -> CType:
        """That of an array in memory."""
        return dict(self.dtypes).get(name, self.real)


class Sizes:
    """The sizes of axes, and where entries of a value lie."""

    def __init__(self, target: Target, nodes: Iterable[Node]) -> None:
        self.target, self.known = target, dict(target.axes)
        self.rows = rows_per_token(nodes, self.known) * target.tokens

    def size(self, axis: str) -> int:
        """How many entries there are along an axis."""
        if axis in (ir.ROWS, ir.COLUMNS):
            return self.rows
        return self.target.tokens if axis in ir.TIME_AXES else self.known[axis.rstrip("'")]

    def count(self, axes: Axes) -> int:
        """How many entries a value has."""
        return math.prod(map(self.size, axes))

    def strides(self, axes: Axes) -> tuple[int, ...]:
        """The distances of entries in the workspace, axis by axis: rows of matrices are padded."""
        found = [1]
        for number, axis in reversed(list(enumerate(axes))[1:]):
            size = self.size(axis)
            found.insert(0, found[0] * (self.padded(size) if number == len(axes) - 1 else size))
        return tuple(found[: len(axes)])

    def padded(self, size: int) -> int:
        """The size, rounded up to whole cache lines."""
        return -(-size // self.target.lanes) * self.target.lanes

    def room(self, axes: Axes) -> int:
        """How many numbers of the workspace a value takes."""
        if not axes:
            return self.target.lanes
        return self.padded(self.strides(axes)[0] * self.size(axes[0]))


def rows_per_token(nodes: Iterable[Node], sizes: Mapping[str, int]) -> int:
    """How many stacked rows a token has: one for each of several reads, or for each micro-step."""
    found = {count for node in nodes for count in _counts(node, sizes)} or {1}
    (count,) = found
    return count


def _counts(node: Node, sizes: Mapping[str, int]) -> Iterable[int]:
    match node.op:
        case ir.Interleave():
            yield len(node.args)
        case ir.Assemble():
            yield math.isqrt(len(node.args))
        case ir.Deinterleave(_, count) | ir.Block(_, _, count):
            yield count
        case ir.Flatten(micro) | ir.Unflatten(micro) | ir.Repeat(micro) | ir.OverSteps(micro):
            yield sizes[micro]
        case _:
            pass
