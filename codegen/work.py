"""What a kernel holds and does, as counts of tiles: evaluated at sizes, it says what a program needs.

A tile is a number of entries times axes: those of the spec, `@C` (the tokens of a chunk), `@steps` (their
micro-steps), `@log C`, and `@wide` (the entries of a vector that take the place of a float32). What stands
inside a loop over tiles is done once for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from rnnc.dsl.expression import Axes

TOKENS, STEPS, LEVELS, WIDE = "@C", "@steps", "@log C", "@wide"
Tile = tuple[int, Axes]  # count, axes
Factors = tuple[Axes, Axes, Axes]  # of a matrix product: rows, columns, what is summed over


WHOLE = "@all "  # before the name of the tiled axis: all of it, whatever the tile


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
    every tile of a loop; `again`: read before in the same kernel; `kept`: of a state, which need not be kept
    for every chunk.
    """

    number: int
    axes: Axes
    exact: bool
    looped: bool
    again: bool
    kept: bool = False


class Walk(NamedTuple):
    """How a kernel forms the states of its chunk from those of another, `number` times in loops over tiles.

    `moments` while it does; `products` and `accesses` of each chunk on the way.
    """

    number: int
    moments: tuple[Moment, ...]
    products: tuple[Product, ...]
    accesses: tuple[Access, ...]


class Work(NamedTuple):
    """One kernel. `serial`: it walks the chunks; `tiled`: the axis that is in tiles, empty if none is;
    `streams`: what its loop loads in every pass, ahead where it is pipelined; `loops`: over tiles, one after
    the other; `chain`: matrix products of a chunk that wait for each other; `micro`: the axis of micro-steps,
    empty if there are none; `walks`: what it does where states are not kept for every chunk.
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
    walks: tuple[Walk, ...] = ()

    @property
    def spaced(self) -> bool:
        """Whether it reads or writes states."""
        return any(access.kept for access in self.accesses)

    @property
    def crowded(self) -> bool:
        """Whether its programs hold a whole state, and do more at the end of a chunk."""
        return self.serial and self.loops > 0

    @property
    def spread(self) -> bool:
        """Whether several programs share a chunk, each with a tile, instead of one that loops over them."""
        return self.serial and bool(self.tiled) and not self.crowded


class Extents(NamedTuple):
    """How many entries a tile has along each axis, and the number of tiles of a loop."""

    sizes: Mapping[str, int]
    tiles: int

    def entries(self, axes: Axes) -> int:
        product = 1
        for axis in axes:
            product *= self.sizes[axis]
        return product

    def total(self, tiles: Iterable[Tile]) -> int:
        return sum(count * self.entries(axes) for count, axes in tiles)


def steps(spacing: int) -> float:
    """The chunks on the way from a state that is kept to that of a chunk, on average."""
    return (spacing - 1) / 2


def formed(work: Work, extents: Extents, spacing: int) -> Iterator[tuple[float, Factors]]:
    """The matrix products of one program in one chunk: how many of each shape."""
    for product in work.products:
        yield product.number * (extents.tiles if product.looped else 1), product.shape
    for walk in work.walks if spacing > 1 else ():
        for product in walk.products:
            yield product.number * walk.number * extents.tiles * steps(spacing), product.shape


def flops(work: Work, extents: Extents, spacing: int = 1) -> float:
    """Of the matrix products of one program in one chunk, two per multiplication."""
    return sum(
        2 * number * extents.entries(sum(shape, ())) for number, shape in formed(work, extents, spacing)
    )


def moved(work: Work, extents: Extents, size: int, again: bool, spacing: int = 1) -> float:
    """Bytes that a program reads and writes in one chunk, what it reads `again` with or without."""

    def each(access: Access) -> float:
        number = access.number * extents.entries(access.axes) * (4 if access.exact else size)
        shared = spacing if access.kept and (work.serial or not again) else 1
        return number * (extents.tiles if access.looped else 1) / shared

    found = sum(each(access) for access in work.accesses if again or not access.again)
    if again and spacing > 1:
        for walk in work.walks:
            found += sum(map(each, walk.accesses)) * walk.number * steps(spacing)
    return found


def written(work: Work) -> str:
    """The text of the value, without the names of its fields."""
    return _text(work)


def _text(value: object) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    name = type(value).__name__ if hasattr(value, "_fields") else ""
    inside = ", ".join(map(_text, value))
    return f"{name}({inside}{',' * (not name and len(value) == 1)})"
