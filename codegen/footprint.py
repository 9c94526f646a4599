"""Kernel -> Work: which tiles are alive at once, which matrix products are formed, what is read again.

A value lives from where it is formed to its last use; what a loop uses of before it, to the loop's end.
Operands of matrix products lie in shared memory, results in registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from rnnc.codegen import operations as ir
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.phases import Anew, Part, Phase, Read, Step, Store, is_free, uses
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import DecayGradients, decay_gradients
from rnnc.codegen.torch_sums import is_number, plain
from rnnc.codegen.triton_rows import rows_per_token
from rnnc.codegen.work import (
    LEVELS,
    STEPS,
    TOKENS,
    WHOLE,
    WIDE,
    Access,
    Factors,
    Moment,
    Product,
    Tile,
    Walk,
    Work,
)
from rnnc.dsl.expression import Axes

Held = Counter[Axes]
Kind = Literal["values", "raw", "operands"]


class _Point(NamedTuple):
    """A moment while it is counted."""

    values: Held
    raw: Held
    operands: Held
    product: Factors | tuple[()]

    def held(self, kind: Kind) -> Held:
        return {"values": self.values, "raw": self.raw, "operands": self.operands}[kind]


def footprint(kernel: Kernel) -> Work:
    """What the choice of tiles needs to know of a kernel."""
    if kernel.after is None:
        return _Footprint(kernel).work()
    walk = _with_all(_Footprint(replace(kernel, tiled=(), after=None)).work(), kernel.after.tiled[0])
    after = _Footprint(kernel.after, frozenset(array.name for array in kernel.stores)).work()
    return _then(walk, after, [_tile(carry.start) for carry in kernel.carries])


def _with_all(work: Work, axis: str) -> Work:
    """The same, said to have all of an axis that something else tiles."""

    def own(axes: Axes) -> Axes:
        return tuple(WHOLE + each if each == axis else each for each in axes)

    def tiles(found: tuple[Tile, ...]) -> tuple[Tile, ...]:
        return tuple((count, own(axes)) for count, axes in found)

    def shape(factors: Factors | tuple[()]) -> Any:
        return tuple(map(own, factors))

    return work._replace(
        moments=tuple(
            Moment(tiles(each.values), tiles(each.raw), tiles(each.operands), shape(each.product))
            for each in work.moments
        ),
        products=tuple(each._replace(shape=shape(each.shape)) for each in work.products),
        accesses=tuple(each._replace(axes=own(each.axes)) for each in work.accesses),
        streams=tiles(work.streams),
    )


def _then(walk: Work, after: Work, states: Iterable[Tile]) -> Work:
    """A walk that does something at the end of a chunk, the states at hand."""
    held = tuple((count, tuple(WHOLE + a if a == after.tiled else a for a in axes)) for count, axes in states)
    return walk._replace(
        tiled=after.tiled,
        moments=(*walk.moments, *(each._replace(values=(*each.values, *held)) for each in after.moments)),
        products=(*walk.products, *after.products),
        accesses=(*walk.accesses, *after.accesses),
        loops=after.loops,
        chain=walk.chain + after.chain,
    )


class _Footprint:
    """The steps of a kernel in one line, with what each uses and the loop it is in; `near`: arrays that it
    finds in the cache.
    """

    def __init__(self, kernel: Kernel, near: Collection[str] = ()) -> None:
        self.kernel, self.near = kernel, near
        self.groups = decay_gradients(kernel.body)
        self.steps: list[tuple[Step, Phase]] = [(s, phase) for phase in kernel.phases for s in phase.body]
        self.loaded = {array.node for array in kernel.loads}
        self.carried = {carry.start for carry in kernel.carries}
        starts: dict[Phase, int] = {}
        for index, (_, phase) in enumerate(self.steps):
            starts.setdefault(phase, index)
        self.ends = {phase: index for index, (_, phase) in enumerate(self.steps)}
        self.starts = starts
        self.merged = set(_merged(kernel))

    def work(self) -> Work:
        moments = self._moments()
        axes = {axis for node in self._values() for axis in node.axes}
        return Work(
            serial=self.kernel.serial,
            tiled=next((axis for axis in self.kernel.tiled if axis in axes), ""),
            moments=_moments(moments),
            products=tuple(self._products()),
            accesses=tuple(self._accesses()),
            streams=tuple(self._streams()),
            loops=sum(phase.axis is not None for phase in self.kernel.phases),
            chain=self._chain(),
            micro=self.kernel.micro or "",
            walks=tuple(self._walks(moments)),
        )

    def _values(self) -> Iterator[Node]:
        """All values, and what they are formed of."""
        yield from (array.node for array in (*self.kernel.loads, *self.kernel.stores))
        for node in self.kernel.body:
            yield from (node, *node.args)
        yield from self.carried

    # What lives when

    def _spans(self) -> Iterator[tuple[Node, int, int, Kind]]:
        """(value, first step, last step, what it is there as)."""
        first: dict[Node, int] = {}
        elementwise: dict[Node, int] = {}
        operand: dict[Node, int] = {}
        closed: list[tuple[Node, int, int, Kind]] = []
        for node in self.carried:
            first[node] = 0
        for index, (step, phase) in enumerate(self.steps):
            for node, as_operand in self._used(step):
                if node not in first:
                    continue
                if phase.axis is not None and first[node] < self.starts[phase]:
                    last = self.ends[phase]
                else:  # an elementwise result takes the registers of its argument
                    last = index if as_operand or isinstance(step, Store) else index - 1
                (operand if as_operand else elementwise)[node] = last
            for node in self._formed(step, phase):
                if not isinstance(step, Part) and node in first:  # read or formed again: another value
                    closed += self._closed(node, first, elementwise, operand)
                first.setdefault(node, self.starts[phase] if node in phase.sums else index)
                if node in phase.sums:
                    elementwise[node] = max(elementwise.get(node, 0), self.ends[phase])
        for node in list(first):
            closed += self._closed(node, first, elementwise, operand)
        yield from closed

    def _closed(
        self,
        node: Node,
        first: dict[Node, int],
        elementwise: dict[Node, int],
        operand: dict[Node, int],
    ) -> Iterator[tuple[Node, int, int, Kind]]:
        begin = first.pop(node)
        if any(node is plain(carry.end) for carry in self.kernel.carries):
            elementwise[node] = len(self.steps) - 1
        in_registers, in_shared = elementwise.pop(node, None), operand.pop(node, None)
        kind: Kind = "raw" if node in self.loaded and node not in self.carried else "values"
        if in_shared is not None:
            yield node, begin, in_shared, "operands"
        if in_registers is not None or in_shared is None:
            yield node, begin, begin if in_registers is None else in_registers, kind

    def _used(self, step: Step) -> Iterator[tuple[Node, bool]]:
        """What a step uses, and whether as an operand of a matrix product."""
        product = step.term if isinstance(step, Part) and step.inline else step
        as_operand = isinstance(product, Node) and _is_product(product)
        arguments: Iterable[Node] = uses(step)
        if isinstance(step, Node) and step in self.groups:
            arguments = self.groups[step].decay.args
        for argument in arguments:
            if not is_free(plain(argument)):
                yield plain(argument), as_operand
        if isinstance(step, Part) and not step.first:
            yield step.total, False

    def _formed(self, step: Step, phase: Phase) -> Iterator[Node]:
        match step:
            case Node() if not is_number(step):
                yield step
            case Read(array):
                yield array.node
            case Part(total, _, first, _):
                if first or total in phase.sums:
                    yield total

    def _moments(self) -> list[_Point]:
        found = [_Point(Held(), Held(), Held(), self._product(step)) for step, _ in self.steps]
        for node, begin, end, kind in self._spans():
            if node in self.merged:
                continue
            count, axes = _tile(node)
            for point in found[begin : end + 1]:
                point.held(kind)[axes] += count
        for point, (step, _) in zip(found, self.steps, strict=True):
            for count, axes in self._inside(step):
                point.values[axes] += count
            if isinstance(step, Node) and isinstance(step.op, ir.Inverse):  # in float32, and split
                point.operands[*_pairs(step), WIDE] += 6 * rows_per_token(step) ** 2
        return found

    def _product(self, step: Step) -> Factors | tuple[()]:
        """The matrix product of a step."""
        node = step.term if isinstance(step, Part) and step.inline else step
        formed = list(_multiplied(node, self.groups)) if isinstance(node, Node) else []
        return formed[0][1] if formed else ()

    def _inside(self, step: Step) -> Iterator[Tile]:
        """What the tile operations hold beside arguments and results."""
        if not isinstance(step, Node):
            return
        group = self.groups.get(step)
        match step.op:
            case ir.DecayDot(axis):
                yield 4, (*_along(step.axes[1]), axis)
                yield 1, _pairs(step)
            case ir.DecayDotRows(axis) | ir.DecayDotColumns(axis) if group is None:
                yield 3, (*_along(step.args[1].axes[0]), axis)
                yield 1, _pairs(step.args[0])
            case ir.DecayDotDecay(axis) if group is not None:
                yield 6, (*_along(step.args[2].axes[0]), axis)
                yield 2, _pairs(step.args[0])
            case ir.LinearScan():
                yield 4, _tile(step)[1]
            case ir.Inverse():
                yield 2 * rows_per_token(step) ** 2, _pairs(step)
            case ir.Segment() | ir.SegmentAdjoint() | ir.Path() | ir.PathAdjoint():
                yield 2, (TOKENS, TOKENS)

    def _walks(self, moments: Sequence[_Point]) -> Iterator[Walk]:
        """What forms the states that are read, beside what is there meanwhile."""
        if self.kernel.walk is None:
            return
        inner = _Footprint(self.kernel.walk)
        within = _largest(inner._moments())
        outer = [p for p, (step, _) in zip(moments, self.steps, strict=True) if _is_state(step)]
        both = [_beside(point, other) for point in outer for other in within]
        accesses = tuple(a._replace(looped=True, again=True) for a in inner._accesses())
        yield Walk(self._segments(), _moments(both), tuple(inner._products()), accesses)

    def _segments(self) -> int:
        """How often states are formed, those of one place together."""
        segments, found = 0, set[tuple[int, int]]()
        for step, phase in self.steps:
            segments += isinstance(step, Anew)
            if _is_state(step):
                found.add((id(phase), segments))
        return len(found)

    # What is done

    def _products(self) -> Iterator[Product]:
        found: Counter[tuple[Factors, bool]] = Counter()
        for step, phase in self.steps:
            node = step.term if isinstance(step, Part) and step.inline else step
            if isinstance(node, Node):
                for count, shape in _multiplied(node, self.groups):
                    found[shape, phase.axis is not None] += count
        for (shape, looped), count in found.items():
            yield Product(count, shape, looped)

    def _accesses(self) -> Iterator[Access]:
        found: Counter[tuple[Axes, bool, bool, bool, bool]] = Counter()
        seen = set(self.near)
        for step, phase in self.steps:
            if not isinstance(step, Read | Store):
                continue
            array = step.array
            count, axes = _tile(array.node)
            exact = array.place in ("row", "total", "partial", "param", "shared") or len(array.node.axes) < 2
            again = isinstance(step, Read) and array.name in seen
            seen.add(array.name)
            found[axes, exact, phase.axis is not None, again, array.place == "kept"] += count
        for (axes, exact, looped, again, kept), count in found.items():
            yield Access(count, axes, exact, looped, again, kept)

    def _streams(self) -> Iterator[Tile]:
        """The tiles that the largest loop loads in every pass; of parts that take nothing from before, in
        one and the next, which is loaded meanwhile.
        """
        loops = [p for p in self.kernel.phases if p.axis is not None or self.kernel.serial]
        parts = [part for phase in loops for part in _parts(phase)]
        held = [Counter(_tile(s.array.node)[1] for s in part if isinstance(s, Read)) for part in parts]
        merged = Held()
        for each in held:
            merged |= each
        yield from _tiles(Held({axes: n for axes, n in merged.items() if len(axes) > 1}))

    def _chain(self) -> int:
        """Matrix products one after the other, from the state at the start of a chunk to that at its end."""
        depth: dict[Node, int] = {}
        for step, _ in self.steps:
            node = step.term if isinstance(step, Part) and step.inline else step
            if isinstance(node, Node):
                before = max((depth.get(plain(a), 0) for a in node.args), default=0)
                depth[node] = before + _is_product(node)
                if isinstance(step, Part):
                    depth[step.total] = max(depth.get(step.total, 0), depth[node])
        ends = [plain(carry.end) for carry in self.kernel.carries]
        return max((depth.get(node, 0) for node in ends or depth), default=0)


def _merged(kernel: Kernel) -> Iterator[Node]:
    """For every sum, a matrix product that nothing else needs: it is formed in the accumulator of the sum."""
    uses_of = Counter(plain(argument) for node in kernel.body for argument in node.args)
    for node in kernel.body:
        if isinstance(node.op, ir.Add):
            pairs = zip(node.op.coefficients, map(plain, node.args), strict=True)
            terms = [t for c, t in pairs if c == 1 and uses_of[t] == 1 and _is_product(t)]
            yield from terms[:1]


def _is_product(node: Node) -> bool:
    return isinstance(node.op, ir.Dot) and len(node.axes) == 2 and all(len(a.axes) == 2 for a in node.args)


def _multiplied(node: Node, groups: dict[Node, DecayGradients]) -> Iterator[tuple[int, Factors]]:
    """The matrix products of one value, and how many."""
    match node.op:
        case ir.Dot(axis) if _is_product(node):
            rows, columns, inner = (_along(each) for each in (*node.axes, axis))
            yield 1, (rows, columns, inner)
        case ir.DecayDot(axis):
            left, right = node.axes
            yield 1, (_along(left), _along(right), (axis, LEVELS))
        case ir.DecayDotRows(axis) | ir.DecayDotColumns(axis) if node not in groups:
            target, source = (_along(each) for each in (node.axes[0], node.args[1].axes[0]))
            yield 1, (target, (axis,), (*source, LEVELS))
        case ir.InverseAdjoint():
            row, column = _pairs(node)
            yield 2 * rows_per_token(node) ** 3, ((row,), (column,), (row,))
        case ir.DecayDotDecay(axis) if groups[node].decay is node:
            upper, lower = (_along(each.axes[0]) for each in node.args[1:3])
            yield 1, (upper, (axis,), (*lower, LEVELS))
            yield 1, (lower, (axis,), (*upper, LEVELS))
        case ir.Inverse():
            row, column = _pairs(node)
            yield 2 * rows_per_token(node) ** 3, ((row,), (column,), (row, LEVELS))


def _along(axis: str) -> Axes:
    """The axis as `Work` has it: K' of a square [K, K'] is as K."""
    if axis in (ir.ROWS, ir.COLUMNS):
        return (STEPS,)
    return (TOKENS if axis in ir.TIME_AXES else axis.rstrip("'"),)


def _pairs(matrix: Node) -> Axes:
    """The axes of a matrix between tokens, or between micro-steps."""
    return _tile(matrix)[1]


def _tile(node: Node) -> Tile:
    """The tile of a value: where several reads are stacked, so many of tokens."""
    stacked = rows_per_token(node)
    if stacked > 1:
        return stacked**2, (TOKENS, TOKENS)
    return 1, tuple(name for axis in node.axes for name in _along(axis))


def _tiles(held: Held) -> Iterator[Tile]:
    return ((count, axes) for axes, count in sorted(held.items()) if count and axes)


def _largest(points: Sequence[_Point]) -> list[_Point]:
    """The points that hold the most, whatever the sizes: none with less of everything than another."""
    kept: list[_Point] = []
    for point in points:
        if not any(_below(point, other) for other in kept):
            kept = [other for other in kept if not _below(other, point)] + [point]
    return kept


def _moments(points: Sequence[_Point]) -> tuple[Moment, ...]:
    return tuple(
        Moment(tuple(_tiles(values)), tuple(_tiles(raw)), tuple(_tiles(operands)), product)
        for values, raw, operands, product in _largest(points)
    )


def _parts(phase: Phase) -> Iterator[Sequence[Step]]:
    """The steps of a phase between every second `Anew`: any two parts in turn; all where there are fewer."""
    cuts = [index for index, step in enumerate(phase.body) if isinstance(step, Anew) and index]
    bounds = [0, *cuts, len(phase.body)]
    if len(bounds) < 3:
        yield phase.body
    for start, end in zip(bounds, bounds[2:], strict=False):
        yield phase.body[start:end]


def _is_state(step: Step) -> bool:
    return isinstance(step, Read) and step.array.place == "kept"


def _beside(point: _Point, other: _Point) -> _Point:
    """What is there at a point, and what something else needs at the same time."""
    return _Point(
        point.values + other.values, point.raw + other.raw, point.operands + other.operands, other.product
    )


def _below(one: _Point, other: _Point) -> bool:
    held = all(mine <= theirs for mine, theirs in zip(one[:3], other[:3], strict=True))
    return held and one.product in ((), other.product)
