"""Program -> the kernels of a GPU: what each computes, reads and writes.

The cut at the carried state decides. Forward: `pre` forms the matrices between tokens, all chunks in
parallel (where a triangular inverse asks for it); `scan` walks the chunks with the state in registers, the
value axis tiled over programs, and writes the outputs and the state at the start of every chunk. Backward:
`reverse` walks them back with the state's cotangent; `grads`, parallel over chunks, does everything that is
contracted over the value axis, in loops over its tiles, so that no partial sum of a token's gradient
reaches memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rnnc.codegen import program as ir
from rnnc.codegen.arrays import Array, Place
from rnnc.codegen.order import chunk_phases, levels, serial_phases
from rnnc.codegen.phases import Phase, verify
from rnnc.codegen.program import Node, Program, dependents
from rnnc.codegen.torch_sums import plain
from rnnc.dsl.normal import Normal

Role = Literal["pre", "scan", "reverse", "grads"]
STACKED = (ir.Interleave, ir.Deinterleave, ir.Assemble, ir.Block)


class UnsupportedOnGpu(ValueError):
    """What the Triton back end refuses, with the reason."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch. `body` is every value that it forms, once; `phases` are what it does, in order.

    In a kernel that walks the chunks the value axis is tiled over programs: it has one phase and no
    accumulators.
    """

    name: str
    role: Role
    loads: tuple[Array, ...]
    body: tuple[Node, ...]
    stores: tuple[Array, ...]
    phases: tuple[Phase, ...]
    carries: tuple[ir.Carry, ...] = ()

    def __str__(self) -> str:
        lines = [f"kernel {self.name} ({self.role}):"]
        lines += [f"  {text}" for phase in self.phases for text in str(phase).splitlines()]
        return "\n".join(lines)

    @property
    def serial(self) -> bool:
        return self.role in ("scan", "reverse")


def plan_forward(program: Program, normal: Normal, keeps: Iterable[Node]) -> tuple[Kernel, ...]:
    """The kernels of the forward pass; the last array of `scan` is the state at the start of every chunk."""
    _refuse(program)
    crossing = _crossing(program, normal.value_axis)
    kernels = []
    if crossing:
        stores = tuple(Array(node, f"m{index}", "matrix") for index, node in enumerate(crossing))
        kernels.append(_kernel("pre", normal, program, crossing, (), stores))
    given = tuple(Array(node, f"m{index}", "matrix") for index, node in enumerate(crossing))
    results = [(name, node) for name, node in program.results.items()]
    stores = tuple(Array(plain(node), name, "token") for name, node in results)
    stores += tuple(Array(carry.start, f"{carry.name}s", "chunk") for carry in program.carries)
    ends = [carry.end for carry in program.carries]
    kernels.append(
        _kernel("scan", normal, program, [*(a.node for a in stores), *ends], given, stores, program.carries)
    )
    return tuple(kernels)


def plan_backward(program: Program, forward: Program, normal: Normal) -> tuple[Kernel, ...]:
    """The kernels of the backward pass, given the matrices and the states that the forward pass kept."""
    _refuse(program)
    crossing = _crossing(forward, normal.value_axis)
    matrices = tuple(Array(node, f"m{index}", "matrix") for index, node in enumerate(crossing))
    states = tuple(Array(carry.start, f"{carry.name}s", "chunk") for carry in forward.carries)
    nodes = program.nodes()
    moving = dependents(nodes, [carry.start for carry in program.carries])
    towards = {n.number for n in _needed([c.end for c in program.carries], ())}
    scan = [n for n in nodes if n.number in moving and n.number in towards and not isinstance(n.op, ir.Load)]
    later = {plain(a) for n in nodes if n.number in moving and n not in scan for a in n.args}
    results = {name: plain(node) for name, node in program.results.items() if not _zero(node)}
    crossing_back = [n for n in scan if n in later or n in results.values()]
    names = {node: name for name, node in results.items()}
    back = tuple(Array(n, names.get(n, f"x{n.number}"), "token") for n in crossing_back)
    cotangents = tuple(Array(c.start, f"{c.name}s".replace("'", ""), "chunk") for c in program.carries)
    ends = [carry.end for carry in program.carries]
    reverse = _kernel(
        "reverse",
        normal,
        program,
        [*crossing_back, *ends],
        (*matrices, *states),
        (*cotangents, *back),
        program.carries,
    )
    remaining = {name: node for name, node in results.items() if node not in crossing_back}
    params = {d.name for d in normal.recurrence.params}
    stores = tuple(
        Array(node, name, "partial" if name.removeprefix("d'") in params else "token")
        for name, node in remaining.items()
    )
    given = (*matrices, *states, *cotangents, *back)
    grads = _kernel("grads", normal, program, list(remaining.values()), given, stores)
    return (reverse, grads) if remaining else (reverse,)


def _refuse(program: Program) -> None:
    for node in program.nodes():
        if isinstance(node.op, STACKED):
            raise UnsupportedOnGpu("several reads of the state per token")
        if isinstance(node.op, ir.Softmax):
            raise UnsupportedOnGpu("a softmax")


def _crossing(program: Program, value_axis: str) -> list[Node]:
    """What `pre` hands to the scan: where there is an inverse or a product under a decay per channel, all
    matrices between tokens that values are multiplied with.
    """
    nodes = program.nodes()
    moving = dependents(nodes, [carry.start for carry in program.carries])
    later = [n for n in nodes if n.number in moving or value_axis in n.axes]
    needed = {plain(argument) for n in later for argument in n.args}
    matrices = [n for n in nodes if n in needed and n.number not in moving and n.axes == (ir.ROW, ir.COLUMN)]
    costly = any(isinstance(n.op, ir.Inverse | ir.DecayDot) for n in ir.reachable(matrices))
    return list(dict.fromkeys(map(_unscaled, matrices))) if costly else []


def _unscaled(matrix: Node) -> Node:
    """The matrix without the factors of its rows and columns: forward and backward scale it differently."""
    factors = [plain(a) for a in matrix.args] if isinstance(matrix.op, ir.Multiply) else []
    square = [factor for factor in factors if len(factor.axes) == 2]
    return _unscaled(square[0]) if len(square) == 1 and square[0].axes == matrix.axes else matrix


def _zero(node: Node) -> bool:
    return isinstance(node.op, ir.Const)


def _needed(roots: Iterable[Node], known: Iterable[Node]) -> list[Node]:
    """What has to be computed for the roots when `known` is in memory, arguments first."""
    ready = {node.number for node in known}
    seen: dict[int, Node] = {}
    stack = [root for root in map(plain, roots) if root.number not in ready]
    while stack:
        node = stack.pop()
        if node.number not in seen:
            seen[node.number] = node
            stack.extend(a for a in map(plain, node.args) if a.number not in ready)
    return [seen[number] for number in sorted(seen)]


def _kernel(
    role: Role,
    normal: Normal,
    program: Program,
    roots: Iterable[Node],
    given: tuple[Array, ...],
    stores: tuple[Array, ...],
    carries: tuple[ir.Carry, ...] = (),
) -> Kernel:
    nodes = _needed(roots, [array.node for array in given])
    used = {plain(a) for node in nodes for a in node.args} | {array.node for array in stores}
    starts = {carry.start for carry in carries}
    loads = [array for array in given if array.node in used and array.node not in starts]
    shared = {param.name for param in normal.recurrence.params if param.shared}
    for node in nodes:
        if isinstance(node.op, ir.Load) and node.op.kind in ("input", "param", "cotangent"):
            place: Place = "token"
            if node.op.kind == "param":
                place = "shared" if node.op.name in shared else "param"
            loads.append(Array(node, node.op.name, place))
    body = tuple(node for node in nodes if not isinstance(node.op, ir.Load))
    serial = role in ("scan", "reverse")
    axis = normal.value_axis
    if (
        serial
        and max(levels((*(array.node for array in loads), *starts, *body), axis).values(), default=0) > 0
    ):
        raise UnsupportedOnGpu(f"a sum over the value axis '{axis}' on the way of the state")
    if serial:
        phases = serial_phases(body, loads, stores, starts, [carry.end for carry in carries])
    else:
        phases = chunk_phases(body, loads, stores, axis)
    verify(phases, starts)
    name = f"{normal.recurrence.name}_{program.name.split('_')[0]}_{role}"
    return Kernel(name, role, tuple(loads), body, stores, phases, carries)
