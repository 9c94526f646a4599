"""Values of a form -> one kernel: what it loads, forms and stores, and in what order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array, Place
from rnnc.codegen.kernel_record import SERIAL, Kernel, Role, UnsupportedOnGpu
from rnnc.codegen.operands import per_channel
from rnnc.codegen.order import chunk_phases
from rnnc.codegen.phases import levels, verify
from rnnc.codegen.program import Carry, Node, Program
from rnnc.codegen.schedule import needed
from rnnc.codegen.serial_order import serial_phases
from rnnc.codegen.torch_sums import plain
from rnnc.dsl.normal import Normal
from rnnc.dsl.recurrence import Recurrence


def kept_states(program: Program, place: Place) -> tuple[Array, ...]:
    """The states at the start of chunks; in a backward program their cotangents, of every chunk."""
    return tuple(Array(c.start, f"{c.name}s".replace("'", ""), place) for c in program.carries)


def starts_of(recurrence: Recurrence) -> frozenset[str]:
    """The parameters that are what was carried into a sequence."""
    return frozenset(each.name for each in recurrence.earlier if each.kind == "start")


def in_channel_tiles(program: Program) -> bool:
    """Whether what is summed over channels is summed in loops: decays per channel, several rows per token."""
    return per_channel(program) or any(isinstance(node.op, ir.Assemble) for node in program.nodes())


def tiled_channels(program: Program, normal: Normal) -> str:
    """The axis of the loops over channels; none ("") where a square matrix needs all channels at once."""
    square = any(axis.endswith("'") for node in program.nodes() for axis in node.axes)
    return "" if square else normal.key_axis


def is_costly(node: Node, starts: Iterable[Node], kept: Iterable[Array]) -> bool:
    """Whether a value is read from memory rather than formed again: it takes several matrix products."""
    formed = formed_for([node], [*starts, *(array.node for array in kept)])
    return sum(isinstance(n.op, ir.Dot) and len(n.axes) == 2 for n in formed) > 1


def is_zero(node: Node) -> bool:
    return isinstance(node.op, ir.Const)


def formed_for(roots: Iterable[Node], known: Iterable[Node]) -> list[Node]:
    """What has to be computed for the roots when `known` is in memory, arguments first."""
    return list(needed(roots, known, seen_as=plain))


def kernel_of(
    role: Role,
    normal: Normal,
    program: Program,
    roots: Iterable[Node],
    given: tuple[Array, ...],
    stores: tuple[Array, ...],
    carries: tuple[Carry, ...] = (),
    again: tuple[Array, ...] = (),
    walk: Kernel | None = None,
    inner: Collection[Node] = (),
) -> Kernel:
    """The kernel that forms the roots of what is given; `again`: what it reads again after writing it, where
    later something else is stored: of the two, that is what the kernel writes.

    `walk`: how the states are formed that it may read; `inner`: see `order.chunk_phases`.
    """
    nodes = formed_for(roots, [array.node for array in given])
    starts = {carry.start for carry in carries}
    loads = [*_loads_of(nodes, normal, given, stores, starts), *again]
    body = tuple(node for node in nodes if not isinstance(node.op, ir.Load))
    serial = role in SERIAL
    axis = normal.value_axis
    if serial and max(levels(body, axis).values(), default=0) > 0:
        raise UnsupportedOnGpu(f"a sum over the value axis '{axis}' on the way of the state")
    if serial:
        phases = serial_phases(body, loads, stores, starts, [carry.end for carry in carries])
    else:
        if role in ("pre", "post", "channels") and in_channel_tiles(program):
            axis = tiled_channels(program, normal)
        phases = chunk_phases(body, loads, stores, axis, whole=role == "channels", inner=inner)
    verify(phases, starts)
    name = f"{normal.recurrence.name}_{program.name.split('_')[0]}_{role}"
    tiled = (axis,) if axis else ()
    reads_states = any(array.place == "kept" for array in loads)
    over = {a for node in (*body, *(array.node for array in (*loads, *stores))) for a in node.axes}
    micro = normal.micro if {ir.ROWS, ir.COLUMNS} & over else None
    if walk is not None and not (reads_states and walk.tiled == tiled and walk.micro in (None, micro)):
        walk = None  # the states that it would form have other tiles, or rows that this kernel lacks
    written = tuple({array.name: array for array in stores}.values())
    return Kernel(
        name,
        role,
        tuple(loads),
        body,
        written,
        phases,
        tiled,
        carries,
        micro,
        walk=walk,
    )


@dataclass(frozen=True, slots=True)
class Walk:
    """How states come to the kernels that read them; not `spaced`: they are kept for every chunk."""

    normal: Normal
    program: Program
    spaced: bool

    @property
    def place(self) -> Place:
        """Where states are in memory."""
        return "kept" if self.spaced else "chunk"

    def kernel(self, given: tuple[Array, ...]) -> Kernel | None:
        """How the states of a chunk are formed of those of the one before it, and of what is given."""
        if not self.spaced:
            return None
        carries, states = self.program.carries, kept_states(self.program, self.place)
        ends = [carry.end for carry in carries]
        walk = kernel_of("states", self.normal, self.program, ends, given, (), carries)
        return replace(walk, loads=(*states, *walk.loads))


def _loads_of(
    nodes: Sequence[Node],
    normal: Normal,
    given: Iterable[Array],
    stores: Iterable[Array],
    starts: Collection[Node],
) -> Iterator[Array]:
    """What a kernel reads: of what is given, what it uses; inputs, parameters, cotangents."""
    used = {plain(a) for node in nodes for a in node.args} | {array.node for array in stores}
    yield from (array for array in given if array.node in used and array.node not in starts)
    shared = {param.name for param in normal.recurrence.params if param.shared}
    for node in nodes:
        if isinstance(node.op, ir.Load) and node.op.kind in ("input", "param", "cotangent"):
            place: Place = "token"
            if node.op.kind == "param":
                place = "shared" if node.op.name in shared else "param"
            if node.op.name in starts_of(normal.recurrence):
                place = "start"
            yield Array(node, node.op.name, place)
