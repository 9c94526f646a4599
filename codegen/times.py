"""The time that a kernel is estimated to take: the longest of what runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import FLOAT, Configuration, Need, cover, extents
from rnnc.codegen.work import WHOLE, Extents, Work, formed, moved, steps

# What is estimated for: heads of all sequences, tokens of each. One choice for all calls.
LOADS = ((96, 8192), (32, 16384))
OVERLAP = 0.2  # of what is shorter, that still counts
NARROW = 32  # columns: a product of as many has half the rate
SLOWER = 0.6  # the rate of products of few rows
BESIDE = 0.6  # of the latency of a read, where a cache has what lies beside it
ELEMENT = 2e-9  # seconds of a thread for an entry of a product: its sums, its way to the next product
AHEAD = 0.25  # of the latency of a read that another stage has asked for before


class Times(NamedTuple):
    """Seconds for a token and head; `bound`: what takes the longest."""

    memory: float
    cache: float
    products: float
    chain: float

    @property
    def seconds(self) -> float:
        return max(self) + OVERLAP * (sum(self) - max(self))

    @property
    def bound(self) -> str:
        return max(zip(self, self._fields, strict=True))[1]


def times(
    work: Work,
    sizes: Mapping[str, int],
    configuration: Configuration,
    needs: Need,
    hardware: Hardware,
    size: int,
    load: tuple[int, int] | None = None,
) -> Times:
    """For calls of several shapes, on average, or for one: heads of all sequences, tokens of each."""
    tiles = extents(work, sizes, configuration, size)
    own, shared = _unpadded(tiles, work, sizes), _together(work, sizes, configuration, size)
    parts = [
        _Load(work, tiles, own, shared, configuration, needs, hardware, size).times(*each)
        for each in ((load,) if load else LOADS)
    ]
    return Times(*(sum(each) / len(parts) for each in zip(*parts, strict=True)))


def bytes_moved(work: Work, sizes: Mapping[str, int], configuration: Configuration, size: int) -> float:
    """Bytes through memory for a token and head."""
    tiles = _together(work, sizes, configuration, size)
    return moved(work, tiles, size, False, configuration.spacing) / configuration.chunk


def _together(work: Work, sizes: Mapping[str, int], configuration: Configuration, size: int) -> Extents:
    """What all programs of a chunk have together."""
    if work.spread:  # what a tile of one program lacks, another has
        configuration = configuration._replace(tile=cover(sizes[work.tiled]))
    return _unpadded(extents(work, sizes, configuration, size), work, sizes)


def _unpadded(tiles: Extents, work: Work, sizes: Mapping[str, int]) -> Extents:
    """What of tiles is read and written: not what is beyond the end of an axis."""
    each = {axis: min(tiles.sizes[axis], entries) for axis, entries in sizes.items()}
    if work.tiled:
        each[work.tiled] = -(-sizes[work.tiled] // tiles.tiles)
        each[WHOLE + work.tiled] = sizes[work.tiled]
    return Extents({**tiles.sizes, **each}, tiles.tiles)


class _Load(NamedTuple):
    """A kernel on a machine. `tiles` are those of a program, of which it moves `own`; all programs of a chunk
    together move `together`.
    """

    work: Work
    tiles: Extents
    own: Extents
    together: Extents
    configuration: Configuration
    needs: Need
    hardware: Hardware
    size: int

    def times(self, heads: int, length: int) -> Times:
        """For that many heads of sequences of that length."""
        chunks = -(-length // self.configuration.chunk)
        spread = self.tiles.tiles if self.work.spread else 1  # programs that share a chunk
        programs = heads * (spread if self.work.serial else chunks)
        each = heads * chunks
        hardware = self.hardware
        busy = min(1.0, programs / hardware.processors)
        spacing = self.configuration.spacing
        memory = each * moved(self.work, self.together, self.size, False, spacing)
        cache = each * spread * moved(self.work, self.own, self.size, True, spacing)
        seconds = self._products
        waves = -(-programs // (hardware.processors * self._resident))
        chain = waves * (chunks if self.work.serial else 1) * (self._latency + seconds * hardware.processors)
        spent = (
            memory / hardware.bandwidth / busy,
            cache / hardware.cache_bandwidth / busy,
            each * spread * seconds / busy,
            chain,
        )
        return Times(*(time / (heads * length) for time in spent))

    @property
    def _resident(self) -> int:
        """Programs on a processor at a time."""
        hardware, warps = self.hardware, self.configuration.warps
        registers = max(32, min(self.needs.registers, hardware.thread_registers))
        by_registers = hardware.registers // (registers * warps * hardware.lanes)
        by_shared = hardware.shared // max(1024, self.needs.shared)
        return max(1, min(by_registers, by_shared, hardware.warps // warps))

    @property
    def _products(self) -> float:
        """Seconds of the matrix products of a program in one chunk, on the whole machine."""
        rate = self.hardware.exact_rate if self.size == FLOAT else self.hardware.matrix_rate
        operations = 0.0
        for count, shape in formed(self.work, self.tiles, self.configuration.spacing):
            rows, columns, inner = (self.tiles.entries(axes) for axes in shape)
            share = columns / (columns + NARROW) * (1 if rows >= self.hardware.rows else SLOWER)
            operations += 2 * count * rows * columns * inner / share
        return operations / rate

    @property
    def _latency(self) -> float:
        """Seconds of one chunk in which a program waits: for reads, and for products one after the other."""
        hardware, work = self.hardware, self.work
        reads = hardware.memory_latency * (AHEAD if self.configuration.stages > 1 else 1)
        made = entries = 0.0
        for count, shape in formed(work, self.tiles, self.configuration.spacing):
            made += count
            entries += count * self.tiles.entries((*shape[0], *shape[1]))
        threads = self.configuration.warps * hardware.lanes
        passes = 1.0
        if not work.serial or work.crowded:  # a tile lies in memory beside the one before it
            walked = sum(walk.number for walk in work.walks) * steps(self.configuration.spacing)
            passes += (work.loops + walked) * (1 + (self.tiles.tiles - 1) * BESIDE)
        waits = work.chain if work.serial and not work.crowded else made
        return reads * passes + waits * hardware.product_latency + entries / threads * ELEMENT
