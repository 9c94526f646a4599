"""The plan of the kernels -> bytes through device memory, floating point operations, launches.

Bytes: every array that a launch reads, once, and every one that it writes (no packing). Vectors, and what is
kept of them, are in `dtype`; scalars per token, parameters, states and partial sums in float32. Operations:
two per multiplication in matrix products and triangular inverses, as the kernels form them: where programs
tile the value axis, what is formed without that axis, every one of them forms anew. Elementwise ones do not
count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.compiler import Compiled, Spec, Staged
from rnnc.codegen.footprint import footprint
from rnnc.codegen.hardware import KNOWN, Hardware
from rnnc.codegen.joined import Together, together
from rnnc.codegen.kernels import Kernel, plan_kernels
from rnnc.codegen.program import Node, reachable
from rnnc.codegen.recurrent_kernels import base
from rnnc.codegen.resources import cover, rows_for
from rnnc.codegen.schedule import is_derivative
from rnnc.codegen.stretches import Splitting
from rnnc.codegen.tiling import Choice, Findings, Tiling, choose
from rnnc.codegen.tiling_text import described, sentence
from rnnc.codegen.torch_sums import plain
from rnnc.codegen.triton_rows import rows_per_token
from rnnc.codegen.work import Work
from rnnc.dsl.recurrence import Recurrence

BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
# From a spec, its kernels, the sizes of axes, the bytes of an entry and the hardware: what compilers made of
# configurations, by kernel.
FindingsOf = Callable[[Compiled, Iterable[str], Mapping[str, int], int, Hardware], Mapping[str, Findings]]
STATES = "@states"  # among the arrays of a minimum: the states at both ends of the sequences
SUM_TILE = 32  # sums of one program of the launch that sums gradients


@dataclass(frozen=True, slots=True)
class KernelCost:
    """One launch; the role `sum` sums gradients over chunks, or over the heads of a group. `how`: in what
    configuration a kernel of the chunked form runs, and why.
    """

    name: str
    role: str
    bytes: int
    flops: int
    grid: tuple[int, ...]
    how: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PassCost:
    """Forward or backward: `minimum_bytes` reads what is given once and writes what is asked for once.

    `minimum` has them by array; `saved_bytes`: what is held in memory from forward to backward beside the
    caller's own tensors.
    """

    kernels: tuple[KernelCost, ...]
    minimum: Mapping[str, int]
    saved_bytes: int

    @property
    def minimum_bytes(self) -> int:
        return sum(self.minimum.values())

    @property
    def bytes(self) -> int:
        """Bytes through device memory, over all launches."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Floating point operations, over all launches."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def launches(self) -> int:
        """How many kernels are launched."""
        return len(self.kernels)

    def as_dict(self) -> dict[str, Any]:
        """The record for machines."""
        totals = {name: getattr(self, name) for name in ("bytes", "flops", "launches", "minimum_bytes")}
        return {name: value for name, value in (totals | asdict(self)).items() if name != "minimum"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call of an operator costs; `sizes` are B, T, H, G (heads of inputs per group) and the axes.

    `chunk`: the tokens of a chunk, or, in the recurrent form, between two states that are kept; `split`:
    whether sequences are walked in stretches, by which estimate; None where they cannot be; `spacing`: chunks
    from one state that is kept to the next.
    """

    name: str
    dtype: str
    chunk: int
    sizes: Mapping[str, int]
    forward: PassCost
    backward: PassCost
    form: str = "chunked"
    split: Splitting | None = None
    spacing: int = 1

    @property
    def stretches(self) -> int:
        """Of each sequence, walked beside each other."""
        return self.split.parts if self.split else 1

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        given = {"name": self.name, "form": self.form, "dtype": self.dtype, "chunk": self.chunk}
        given |= {"sizes": dict(self.sizes), "stretches": self.stretches, "spacing": self.spacing}
        return given | {"forward": self.forward.as_dict(), "backward": self.backward.as_dict()}

    def __str__(self) -> str:
        per = self.sizes["B"] * self.sizes["T"] * self.sizes["H"]
        given = " ".join(f"{name}={size}" for name, size in self.sizes.items())
        how = "chunks of" if self.form == "chunked" else "a state kept every"
        how = f"{self.stretches} stretches of each sequence, {how}" if self.stretches > 1 else how
        kept = f", a state kept for {self.spacing} of them" if self.spacing > 1 else ""
        lines = [f"{self.name}: {given}, {self.dtype}, {how} {self.chunk} tokens{kept}; per token and head:"]
        for name, part in (("forward", self.forward), ("backward", self.backward)):
            once = f"each tensor once: {part.minimum_bytes / per:,.0f}"
            kept = f"; kept for the backward pass: {part.saved_bytes / per:,.0f}" if part.saved_bytes else ""
            lines.append(
                f"{name:<9}{_figures(part.bytes, part.flops, per)}  {part.launches} launches ({once}{kept})"
            )
            for kernel in part.kernels:
                grid = " x ".join(map(str, kernel.grid))
                figures = _figures(kernel.bytes, kernel.flops, per)
                lines.append(
                    f"  {kernel.role:<7}{figures}  {kernel.name}" + (f", grid {grid}" if grid else "")
                )
                if kernel.how:
                    lines.append(f"    {sentence(kernel.how)}")
        return "\n".join(lines)


def _figures(size: int, flops: int, per: int) -> str:
    return f"{size / per:>9,.0f} bytes{flops / per / 1e3:>9,.1f} kFLOP"


def cost(
    compiled: Spec,
    dtype: str = "bf16",
    chunk: int | None = None,
    states: bool = False,
    save: str = "states",
    form: str = "chunked",
    arch: str = "sm_90",
    findings: FindingsOf | None = None,
    stretches: int | None = None,
    spacing: int | None = None,
    **sizes: int,
) -> Cost:
    """The cost of one call; `sizes` gives B, T, H and every axis by name, and G where there are groups.

    With `states`, an initial state is given and the final state taken; chunks of `chunk` tokens, `spacing` of
    them to a state that is kept, or as many as cost least on the architecture, given `findings` on how
    kernels compile for it.
    `save="inputs"`: the forward pass keeps nothing, the backward pass begins with what of it it needs.
    `stretches`: so many of each sequence, or as many as pay, as for a call that asks for Triton by name.
    `form`: chunked or recurrent. Raises UnsupportedOnGpu where there are no kernels, and ValueError for
    options that make no sense.
    """
    _check_options(save, form, arch)
    known = _sizes(compiled.recurrence, sizes)
    if isinstance(compiled, Staged):
        from rnnc.codegen.stage_cost import together

        stages = []
        for stage in compiled.stages:
            own = _of_stage(stage.recurrence, known)
            found = cost(stage, dtype, chunk, states, save, form, arch, findings, stretches, spacing, **own)
            stages.append(found)
        return together(compiled.recurrence, [stage.recurrence for stage in compiled.stages], stages, known)
    if form == "recurrent":
        from rnnc.codegen.token_cost import token_cost

        return token_cost(compiled, _dtype(dtype), states, save, known)
    hardware, lengths = KNOWN[arch], (chunk, spacing)
    return _chunked_cost(compiled, _dtype(dtype), lengths, states, save, hardware, findings, stretches, known)


def _check_options(save: str, form: str, arch: str) -> None:
    """Raises ValueError for what is no choice."""
    for option, given, choices in (
        ("save", save, ("states", "inputs")),
        ("form", form, ("chunked", "recurrent")),
        ("arch", arch, tuple(KNOWN)),
    ):
        if given not in choices:
            raise ValueError(f"{option}: expected {' or '.join(choices)}, got '{given}'")


def _chunked_cost(
    compiled: Compiled,
    dtype: str,
    lengths: tuple[int | None, int | None],
    states: bool,
    save: str,
    hardware: Hardware,
    findings: FindingsOf | None,
    stretches: int | None,
    sizes: Mapping[str, int],
) -> Cost:
    """The cost of a call in the chunked form; `lengths`: tokens of a chunk, chunks to a kept state."""
    from rnnc.codegen.stretch_cost import in_stretches, launched

    chunked = next(each for each in compiled.forms if each.name == "chunked")
    forward, backward = plan_kernels(chunked, compiled.normal)
    works = {kernel.name: footprint(kernel) for kernel in (*forward, *backward)}
    axes = {axis: sizes[axis] for axis in compiled.recurrence.axes}
    size = BYTES[dtype]
    known_of = findings(compiled, works, axes, size, hardware) if findings else None
    joints = together(forward, backward)
    chunk, spacing = lengths
    tiling = choose(works, axes, size, hardware, chunk, known_of, joints, spacing)
    count = _Count(compiled, dtype, tiling, sizes, states, works)
    every = tiling  # stretches keep the state of every chunk
    if tiling.spacing > 1:
        every = choose(works, axes, size, hardware, tiling.chunk, known_of, joints, 1)
    split, found = in_stretches(
        compiled, _Count(compiled, dtype, every, sizes, states, works), hardware, size, stretches
    )
    if split is not None:
        tiling = every
        count = _Count(compiled, dtype, tiling, sizes, states, works)
    written = {array.name: array for kernel in forward for array in kernel.stores}
    kept = [a.name for kernel in backward for a in count.loads(kernel) if a.name in written]
    saved = sum(count.bytes(written[name]) for name in dict.fromkeys(kept))
    outputs = [output.name for output in compiled.recurrence.outputs]
    if save == "states":
        first, again = _needed(forward, {*outputs, *kept}, count.loads), []
    else:
        first, again = (_needed(forward, set(wanted), count.loads) for wanted in (outputs, kept))
        saved = 0
    saved += split.map_bytes if split and save == "states" else 0
    joints = tuple(joint for joint in joints if split is None or not joint.beside)
    before, back = (
        launched(count, split, kernels, end) for kernels, end in ((again, 0), (backward, count.ends))
    )
    return Cost(
        compiled.recurrence.name,
        dtype,
        tiling.chunk,
        count.sizes,
        PassCost(
            count.joined(launched(count, split, first, count.ends), first, joints),
            count.least(forward),
            saved,
        ),
        PassCost(
            (*count.joined((*before, *back), (*again, *backward), joints), *count.sums(backward)),
            count.least(backward),
            0,
        ),
        split=found,
        spacing=tiling.spacing,
    )


def _needed(
    kernels: Sequence[Kernel], wanted: set[str], loads: Callable[[Kernel], Iterable[Array]]
) -> list[Kernel]:
    """What of a pass is launched for the wanted arrays, without the stores of others that nothing reads."""
    read = {array.name for kernel in kernels for array in loads(kernel)}
    found: list[Kernel] = []
    for kernel in reversed(kernels):
        if any(array.name in wanted for array in kernel.stores):
            wanted = wanted | {array.name for array in loads(kernel)}
            stores = tuple(a for a in kernel.stores if a.name in wanted or a.name in read)
            found.insert(0, replace(kernel, stores=stores))
    return found


def _of_stage(stage: Recurrence, sizes: Mapping[str, int]) -> dict[str, int]:
    grouped = any(item.per_group for item in stage.inputs)
    return {name: sizes[name] for name in ("B", "T", "H", *("G" * grouped), *stage.axes)}


def _dtype(name: str) -> str:
    short = DTYPES.get(name.removeprefix("torch."), name)
    if short not in BYTES:
        raise ValueError(f"dtype: expected {', '.join(BYTES)}, got '{name}'")
    return short


def _sizes(recurrence: Recurrence, given: Mapping[str, int]) -> dict[str, int]:
    needed = ["B", "T", "H", *recurrence.axes]
    missing = [name for name in needed if name not in given]
    unknown = [name for name in given if name not in (*needed, "G")]
    wrong = [name for name, size in given.items() if not isinstance(size, int) or size < 1]
    for problem, names in (("missing", missing), ("unknown", unknown), ("not a whole number above 0", wrong)):
        if names:
            raise ValueError(f"sizes: {problem}: {', '.join(names)}; give {', '.join(needed)}")
    sizes = {name: given[name] for name in needed}
    if any(item.per_group for item in recurrence.inputs) and "G" not in sizes:
        sizes["G"] = given.get("G", given["H"])
        if sizes["H"] % sizes["G"]:
            raise ValueError(f"sizes: H = {sizes['H']} heads are no multiple of G = {sizes['G']}")
    return sizes


@dataclass(frozen=True, slots=True)
class _Count:
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
        }[array.place]
        return lead * self.product(features) * (4 if self._in_float32(array) else BYTES[self.dtype])

    def _in_float32(self, array: Array) -> bool:
        """Gradients have the dtype of what they belong to; what the kernels add has that of the vectors."""
        name = array.name.removeprefix("d'")
        scalars = {item.name for item in self.compiled.recurrence.inputs if not item.axes}
        scalars |= self.compiled.in_float32
        if array.place == "value":
            return len(array.node.axes) < 2
        return array.place in ("row", "total", "param", "shared", "partial", "state") or name in scalars

    @property
    def ends(self) -> int:
        """The bytes of the carried state at one end of the sequences, or 0 without."""
        count = self.states * len(self.compiled.recurrence.states)
        return count * 4 * self.sizes["B"] * self.sizes["H"] * self.product(self.compiled.normal.state_axes)

    def kernel(self, kernel: Kernel, start: int, end: int) -> KernelCost:
        """`start`, `end`: the bytes of the state that a kernel which walks the chunks reads and writes."""
        size = sum(map(self.bytes, (*self.loads(kernel), *kernel.stores)))
        return self.launch(kernel, kernel.name, size + (start + end if kernel.serial else 0))

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
        size = 3 * self.ends if joint.beside else 0
        for arrays in zip(*((self.loads(kernel), kernel.stores) for kernel in kernels), strict=True):
            once = {array.name: array for group in arrays for array in group}
            size += sum(map(self.bytes, once.values()))
        choices = self.tiling.joined[joint.kernel]
        one, other = (self.launch(k, k.name, size, how) for k, how in zip(kernels, choices, strict=True))
        grid = (*one.grid, 2) if joint.beside else one.grid
        how = max(one.how, other.how, key=lambda how: how["registers"])
        return replace(
            one, name=joint.kernel, role="joined", flops=one.flops + other.flops, grid=grid, how=how
        )

    def launch(self, kernel: Kernel, name: str, size: int, how: Choice | None = None) -> KernelCost:
        """A kernel that moves so many bytes, with the choice of that name if no other is given."""
        choice = how or self.tiling.kernels[name]
        size_of_axis = self.sizes[self.compiled.normal.value_axis]
        tile = min(choice.configuration.tile, cover(size_of_axis))
        tiles = -(-size_of_axis // tile) if kernel.serial else 1
        roots = [*(array.node for array in kernel.stores), *(carry.end for carry in kernel.carries)]
        flops = self._formed(kernel, roots, tiles if kernel.serial else 1)
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

    def least(self, kernels: tuple[Kernel, ...]) -> dict[str, int]:
        """The bytes of the pass' own arguments and results, each once, and of the state at both ends."""
        recurrence = self.compiled.recurrence
        declared = recurrence.declared
        names = {name for item in declared for name in (item.name, f"d'{item.name}")}
        arrays = {a.name: a for kernel in kernels for a in (*kernel.loads, *kernel.stores) if a.name in names}
        groups = {f"d'{item.name}" for item in recurrence.inputs if item.per_group}
        each = {name: self.bytes(array) for name, array in arrays.items()}
        for name, array in arrays.items():  # what the kernels write before it is summed
            if array.place == "partial":
                each[name] //= self.chunks
            elif name in groups:
                each[name] = each[name] // self.sizes["H"] * self.sizes["G"]
        return each | {STATES: 2 * self.ends}
