"""Launches the kernels that walk the tokens one after the other: the recurrent form, forward and backward.

A program holds a tile of the state in registers. For the backward pass the forward pass keeps the state
before every so many tokens, about the square root of their number: what is kept and what is formed anew
from it then take the least room together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnc.ops.errors import UnavailableError
from rnnc.ops.triton_call import ArraySpec, Call
from rnnc.ops.triton_launch import EVERYWHERE
from rnnc.ops.triton_repeated import Repeated

Tensors = tuple[Tensor, ...]
StateSpec = tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]

SHORTEST = 16  # no fewer tokens lie between two states that are kept
LARGEST = 32768  # entries of a state that one program holds
# Entries of the tile of a program, and of one warp: about 32 registers for a state.
ENTRIES = {"steps": 1024, "steps_back": 4096}
WARP = 1024


class StepLaunch(NamedTuple):
    """One kernel: `reads` and `writes` are arrays as (key, argument, place, axes).

    `states`: (key, axes, arguments): `start` is read before the first token, `end` written after the last,
    `kept` holds the states between, `formed` those that are formed anew. `tile` is the axis that programs
    divide among them, `micro` that of micro-steps.
    """

    kernel: str
    role: str
    reads: tuple[ArraySpec, ...]
    writes: tuple[ArraySpec, ...]
    groups: tuple[str, ...]
    sizes: tuple[tuple[str, str], ...]
    states: tuple[StateSpec, ...]
    tile: str | None
    micro: str | None


@dataclass(frozen=True, slots=True)
class Tiling:
    """The block of the tiled axis, the number of its tiles, and the warps of a program."""

    block: int
    tiles: int
    warps: int


def interval(length: int) -> int:
    """The tokens between two states that are kept."""
    return max(SHORTEST, 1 << ((length - 1).bit_length() // 2))


def cover(size: int) -> int:
    """The power of two that covers an axis."""
    return max(2, 1 << (size - 1).bit_length())


def tiling(launch: StepLaunch, sizes: Mapping[str, int]) -> Tiling:
    """How the programs of a launch divide the state."""
    largest = max(math.prod(cover(sizes[a]) for a in axes) for _, axes, _ in launch.states)
    if launch.micro:  # products of a state and micro-steps: twice as many registers
        largest *= 2 * cover(sizes[launch.micro])
    if launch.tile is None:
        return Tiling(1, 1, _warps(largest))
    size = sizes[launch.tile]
    rest = largest // cover(size)
    width = min(cover(size), max(8, ENTRIES[launch.role] // rest))
    return Tiling(width, -(-size // width), _warps(rest * width))


def _warps(entries: int) -> int:
    return max(1, min(16, entries // WARP))


def constants(launch: StepLaunch, call: Call, tiles: Tiling) -> dict[str, Any]:
    """What a launch is given beside arrays, but for what the kernels of one direction alone have."""
    sizes = {name: call.sizes[axis] for axis, name in launch.sizes}
    blocks = {
        f"B{name}": tiles.block if axis == launch.tile else cover(call.sizes[axis])
        for axis, name in launch.sizes
    }
    return {
        **sizes,
        **blocks,
        "every": interval(call.length),
        "T": call.length,
        "H": call.heads,
        "PACKED": call.bounds is not None,
        "REVERSE": call.reverse,
        "num_warps": tiles.warps,
        "num_stages": 1,
        **EVERYWHERE,
    }


def check_sizes(module: ModuleType, sizes: dict[str, int], name: str) -> None:
    """Raises UnavailableError where a program would have to hold more than fits."""
    for launch in (*module.FORWARD_STEPS, *module.BACKWARD_STEPS):
        for key, axes, _ in launch.states:
            held = math.prod(cover(sizes[axis]) for axis in axes)
            if launch.tile is None and held > LARGEST:
                given = ", ".join(f"{axis} = {sizes[axis]}" for axis in axes)
                raise UnavailableError(
                    f"triton has no recurrent form of {name} for {given}: a program holds all of"
                    f" {key.removeprefix(chr(100) + chr(39))}, at most {LARGEST} entries: use backend='torch'"
                )


class StepRunner:
    """Launches the kernels of one call; `arrays` holds what they read and write, by key."""

    def __init__(self, module: ModuleType, call: Call, arrays: dict[str, Tensor]) -> None:
        self.module, self.call, self.arrays = module, call, arrays
        self.every = interval(call.length)

    @property
    def kept(self) -> list[str]:
        """The keys of what the forward pass keeps for the backward pass."""
        return [f"{key} kept" for launch in self.module.FORWARD_STEPS for key, _, _ in launch.states]

    def forward(self, start: Tensors, end: Tensors, keep: bool, _outputs: Collection[str]) -> None:
        """All tokens; no `start`: zeros, no `end`: not wanted."""
        for launch in self.module.FORWARD_STEPS:
            room = self._room(launch, "kept", self._kept) if keep else {}
            self._run(launch, start, end, room, {"KEEP": keep})

    def backward(self, start: Tensors, end: Tensors, _wanted: Collection[str]) -> None:
        """All tokens from the last: `start` are the cotangents of the final states."""
        for launch in self.module.BACKWARD_STEPS:
            formed = self._room(launch, "formed", self._formed)
            self._run(launch, start, end, self._room(launch, "kept", self._kept) | formed, {})

    def again(self, start: Tensors, last: Tensors, first: Tensors, wanted: Collection[str]) -> None:
        """The backward pass where nothing was kept: the states are formed anew before it."""
        self.forward(start, (), True, ())
        self.backward(last, first, wanted)

    @property
    def _kept(self) -> int:
        call = self.call
        if call.bounds is None:
            return call.batch * -(-call.length // self.every)
        return call.length // self.every + call.sequences

    @property
    def _formed(self) -> int:
        return min(self.call.batch * self.call.length, self.call.sequences * self.every)

    def _room(self, launch: StepLaunch, what: str, rows: int) -> dict[str, Tensor]:
        """The arrays of that kind as arguments; kept ones are allocated once."""
        found = {}
        for key, axes, arguments in launch.states:
            argument = dict(arguments).get(what)
            if argument is not None:
                name = f"{key} {what}"
                if name not in self.arrays:
                    shape = (rows, self.call.heads, *(self.call.sizes[axis] for axis in axes))
                    self.arrays[name] = torch.empty(shape, dtype=torch.float32, device=self.call.device)
                found[argument] = self.arrays[name]
        return found

    def _run(
        self,
        launch: StepLaunch,
        start: Tensors,
        end: Tensors,
        room: dict[str, Tensor],
        options: dict[str, bool],
    ) -> None:
        call = self.call
        tiles = tiling(launch, call.sizes)
        for key, _, place, axes in launch.writes:
            if key not in self.arrays:
                shape = self._shape(launch, place, axes, tiles.tiles)
                whole = place == "token" or (place == "share" and tiles.tiles == 1)
                dtype = self._dtype(key) if whole else torch.float32
                self.arrays[key] = torch.empty(shape, dtype=dtype, device=call.device)
        arguments: dict[str, Tensor] = {
            argument: self.arrays[key] for key, argument, _, _ in (*launch.reads, *launch.writes)
        }
        filler = next(iter(arguments.values()))
        given = {"start": iter(start), "end": iter(end)}
        for _, _, places in launch.states:
            for what, argument in places:
                arguments[argument] = next(given[what], filler) if what in given else filler
        arguments["cu_seqlens"] = filler if call.bounds is None else call.bounds
        arguments |= room
        same = launch.kernel, bool(start), bool(end), *options.values(), *room
        if same not in call.prepared:
            fixed = (
                constants(launch, call, tiles) | {"HAS_START": bool(start), "HAS_END": bool(end)} | options
            )
            fixed |= {f"G_{name}": self.arrays[name].shape[2] for name in launch.groups}
            grid = (tiles.tiles * call.sequences * call.heads,)
            kernel = getattr(self.module, launch.kernel)
            call.prepared[same] = Repeated(kernel, grid, fixed, tuple(arguments))
        call.prepared[same](tuple(arguments.values()))

    def _shape(self, launch: StepLaunch, place: str, axes: tuple[str, ...], tiles: int) -> tuple[int, ...]:
        call = self.call
        own = tuple(call.sizes[axis] for axis in axes)
        match place:
            case "share" if tiles > 1:
                return call.batch, call.length, call.heads, tiles, *own
            case "partial":
                rows = call.sequences * (1 if launch.tile in axes else tiles)
                return rows, call.heads, *own
            case _:
                return call.batch, call.length, call.heads, *own

    def _dtype(self, key: str) -> torch.dtype:
        """The dtype of a gradient is its input's; everything else is in that of the vectors."""
        source = self.arrays.get(key.removeprefix("d'"))
        return source.dtype if key.startswith("d'") and source is not None else self.call.dtype
