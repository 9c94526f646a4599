"""Runs the Triton kernels of a generated module on the user's own tensors: no copy, no host synchronisation.

Tensors stay [B, T, H, axes]; a chunk is an index into them, computed in the kernel. For packed sequences the
table of chunks is made on the device, for as many chunks as there can be at most: T / C + N.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rnnc.codegen.resources import Configuration, cover, rows_for
from rnnc.ops.triton_call import ArraySpec, Call, Ends, Joined, Launch, Prepared, Sum, Tensors
from rnnc.ops.triton_repeated import Repeated
from rnnc.ops.triton_stretches import MAP, combined

IN_FLOAT32 = ("row", "total", "partial", "stretch", "start")

WALKING = ("scan", "reverse")  # from states that may be given
SERIAL = (*WALKING, "transition")  # the roles of kernels that walk the chunks
# Said, because Triton's default changes with its version.
EVERYWHERE = {"enable_fp_fusion": True}
SUM_TILE = (128, 32)  # rows and sums of a program at a time
BEFORE_TILE = 64  # entries of a token at a time
TABLE_TILE = (64, 64)  # sequences and chunks of a program at a time


def run_chunk_tables(
    module: ModuleType, bounds: Tensor, chunk: int, count: int, prepared: dict[Any, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """The number of chunks before each sequence [N]; for each chunk (sequence or -1, number) [count, 2].

    `prepared` is that of a call of so many sequences and chunks.
    """
    number = bounds.shape[0] - 1
    offsets = torch.empty(number, dtype=torch.int32, device=bounds.device)
    table = torch.empty(2 * count, dtype=torch.int32, device=bounds.device)
    prepared = {} if prepared is None else prepared
    if "chunk_tables" not in prepared:
        sizes = {"N": number, "count": count, "C": chunk, "BN": TABLE_TILE[0], "BI": TABLE_TILE[1]}
        names = ("cu_seqlens", "offsets", "table")
        grid = (-(-count // TABLE_TILE[1]),)
        prepared["chunk_tables"] = Repeated(module.chunk_tables, grid, sizes | EVERYWHERE, names)
    prepared["chunk_tables"]((bounds, offsets, table))
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
        found: list[str] = self.call.prepared["kept"]
        return found

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
        key = ("forward", keep, *outputs)
        self._run(key, Ends(start=start, end=end), lambda: ((*outputs, *(self.kept if keep else ())), ()))

    def backward(self, last: Tensors, first: Tensors, wanted: Collection[str]) -> None:
        """What the `wanted` gradients, and those of the initial states, need; see `Ends`."""
        self._run(("backward", *wanted), Ends(last=last, first=first), lambda: ((), wanted))

    def again(self, start: Tensors, last: Tensors, first: Tensors, wanted: Collection[str]) -> None:
        """The same where nothing was kept: begins with what it needs of the forward pass."""
        self._run(("again", *wanted), Ends(start, (), last, first), lambda: (self.kept, wanted))

    def _run(
        self, what: tuple[Any, ...], ends: Ends, wanted: Callable[[], tuple[Collection[str], Collection[str]]]
    ) -> None:
        """Launches what the first of the `wanted` arrays, those of the forward pass, depend on, then the
        second, those of the backward pass, and the states at the ends. `what` tells such runs apart.
        """
        key = what, *map(bool, ends)
        found = self.call.prepared.get(key)
        if found is None:
            found = self.call.prepared[key] = self._prepared(ends, *wanted())
        for prepared in found:
            if prepared.summary:
                self._walk_stretches(prepared, prepared.summary, ends)
            else:
                self._launch(prepared, ends)

    def tables(self) -> tuple[Tensor, Tensor] | None:
        """See `run_chunk_tables`; made on the device, once for the forward and the backward pass."""
        call = self.call
        if call.bounds is None:
            return None
        if not call.tables:
            given = call.bounds, call.chunk, call.chunks, call.prepared
            call.tables.append(run_chunk_tables(self.module, *given))
        return call.tables[0]

    def _launches(self, direction: str) -> Sequence[Launch]:
        """The launches of a pass; of sequences in stretches also what these make of the incoming state."""
        launches: Sequence[Launch] = getattr(self.module, direction)
        if direction == "FORWARD" and self.call.tiled.cut:
            launches = self.module.CUTS[self.call.tiled.cut]
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
        return tuple(map(self._ready, found.values()))

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
            if axis in launch.inner:
                options[f"B{name}_after"] = min(cover(size), configuration.tile)
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
        reads = tuple((a, key) for key, a, place, _ in self._reads(launch) if place != "start" or call.starts)
        options |= {a: None for _, a, place, _ in launch.reads if place == "start" and not call.starts}
        states = [
            (argument, which, number)
            for number, pair in enumerate(launch.states)
            for argument, which in zip(pair, (begin, finish), strict=True)
        ]
        grid = self._grid(launch, configuration)
        return Prepared(launch.kernel, serial, tuple(states), tuple(writes), reads, options, grid)

    def _ready(self, prepared: Prepared) -> Prepared:
        """With what launches it."""
        names = [argument for _, argument, *_ in prepared.writes] + [name for name, _ in prepared.reads]
        names += [argument for argument, *_ in prepared.states if prepared.serial]
        names += ["cu_seqlens", "chunk_offsets" if prepared.serial else "chunk_table"]
        return prepared._replace(
            keys=(*(key for key, *_ in prepared.writes), *(key for _, key in prepared.reads)),
            launch=Repeated(
                getattr(self.module, prepared.kernel), prepared.grid, prepared.options, tuple(names)
            ),
            summary=self._ready(prepared.summary) if prepared.summary else None,
        )

    def _launch(self, prepared: Prepared, ends: Ends) -> None:
        """Allocates what a kernel writes and launches it."""
        call, arrays, device = self.call, self.arrays, self.call.device
        for key, _, shape, dtype in prepared.writes:
            if key not in arrays:
                arrays[key] = torch.empty(shape, dtype=dtype, device=device)
        tensors: list[Tensor | None] = [arrays[key] for key in prepared.keys]
        filler = next(iter(arrays.values()))
        bounds, tables = call.bounds, self.tables()
        if prepared.serial:
            stretches = call.stretches if call.split.parts > 1 else None
            if stretches is not None:
                bounds, tables = stretches.bounds, (stretches.chunks, stretches.chunks)
            for _, which, number in prepared.states:
                given: Tensors = getattr(ends, which)
                tensors.append(given[number] if given else None)
        tensors.append(filler if bounds is None else bounds)
        tensors.append(filler if tables is None else tables[0 if prepared.serial else 1])
        assert prepared.launch is not None
        prepared.launch(tensors)

    def _grid(self, launch: Launch, configuration: Configuration) -> tuple[int, ...]:
        call = self.call
        if launch.role not in SERIAL:
            return call.chunks, call.heads
        size = self._sizes(launch).get(call.value_axis, 1)  # 1: a state of one number
        tile = min(cover(size), configuration.tile) if call.value_axis in launch.tiled else size
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


def run_before(runner: Runner | Any, pairs: Sequence[tuple[str, str, int]]) -> None:
    """Adds the gradients of inputs of earlier tokens to those of the inputs, in one launch; `pairs`: the keys
    of both, and how many tokens earlier.
    """
    call, arrays = runner.call, runner.arrays
    found = [pair for pair in pairs if pair[0] in arrays]
    if not found:
        return
    for key, target, _ in found:
        if target not in arrays:
            arrays[target] = torch.zeros_like(arrays[key])
    tables = runner.tables()
    filler = arrays[found[0][0]]
    runner.module.add_earlier[(call.chunks, call.heads)](
        sources=tuple(arrays[key] for key, _, _ in found),
        targets=tuple(arrays[target] for _, target, _ in found),
        lags=tuple(lag for _, _, lag in found),
        widths=tuple(math.prod(arrays[key].shape[3:]) for key, _, _ in found),
        cu_seqlens=filler if call.bounds is None else call.bounds,
        chunk_table=filler if tables is None else tables[1],
        T=call.length,
        H=call.heads,
        C=call.chunk,
        BW=BEFORE_TILE,
        PACKED=call.bounds is not None,
        REVERSE=call.reverse,
        **EVERYWHERE,
    )


def run_sums(module: ModuleType, sums: Sequence[Sum], prepared: dict[Any, Any]) -> None:
    """All sums in one launch; none if there are none. `prepared`: that of the call that they belong to."""
    if not sums:
        return
    kinds = ((x.rows, x.width, x.source.dtype, x.target.shape, x.target.dtype) for x in sums)
    key = "sums", tuple(kinds)
    if key not in prepared:
        sizes = tuple(each.target.numel() for each in sums)
        most = max(each.rows for each in sums)
        options = {
            "rows": tuple(each.rows for each in sums),
            "widths": tuple(each.width for each in sums),
            "sizes": sizes,
            "BR": min(SUM_TILE[0], 1 << (most - 1).bit_length()),
            "BN": SUM_TILE[1],
            **EVERYWHERE,
        }
        grid = (sum(-(-size // SUM_TILE[1]) for size in sizes),)
        prepared[key] = Repeated(module.sums, grid, options, ("sources", "targets"))
    prepared[key]((tuple(each.source for each in sums), tuple(each.target for each in sums)))


def _language() -> Any:
    import triton.language

    return triton.language


_TRITON = {
    torch.float32: lambda: _language().float32,
    torch.bfloat16: lambda: _language().bfloat16,
    torch.float16: lambda: _language().float16,
}
