"""Program -> Plan: what runs for all chunks at once, what runs chunk after chunk, and what is kept.

A program is cut at its carried states: `pre` (nothing carried is needed; all chunks at once), `scan` (on the
way from a state's start to its end; serial), `post` (needs the state, feeds nothing; all chunks at once).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program, dependents, reachable
from rnnc.codegen.rewriting import rewritten

PAIRS = (ir.DecayDot, ir.DecayDotRows, ir.DecayDotColumns, ir.DecayDotDecay)


@dataclass(frozen=True, slots=True)
class Plan:
    """A program cut at its carried states. `given` are values that another program kept for it.

    `fused`: what comes after the scan, but for pairs of tokens under decays by channel, is done in it.
    """

    program: Program
    pre: tuple[Node, ...]
    scan: tuple[Node, ...]
    post: tuple[Node, ...]
    given: tuple[Node, ...] = ()
    keeps: tuple[Node, ...] = ()
    fused: bool = False

    def __str__(self) -> str:
        stages = [
            ("pre", self.pre),
            ("scan", self.scan),
            ("post", self.post),
            ("given", self.given),
            ("keeps", self.keeps),
        ]
        lines = [f"plan {self.program.name}:"]
        for name, nodes in stages:
            lines.append(f"  {name}: {' '.join(f'{type(n.op).__name__}{n!r}' for n in nodes)}")
        return "\n".join(lines)


def cut(
    program: Program, given: Iterable[Node] = (), keeps: Iterable[Node] = (), fused: bool = False
) -> Plan:
    """The plan of a program that finds `given` computed and hands out `keeps` beside its results.

    `fused` does in the scan what could come after it, while the state is at hand; but not what takes many
    steps for each chunk.
    """
    known = tuple(given)
    keeps = tuple(keeps)
    nodes = needed([*program.results.values(), *(c.end for c in program.carries), *keeps], known)
    moving = dependents(nodes, [carry.start for carry in program.carries])
    towards_end = {node.number for node in needed([c.end for c in program.carries], known)}
    scan = moving & towards_end
    if fused:
        pairs = [n for n in nodes if isinstance(n.op, PAIRS) and n.number in moving - towards_end]
        scan = moving - dependents(nodes, pairs)
    computed = [node for node in nodes if not isinstance(node.op, ir.Load)]
    return Plan(
        program,
        pre=tuple(node for node in computed if node.number not in moving),
        scan=tuple(node for node in computed if node.number in scan),
        post=tuple(node for node in computed if node.number in moving and node.number not in scan),
        given=known,
        keeps=keeps,
        fused=fused,
    )


def needed(
    roots: Iterable[Node], known: Iterable[Node], seen_as: Callable[[Node], Node] = lambda node: node
) -> tuple[Node, ...]:
    """What has to be computed for the roots when `known` is there, arguments first.

    `seen_as` may give another node in whose place a node stands.
    """
    ready = {node.number for node in known}
    seen: dict[int, Node] = {}
    stack = [root for root in map(seen_as, roots) if root.number not in ready]
    while stack:
        node = stack.pop()
        if node.number not in seen:
            seen[node.number] = node
            stack.extend(a for a in map(seen_as, node.args) if a.number not in ready)
    return tuple(seen[number] for number in sorted(seen))


def with_inverses(program: Program, builder: Builder) -> Program:
    """Every solve as a product with the inverse, which is shared and can be kept: (I - P)^-1 R."""
    return rewritten(program, builder, _by_inverse)


def _by_inverse(node: Node, args: list[Node], build: Builder) -> Node | None:
    if not isinstance(node.op, ir.Solve):
        return None
    matrix, right = args
    inverse = build.node(ir.Inverse(), [matrix], matrix.axes)
    return build.dot(inverse, right, matrix.axes[0 if node.op.transposed else 1])


def on_rows(program: Program, builder: Builder) -> Program:
    """Elementwise values over COLUMN or MIDDLE (COLUMNS) computed once, over ROW (ROWS), and relabelled."""
    return rewritten(program, builder, _on_rows)


# Time axes of a value -> the one that is relabelled, and as what: equal values are then one.
RELABELLED = {
    (ir.COLUMN,): (ir.COLUMN, ir.ROW),
    (ir.COLUMNS,): (ir.COLUMNS, ir.ROWS),
    (ir.MIDDLE,): (ir.MIDDLE, ir.ROW),
    (ir.MIDDLE, ir.COLUMN): (ir.MIDDLE, ir.ROW),
    (ir.ROW, ir.MIDDLE): (ir.MIDDLE, ir.COLUMN),
}


def _on_rows(node: Node, args: list[Node], build: Builder) -> Node:
    value = node if list(node.args) == args else build.with_args(node, args)
    elementwise = isinstance(value.op, ir.Add | ir.Multiply | ir.Apply | ir.Keep | ir.Sum)
    times = tuple(axis for axis in value.axes if axis in ir.TIME_AXES)
    if elementwise and times in RELABELLED:
        axes, (old, new) = value.axes, RELABELLED[times]
        value = build.node(ir.Rename(new, old), [_relabelled(value, old, new, build)], axes)
    return value


def _relabelled(value: Node, old: str, new: str, build: Builder) -> Node:
    """The value with an axis relabelled in what it is computed from, which is relabelled already."""
    if ir.MIDDLE not in value.axes:
        return build.rename(value, old, new)
    if isinstance(value.op, ir.Sum) and value.op.axis == new:
        return _named(value, old, new, build)
    args = []
    for argument in value.args:
        match argument.op:
            case ir.Rename(first, last) if last == old:
                inner = argument.args[0]
                args.append(inner if first == new else _named(inner, first, new, build))
            case _:
                args.append(_named(argument, old, new, build))
    return build.node(value.op, args, tuple(new if axis == old else axis for axis in value.axes))


def _named(value: Node, old: str, new: str, build: Builder) -> Node:
    if old not in value.axes:
        return value
    axes = tuple(new if axis == old else axis for axis in value.axes)
    return build.node(ir.Rename(old, new), [value], axes)


def worth_keeping(forward: Program, backward: Program, writes: bool = False) -> tuple[Node, ...]:
    """What the forward pass keeps for the backward pass: the states, and small matrices that cost much to
    form; with `writes` also the rows that tokens write once they have read the state, and products of pairs
    of tokens.
    """
    states = tuple(carry.start for carry in forward.carries)
    costly = (ir.Inverse, ir.DecayDot)
    nodes = reachable([*forward.results.values(), *(carry.end for carry in forward.carries)])
    moving = dependents(nodes, states) if writes else ()
    formed = tuple(
        n for n in nodes if isinstance(n.op, costly) or (writes and (_pairs(n, moving) or _writes(n, moving)))
    )
    plan = cut(backward, given=(*states, *formed))
    used = {argument for node in (*plan.pre, *plan.scan, *plan.post) for argument in node.args}
    return states + tuple(node for node in formed if node in used)


def _writes(node: Node, moving: Container[int]) -> bool:
    """Whether the node is the inverse times rows that need the state."""
    product = isinstance(node.op, ir.Dot) and node.number in moving
    return product and any(isinstance(a.op, ir.Inverse) for a in node.args)


def _pairs(node: Node, moving: Container[int]) -> bool:
    """Whether the node is a product over features of pairs of tokens that needs no state."""
    product = isinstance(node.op, ir.Dot) and node.op.axis not in ir.TIME_AXES and len(node.axes) == 2
    return product and set(node.axes) <= set(ir.TIME_AXES) and node.number not in moving


GRADIENTS = (ir.DecayDotRows, ir.DecayDotColumns, ir.DecayDotDecay)


@dataclass(frozen=True, slots=True)
class DecayGradients:
    """The derivatives of one product under decays by x, y (if asked for) and the decay: formed together."""

    rows: Node | None
    columns: Node | None
    decay: Node

    @property
    def members(self) -> tuple[Node | None, Node | None, Node]:
        """In the order in which they are formed."""
        return self.rows, self.columns, self.decay


def decay_gradients(nodes: Iterable[Node]) -> dict[Node, DecayGradients]:
    """For each derivative of a product under decays, those it is formed together with."""
    candidates = [node for node in nodes if isinstance(node.op, GRADIENTS)]
    found: dict[Node, DecayGradients] = {}
    for decay in candidates:
        if not isinstance(decay.op, ir.DecayDotDecay):
            continue
        m, x, y, g = decay.args
        flags = (decay.op.axis, decay.op.mode, decay.op.exclusive, decay.op.strict)
        by = {(node.op, node.args): node for node in candidates}
        rows = by.get((ir.DecayDotRows(*flags), (m, y, g)))
        group = DecayGradients(
            rows if rows is not None and is_derivative(rows) else None,
            by.get((ir.DecayDotColumns(*flags), (m, x, g))),
            decay,
        )
        found |= {node: group for node in group.members if node is not None}
    return found


def is_derivative(node: Node) -> bool:
    """Whether a value depends on a cotangent."""
    loads = (inner.op for inner in reachable([node]) if isinstance(inner.op, ir.Load))
    return any(load.kind == "cotangent" or load.name.startswith("d'") for load in loads)
