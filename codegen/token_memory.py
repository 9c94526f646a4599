"""Where the values of the kernels that walk the tokens lie in memory, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rnnc.codegen.recurrent_kernels import TokenArray, TokenKernel, base
from rnnc.codegen.triton_operations import spread
from rnnc.dsl.expression import Axes

ROWS = {
    "token": "(o_t * H + {head})",
    "share": "((o_t * H + i_h) * tiles + i_v)",
    "param": "i_h",
    "partial": "((i_n * tiles + i_v) * H + i_h)",
}
SHAPES = {
    "token": "B, T, H",
    "share": "B, T, H, tiles",
    "param": "H",
    "shared": "",
    "partial": "N tiles, H",
}


@dataclass(frozen=True, slots=True)
class TokenMemory:
    """The addresses of one kernel; `sizes` names the size of every axis, `groups` the inputs per group,
    `index` begins the names of the entries of a tile.
    """

    kernel: TokenKernel
    sizes: Mapping[str, str]
    groups: Sequence[str]
    index: str = "o_"

    def size(self, axis: str) -> str:
        """The name of an axis' size."""
        return self.sizes[base(axis)]

    def entries(self, axes: Axes) -> str:
        """How many entries values over these axes have."""
        product = " * ".join(map(self.size, axes))
        return f"({product})" if len(axes) > 1 else product

    def tile(self, axes: Axes) -> str:
        """The shape of a tile."""
        return ", ".join(f"B{self.size(axis)}" for axis in axes)

    def offset(self, memory: Axes, tile: Axes) -> str:
        """Where the entries of a tile lie in a row of memory."""
        terms = []
        for number, axis in enumerate(memory):
            later = [self.size(other) for other in memory[number + 1 :]]
            terms.append(" * ".join([spread(f"{self.index}{self.size(axis)}", axis, tile), *later]))
        return " + ".join(terms)

    def mask(self, axes: Axes) -> str:
        """Which entries of a tile exist."""
        return " & ".join(spread(f"m_{self.size(axis)}", axis, axes) for axis in axes)

    def address(self, array: TokenArray, argument: str, tile: Axes) -> str:
        """The pointers to an array's tile, of the token at hand."""
        terms = [argument]
        if array.place != "shared":
            head = f"i_h // (H // G_{array.name})" if array.name in self.groups else "i_h"
            row = ROWS[array.place].format(head=head)
            if array.name in self.groups:
                row = row.replace(" * H ", f" * G_{array.name} ")
            if array.place == "partial" and self.kernel.tile in (None, *array.axes):
                row = "i_nh"
            terms.append(f"{row} * {self.entries(array.axes)}" if array.axes else row)
        if array.axes:
            terms.append(self.offset(array.axes, tile))
        return " + ".join(terms)

    def masked(self, array: TokenArray, tile: Axes) -> str:
        """The mask of an array's tile; empty where all entries exist.

        Where tiles share a gradient, the cotangents of what all of them hold are the first one's alone; an
        output that all of them hold is written by the first.
        """
        split = self.kernel.tile is not None and self.kernel.tile not in array.axes
        output = array.place == "token" and array in self.kernel.stores
        cotangent = array.name.startswith("d'") and array in self.kernel.loads
        if not split or not (output or cotangent):
            return self.mask(tile)
        if not tile:
            return "i_v == 0"
        size = self.size(tile[0])
        first = spread(f"(o_{size} < {size} * (i_v == 0))", tile[0], tile)
        return " & ".join([first, *(spread(f"m_{self.size(axis)}", axis, tile) for axis in tile[1:])])

    def shape(self, array: TokenArray) -> str:
        """The array's shape, for a comment."""
        lead = SHAPES[array.place]
        if array.name in self.groups:
            lead = lead.replace("H", f"G_{array.name}")
        if array.place == "partial" and self.kernel.tile in (None, *array.axes):
            lead = "N, H"
        return ", ".join(part for part in (lead, *map(self.size, array.axes)) if part)
