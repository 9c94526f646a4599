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

from collections.abc import Collection, Iterator
from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.accumulation import fold_factors
from rnnc.codegen.arrays import Array
from rnnc.codegen.builder import Builder
from rnnc.codegen.kernel_form import kernel_form
from rnnc.codegen.kernel_parts import (
    Walk,
    formed_for,
    in_channel_tiles,
    is_costly,
    is_zero,
    kept_states,
    kernel_of,
    starts_of,
    tiled_channels,
)
from rnnc.codegen.kernel_record import Kernel, UnsupportedOnGpu
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
from rnnc.codegen.phases import levels
from rnnc.codegen.program import Node, Program, dependents
from rnnc.codegen.summaries import NoSummary, transition
from rnnc.codegen.torch_module import Form
from rnnc.codegen.torch_sums import plain
from rnnc.codegen.value_sums import after_sums, before_sums, between, meeting
from rnnc.dsl.normal import Normal


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
        walk = Walk(normal, forward, spaced)
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
    kernel = kernel_of("transition", normal, program, roots, given, (), (found.carry,))
    return replace(kernel, scaling=found.scaling)


def whole(form: Form, normal: Normal) -> Kernel:
    """The forward pass as one walk over the chunks. Raises UnsupportedOnGpu."""
    form = kernel_form(form, normal.value_axis, normal.micro)
    program = with_plain_operands(form.forward.program, (), form.builder)
    stores = tuple(_result(node, name) for name, node in _results(program).items())
    roots = [*(array.node for array in stores), *(carry.end for carry in program.carries)]
    return kernel_of("scan", normal, program, roots, (), stores, program.carries)


def apart(form: Form, normal: Normal, lean: bool = False) -> tuple[Kernel, Kernel]:
    """After `values` and `pre`: a walk that leaves the states, and what forms all outputs of them."""
    program, _, given = kernel_programs(form, normal, lean)
    states, ends = kept_states(program, "chunk"), [carry.end for carry in program.carries]
    moving, axis = dependents(program.nodes(), [a.node for a in states]), normal.value_axis
    known = [array.node for array in given]
    given = (*given, *between(before_sums(formed_for(ends, known), moving, axis)))
    roots = [*(array.node for array in states), *ends]
    walk = kernel_of("scan", normal, program, roots, given, states, program.carries)
    stores = tuple(_result(node, name) for name, node in _results(program).items())
    nodes = [array.node for array in stores]
    return walk, kernel_of("post", normal, program, nodes, (*given, *states), stores)


def undivided(form: Form, normal: Normal, lean: bool = False) -> Kernel | None:
    """A walk whose programs have all of the value axis, so that at the end of a chunk they form of what they
    have written what another kernel would; None where no more than two launches are needed anyhow.

    It writes what the backward pass reads, the states of every chunk.
    """
    program, _, given = kernel_programs(form, normal, lean)
    kernels, _ = _plan_forward(program, normal, given, Walk(normal, program, False))
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
    program: Program, normal: Normal, given: tuple[Array, ...], walk: Walk
) -> tuple[tuple[Kernel, ...], tuple[Array, ...]]:
    """The kernels of the forward pass, and what they hand on; the last array of `scan` is the state at the
    start of every chunk.
    """
    results, ends = _results(program), [carry.end for carry in program.carries]
    states = kept_states(program, walk.place)
    moving, axis = dependents(program.nodes(), [a.node for a in states]), normal.value_axis
    known = [array.node for array in given]
    nodes = formed_for([*results.values(), *ends], known)
    late, level = after_sums(nodes, moving, axis), levels(nodes, axis)
    later = {
        name: node
        for name, node in results.items()
        if node in late or (node.number not in moving and level.get(node))
    }
    met = between(
        meeting(late.intersection(formed_for(later.values(), known)), moving, [a.node for a in states])
    )
    stores = (*(_result(n, name) for name, n in results.items() if name not in later), *met, *states)
    roots = [*(array.node for array in stores), *ends]
    sums = between(before_sums(formed_for(roots, known), moving, axis))
    kernels = []
    if sums:
        kernels.append(kernel_of("values", normal, program, [array.node for array in sums], (), sums))
    if given:
        kernels.append(kernel_of("pre", normal, program, [array.node for array in given], (), given))
    given = (*given, *sums)
    kernels.append(kernel_of("scan", normal, program, roots, given, stores, program.carries))
    if later:
        stores = tuple(_result(node, name) for name, node in later.items())
        given = (*given, *met)
        after, states_of = (*given, *states), walk.kernel(given)
        kernels.append(
            kernel_of("post", normal, program, list(later.values()), after, stores, walk=states_of)
        )
    return tuple(kernels), given


def _results(program: Program) -> dict[str, Node]:
    return {name: plain(node) for name, node in program.results.items()}


def _result(node: Node, name: str) -> Array:
    return Array(node, name, "token")


def _plan_backward(
    program: Program,
    forward: Program,
    normal: Normal,
    kept: tuple[Array, ...],
    walk: Walk,
    builder: Builder,
) -> tuple[Kernel, ...]:
    """The kernels of the backward pass, given what the forward pass kept."""
    before, kept = kept, (*kept, *kept_states(forward, walk.place))
    nodes = program.nodes()
    moving = dependents(nodes, [carry.start for carry in program.carries])
    towards = {n.number for n in formed_for([c.end for c in program.carries], ())}
    scan = [n for n in nodes if n.number in moving and n.number in towards and not isinstance(n.op, ir.Load)]
    later = {plain(a) for n in nodes if n.number in moving and n not in scan for a in n.args}
    results = {name: node for name, node in _results(program).items() if not is_zero(node)}
    starts = [carry.start for carry in program.carries]
    crossing_back = [n for n in scan if n in results.values() or (n in later and is_costly(n, starts, kept))]
    names = {node: name for name, node in results.items()}
    back = tuple(Array(n, names.get(n, f"x{n.number}"), "token") for n in crossing_back)
    cotangents = kept_states(program, "chunk")
    roots = [*crossing_back, *(carry.end for carry in program.carries)]
    known = [array.node for array in kept]
    sums = between(before_sums(formed_for(roots, known), moving, normal.value_axis))
    kernels = []
    if sums:
        kernels.append(kernel_of("dpost", normal, program, [array.node for array in sums], kept, sums))
    given = (*kept, *sums)
    kernels.append(kernel_of("reverse", normal, program, roots, given, (*cotangents, *back), program.carries))
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
    if not in_channel_tiles(program):
        if stores:
            yield kernel_of("grads", normal, program, nodes, given, stores, walk=walk)
        return
    contracted = contractions(formed_for(nodes, [array.node for array in given]), stores, normal.value_axis)
    if contracted:
        sums = [array.node for array in contracted]
        yield kernel_of("grads", normal, program, sums, given, contracted, walk=walk)
    rest = tuple(array for array in stores if array not in contracted)
    if rest:
        # Operands that are tiles of tokens and channels cost less to form again than to read.
        known = (*(array for array in given if array.place != "token"), *contracted)
        nodes = formed_for([array.node for array in rest], [array.node for array in known])
        rest, early = in_two_loops(nodes, rest, tiled_channels(program, normal), builder)
        roots = [array.node for array in rest]
        yield kernel_of("channels", normal, program, roots, known, (*early, *rest), again=early)


def _in_channels(
    program: Program, normal: Normal, stores: tuple[Array, ...], given: tuple[Array, ...], builder: Builder
) -> Kernel:
    """`channels` alone, with all values in every tile of channels: of what is summed over values only the
    matrices between tokens that weigh products under decays reach memory; where products are many, not even
    these, which every loop forms again, but what they are formed of.
    """
    # Operands that are tiles of tokens and channels cost less to form again than to read.
    known = tuple(a for a in given if a.place != "token" or normal.value_axis in a.node.axes)
    nodes = formed_for([array.node for array in stores], [array.node for array in known])
    inner = weights(nodes) if one_by_one(nodes) else ()
    level = levels(nodes, normal.key_axis)
    first = max((level[node] for node in inner), default=0)
    stores, early = in_two_loops(nodes, stores, normal.key_axis, builder, first)
    roots = [array.node for array in stores]
    handed = met_again(nodes, inner, normal.key_axis) if inner else between(weights(nodes))
    again = (*early, *handed)
    return kernel_of("channels", normal, program, roots, known, (*again, *stores), again=again, inner=inner)


def _refuse(program: Program, value_axis: str) -> None:
    for node in program.nodes():
        if any(axis.startswith(f"{value_axis}'") for axis in node.axes):
            raise UnsupportedOnGpu(f"a square matrix over the value axis '{value_axis}', which kernels tile")
