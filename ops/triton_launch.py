"""Runs the Triton kernels of a generated module on the user's own tensors: no copy, no host synchronisation.

Tensors stay [B, T, H, axes]; a chunk is an index into them, computed in the kernel. For packed sequences the
table of chunks is made on the device, for as many chunks as there can be at most: T / C + N.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from rnnc.codegen.resources import Configuration, cover, rows_for
from rnnc.ops.options import CHUNK
from rnnc.ops.triton_stretches import MAP, WHOLE, Split, Tables, combined, split_tables

Tensors = tuple[Tensor, ...]
ArraySpec = tuple[str, str, str, tuple[str, ...]]


class Launch(NamedTuple):
    """One kernel: `reads` and `writes` are arrays as (key, argument, place, axes).

    The axes in `tiled` are looped over, or spread over programs, in tiles; of the others a program holds all.
    The arrays in `optional` are not written where None is given for them. `states` are the arguments for the
    states at the start and at the end, of kernels that walk the chunks. Those in `walked` are read only where
    states are not kept for every chunk.
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
    walked: tuple[ArraySpec, ...] = ()

    @property
    def spaced(self) -> bool:
        """Whether it reads or writes states that need not be kept for every chunk."""
        return any(place == "kept" for _, _, place, _ in (*self.reads, *self.writes))


class Joined(NamedTuple):
    """The kernel that two are as one launch; `renamed`: what it calls arguments of the second; `beside`: they
    are walks over the chunks, each in programs of its own, not one after the other in the same.
    """

    kernel: str
    first: str
    second: str
    renamed: tuple[tuple[str, str], ...]
    beside: bool


class Tiled(NamedTuple):
    """The tokens of a chunk, the chunks that a state is kept for, the configurations of kernels, by name, and
    how products of float32 operands are formed. `validated`: they have run on the device, and were right.
    `joined`: the configurations of both kernels of those that are one launch, by its name.
    """

    chunk: int
    spacing: int
    configurations: Mapping[str, Configuration]
    precision: str
    validated: bool = False
    joined: Mapping[str, tuple[Configuration, Configuration]] = MappingProxyType({})


UNTILED = Tiled(CHUNK, 1, {}, "")  # of calls of the recurrent form


class Prepared(NamedTuple):
    """A launch without its tensors: `writes` are (key, argument, shape, dtype), `reads` (argument, key),
    `states` (argument, which, number), of those of `Ends`, `options` all else. `summary`: of a kernel that
    walks stretches, the walk from zero that comes first.
    """

    kernel: str
    serial: bool
    states: tuple[tuple[str, str, int], ...]
    writes: tuple[tuple[str, str, tuple[int, ...], torch.dtype], ...]
    reads: tuple[tuple[str, str], ...]
    options: Mapping[str, Any]
    grid: tuple[int, ...]
    summary: Prepared | None = None


class Ends(NamedTuple):
    """The states at both ends of the sequences, and their cotangents: of each, all or none.

    `start` and `last` are given, `end` and `first` are written; `last`: the cotangents of the final states.
    """

    start: Tensors = ()
    end: Tensors = ()
    last: Tensors = ()
    first: Tensors = ()

    @property
    def there(self) -> tuple[str, ...]:
        """The names of those that there are."""
        return tuple(name for name, given in zip(self._fields, self, strict=True) if given)


class Sum(NamedTuple):
    """`target` [outer, width] = `source` [outer, rows, width] summed over its rows."""

    source: Tensor
    target: Tensor
    rows: int
    width: int


@dataclass(frozen=True)
class Call:
    """The shapes of one call. `sizes` by axis; `bounds` are the packed sequences' limits, or None;
    `tiled`: how its chunked kernels run; `split`: into stretches; `micro`: the axis of micro-steps, if there
    is one. `prepared`, which calls may share if their shapes and those of their tensors are equal: what was
    found for their launches. `tables`: where the chunks lie, once it is known.
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
    split: Split = WHOLE
    prepared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    tables: list[tuple[Tensor, Tensor]] = field(default_factory=list, compare=False, repr=False)

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

    @property
    def kept(self) -> int:
        """For how many chunks there is room for a state: of packed sequences, each begins a number of its own
        unless states are kept for all.
        """
        spacing = self.tiled.spacing
        if self.bounds is None:
            return self.batch * -(-self.length // (self.chunk * spacing))
        return self.chunks if spacing == 1 else self.chunks // spacing + self.sequences

    @cached_property
    def stretches(self) -> Tables | None:
        """Where the stretches are, if sequences are split into such; made on the device."""
        if self.split.parts < 2:
            return None
        key = "stretches"
        if self.bounds is not None or key not in self.prepared:
            given = self.bounds, self.batch, self.length, self.chunk, self.split.parts
            found = split_tables(*given, self.reverse, self.device)
            if self.bounds is not None:
                return found
            self.prepared[key] = found
        return cast(Tables, self.prepared[key])

    @property
    def walked(self) -> int:
        """How many sequences, or stretches, are walked beside each other."""
        return self.sequences if self.stretches is None else self.stretches.stretches

    def configuration(self, kernel: str) -> Configuration:
        """How a chunked kernel runs."""
        return {**self.tiled.configurations, **self.split.configurations}[kernel]

    def shape(
        self, place: str, axes: tuple[str, ...], sizes: Mapping[str, int] | None = None
    ) -> tuple[int, ...]:
        """The shape of an array in memory; `sizes`: of axes, if not as in the call."""
        own = tuple((sizes or self.sizes)[axis] for axis in axes)
        lead = {
            "token": (self.batch, self.length, self.heads),
            "value": (self.batch, self.length, self.heads),
            "row": (self.batch, self.length, self.heads),
            "matrix": (self.batch, self.length, self.heads),
            "pairs": (self.batch, self.length, self.heads),
            "chunk": (self.chunks, self.heads),
            "kept": (self.kept, self.heads),
            "total": (self.chunks, self.heads),
            "partial": (self.chunks, self.heads),
            "stretch": (self.walked, self.heads),
        }[place]
        rows = rows_for(self.sizes[self.micro]) if self.micro else 1
        columns = {"matrix": (self.chunk,), "pairs": (self.chunk * rows,)}
        return lead + own + columns.get(place, ())


IN_FLOAT32 = ("row", "total", "partial", "stretch")

WALKING = ("scan", "reverse")  # from states that may be given
SERIAL = (*WALKING, "transition")  # the roles of kernels that walk the chunks
# Said, because Triton's default changes with its version.
EVERYWHERE = {"enable_fp_fusion": True}
SUM_TILE = (128, 32)  # rows and sums of a program at a time
TABLE_TILE = (64, 64)  # sequences and chunks of a program at a time


def run_chunk_tables(module: ModuleType, bounds: Tensor, chunk: int, count: int) -> tuple[Tensor, Tensor]:
    """The number of chunks before each sequence [N]; for each chunk (sequence or -1, number) [count, 2]."""
    number = bounds.shape[0] - 1
    room = torch.empty(number + 2 * count, dtype=torch.int32, device=bounds.device)
    offsets, table = room[:number], room[number:]
    module.chunk_tables[(-(-count // TABLE_TILE[1]),)](
        cu_seqlens=bounds,
        offsets=offsets,
        table=table,
        N=number,
        count=count,
        C=chunk,
        BN=TABLE_TILE[0],
        BI=TABLE_TILE[1],
        **EVERYWHERE,
    )
    return offsets, table


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
        written = {key for launch in self._launches("FORWARD") for key, *_ in launch.writes}
        read = [key for launch in self._launches("BACKWARD") for key in self._read(launch)]
        return [key for key in dict.fromkeys(read) if key in written]

    def _reads(self, launch: Launch) -> tuple[ArraySpec, ...]:
        """All that a kernel reads."""
        return launch.reads + (launch.walked if self.call.tiled.spacing > 1 else ())

    def forward(self, start: Tensors, end: Tensors, keep: bool, outputs: Collection[str]) -> None:
        """What `outputs`, the final state and, to `keep`, the backward pass need.

        No `start`: zeros, no `end`: not wanted.
        """
        wanted = frozenset((*outputs, *(self.kept if keep else ())))
        self._run("forward", Ends(start=start, end=end), wanted, frozenset())

    def backward(self, last: Tensors, first: Tensors, wanted: Collection[str]) -> None:
        """What the `wanted` gradients, and those of the initial states, need; see `Ends`."""
        self._run("backward", Ends(last=last, first=first), frozenset(), frozenset(wanted))

    def again(self, start: Tensors, last: Tensors, first: Tensors, wanted: Collection[str]) -> None:
        """The same where nothing was kept: begins with what it needs of the forward pass."""
        self._run("again", Ends(start, (), last, first), frozenset(self.kept), frozenset(wanted))

    def _run(self, what: str, ends: Ends, before: frozenset[str], after: frozenset[str]) -> None:
        """Launches what the arrays `before` of the forward pass depend on, then those `after` of the backward
        pass, and the states at the ends.
        """
        key = what, ends.there, before, after
        if key not in self.call.prepared:
            self.call.prepared[key] = self._prepared(ends, before, after)
        for prepared in self.call.prepared[key]:
            if prepared.summary:
                self._walk_stretches(prepared, prepared.summary, ends)
            else:
                self._launch(prepared, ends)

    def _tables(self) -> tuple[Tensor, Tensor] | None:
        """See `run_chunk_tables`; made on the device, once for the forward and the backward pass."""
        call = self.call
        if call.bounds is None:
            return None
        if not call.tables:
            call.tables.append(run_chunk_tables(self.module, call.bounds, call.chunk, call.chunks))
        return call.tables[0]

    def _launches(self, direction: str) -> Sequence[Launch]:
        """The launches of a pass; of sequences in stretches also what these make of the incoming state."""
        launches: Sequence[Launch] = getattr(self.module, direction)
        if direction == "BACKWARD" or self.call.stretches is None:
            return launches
        first = next(n for n, launch in enumerate(launches) if launch.role in WALKING)
        return *launches[:first], *self.module.TRANSITION, *launches[first:]

    def _read(self, launch: Launch) -> list[str]:
        """The keys of what a launch reads."""
        stretches = self.call.stretches is not None and launch.role in WALKING and self.module.TRANSITION
        return [*(key for key, *_ in self._reads(launch)), *([MAP] if stretches else ())]

    def _walk_stretches(self, walk: Prepared, summary: Prepared, ends: Ends) -> None:
        """Walks all stretches at once, first for what each adds to the state, then from the state at its
        start, if anything but the state at the end is wanted.
        """
        call = self.call
        axes = self.module.KEY_AXIS, call.value_axis
        shape = call.shape("stretch", axes[::-1] if self.module.RIGHT else axes)
        added = torch.empty(shape, dtype=torch.float32, device=call.device)
        back = any(which == "last" for _, which, _ in walk.states)
        self._launch(summary, Ends(first=(added,)) if back else Ends(end=(added,)))
        given, wanted = (ends.last, ends.first) if back else (ends.start, ends.end)
        assert call.stretches is not None
        starts = combined(
            self.module,
            call.stretches,
            self.arrays,
            added,
            given[0] if given else None,
            wanted[0] if wanted else None,
            back=back,
            reverse=call.reverse,
            precision=call.tiled.precision,
            options=EVERYWHERE,
        )
        if walk.writes:
            self._launch(walk, Ends(last=(starts,)) if back else Ends(start=(starts,)))

    def _prepared(self, ends: Ends, before: Collection[str], after: Collection[str]) -> tuple[Prepared, ...]:
        """What is launched, in order."""
        forward, early = self._needed(self._launches("FORWARD"), bool(ends.end), set(before))
        backward, late = self._needed(self._launches("BACKWARD"), bool(ends.first), set(after))
        launches = {launch.kernel: (launch, early) for launch in forward}
        launches |= {launch.kernel: (launch, late) for launch in backward}
        joined, whole = self.call.tiled.joined, self.call.stretches is None
        pairs = [
            pair
            for pair in self.module.JOINED
            if {pair.first, pair.second} <= set(launches) and pair.kernel in joined
            if whole or not pair.beside
        ]
        each = {name: self.call.configuration(name) for name in launches}
        for pair in pairs:
            each[pair.first], each[pair.second] = joined[pair.kernel]
        found = {name: self._planned(*launches[name], each[name], ends.there) for name in launches}
        for pair in pairs:
            found[pair.first] = _joined(pair, found[pair.first], found.pop(pair.second))
        return tuple(found.values())

    def _needed(
        self, launches: Sequence[Launch], end: bool, wanted: set[str]
    ) -> tuple[list[Launch], set[str]]:
        """What of a pass is launched for the wanted arrays and, at the `end`, the states; all arrays that are
        needed.
        """
        needed: list[Launch] = []
        for launch in reversed(launches):
            last = launch.role in WALKING and end
            if last or not wanted.isdisjoint(key for key, *_ in launch.writes):
                needed.insert(0, launch)
                wanted = wanted.union(self._read(launch))
        return needed, wanted

    def _planned(
        self, launch: Launch, wanted: Collection[str], how: Configuration, there: Collection[str]
    ) -> Prepared:
        """The launch; where it walks stretches, with the walk that comes before."""
        if self.call.stretches is None or launch.role not in WALKING:
            return self._prepare(launch, wanted, how, there)
        summary = self._prepare(launch, (), how, ("end", "first"))
        return self._prepare(launch, wanted, how, ("start", "last"))._replace(summary=summary)

    def _prepare(
        self,
        launch: Launch,
        wanted: Collection[str],
        configuration: Configuration,
        there: Collection[str],
    ) -> Prepared:
        """All of a launch that calls of the same shapes have in common; `there`: of the states (`Ends`)."""
        call = self.call
        sizes = self._sizes(launch)
        options: dict[str, Any] = {}
        writes = []
        for key, argument, place, axes in launch.writes:
            if key in launch.optional and key not in wanted:
                options[argument] = None
                continue
            scalars = place in IN_FLOAT32 or (place == "value" and set(axes) <= {call.micro})
            dtype = torch.float32 if scalars else self._dtype(key)
            writes.append((key, argument, call.shape(place, axes, sizes), dtype))
        for name in launch.groups:
            options[f"G_{name}"] = self.arrays[name].shape[2]
        for axis, name in launch.sizes:
            size = sizes[axis]
            options[name] = size
            options[f"B{name}"] = rows_for(size) if axis == call.micro else cover(size)
            if axis in launch.tiled:
                options[f"B{name}"] = min(cover(size), configuration.tile)
        serial = launch.role in SERIAL
        if not serial and launch.tiled:
            (name,) = (name for axis, name in launch.sizes if axis in launch.tiled)
            options["tiles"] = -(-options[name] // options[f"B{name}"])
        begin, finish = ("start", "end") if launch.role == "scan" else ("last", "first")
        if launch.role in WALKING:
            options |= {"HAS_START": begin in there, "HAS_END": finish in there}
        if launch.spaced:
            options["SPACING"] = call.tiled.spacing
            options |= dict.fromkeys(argument for _, argument, *_ in launch.walked)
        options |= {
            "T": call.length,
            "H": call.heads,
            "C": call.chunk,
            "PACKED": call.bounds is not None or (serial and call.stretches is not None),
            "REVERSE": call.reverse,
            "DOT": _TRITON[call.dtype](),
            "PRECISION": call.tiled.precision if call.dtype == torch.float32 else "tf32",
            "WARPS": configuration.warps,
            "num_warps": configuration.warps,
            "num_stages": configuration.stages,
            **EVERYWHERE,
        }
        reads = tuple((argument, key) for key, argument, _, _ in self._reads(launch))
        states = [
            (argument, which, number)
            for number, pair in enumerate(launch.states)
            for argument, which in zip(pair, (begin, finish), strict=True)
        ]
        grid = self._grid(launch, configuration)
        return Prepared(launch.kernel, serial, tuple(states), tuple(writes), reads, options, grid)

    def _launch(self, prepared: Prepared, ends: Ends) -> None:
        """Allocates what a kernel writes and launches it."""
        call, arrays = self.call, self.arrays
        options = dict(prepared.options)
        for key, argument, shape, dtype in prepared.writes:
            if key not in arrays:
                arrays[key] = torch.empty(shape, dtype=dtype, device=call.device)
            options[argument] = arrays[key]
        for argument, key in prepared.reads:
            options[argument] = arrays[key]
        filler = next(iter(arrays.values()))
        bounds, tables, stretches = call.bounds, self._tables(), call.stretches
        if prepared.serial and stretches is not None:
            bounds, tables = stretches.bounds, (stretches.chunks, stretches.chunks)
        options["cu_seqlens"] = filler if bounds is None else bounds
        if prepared.serial:
            for argument, which, number in prepared.states:
                given: Tensors = getattr(ends, which)
                options[argument] = given[number] if given else None
            options["chunk_offsets"] = filler if tables is None else tables[0]
        else:
            options["chunk_table"] = filler if tables is None else tables[1]
        getattr(self.module, prepared.kernel)[prepared.grid](**options)

    def _grid(self, launch: Launch, configuration: Configuration) -> tuple[int, ...]:
        call = self.call
        if launch.role not in SERIAL:
            return call.chunks, call.heads
        size = self._sizes(launch)[call.value_axis]
        tile = min(cover(size), configuration.tile)
        return (math.ceil(size / tile) * call.walked * call.heads,)

    def _sizes(self, launch: Launch) -> Mapping[str, int]:
        """The sizes of axes: a kernel that forms what a stretch makes of the state has other columns."""
        sizes = self.call.sizes
        if launch.role != "transition":
            return sizes
        columns = 1 if self.module.SCALING else sizes[self.module.KEY_AXIS]
        return {**sizes, self.call.value_axis: columns}

    def _dtype(self, key: str) -> torch.dtype:
        """The dtype of a gradient is its input's; everything else is in that of the vectors."""
        source = self.arrays.get(key.removeprefix("d'"))
        return source.dtype if key.startswith("d'") and source is not None else self.call.dtype


def _joined(joined: Joined, first: Prepared, second: Prepared) -> Prepared:
    """Both as one launch; beside each other, the programs of the second are those of number 1 along a second
    axis.
    """
    new = dict(joined.renamed)

    def called(argument: str) -> str:
        return new.get(argument, argument)

    options = {called(name): value for name, value in second.options.items()} | dict(first.options)
    states = [state for state in first.states if state[1] == "start"]
    states += [(called(argument), which, number) for argument, which, number in second.states]
    writes = [(key, called(argument), shape, dtype) for key, argument, shape, dtype in second.writes]
    return Prepared(
        joined.kernel,
        joined.beside,
        tuple(states),
        (*first.writes, *writes),
        tuple(dict.fromkeys((*first.reads, *((called(argument), key) for argument, key in second.reads)))),
        {name: value for name, value in options.items() if name not in ("HAS_START", "HAS_END")},
        (*first.grid, 2) if joined.beside else first.grid,
    )


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
