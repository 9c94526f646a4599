"""One kernel of the plan, as data; what there is no kernel for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rnnc.codegen.arrays import Array
from rnnc.codegen.phases import Phase
from rnnc.codegen.program import Carry, Node

Role = Literal[
    "values", "pre", "scan", "transition", "post", "dpost", "reverse", "grads", "channels", "states"
]
SERIAL: tuple[Role, ...] = ("scan", "transition", "reverse", "states")  # they walk the chunks


class UnsupportedOnGpu(ValueError):
    """What the Triton back end refuses, with the reason."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch. `body` is every value that it forms, once; `phases` are what it does, in order; the axes in
    `tiled` are in tiles, over programs or in loops. `micro`: the axis of micro-steps, if it has rows of them.

    In a kernel that walks the chunks the value axis is tiled over programs: it has one phase and no
    accumulators. `scaling`: the role is transition, and that only scales the rows of the state. `walk`: how
    the states that it reads are formed where they were not kept, a part of this launch. `after`: what a walk
    over the chunks does at the end of each of them, of what it has written, in loops over tiles of an axis;
    then its programs have all of the value axis.
    """

    name: str
    role: Role
    loads: tuple[Array, ...]
    body: tuple[Node, ...]
    stores: tuple[Array, ...]
    phases: tuple[Phase, ...]
    tiled: tuple[str, ...]
    carries: tuple[Carry, ...] = ()
    micro: str | None = None
    scaling: bool = False
    walk: Kernel | None = None
    after: Kernel | None = None

    def __str__(self) -> str:
        lines = [f"kernel {self.name} ({self.role}):"]
        lines += [f"  {text}" for phase in self.phases for text in str(phase).splitlines()]
        lines += [f"  at the end of a chunk, {self.after}"] if self.after else []
        return "\n".join(lines)

    @property
    def serial(self) -> bool:
        """Whether it walks the chunks, the state in registers."""
        return self.role in SERIAL

    @property
    def spaced(self) -> bool:
        """Whether it reads or writes states that need not be kept for every chunk."""
        return any(array.place == "kept" for array in (*self.loads, *self.stores))

    @property
    def stuck(self) -> bool:
        """Whether it cannot form the states anew that it reads and that were not kept."""
        return self.walk is None and any(array.place == "kept" for array in self.loads)

    @property
    def walked(self) -> tuple[Array, ...]:
        """What it only reads where states are not kept for every chunk."""
        own = {array.name for array in self.loads}
        return tuple(array for array in (self.walk.loads if self.walk else ()) if array.name not in own)
