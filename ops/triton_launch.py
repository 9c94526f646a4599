"""Runs the Triton kernels of a generated module on the user's own tensors: no copy, no host synchronisation.

Tensors stay [B, T, H, axes]; a chunk is an index into them, computed in the kernel. For packed sequences the
table of chunks is made on the device, for as many chunks as there can be at most: T / C + N.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnc.codegen.resources import Configuration, cover, rows_for
from rnnc.ops.options import CHUNK

Tensors = tuple[Tensor, ...]
ArraySpec = tuple[str, str, str, tuple[str, ...]]


class Launch(NamedTuple):
    """One kernel: `reads` and `writes` are arrays as (key, argument, place, axes).

    The axes in `tiled` are looped over, or spread over programs, in tiles; of the others a program holds all.
    The arrays in `optional` are not written where None is given for them. `states` are the arguments for the
    states at the start and at the end, of kernels that walk the chunks.
    """

    kernel: str
    role: str
    reads: tuple[ArraySpec, ...]
    writes: tuple[ArraySpec, ...]
    groups: tuple[str, ...]
    sizes: tuple[tuple[str, str], ...]
    tiled: tuple[str, ...]
    optional: tuple[str, ...]
    states: tuple[tuple[str, str], ...] = (("h0", "ht"),)


class Tiled(NamedTuple):
    """The tokens of a chunk, the configurations of kernels, by name, and how products of float32 operands are
    formed. `validated`: they have run on the device, and were right.
    """

    chunk: int
    configurations: Mapping[str, Configuration]
    precision: str
    validated: bool = False


UNTILED = Tiled(CHUNK, {}, "")  # of calls of the recurrent form


class Prepared(NamedTuple):
    """A launch without its tensors: `writes` are (key, argument, shape, dtype), `reads` (argument, key),
    `states` the arguments for those at the start and the end, `options` all else.
    """

    kernel: str
    serial: bool
    states: tuple[tuple[str, str], ...]
    writes: tuple[tuple[str, str, tuple[int, ...], torch.dtype], ...]
    reads: tuple[tuple[str, str], ...]
    options: Mapping[str, Any]
    grid: tuple[int, ...]


class Sum(NamedTuple):
    """`target` [outer, width] = `source` [outer, rows, width] summed over its rows."""

    source: Tensor
    target: Tensor
    rows: int
    width: int


@dataclass(frozen=True)
class Call:
    """The shapes of one call. `sizes` by axis; `bounds` are the packed sequences' limits, or None;
    `tiled`: how its chunked kernels run; `micro`: the axis of micro-steps, if there is one. `prepared`, which
    calls may share if their shapes and those of their tensors are equal: what was found for their launches.
    """

    batch: int
    length: int
    heads: int
    sizes: Mapping[str, int]
    value_axis: str
    dtype: torch.dtype
    device: torch.device
    bounds: Tensor | None
    reverse: bool
    tiled: Tiled
    micro: str = ""
    prepared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def chunk(self) -> int:
        return self.tiled.chunk

    @property
    def sequences(self) -> int:
        return self.batch if self.bounds is None else self.bounds.shape[0] - 1

    @property
    def chunks(self) -> int:
        """How many chunks there are, at most."""
        if self.bounds is None:
            return self.batch * -(-self.length // self.chunk)
        return self.length // self.chunk + self.sequences

    @cached_property
    def tables(self) -> tuple[Tensor, Tensor] | None:
        """See `chunk_tables`; made on the device, once for the forward and the backward pass."""
        return None if self.bounds is None else chunk_tables(self.bounds, self.chunk, self.chunks)

    def shape(self, place: str, axes: tuple[str, ...]) -> tuple[int, ...]:
        """The shape of an array in memory."""
        own = tuple(self.sizes[axis] for axis in axes)
        lead = {
            "token": (self.batch, self.length, self.heads),
            "value": (self.batch, self.length, self.heads),
            "row": (self.batch, self.length, self.heads),
            "matrix": (self.batch, self.length, self.heads),
            "pairs": (self.batch, self.length, self.heads),
            "chunk": (self.chunks, self.heads),
            "total": (self.chunks, self.heads),
            "partial": (self.chunks, self.heads),
        }[place]
        rows = rows_for(self.sizes[self.micro]) if self.micro else 1
        columns = {"matrix": (self.chunk,), "pairs": (self.chunk * rows,)}
        return lead + own + columns.get(place, ())


IN_FLOAT32 = ("row", "total", "partial")

SERIAL = ("scan", "reverse")  # the roles of kernels that walk the chunks
# Said, because Triton's default changes with its version.
EVERYWHERE = {"enable_fp_fusion": True}
SUM_TILE = (128, 32)  # rows and sums of a program at a time


def chunk_tables(bounds: Tensor, chunk: int, count: int) -> tuple[Tensor, Tensor]:
    """The number of chunks before each sequence [N]; for each chunk (sequence or -1, number) [count, 2]."""
    chunks = (bounds.diff() + chunk - 1) // chunk
    ends = chunks.cumsum(0)
    index = torch.arange(count, device=bounds.device)
    sequence = torch.searchsorted(ends, index, right=True)
    inside = index < ends[-1]
    number = index - (ends - chunks)[sequence.clamp(max=ends.shape[0] - 1)]
    table = torch.stack([torch.where(inside, sequence, -1), torch.where(inside, number, 0)], 1)
    return (ends - chunks).to(torch.int32), table.to(torch.int32)


class Runner:
    """Launches the kernels of one call; `arrays` holds what they read and write, by key."""

    def __init__(self, module: ModuleType, call: Call, arrays: dict[str, Tensor]) -> None:
        self.module, self.call, self.arrays = module, call, arrays

    @property
    def kept(self) -> list[str]:
        """The keys of what the backward kernels read that the forward kernels wrote."""
        if "kept" not in self.call.prepared:
            self.call.prepared["kept"] = self._kept()
        return list(self.call.prepared["kept"])

    def _kept(self) -> list[str]:
        written = {key for launch in self.module.FORWARD for key, *_ in launch.writes}
        read = [key for launch in self.module.BACKWARD for key, *_ in launch.reads]
        return [key for key in dict.fromkeys(read) if key in written]

    def forward(self, start: Tensors, end: Tensors, keep: bool, outputs: Collection[str]) -> None:
        """What `outputs`, the final state and, to `keep`, the backward pass need.

        No `start`: zeros, no `end`: not wanted.
        """
        self._run_needed("FORWARD", start, end, {*outputs, *(self.kept if keep else ())})

    def backward(self, start: Tensors, end: Tensors, wanted: Collection[str]) -> None:
        """What the `wanted` gradients, and that of the initial state, need; `start` is the final state's."""
        self._run_needed("BACKWARD", start, end, set(wanted))

    def _run_needed(self, direction: str, start: Tensors, end: Tensors, wanted: set[str]) -> None:
        """Launches what the wanted arrays, or the state at the end, depend on."""
        key = direction, bool(start), bool(end), frozenset(wanted)
        if key not in self.call.prepared:
            launches = getattr(self.module, direction)
            self.call.prepared[key] = self._needed(launches, bool(start), bool(end), wanted)
        for prepared in self.call.prepared[key]:
            self._launch(prepared, start, end)

    def _needed(
        self, launches: Sequence[Launch], start: bool, end: bool, wanted: set[str]
    ) -> tuple[Prepared, ...]:
        """What is launched, in order."""
        needed: list[Launch] = []
        for launch in reversed(launches):
            last = launch.role in SERIAL and end
            if last or not wanted.isdisjoint(key for key, *_ in launch.writes):
                needed.append(launch)
                wanted = wanted | {key for key, *_ in launch.reads}
        return tuple(self._prepare(launch, wanted, start, end) for launch in reversed(needed))

    def _prepare(self, launch: Launch, wanted: Collection[str], start: bool, end: bool) -> Prepared:
        """All of a launch that calls of the same shapes have in common."""
        call, configuration = self.call, self.call.tiled.configurations[launch.kernel]
        options: dict[str, Any] = {}
        writes = []
        for key, argument, place, axes in launch.writes:
            if key in launch.optional and key not in wanted:
                options[argument] = None
                continue
            scalars = place in IN_FLOAT32 or (place == "value" and set(axes) <= {call.micro})
            dtype = torch.float32 if scalars else self._dtype(key)
            writes.append((key, argument, call.shape(place, axes), dtype))
        for name in launch.groups:
            options[f"G_{name}"] = self.arrays[name].shape[2]
        for axis, name in launch.sizes:
            size = call.sizes[axis]
            options[name] = size
            options[f"B{name}"] = rows_for(size) if axis == call.micro else cover(size)
            if axis in launch.tiled:
                options[f"B{name}"] = min(cover(size), configuration.tile)
        serial = launch.role in SERIAL
        if not serial and launch.tiled:
            (name,) = (name for axis, name in launch.sizes if axis in launch.tiled)
            options["tiles"] = -(-options[name] // options[f"B{name}"])
        if serial:
            options |= {"HAS_START": start, "HAS_END": end}
        options |= {
            "T": call.length,
            "H": call.heads,
            "C": call.chunk,
            "PACKED": call.bounds is not None,
            "REVERSE": call.reverse,
            "DOT": _TRITON[call.dtype](),
            "PRECISION": call.tiled.precision if call.dtype == torch.float32 else "tf32",
            "num_warps": configuration.warps,
            "num_stages": configuration.stages,
            **EVERYWHERE,
        }
        reads = tuple((argument, key) for key, argument, _, _ in launch.reads)
        states = tuple((first, last) for first, last in launch.states)
        return Prepared(launch.kernel, serial, states, tuple(writes), reads, options, self._grid(launch))

    def _launch(self, prepared: Prepared, start: Tensors, end: Tensors) -> None:
        """Allocates what a kernel writes and launches it; `start`, `end`: the states of a serial kernel."""
        call, arrays = self.call, self.arrays
        options = dict(prepared.options)
        for key, argument, shape, dtype in prepared.writes:
            if key not in arrays:
                arrays[key] = torch.empty(shape, dtype=dtype, device=call.device)
            options[argument] = arrays[key]
        for argument, key in prepared.reads:
            options[argument] = arrays[key]
        filler = next(iter(arrays.values()))
        options["cu_seqlens"] = filler if call.bounds is None else call.bounds
        tables = call.tables
        if prepared.serial:
            for number, (first, last) in enumerate(prepared.states):
                options[first] = start[number] if start else filler
                options[last] = end[number] if end else filler
            options["chunk_offsets"] = filler if tables is None else tables[0]
        else:
            options["chunk_table"] = filler if tables is None else tables[1]
        getattr(self.module, prepared.kernel)[prepared.grid](**options)

    def _grid(self, launch: Launch) -> tuple[int, ...]:
        call = self.call
        if launch.role not in SERIAL:
            return call.chunks, call.heads
        size = call.sizes[call.value_axis]
        tile = min(cover(size), call.tiled.configurations[launch.kernel].tile)
        return (math.ceil(size / tile) * call.sequences * call.heads,)

    def _dtype(self, key: str) -> torch.dtype:
        """The dtype of a gradient is its input's; everything else is in that of the vectors."""
        source = self.arrays.get(key.removeprefix("d'"))
        return source.dtype if key.startswith("d'") and source is not None else self.call.dtype


def run_sums(module: ModuleType, sums: Sequence[Sum]) -> None:
    """All sums in one launch; none if there are none."""
    if not sums:
        return
    sizes = tuple(each.target.numel() for each in sums)
    most = max(each.rows for each in sums)
    module.sums[(sum(-(-size // SUM_TILE[1]) for size in sizes),)](
        sources=tuple(each.source for each in sums),
        targets=tuple(each.target for each in sums),
        rows=tuple(each.rows for each in sums),
        widths=tuple(each.width for each in sums),
        sizes=sizes,
        BR=min(SUM_TILE[0], 1 << (most - 1).bit_length()),
        BN=SUM_TILE[1],
        **EVERYWHERE,
    )


def _language() -> Any:
    import triton.language

    return triton.language


_TRITON = {
    torch.float32: lambda: _language().float32,
    torch.bfloat16: lambda: _language().bfloat16,
    torch.float16: lambda: _language().float16,
}
