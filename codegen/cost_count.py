"""The bytes, operations and launches of kernels of the chunked form, at given sizes.

See `cost` for what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.compiler import Compiled
from rnnc.codegen.cost_record import BYTES, STATES, KernelCost
from rnnc.codegen.footprint import footprint
from rnnc.codegen.joined import Together
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.program import Node, reachable
from rnnc.codegen.recurrent_kernels import base
from rnnc.codegen.resources import cover, rows_for
from rnnc.codegen.schedule import is_derivative
from rnnc.codegen.tiling_record import Choice, Tiling
from rnnc.codegen.tiling_text import described
from rnnc.codegen.torch_sums import plain
from rnnc.codegen.triangles import TRIANGLES, triangle_entries
from rnnc.codegen.triton_rows import rows_per_token
from rnnc.codegen.work import Work

SUM_TILE = 32  # sums of one program of the launch that sums gradients


@dataclass(frozen=True, slots=True)
class Count:
    """Bytes and operations at given sizes."""

    compiled: Compiled
    dtype: str
    tiling: Tiling
    sizes: Mapping[str, int]
    states: bool
    works: Mapping[str, Work]

    @property
    def chunk(self) -> int:
        return self.tiling.chunk

    @property
    def chunks(self) -> int:
        return self.sizes["B"] * -(-self.sizes["T"] // self.chunk)

    @property
    def kept(self) -> int:
        """For how many chunks a state is kept."""
        return self.sizes["B"] * -(-self.sizes["T"] // (self.chunk * self.tiling.spacing))

    def loads(self, kernel: Kernel) -> tuple[Array, ...]:
        """What a kernel reads."""
        return kernel.loads + (kernel.walked if self.tiling.spacing > 1 else ())

    def once(self, arrays: Sequence[Array]) -> list[Array]:
        """The arrays, without the rows of tokens before that are read as rows of their own tokens too."""
        read = {array.name for array in arrays}
        sources = {each.name: each.source for each in self.compiled.recurrence.earlier if each.kind == "row"}
        return [array for array in arrays if sources.get(array.name) not in read]

    def product(self, axes: Iterable[str]) -> int:
        """How many entries a tile over these axes has."""
        return math.prod(self.extent(axis) for axis in axes)

    def extent(self, axis: str) -> int:
        """How many entries a tile has along an axis, all of them where it is tiled."""
        if axis in (ir.ROWS, ir.COLUMNS):
            micro = self.compiled.normal.micro
            return self.chunk * (1 if micro is None else rows_for(self.sizes[micro]))
        return self.chunk if axis in ir.TIME_AXES else self.sizes[base(axis)]

    def bytes(self, array: Array) -> int:
        """The size of an array in memory."""
        batch, time, heads = (self.sizes[name] for name in "BTH")
        axes, micro = array.node.axes, self.compiled.normal.micro
        features = tuple(axis for axis in axes if axis not in ir.TIME_AXES)
        if micro is not None and axes[:1] in ((ir.ROWS,), (ir.COLUMNS,)):
            features = (micro, *features)
        groups = {item.name for item in self.compiled.recurrence.inputs if item.per_group}
        if array.place in TRIANGLES:
            return self.chunks * heads * triangle_entries(*map(self.extent, axes)) * BYTES[self.dtype]
        lead = {
            "token": batch * time * (self.sizes["G"] if array.name in groups else heads),
            "value": batch * time * heads,
            "row": batch * time * heads,
            "matrix": batch * time * heads * self.chunk,
            "pairs": batch * time * heads * self.extent(ir.COLUMNS),
            "chunk": self.chunks * heads,
            "kept": self.kept * heads,
            "total": self.chunks * heads,
            "partial": self.chunks * heads,
            "param": heads,
            "shared": 1,
            "state": batch * heads,
            "start": batch * heads * self.states,
        }[array.place]
        return lead * self.product(features) * (4 if self._in_float32(array) else BYTES[self.dtype])

    def _in_float32(self, array: Array) -> bool:
        """Gradients have the dtype of what they belong to; what the kernels add has that of the vectors."""
        name = array.name.removeprefix("d'")
        scalars = {item.name for item in self.compiled.recurrence.inputs if not item.axes}
        scalars |= self.compiled.in_float32
        if array.place == "value":
            return len(array.node.axes) < 2
        return (
            array.place in ("row", "total", "param", "shared", "partial", "state", "start") or name in scalars
        )

    @property
    def ends(self) -> int:
        """The bytes of the carried state at one end of the sequences, or 0 without."""
        count = self.states * len(self.compiled.recurrence.states)
        return count * 4 * self.sizes["B"] * self.sizes["H"] * self.product(self.compiled.normal.state_axes)

    def kernel(self, kernel: Kernel, start: int, end: int) -> KernelCost:
        """`start`, `end`: the bytes of the state that a kernel which walks the chunks reads and writes."""
        size, reread = self._moved(kernel)
        ends = start + end if kernel.serial else 0
        return replace(self.launch(kernel, kernel.name, size + ends), reread_bytes=reread)

    def _moved(self, *kernels: Kernel) -> tuple[int, int]:
        """The bytes of the arrays that a launch of these kernels reads or writes, each once; and of those
        that it writes and reads back.
        """
        stores, loads = (
            {array.name: array for array in self.once([array for group in arrays for array in group])}
            for arrays in ([k.stores for k in kernels], [self.loads(k) for k in kernels])
        )
        back = sum(self.bytes(array) for name, array in loads.items() if name in stores)
        return sum(map(self.bytes, (loads | stores).values())), back

    def joined(
        self, launches: Iterable[KernelCost], kernels: Iterable[Kernel], joints: Iterable[Together]
    ) -> tuple[KernelCost, ...]:
        """The launches, of kernels that are one where they may be."""
        found = list(launches)
        named = {kernel.name: kernel for kernel in kernels}
        for joint in joints:
            names = [launch.name for launch in found]
            if joint.kernel in self.tiling.joined and {joint.first, joint.second} <= set(names):
                found[names.index(joint.first)] = self._both(joint, [named[joint.first], named[joint.second]])
                del found[names.index(joint.second)]
        return tuple(found)

    def _both(self, joint: Together, kernels: Sequence[Kernel]) -> KernelCost:
        """Two kernels as one launch, which reads what both read once: of walks, the first from a state, the
        second from one cotangent of it to another.
        """
        size, reread = self._moved(*kernels)
        size += 3 * self.ends if joint.beside else 0
        choices = self.tiling.joined[joint.kernel]
        one, other = (self.launch(k, k.name, size, how) for k, how in zip(kernels, choices, strict=True))
        grid = (*one.grid, 2) if joint.beside else one.grid
        how = max(one.how, other.how, key=lambda how: how["registers"])
        both = replace(
            one, name=joint.kernel, role="joined", flops=one.flops + other.flops, grid=grid, how=how
        )
        return replace(both, reread_bytes=reread)

    def launch(self, kernel: Kernel, name: str, size: int, how: Choice | None = None) -> KernelCost:
        """A kernel that moves so many bytes, with the choice of that name if no other is given."""
        choice = how or self.tiling.kernels[name]
        size_of_axis = self.sizes.get(self.compiled.normal.value_axis, 1)  # 1: a state of one number
        tile = min(choice.configuration.tile or 1, cover(size_of_axis))
        tiles = -(-size_of_axis // tile) if kernel.serial and not kernel.after else 1
        roots = [*(array.node for array in kernel.stores), *(carry.end for carry in kernel.carries)]
        flops = self._formed(kernel, roots, tiles if kernel.serial else 1)
        flops += self._formed(kernel.after, roots, 1) if kernel.after else 0
        grid: tuple[int, ...] = (self.chunks, self.sizes["H"])
        if kernel.serial:
            grid = (tiles * self.sizes["B"] * self.sizes["H"],)
        flops *= self.chunks * self.sizes["H"]
        flops += self._walked(kernel, -(-size_of_axis // tile)) if kernel.walk else 0
        return KernelCost(kernel.name, kernel.role, size, flops, grid, described(choice))

    def _formed(self, kernel: Kernel, roots: Iterable[Node], tiles: int) -> int:
        """The operations of a kernel in one chunk of one head; what has no values is formed in each tile."""
        alive = {plain(node) for node in reachable(roots)}
        found = 0
        for node in (node for phase in kernel.phases for node in phase.nodes if node in alive):
            again = not any(self._value(x) for x in (node, *node.args))
            found += self.flops(node) * (tiles if again else 1)
        return found

    def _walked(self, kernel: Kernel, tiles: int) -> int:
        """The operations on the way from the states that are kept to those of the chunks."""
        length = -(-self.sizes["T"] // self.chunk)
        steps = sum(number % self.tiling.spacing for number in range(length)) * self.sizes["B"]
        (walk,) = footprint(kernel).walks
        assert kernel.walk is not None
        ends = [carry.end for carry in kernel.walk.carries]
        return self._formed(kernel.walk, ends, tiles) * walk.number * steps * self.sizes["H"]

    def _value(self, node: Node) -> bool:
        return self.compiled.normal.value_axis in node.axes

    def flops(self, node: Node) -> int:
        """Of one node in one chunk of one head."""
        levels = (self.chunk - 1).bit_length()
        match node.op:
            case ir.Dot():
                return 2 * self.product({*node.args[0].axes, *node.args[1].axes})
            case ir.Inverse():
                rows = self.extent(node.axes[0]) * rows_per_token(node)
                return (rows.bit_length() - 2) * 4 * rows**3
            case ir.DecayDot(axis):
                return levels * 4 * self.chunk**2 * self.sizes[axis]
            case ir.DecayDotRows(axis) if not is_derivative(node):
                return levels * 2 * self.chunk**2 * self.sizes[axis]
            case ir.InverseAdjoint():
                return 4 * (self.extent(node.axes[0]) * rows_per_token(node)) ** 3
            case ir.DecayDotDecay(axis):  # formed together with the other two derivatives
                return levels * 8 * self.chunk**2 * self.sizes[axis]
            case ir.Running() if len(node.axes) == 2:
                return 2 * self.chunk * self.product(node.axes)
            case _:
                return 0

    def sums(self, kernels: Iterable[Kernel]) -> tuple[KernelCost, ...]:
        """The launch that sums gradients after the kernels: over chunks, over the heads of a group."""
        recurrence = self.compiled.recurrence
        shared = {param.name for param in recurrence.params if param.shared}
        groups = {item.name for item in recurrence.inputs if item.per_group}
        total, programs = 0, 0
        for array in (array for kernel in kernels for array in kernel.stores):
            name, size = array.name.removeprefix("d'"), self.bytes(array)
            if array.place == "partial":
                left = size // self.chunks // (self.sizes["H"] if name in shared else 1)
            elif array.place == "token" and name in groups and self.sizes["G"] < self.sizes["H"]:
                left = size // self.sizes["H"] * self.sizes["G"]
            else:
                continue
            total += size + left
            programs += -(-left // (4 if self._in_float32(array) else BYTES[self.dtype]) // SUM_TILE)
        return (KernelCost("sums", "sum", total, 0, (programs,)),) if total else ()

    def earlier(self, kernels: Iterable[Kernel]) -> tuple[KernelCost, ...]:
        """The launch that adds what tokens found of the gradients of those before them."""
        rows = {f"d'{each.name}" for each in self.compiled.recurrence.earlier if each.kind == "row"}
        sizes = [self.bytes(a) for kernel in kernels for a in kernel.stores if a.name in rows]
        grid = self.chunks, self.sizes["H"]
        return (KernelCost("add_earlier", "earlier", 3 * sum(sizes), 0, grid),) if sizes else ()

    def least(self, kernels: tuple[Kernel, ...]) -> dict[str, int]:
        """The bytes of the pass' own arguments and results, each once, and of the state at both ends."""
        recurrence = self.compiled.recurrence
        declared = recurrence.declared
        left = {each.name for each in recurrence.earlier}
        names = {n for item in declared if item.name not in left for n in (item.name, f"d'{item.name}")}
        arrays = {a.name: a for kernel in kernels for a in (*kernel.loads, *kernel.stores) if a.name in names}
        groups = {f"d'{item.name}" for item in recurrence.inputs if item.per_group}
        each = {name: self.bytes(array) for name, array in arrays.items()}
        for name, array in arrays.items():  # what the kernels write before it is summed
            if array.place == "partial":
                each[name] //= self.chunks
            elif name in groups:
                each[name] = each[name] // self.sizes["H"] * self.sizes["G"]
        return each | {STATES: 2 * self.ends}
