"""Program -> the kernels of a GPU: what each computes, reads and writes.

The cut at the carried state decides. Forward: `pre` forms the matrices between tokens, all chunks in
parallel (where a triangular inverse or decays per channel ask for it); `scan` walks the chunks with the
state in registers, the value axis tiled over programs, and writes the outputs and the state at the start of
every chunk. Backward: `reverse` walks them back with the state's cotangent; `grads`, parallel over chunks,
does everything that is contracted over the value axis, in loops over its tiles, so that no partial sum of a
token's gradient reaches memory. What is summed over the value axis beside the state, `values` forms before
the scan, `post` after it, and `dpost` before `reverse`. Where decays are per channel, `channels` does it, and
`pre` too loops over tiles of the key axis: what is contracted over values is formed where it is used, but
where that does not fit the registers, in `grads`, and handed on.

States need not be kept for every chunk: a kernel that reads them walks, tile by tile of the value axis, from
the last that was kept to its own chunk (`states`). Where one has them in tiles of another axis, all are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rnnc.codegen import operations as ir
from rnnc.codegen.accumulation import fold_factors
from rnnc.codegen.arrays import Array, Place
from rnnc.codegen.builder import Builder
from rnnc.codegen.kernel_form import kernel_form
from rnnc.codegen.operands import (
    all_in_channels,
    contractions,
    crossing,
    in_two_loops,
    met_again,
    one_by_one,
    per_channel,
    weights,
    with_plain_operands,
)
from rnnc.codegen.order import chunk_phases, serial_phases
from rnnc.codegen.phases import Phase, levels, verify
from rnnc.codegen.program import Carry, Node, Program, dependents
from rnnc.codegen.schedule import needed
from rnnc.codegen.summaries import NoSummary, transition
from rnnc.codegen.torch_module import Form
from rnnc.codegen.torch_sums import plain
from rnnc.codegen.value_sums import after_sums, before_sums, between, meeting
from rnnc.dsl.normal import Normal
from rnnc.dsl.recurrence import Recurrence

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


def plan_kernels(
    form: Form, normal: Normal, lean: bool = False
) -> tuple[tuple[Kernel, ...], tuple[Kernel, ...]]:
    """The kernels of the forward and of the backward pass; `lean`: see `plans`. Raises UnsupportedOnGpu."""
    forward, backward, given = kernel_programs(form, normal, lean)
    if not per_channel(backward):
        backward = fold_factors(backward, form.builder)
    # What is carried into a sequence is not at hand where states are formed anew; a number is sooner read.
    kept_of_all = bool(starts_of(normal.recurrence)) or not normal.axes
    for spaced in (False,) if kept_of_all else (True, False):
        walk = _Walk(normal, forward, spaced)
        kernels, kept = _plan_forward(forward, normal, given, walk)
        found = kernels, _plan_backward(backward, forward, normal, kept, walk, form.builder)
        if not any(kernel.stuck for each in found for kernel in each):
            break
    return found


def plan_transition(form: Form, normal: Normal, lean: bool = False) -> Kernel | None:
    """The kernel that forms what a stretch of tokens makes of the incoming state; None: it keeps it.

    Raises NoSummary, UnsupportedOnGpu.
    """
    program, _, given = kernel_programs(form, normal, lean)
    check_stretches(program, normal)
    found = transition(program.carries[0], form.builder, normal.value_axis)
    if found.kept:
        return None
    # The same that the scan finds in memory: what depends on the value axis is not among it.
    roots = [found.carry.end]
    kernel = _kernel("transition", normal, program, roots, given, (), (found.carry,))
    return replace(kernel, scaling=found.scaling)


def whole(form: Form, normal: Normal) -> Kernel:
    """The forward pass as one walk over the chunks. Raises UnsupportedOnGpu."""
    form = kernel_form(form, normal.value_axis, normal.micro)
    program = with_plain_operands(form.forward.program, (), form.builder)
    stores = tuple(_result(node, name) for name, node in _results(program).items())
    roots = [*(array.node for array in stores), *(carry.end for carry in program.carries)]
    return _kernel("scan", normal, program, roots, (), stores, program.carries)


def apart(form: Form, normal: Normal, lean: bool = False) -> tuple[Kernel, Kernel]:
    """After `values` and `pre`: a walk that leaves the states, and what forms all outputs of them."""
    program, _, given = kernel_programs(form, normal, lean)
    states, ends = _states(program, "chunk"), [carry.end for carry in program.carries]
    moving, axis = dependents(program.nodes(), [a.node for a in states]), normal.value_axis
    known = [array.node for array in given]
    given = (*given, *between(before_sums(_needed(ends, known), moving, axis)))
    roots = [*(array.node for array in states), *ends]
    walk = _kernel("scan", normal, program, roots, given, states, program.carries)
    stores = tuple(_result(node, name) for name, node in _results(program).items())
    nodes = [array.node for array in stores]
    return walk, _kernel("post", normal, program, nodes, (*given, *states), stores)


def undivided(form: Form, normal: Normal, lean: bool = False) -> Kernel | None:
    """A walk whose programs have all of the value axis, so that at the end of a chunk they form of what they
    have written what another kernel would; None where no more than two launches are needed anyhow.

    It writes what the backward pass reads, the states of every chunk.
    """
    program, _, given = kernel_programs(form, normal, lean)
    kernels, _ = _plan_forward(program, normal, given, _Walk(normal, program, False))
    walk, after = kernels[-2:]
    if len(kernels) < 3 or not walk.serial or after.serial:
        return None
    if len(normal.axes) < 2 or not any(phase.axis for phase in after.phases):
        return None  # there is nothing to go over in tiles at the end of a chunk
    read = {array.name for array in walk.loads}
    loads = (*walk.loads, *(array for array in after.loads if array.name not in read))
    stores = (*walk.stores, *after.stores)
    return replace(walk, loads=loads, stores=stores, tiled=after.tiled, after=after)


def check_stretches(program: Program, normal: Normal) -> None:
    """Raises NoSummary for states that are not split."""
    if len(program.carries) > 1:
        raise NoSummary("several states")
    if normal.elementwise is not None:
        raise NoSummary("a state of one axis" if normal.axes else "a state of one number")
    if normal.recurrence.earlier:
        raise NoSummary("kernels that read the tokens before their own")


def kernel_programs(
    form: Form, normal: Normal, lean: bool = False
) -> tuple[Program, Program, tuple[Array, ...]]:
    """The programs that kernels are planned from, and what `pre` hands to those after it."""
    for plan in (form.forward, form.backward):
        _refuse(plan.program, normal.value_axis)
    form = kernel_form(form, normal.value_axis, normal.micro)
    forward, backward = form.forward.program, form.backward.program
    given = crossing(forward, normal, lean)
    forward, backward = (with_plain_operands(p, given, form.builder) for p in (forward, backward))
    return forward, backward, given


def _plan_forward(
    program: Program, normal: Normal, given: tuple[Array, ...], walk: _Walk
) -> tuple[tuple[Kernel, ...], tuple[Array, ...]]:
    """The kernels of the forward pass, and what they hand on; the last array of `scan` is the state at the
    start of every chunk.
    """
    results, ends = _results(program), [carry.end for carry in program.carries]
    states = _states(program, walk.place)
    moving, axis = dependents(program.nodes(), [a.node for a in states]), normal.value_axis
    known = [array.node for array in given]
    nodes = _needed([*results.values(), *ends], known)
    late, level = after_sums(nodes, moving, axis), levels(nodes, axis)
    later = {
        name: node
        for name, node in results.items()
        if node in late or (node.number not in moving and level.get(node))
    }
    met = between(
        meeting(late.intersection(_needed(later.values(), known)), moving, [a.node for a in states])
    )
    stores = (*(_result(n, name) for name, n in results.items() if name not in later), *met, *states)
    roots = [*(array.node for array in stores), *ends]
    sums = between(before_sums(_needed(roots, known), moving, axis))
    kernels = []
    if sums:
        kernels.append(_kernel("values", normal, program, [array.node for array in sums], (), sums))
    if given:
        kernels.append(_kernel("pre", normal, program, [array.node for array in given], (), given))
    given = (*given, *sums)
    kernels.append(_kernel("scan", normal, program, roots, given, stores, program.carries))
    if later:
        stores = tuple(_result(node, name) for name, node in later.items())
        given = (*given, *met)
        after, states_of = (*given, *states), walk.kernel(given)
        kernels.append(_kernel("post", normal, program, list(later.values()), after, stores, walk=states_of))
    return tuple(kernels), given


def _results(program: Program) -> dict[str, Node]:
    return {name: plain(node) for name, node in program.results.items()}


def _result(node: Node, name: str) -> Array:
    return Array(node, name, "token")


def _states(program: Program, place: Place) -> tuple[Array, ...]:
    """The states at the start of chunks; in a backward program their cotangents, of every chunk."""
    return tuple(Array(c.start, f"{c.name}s".replace("'", ""), place) for c in program.carries)


def _plan_backward(
    program: Program,
    forward: Program,
    normal: Normal,
    kept: tuple[Array, ...],
    walk: _Walk,
    builder: Builder,
) -> tuple[Kernel, ...]:
    """The kernels of the backward pass, given what the forward pass kept."""
    before, kept = kept, (*kept, *_states(forward, walk.place))
    nodes = program.nodes()
    moving = dependents(nodes, [carry.start for carry in program.carries])
    towards = {n.number for n in _needed([c.end for c in program.carries], ())}
    scan = [n for n in nodes if n.number in moving and n.number in towards and not isinstance(n.op, ir.Load)]
    later = {plain(a) for n in nodes if n.number in moving and n not in scan for a in n.args}
    results = {name: node for name, node in _results(program).items() if not _zero(node)}
    starts = [carry.start for carry in program.carries]
    crossing_back = [n for n in scan if n in results.values() or (n in later and _is_costly(n, starts, kept))]
    names = {node: name for name, node in results.items()}
    back = tuple(Array(n, names.get(n, f"x{n.number}"), "token") for n in crossing_back)
    cotangents = _states(program, "chunk")
    roots = [*crossing_back, *(carry.end for carry in program.carries)]
    known = [array.node for array in kept]
    sums = between(before_sums(_needed(roots, known), moving, normal.value_axis))
    kernels = []
    if sums:
        kernels.append(_kernel("dpost", normal, program, [array.node for array in sums], kept, sums))
    given = (*kept, *sums)
    kernels.append(_kernel("reverse", normal, program, roots, given, (*cotangents, *back), program.carries))
    remaining = {name: node for name, node in results.items() if node not in crossing_back}
    params = {d.name for d in normal.recurrence.params}
    firsts = starts_of(normal.recurrence)
    stores = tuple(_gradient(name, node, params, firsts) for name, node in remaining.items())
    given = (*given, *cotangents, *back)
    return *kernels, *_gradients(program, normal, stores, given, walk.kernel(before), builder)


def _gradient(name: str, node: Node, params: Collection[str], starts: Collection[str]) -> Array:
    """Where the gradient of an argument is written."""
    source = name.removeprefix("d'")
    return Array(node, name, "start" if source in starts else "partial" if source in params else "token")


def starts_of(recurrence: Recurrence) -> frozenset[str]:
    """The parameters that are what was carried into a sequence."""
    return frozenset(each.name for each in recurrence.earlier if each.kind == "start")


def _gradients(
    program: Program,
    normal: Normal,
    stores: tuple[Array, ...],
    given: tuple[Array, ...],
    walk: Kernel | None,
    builder: Builder,
) -> Iterator[Kernel]:
    """`grads`: everything, or, where decays are per channel, what is contracted over values; `channels`: the
    rest, in tiles of channels.
    """
    nodes = [array.node for array in stores]
    if all_in_channels(program, normal.value_axis, normal.micro):
        yield _in_channels(program, normal, stores, given, builder)
        return
    if not _in_channel_tiles(program):
        if stores:
            yield _kernel("grads", normal, program, nodes, given, stores, walk=walk)
        return
    contracted = contractions(_needed(nodes, [array.node for array in given]), stores, normal.value_axis)
    if contracted:
        sums = [array.node for array in contracted]
        yield _kernel("grads", normal, program, sums, given, contracted, walk=walk)
    rest = tuple(array for array in stores if array not in contracted)
    if rest:
        # Operands that are tiles of tokens and channels cost less to form again than to read.
        known = (*(array for array in given if array.place != "token"), *contracted)
        nodes = _needed([array.node for array in rest], [array.node for array in known])
        rest, early = in_two_loops(nodes, rest, _tiled_channels(program, normal), builder)
        roots = [array.node for array in rest]
        yield _kernel("channels", normal, program, roots, known, (*early, *rest), again=early)


def _in_channels(
    program: Program, normal: Normal, stores: tuple[Array, ...], given: tuple[Array, ...], builder: Builder
) -> Kernel:
    """`channels` alone, with all values in every tile of channels: of what is summed over values only the
    matrices between tokens that weigh products under decays reach memory; where products are many, not even
    these, which every loop forms again, but what they are formed of.
    """
    # Operands that are tiles of tokens and channels cost less to form again than to read.
    known = tuple(a for a in given if a.place != "token" or normal.value_axis in a.node.axes)
    nodes = _needed([array.node for array in stores], [array.node for array in known])
    inner = weights(nodes) if one_by_one(nodes) else ()
    level = levels(nodes, normal.key_axis)
    first = max((level[node] for node in inner), default=0)
    stores, early = in_two_loops(nodes, stores, normal.key_axis, builder, first)
    roots = [array.node for array in stores]
    handed = met_again(nodes, inner, normal.key_axis) if inner else between(weights(nodes))
    again = (*early, *handed)
    return _kernel("channels", normal, program, roots, known, (*again, *stores), again=again, inner=inner)


def _in_channel_tiles(program: Program) -> bool:
    """Whether what is summed over channels is summed in loops: decays per channel, several rows per token."""
    return per_channel(program) or any(isinstance(node.op, ir.Assemble) for node in program.nodes())


def _tiled_channels(program: Program, normal: Normal) -> str:
    """The axis of the loops over channels; none ("") where a square matrix needs all channels at once."""
    square = any(axis.endswith("'") for node in program.nodes() for axis in node.axes)
    return "" if square else normal.key_axis


def _refuse(program: Program, value_axis: str) -> None:
    for node in program.nodes():
        if any(axis.startswith(f"{value_axis}'") for axis in node.axes):
            raise UnsupportedOnGpu(f"a square matrix over the value axis '{value_axis}', which kernels tile")


def _is_costly(node: Node, starts: Iterable[Node], kept: Iterable[Array]) -> bool:
    """Whether a value is read from memory rather than formed again: it takes several matrix products."""
    formed = _needed([node], [*starts, *(array.node for array in kept)])
    return sum(isinstance(n.op, ir.Dot) and len(n.axes) == 2 for n in formed) > 1


def _zero(node: Node) -> bool:
    return isinstance(node.op, ir.Const)


def _needed(roots: Iterable[Node], known: Iterable[Node]) -> list[Node]:
    """What has to be computed for the roots when `known` is in memory, arguments first."""
    return list(needed(roots, known, seen_as=plain))


def _kernel(
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
    nodes = _needed(roots, [array.node for array in given])
    starts = {carry.start for carry in carries}
    loads = [*_loads(nodes, normal, given, stores, starts), *again]
    body = tuple(node for node in nodes if not isinstance(node.op, ir.Load))
    serial = role in SERIAL
    axis = normal.value_axis
    if serial and max(levels(body, axis).values(), default=0) > 0:
        raise UnsupportedOnGpu(f"a sum over the value axis '{axis}' on the way of the state")
    if serial:
        phases = serial_phases(body, loads, stores, starts, [carry.end for carry in carries])
    else:
        if role in ("pre", "post", "channels") and _in_channel_tiles(program):
            axis = _tiled_channels(program, normal)
        phases = chunk_phases(body, loads, stores, axis, whole=role == "channels", inner=inner)
    verify(phases, starts)
    name = f"{normal.recurrence.name}_{program.name.split('_')[0]}_{role}"
    reads_states = any(array.place == "kept" for array in loads)
    over = {a for node in (*body, *(array.node for array in (*loads, *stores))) for a in node.axes}
    micro = normal.micro if {ir.ROWS, ir.COLUMNS} & over else None
    written = tuple({array.name: array for array in stores}.values())
    return Kernel(
        name,
        role,
        tuple(loads),
        body,
        written,
        phases,
        (axis,) if axis else (),
        carries,
        micro,
        walk=walk if reads_states else None,
    )


@dataclass(frozen=True, slots=True)
class _Walk:
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
        carries, states = self.program.carries, _states(self.program, self.place)
        ends = [carry.end for carry in carries]
        walk = _kernel("states", self.normal, self.program, ends, given, (), carries)
        return replace(walk, loads=(*states, *walk.loads))


def _loads(
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
