"""What a call costs whose sequences are split into stretches: see `stretches`.

Both walks over a stretch count what they are given in full: from zero and again from the state at its start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rnnc.codegen.compiler import Compiled
from rnnc.codegen.cost_count import Count
from rnnc.codegen.cost_record import KernelCost
from rnnc.codegen.footprint import footprint
from rnnc.codegen.hardware import Hardware
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.kernels import plan_transition
from rnnc.codegen.resources import cover
from rnnc.codegen.stretches import Load, Maps, Splitting, forced, split
from rnnc.codegen.summaries import NoSummary
from rnnc.codegen.tiling_text import described
from rnnc.dsl.normal import Normal

COMBINED = 32  # columns that a program of `combine` has
ENTRY = 8  # bytes of an entry of the tables that say where stretches are


@dataclass(frozen=True, slots=True)
class Stretches:
    """The stretches of a call, and the kernel that forms what they make of the state, if they change it."""

    count: Count
    found: Splitting
    maps: Maps
    transition: Kernel | None
    hardware: Hardware
    size: int

    @property
    def number(self) -> int:
        """Of all sequences."""
        chunks = -(-self.count.sizes["T"] // self.count.chunk)
        return self.count.sizes["B"] * -(-chunks // -(-chunks // self.found.parts))

    @property
    def room(self) -> int:
        """Bytes of a state for every stretch."""
        return 4 * self.number * self.count.sizes["H"] * self.count.product(self._normal.axes)

    @property
    def map_bytes(self) -> int:
        """Of what all stretches make of the state."""
        if self.transition is None:
            return 0
        sizes = self.maps.sizes(self.count.sizes)
        return 4 * self.number * sizes["H"] * sizes[self.maps.key_axis] * sizes[self.maps.value_axis]

    def formed(self) -> tuple[KernelCost, ...]:
        """The launch that forms what stretches make of the state."""
        if self.transition is None:
            return ()
        count, kernel = self.count, self.transition
        axes = {axis: count.sizes[axis] for axis in count.compiled.recurrence.axes}
        choices = self.maps.choices(axes, self.size, self.hardware, count.chunk)
        tiling = count.tiling._replace(kernels={**count.tiling.kernels, **choices})
        own = replace(count, tiling=tiling, sizes=self.maps.sizes(count.sizes))
        size = sum(map(count.bytes, kernel.loads)) + self.map_bytes + self._tables
        launched = own.launch(kernel, kernel.name, size)
        return (replace(launched, grid=self._grid(launched), how=described(choices[kernel.name])),)

    def walk(self, kernel: Kernel, start: int, end: int) -> tuple[KernelCost, ...]:
        """A walk from zero, the combination, and the walk from the states found; `start`, `end`: the bytes of
        the states at the ends of the sequences.
        """
        count = self.count
        given = sum(map(count.bytes, kernel.loads)) + self.room + self._tables
        summary = count.launch(replace(kernel, stores=()), kernel.name, given)
        written = sum(map(count.bytes, kernel.stores))
        again = count.launch(kernel, kernel.name, given + written)
        batch, heads = (count.sizes[name] for name in "BH")
        key, value = (count.sizes[axis] for axis in self._normal.axes)
        tiles = -(-value // min(COMBINED, cover(value)))
        flops = (
            0 if self.maps.scaling or self.transition is None else 2 * self.number * heads * key**2 * value
        )
        moved = self.map_bytes + 2 * self.room + start + end + ENTRY * (batch + 1)
        return (
            replace(summary, role="summary", grid=self._grid(summary)),
            KernelCost("combine", "combine", moved, flops, (tiles * batch * heads,)),
            replace(again, grid=self._grid(again)),
        )

    @property
    def _normal(self) -> Normal:
        return self.count.compiled.normal

    @property
    def _tables(self) -> int:
        """Bytes of where the stretches begin, and of their first chunks."""
        return ENTRY * (2 * self.number + 1)

    def _grid(self, launched: KernelCost) -> tuple[int, ...]:
        """Of a walk over all stretches rather than over all sequences."""
        return (launched.grid[0] // self.count.sizes["B"] * self.number,)


def launched(count: Count, split: Stretches | None, kernels: Iterable[Kernel], end: int) -> list[KernelCost]:
    """The launches of a pass, of split sequences or whole ones; `end`: the bytes of the states at its end."""
    found: list[KernelCost] = []
    for kernel in kernels:
        if split is None or not kernel.serial:
            found.append(count.kernel(kernel, count.ends, end))
        else:
            found += split.formed() if kernel.role == "scan" else ()
            found += split.walk(kernel, count.ends, end)
    return found


def in_stretches(
    compiled: Compiled, count: Count, hardware: Hardware, size: int, parts: int | None
) -> tuple[Stretches | None, Splitting | None]:
    """The stretches of a call, of as many parts of each sequence as given, or as pay (None: no split), and
    the estimate that says so (None where there can be none).

    Raises ValueError for parts where sequences cannot be split.
    """
    form = next(each for each in compiled.forms if each.name == "chunked")
    try:
        kernel = plan_transition(form, compiled.normal, compiled.kernels.lean)
    except NoSummary as reason:
        if parts not in (None, 1):
            raise ValueError(f"stretches: {compiled.recurrence.name} is not split: {reason}") from None
        return None, None
    sizes, normal = count.sizes, compiled.normal
    axes = {axis: sizes[axis] for axis in compiled.recurrence.axes}
    works = {} if kernel is None else {kernel.name: footprint(kernel)}
    scaling = kernel is not None and kernel.scaling
    maps = Maps(works, scaling, normal.key_axis, normal.value_axis)
    if parts is None:
        load = Load(sizes["B"] * sizes["H"], sizes["T"])
        found = split(count.tiling, count.works, maps, axes, size, hardware, load)
    else:
        found = forced(parts, count.tiling, maps, axes, size, hardware, sizes["T"])
    return (Stretches(count, found, maps, kernel, hardware, size) if found.parts > 1 else None), found
