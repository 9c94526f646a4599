"""Work at sizes -> the registers and the shared memory that a program needs.

Estimates: what compilers make of a kernel follows these counts, the weights below are fitted to what some
hundred kernels took when they were compiled for sm_90 (`rnnc tune` says what a kernel really takes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.slices import slices
from rnnc.codegen.work import LEVELS, STEPS, TOKENS, WHOLE, WIDE, Extents, Factors, Moment, Tile, Work
from rnnc.dsl.expression import Axes

FLOAT = 4  # bytes of a register
SHORTEST = 16  # tokens in a chunk: matrix products need as many
LEAST = 4  # registers of a thread for a matrix, however small: those of one matrix instruction
PER_VECTOR = 256  # entries of a vector for one register of a thread
# Registers: addresses, masks, loop counters; and for each register's worth of tiles.
ALWAYS = 150.0
VALUES, LOADED, OPERANDS = 0.9, 0.8, 0.45
EXACT = 16.0  # besides, for a product of float32 operands
IN_REGISTERS = 0.4  # operands of instructions that take them from registers
SPLIT = 1.2  # float32 operands while they are multiplied, as sums of shorter numbers
WAITING = 0.6  # tiles that a loop loads without a stage for them


class Configuration(NamedTuple):
    """How a kernel runs: tokens of a chunk, entries of a tile of the tiled axis (0: none), warps, stages,
    chunks that a state is kept for (1 where it has none to do with); of two kernels in turn that are one
    launch, the tile of the `second` (0 where it has none, or there is no second).
    """

    chunk: int
    tile: int
    warps: int
    stages: int
    spacing: int = 1
    second: int = 0


class Need(NamedTuple):
    """Registers of a thread, shared memory of a program in bytes."""

    registers: int
    shared: int


def cover(size: int) -> int:
    """The tile that covers an axis: a power of two, and matrix products need 16 at least."""
    return max(16, 1 << (size - 1).bit_length())


def rows_for(steps: int) -> int:
    """The rows of a tile for a token of so many micro-steps: a power of two."""
    return 1 << (steps - 1).bit_length()


def extents(work: Work, sizes: Mapping[str, int], configuration: Configuration, size: int) -> Extents:
    """The tiles of a configuration; entries have `size` bytes."""
    found = {axis: cover(entries) for axis, entries in sizes.items()}
    tiles = 1
    if work.tiled:
        found[WHOLE + work.tiled] = found[work.tiled]
        tile = min(configuration.tile, found[work.tiled])
        tiles, found[work.tiled] = -(-sizes[work.tiled] // tile), tile
    chunk, rows = configuration.chunk, 1
    if work.micro:
        rows = found[work.micro] = rows_for(sizes[work.micro])
    found |= {TOKENS: chunk, STEPS: chunk * rows, LEVELS: chunk.bit_length() - 1, WIDE: FLOAT // size}
    return Extents(found, tiles)


def need(work: Work, tiles: Extents, configuration: Configuration, hardware: Hardware, size: int) -> Need:
    """What a program of a kernel needs, at its fullest moment."""
    part = _Part(tiles, configuration.warps, hardware, size, work.crowded)
    moments = [*work.moments, *(m for walk in work.walks if configuration.spacing > 1 for m in walk.moments)]
    held = max(map(part.registers, moments), default=0.0)
    ahead = configuration.stages > 1
    if not ahead:
        held += WAITING * part.total(work.streams) * size / FLOAT
    shared = max(map(part.shared, moments), default=0)
    if ahead and work.serial:  # matrix units that read shared memory themselves need a stage more
        late = 0 < hardware.rows <= configuration.chunk
        stages = configuration.stages if late else configuration.stages - 1
        shared += stages * size * tiles.total(work.streams)
    return Need(round(ALWAYS + held), shared)


@dataclass(frozen=True)
class _Part:
    """What of a program's tiles falls to a thread. `turned`: products of few rows are formed transposed;
    `known`: registers by axes, once asked for.
    """

    tiles: Extents
    warps: int
    hardware: Hardware
    size: int
    turned: bool = False
    known: dict[Axes, float] = field(default_factory=dict)

    def per_thread(self, axes: Axes) -> float:
        if axes not in self.known:
            entries = self.tiles.entries(axes)
            least, each = (
                (1.0, PER_VECTOR) if len(axes) < 2 else (float(LEAST), self.warps * self.hardware.lanes)
            )
            self.known[axes] = max(least, entries / each)
        return self.known[axes]

    def total(self, tiles: tuple[Tile, ...]) -> float:
        return sum([count * self.per_thread(axes) for count, axes in tiles])

    def registers(self, moment: Moment) -> float:
        """Of a thread, at a moment."""
        words = self.size / FLOAT
        held = VALUES * self.total(moment.values) + LOADED * words * self.total(moment.raw)
        waiting = tuple(tile for tile in moment.operands if WIDE not in tile[1])
        return held + OPERANDS * words * self.total(waiting) + self._product(moment.product)

    def shared(self, moment: Moment) -> int:
        """Of a program, at a moment: operands, or a tile on its way from one layout to another."""
        matrices = [tile for tile in moment.operands if len(tile[1]) > 1]
        split = 2 if self.size == FLOAT and self.reads_shared(moment.product) else 1
        largest = max((self.tiles.entries(axes) for _, axes in moment.values if len(axes) > 1), default=0)
        together = self.tiles.total(tuple(matrices)) * split
        if not self.hardware.keeps:
            together = max((self.tiles.entries(axes) for _, axes in matrices), default=0)
        return max(max(together, largest) * self.size, self._slices(moment.product) * FLOAT)

    def _slices(self, product: Factors | tuple[()]) -> int:
        """The entries of all slices of a product before they are added up; 0 if it is not in slices."""
        if not product:
            return 0
        parts, rows, columns, _ = self._shape(product)
        return parts * rows * columns if parts > 1 else 0

    def _shape(self, product: Factors) -> tuple[int, int, int, int]:
        """Slices, rows, columns, and what is summed over, of a product."""
        rows, columns = self._sides(product)
        inner = math.prod(self.tiles.sizes[axis] for axis in product[2] if axis != LEVELS)
        parts = 1 if LEVELS in product[2] else slices(rows, columns, inner, self.warps, self.size)
        return parts, rows, columns, inner

    def reads_shared(self, product: Factors | tuple[()]) -> bool:
        """Whether the matrix units take the operands of a product from shared memory."""
        if not product or not self.hardware.rows or self.warps % 4:
            return False
        return self._sides(product)[0] >= self.hardware.rows

    def _sides(self, product: Factors) -> tuple[int, int]:
        """Rows and columns of a product, as it is formed."""
        rows, columns = (self.tiles.entries(axes) for axes in product[:2])
        turned = self.turned and LEVELS not in product[2] and rows < self.hardware.rows <= columns
        return (columns, rows) if turned else (rows, columns)

    def _product(self, product: Factors | tuple[()]) -> float:
        """The registers that a product takes beside its result."""
        exact = self.size == FLOAT and product and LEVELS not in product[2]
        return self._operands(product) + (EXACT if exact else 0.0)

    def _operands(self, product: Factors | tuple[()]) -> float:
        """The registers that the operands of a product take, where it takes them from registers."""
        if not product:
            return 0.0
        parts, rows, columns, inner = self._shape(product)
        exact = self.size == FLOAT
        if self.reads_shared(product):
            both = (rows + columns) * inner / (self.warps * self.hardware.lanes)
            return SPLIT * both if exact else 0.0
        each = (SPLIT if exact else IN_REGISTERS) * self.size / FLOAT
        if parts > 1:
            return (each * (rows + columns) * inner / parts + rows * columns) / self.hardware.lanes
        down, across = _spread(rows, columns, self.warps)
        left = rows * inner / (self.hardware.lanes * min(down, rows // 16))
        right = columns * inner / (self.hardware.lanes * min(across, max(1, columns // 8)))
        return each * (left + right)


def _spread(rows: int, columns: int, warps: int) -> tuple[int, int]:
    """How many warps divide the rows of a product among them, how many the columns, as Triton does it."""
    down = across = 1
    while down * across < warps:
        if rows // 16 // down >= columns / 16 / across and down < rows // 16:
            down *= 2
        else:
            across *= 2
    return down, across
