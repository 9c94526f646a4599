"""What the launches of Triton kernels are made of: what a generated module says of its own, and one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from rnnc.codegen.resources import Configuration, rows_for
from rnnc.codegen.triangles import TRIANGLES, triangle_entries
from rnnc.ops.options import CHUNK
from rnnc.ops.triton_repeated import Repeated
from rnnc.ops.triton_stretches import WHOLE, Split, Tables, split_tables

Tensors = tuple[Tensor, ...]
ArraySpec = tuple[str, str, str, tuple[str, ...]]


class Launch(NamedTuple):
    """One kernel: `reads` and `writes` are arrays as (key, argument, place, axes).

    The axes in `tiled` are looped over, or spread over programs, in tiles; of the others a program holds all.
    The arrays in `optional` are not written where None is given for them. `states` are the arguments for the
    states at the start and at the end, of kernels that walk the chunks. Those in `walked` are read only where
    states are not kept for every chunk. The axes in `inner` a walk has whole, and once more in tiles, for
    what it does at the end of a chunk.
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
    inner: tuple[str, ...] = ()

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
    `joined`: the configurations of both kernels of those that are one launch, by its name. `cut`: how else
    than in `FORWARD` the forward pass is cut (see `rnnc.codegen.cuts`).
    """

    chunk: int
    spacing: int
    configurations: Mapping[str, Configuration]
    precision: str
    validated: bool = False
    joined: Mapping[str, tuple[Configuration, Configuration]] = MappingProxyType({})
    cut: str = ""


UNTILED = Tiled(CHUNK, 1, {}, "")  # of calls of the recurrent form


class Prepared(NamedTuple):
    """A launch without its tensors: `writes` are (key, argument, shape, dtype), `reads` (argument, key),
    `states` (argument, which, number), of those of `Ends`, `options` all else. `summary`: of a kernel that
    walks stretches, the walk from zero that comes first; `launch`: what launches it on the arrays of `keys`,
    the states and the tables.
    """

    kernel: str
    serial: bool
    states: tuple[tuple[str, str, int], ...]
    writes: tuple[tuple[str, str, tuple[int, ...], torch.dtype], ...]
    reads: tuple[tuple[str, str], ...]
    options: dict[str, Any]
    grid: tuple[int, ...]
    summary: Prepared | None = None
    keys: tuple[str, ...] = ()
    launch: Repeated | None = None


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
    is one. `starts`: arrays are given that were carried into the sequences beside states. `prepared`, which
    calls may share if their shapes and those of their tensors are equal: what was found for their launches.
    `tables`: where the chunks lie, once it is known.
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
    starts: bool = False
    prepared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    tables: list[tuple[Tensor, Tensor]] = field(default_factory=list, compare=False, repr=False)

    def packed(self, bounds: Tensor) -> Call:
        """The same for other limits of as many sequences: a copy without the checks of `replace`, which takes
        as long as a launch.
        """
        again = object.__new__(Call)
        again.__dict__.update(self.__dict__, bounds=bounds, tables=[])
        again.__dict__.pop("stretches", None)
        return again

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
        rows = rows_for(self.sizes[self.micro]) if self.micro else 1
        if place in TRIANGLES:
            along = self.chunk * (rows if self.micro in axes else 1)
            across = self.chunk * (rows if place == "triangles" else 1)
            return self.chunks, self.heads, triangle_entries(along, across)
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
            "start": (self.sequences, self.heads),
        }[place]
        columns = {"matrix": (self.chunk,), "pairs": (self.chunk * rows,)}
        return lead + own + columns.get(place, ())
