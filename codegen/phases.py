"""The order of work in a kernel, as data: loops over the tiles of an axis, and what stands between them.

A phase says what it accumulates, what it forms, in order, and when it writes. A tile that is read from
memory is read again in every phase that needs it: that costs less than the registers to hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.program import Node, describe
from rnnc.codegen.schedule import decay_gradients
from rnnc.codegen.torch_sums import is_number, plain


@dataclass(frozen=True, slots=True)
class Part:
    """A term of a sum, added to it as soon as it is there; the first part starts the sum.

    `inline`: the term is a matrix product that is formed here, in the accumulator of the sum.
    """

    total: Node
    index: int
    first: bool
    inline: bool

    @property
    def term(self) -> Node:
        """The value that is added."""
        return plain(self.total.args[self.index])


@dataclass(frozen=True, slots=True)
class Read:
    """An array's tile is read."""

    array: Array


@dataclass(frozen=True, slots=True)
class Store:
    """An array's tile is written."""

    array: Array


@dataclass(frozen=True, slots=True)
class Anew:
    """From here on, nothing that was computed or read is taken from before, but what steps name again."""


Step = Node | Read | Part | Store | Anew


@dataclass(frozen=True, slots=True)
class Phase:
    """A loop over the tiles of `axis` that adds up `sums`, or, without an axis, work that is done once.

    `body` is in order: tiles read, values formed, parts of sums, stores. Tiles along the axis are gone when
    the loop ends; everything else stays.
    """

    axis: str | None
    body: tuple[Step, ...]
    sums: tuple[Node, ...] = ()

    def __str__(self) -> str:
        sums = [f"{node!r}[{', '.join(node.axes)}]" for node in self.sums]
        head = f"for the tiles of {self.axis}, sums {' '.join(sums)}:" if self.axis else "once:"
        return "\n".join([head, *(f"  {_text(step)}" for step in self.body)])

    @property
    def nodes(self) -> Iterator[Node]:
        """The values that the phase forms."""
        for step in self.body:
            if isinstance(step, Node):
                yield step
            elif isinstance(step, Part) and step.inline:
                yield step.term


def _text(step: Step) -> str:
    match step:
        case Node():
            return describe(step)
        case Read(array):
            return f"{array.node!r}[{', '.join(array.node.axes)}] = read {array.name}"
        case Part(total, _, first, inline):
            return f"{total!r} {'=' if first else '+='} {describe(step.term) if inline else repr(step.term)}"
        case Store(array):
            return f"store {array.name} = {plain(array.node)!r}"
        case Anew():
            return "anew"


def verify(phases: Iterable[Phase], starts: Iterable[Node]) -> None:
    """Raises AssertionError if a step uses what is not there; `starts` are there from the beginning."""
    known, sums = set(starts), dict[Node, set[int]]()
    for phase in phases:
        ready = set(known)
        for step in phase.body:
            used = [plain(node) for node in uses(step)]
            missing = [node for node in used if node not in ready and not is_free(node)]
            assert not missing, f"not there: {missing} for {_text(step)}"
            match step:
                case Node():
                    ready.add(step)
                case Read(array):
                    ready.add(array.node)
                case Part(total, index):
                    added = sums.setdefault(total, set())
                    assert index not in added, f"a term twice: {_text(step)}"
                    added.add(index)
                    if len(added) == len(total.args):
                        ready.add(total)
                case Store() | Anew():
                    pass
        known = {n for n in ready if phase.axis is None or phase.axis not in n.axes}
        sums = {total: added for total, added in sums.items() if phase.axis not in total.axes}


def uses(step: Step) -> Iterable[Node]:
    """What a step needs to be there."""
    match step:
        case Node():
            return step.args
        case Read() | Anew():
            return ()
        case Part(inline=inline):
            return step.term.args if inline else [step.term]
        case Store(array):
            return [array.node]


def is_free(node: Node) -> bool:
    """Whether a value needs no step: numbers, which tokens are valid, which is the first."""
    return is_number(node) or (isinstance(node.op, ir.Load) and node.op.kind in ("valid", "mark"))


def is_accumulated(node: Node, axis: str) -> bool:
    """Whether a value is a sum over the tiled axis."""
    return axis not in node.axes and any(axis in argument.axes for argument in node.args)


def in_order(body: Iterable[Node]) -> Iterator[tuple[Node, list[Node]]]:
    """Each value with what it is formed from, after these; derivatives that are formed together wait for the
    arguments of all.
    """
    nodes = tuple(body)
    groups = decay_gradients(nodes)
    args = {n: list(map(plain, groups[n].decay.args if n in groups else n.args)) for n in nodes}
    done: set[Node] = set()
    for root in nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            waiting = [a for a in args[node] if a in args and a not in done]
            stack.extend(waiting)
            if not waiting:
                stack.pop()
                if node not in done:
                    done.add(node)
                    yield node, args[node]


def levels(nodes: Iterable[Node], axis: str) -> dict[Node, int]:
    """The loop over the tiled axis that a value is formed in (values over that axis) or ready before."""
    found: dict[Node, int] = {}
    for node, args in in_order(nodes):
        level = max((found.get(a, 0) for a in args), default=0)
        found[node] = level + 1 if is_accumulated(node, axis) else level
    return found


HEAVY = (
    *(ir.LinearScan, ir.Inverse, ir.InverseAdjoint, ir.Segment, ir.SegmentAdjoint, ir.Path, ir.PathAdjoint),
    *(ir.DecayDot, ir.DecayDotRows, ir.DecayDotColumns, ir.DecayDotDecay),
)


def is_heavy(node: Node) -> bool:
    """Whether a value is worth its own place in the order: matrix products and what works on pairs of
    tokens.
    """
    return isinstance(node.op, HEAVY) or (isinstance(node.op, ir.Dot) and len(node.axes) == 2)
