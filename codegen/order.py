"""Nodes of a kernel -> its phases: every value right before its first use, few large values at a time.

In a kernel that is parallel over chunks, one loop over the tiles of an axis adds up all small sums (scalars,
vectors, matrices between tokens). Then each large result [tokens, channels] is built term by term: products
of small matrices first, then, one loop each, the large sums over tiles, each consumed before the next loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rnnc.codegen import program as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.phases import Part, Phase, Read, Step, Store, is_accumulated, is_free, is_heavy
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import decay_gradients
from rnnc.codegen.torch_sums import plain


def serial_phases(
    body: Sequence[Node],
    memory: Iterable[Array],
    stores: Sequence[Array],
    starts: Iterable[Node],
    ends: Iterable[Node],
) -> tuple[Phase, ...]:
    """One chunk of a kernel that walks them: every store as soon as it can be."""
    order = _Order(body, memory, None)
    order.known |= set(starts)
    waiting = list(stores)
    for root in (*filter(is_heavy, body), *(array.node for array in stores), *ends):
        waiting = order.store_ready(waiting)
        order.need(root)
    order.store_ready(waiting)
    return (Phase(None, tuple(order.once)),)


def chunk_phases(
    body: Sequence[Node], memory: Iterable[Array], stores: Sequence[Array], axis: str
) -> tuple[Phase, ...]:
    """One chunk of a kernel that is parallel over chunks; `axis` is tiled."""
    return _Chunk(body, memory, stores, axis).phases()


class _Order:
    """Steps as they are appended: `once`, or into the loop over tiles while one is open."""

    def __init__(self, body: Sequence[Node], memory: Iterable[Array], axis: str | None) -> None:
        self.body, self.axis = body, axis
        self.memory = {array.node: array for array in memory}
        self.groups = decay_gradients(body)
        # Read in the loops that need them: matrices held from tile to tile fill the registers.
        self.weights = {plain(node.args[0]) for node in self.groups}
        self.known: set[Node] = set()
        self.once: list[Step] = []
        self.tiled: list[Step] | None = None
        self.sums: list[Node] = []

    def need(self, node: Node) -> None:
        """Appends what makes the node known, arguments first."""
        node = plain(node)
        if node in self.known or is_free(node):
            return
        inside = self.axis in node.axes or (node in self.memory and node in self.weights)
        place = self.once if self.tiled is None or not inside else self.tiled
        if node in self.memory:
            place.append(Read(self.memory[node]))
            self.known.add(node)
            return
        group = self.groups.get(node)
        for argument in group.decay.args if group else node.args:
            self.need(argument)
        if self.tiled is not None and self.axis is not None and is_accumulated(node, self.axis):
            self.sums.append(node)
            place = self.tiled
        members = [member for member in group.members if member] if group else [node]
        place += members
        self.known |= set(members)

    def store_ready(self, waiting: Iterable[Array]) -> list[Array]:
        """Appends the stores whose values are there; returns the others."""
        left = []
        for array in waiting:
            if plain(array.node) in self.known or is_free(array.node):
                (self.once if self.tiled is None else self.tiled).append(Store(array))
            else:
                left.append(array)
        return left


class _Chunk(_Order):
    """The phases of a kernel that is parallel over chunks.

    `later`: what one loop writes and a later one reads.
    """

    def __init__(
        self, body: Sequence[Node], memory: Iterable[Array], stores: Sequence[Array], axis: str
    ) -> None:
        written = {array.node for array in stores}
        self.later = {array.node for array in memory} & written
        super().__init__(body, [array for array in memory if array.node not in written], axis)
        self.done: list[Phase] = []
        self.tile_axis = axis
        self.along = [array for array in stores if axis in array.node.axes]
        self.stores = [array for array in stores if axis not in array.node.axes]
        self.levels = levels(body, axis)
        self.sources = _sources(body, self.memory, axis)
        self.summed: set[Node] = set()
        self.fresh: set[Node] = set()

    def phases(self) -> tuple[Phase, ...]:
        """All phases in order."""
        totals = [node for node in self.body if node not in self.memory and self._is_sum(node)]
        waited_for = set[Node]().union(*(self.sources[node] - {node} for node in totals))
        for level in range(max(self.levels.values(), default=0) + 1):
            here = [node for node in totals if self.levels[node] == level + 1]
            along = [array for array in self.along if self.levels[plain(array.node)] == level]
            self._small([node for node in here if not _is_large(node) and not _is_alone(node)], along)
            for node in here:
                if _is_large(node) and node in waited_for:
                    self._loop([node])
        for array in self.stores:
            if _is_large(array.node):
                self._build(array)
        solved = _solved(self.body)  # after what else the operands are for, so that none waits meanwhile
        for array in sorted(self.stores, key=lambda array: plain(array.node) in solved):
            if not _is_large(array.node):
                self._sum_up(array.node)
                self.need(array.node)
                self.once.append(Store(array))
        self._close()
        return tuple(self.done)

    def _small(self, totals: Sequence[Node], along: Sequence[Array]) -> None:
        """Loops that form small sums, two matrices at most in each, and arrays along the axis."""
        matrices = [node for node in totals if len(node.axes) == 2]
        if len(matrices) <= 2 and not (len(matrices) == 2 and along):
            self._loop(totals, along)
            return
        others = [node for node in totals if len(node.axes) < 2]
        for start in range(0, len(matrices), 2):
            self._loop([*matrices[start : start + 2], *(others if start == 0 else ())])
        self._loop([], along)

    def _is_sum(self, node: Node) -> bool:
        return is_accumulated(node, self.tile_axis)

    def _is_tiled(self, node: Node) -> bool:
        return self.tile_axis in node.axes

    def _sum_up(self, root: Node) -> None:
        """Runs the loops that the root still waits for."""
        for total in self._pending(root):
            self._loop([total])

    def _pending(self, root: Node) -> list[Node]:
        """The sums that the root waits for, in the order of creation."""
        return sorted(self.sources.get(plain(root), set()) - self.summed, key=lambda node: node.number)

    def _loop(self, totals: Sequence[Node], along: Sequence[Array] = ()) -> None:
        """Appends a loop over tiles that forms sums, and arrays along the axis; then what consumes the
        sums.
        """
        totals = [node for node in totals if node not in self.summed]
        if not totals and not along:
            return
        self.tiled, self.sums = [], []
        for root in totals:
            self.need(root)
        for array in along:
            self.need(array.node)
            self.store_ready([array])
        if self.once:
            self.done.append(Phase(None, tuple(self.once)))
        self.done.append(Phase(self.axis, tuple(self.tiled), tuple(self.sums)))
        self.summed |= set(self.sums)
        self.fresh |= set(self.sums)
        self.tiled, self.once = None, []
        self.memory |= {array.node: array for array in along if array.node in self.later}
        self.known = {node for node in self.known if not self._is_tiled(node) and not self._is_reread(node)}
        self._consume()

    def _close(self) -> None:
        if self.once:
            self.done.append(Phase(None, tuple(self.once)))
            self.once = []

    def _is_reread(self, node: Node) -> bool:
        return node in self.memory and len(node.axes) == 2

    def _consume(self) -> None:
        """Forms the vectors and scalars that matrices of the last loops go into."""
        for node in self.body:
            if self._is_tiled(node) or node in self.known:
                continue
            if not any(plain(argument) in self.fresh for argument in node.args):
                continue
            if len(node.axes) == 2:
                self.fresh.add(node)
            elif not self._pending(node):
                self.need(node)

    def _build(self, array: Array) -> None:
        """Appends what forms a large array, term by term, and its store."""
        total = plain(array.node)
        if not isinstance(total.op, ir.Add) or total in self.known:
            self._sum_up(total)
            self.need(total)
        else:
            left = self._add_ready(total, list(range(len(total.args))), first=True)
            while left:
                nearest = min(left, key=lambda i: (len(self._pending(total.args[i])), i))
                self._loop(self._pending(total.args[nearest])[:1])
                left = self._add_ready(total, left, first=len(left) == len(total.args))
            self.known.add(total)
        self.once.append(Store(array))

    def _add_ready(self, total: Node, left: list[int], first: bool) -> list[int]:
        """Adds the terms that wait for no sum; returns the others."""
        waiting = []
        for index in left:
            if self._pending(total.args[index]):
                waiting.append(index)
                continue
            self.need(total.args[index])
            self.once.append(Part(total, (index,), first))
            first = False
        return waiting


def _is_large(node: Node) -> bool:
    """Whether a value is over tokens, or channels, and channels."""
    return len(node.axes) == 2 and not all(axis in ir.TIME_AXES for axis in node.axes)


def _is_alone(node: Node) -> bool:
    """Whether a sum over tiles has a loop of its own: products under decays fill the registers."""
    return isinstance(node.op, ir.DecayDot)


def _solved(body: Iterable[Node]) -> set[Node]:
    """The triangular inverses and what depends on them."""
    found: set[Node] = set()
    for node in body:
        if isinstance(node.op, ir.Inverse) or any(plain(argument) in found for argument in node.args):
            found.add(node)
    return found


def _in_order(body: Iterable[Node]) -> Iterator[tuple[Node, list[Node]]]:
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
    for node, args in _in_order(nodes):
        level = max((found.get(a, 0) for a in args), default=0)
        found[node] = level + 1 if is_accumulated(node, axis) else level
    return found


def _sources(body: Iterable[Node], memory: Mapping[Node, Array], axis: str) -> dict[Node, set[Node]]:
    """The sums over tiles that each value is computed from."""
    found: dict[Node, set[Node]] = {}
    for node, args in _in_order(node for node in body if node not in memory):
        found[node] = set().union(*(found.get(a, set()) for a in args))
        if is_accumulated(node, axis):
            found[node].add(node)
    return found
