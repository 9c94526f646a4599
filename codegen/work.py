"""What a kernel holds and does, as counts of tiles: evaluated at sizes, it says what a program needs.

A tile is a number of entries times axes: those of the spec, `@C` (the tokens of a chunk), `@steps` (their
micro-steps), `@log C`, and `@wide` (the entries of a vector that take the place of a float32). What stands
inside a loop over tiles is done once for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rnnc.dsl.expression import Axes

TOKENS, STEPS, LEVELS, WIDE = "@C", "@steps", "@log C", "@wide"
Tile = tuple[int, Axes]  # count, axes
Factors = tuple[Axes, Axes, Axes]  # of a matrix product: rows, columns, what is summed over


class Moment(NamedTuple):
    """What is there at one point of a kernel: tiles in registers, in float32 and as loaded (`raw`), operands
    of matrix products in shared memory, and the product that is formed, if one is.
    """

    values: tuple[Tile, ...]
    raw: tuple[Tile, ...]
    operands: tuple[Tile, ...]
    product: Factors | tuple[()]


class Product(NamedTuple):
    """`number` matrix products of a shape; `looped`: in a loop over tiles."""

    number: int
    shape: Factors
    looped: bool


class Access(NamedTuple):
    """`number` tiles read or written: `exact` in float32, else in the dtype of the vectors; `looped`: for
    every tile of a loop; `again`: read before in the same kernel.
    """

    number: int
    axes: Axes
    exact: bool
    looped: bool
    again: bool


class Work(NamedTuple):
    """One kernel. `serial`: it walks the chunks; `tiled`: the axis that is in tiles, empty if none is;
    `streams`: what its loop loads in every pass, ahead where it is pipelined; `loops`: over tiles, one after
    the other; `chain`: matrix products of a chunk that wait for each other; `micro`: the axis of micro-steps,
    empty if there are none.
    """

    serial: bool
    tiled: str
    moments: tuple[Moment, ...]
    products: tuple[Product, ...]
    accesses: tuple[Access, ...]
    streams: tuple[Tile, ...]
    loops: int
    chain: int
    micro: str = ""


class Extents(NamedTuple):
    """How many entries a tile has along each axis, and the number of tiles of a loop."""

    sizes: Mapping[str, int]
    tiles: int

    def entries(self, axes: Axes) -> int:
        return math.prod(self.sizes[axis] for axis in axes)

    def total(self, tiles: Iterable[Tile]) -> int:
        return sum(count * self.entries(axes) for count, axes in tiles)


def flops(work: Work, extents: Extents) -> int:
    """Of the matrix products of one program in one chunk, two per multiplication."""
    return sum(
        2 * p.number * extents.entries(sum(p.shape, ())) * (extents.tiles if p.looped else 1)
        for p in work.products
    )


def moved(work: Work, extents: Extents, size: int, again: bool) -> int:
    """Bytes that a program reads and writes in one chunk, what it reads `again` with or without."""
    return sum(
        a.number * extents.entries(a.axes) * (4 if a.exact else size) * (extents.tiles if a.looped else 1)
        for a in work.accesses
        if again or not a.again
    )


def written(work: Work) -> str:
    """The text of the value, without the names of its fields."""
    return _text(work)


def _text(value: object) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    name = type(value).__name__ if hasattr(value, "_fields") else ""
    inside = ", ".join(map(_text, value))
    return f"{name}({inside}{',' * (not name and len(value) == 1)})"
