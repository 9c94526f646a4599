"""Nodes of a kernel -> its phases: every value right before its first use, few large values at a time.

In a kernel that is parallel over chunks, one loop over the tiles of an axis adds up all small sums (scalars,
vectors, matrices between tokens). Then each large result [tokens, channels] is built in one accumulator:
what is elementwise first, then products of small matrices, then, in a loop, products over the tiled axis.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.accumulation import is_product
from rnnc.codegen.arrays import Array
from rnnc.codegen.operands import unscaled
from rnnc.codegen.phase_nodes import (
    crosses,
    is_alone,
    is_large,
    is_square,
    lasting_values,
    loop_sources,
    matrix_count,
    products_of_one_sum,
    solved,
)
from rnnc.codegen.phases import Anew, Part, Phase, Store, is_accumulated, levels
from rnnc.codegen.program import Node, reachable
from rnnc.codegen.schedule import needed
from rnnc.codegen.serial_order import Order
from rnnc.codegen.settling import Settling
from rnnc.codegen.torch_sums import plain

# Matrices between tokens that are formed of the sums of a loop in one go, at most: for sm_90 there was room
# for 30 in the registers, not for 64.
MANY = 32


def chunk_phases(
    body: Sequence[Node],
    memory: Iterable[Array],
    stores: Sequence[Array],
    axis: str,
    whole: bool = False,
    inner: Collection[Node] = (),
) -> tuple[Phase, ...]:
    """One chunk of a kernel that is parallel over chunks; `axis` is tiled. `whole`: what has another axis
    beside the tokens is read again in every loop. `inner`: matrices between tokens that are formed in the
    loop that needs them, one after the other, as are all products there.
    """
    return _Chunk(body, memory, stores, axis, whole, inner).phases()


class _Chunk(Order):
    """The phases of a kernel that is parallel over chunks.

    `later`: what one loop writes and a later one reads.
    """

    def __init__(
        self,
        body: Sequence[Node],
        memory: Iterable[Array],
        stores: Sequence[Array],
        axis: str,
        whole: bool,
        inner: Collection[Node],
    ) -> None:
        written = {array.name for array in stores}
        self.later = {array.node for array in memory if array.name in written}
        super().__init__(body, [array for array in memory if array.name not in written], axis)
        if whole:
            self.read_again = {node for node in self.memory if axis not in node.axes and is_large(node)}
        self.inner = inner
        self.between = {a.node: a for a in stores if a.node in self.later and axis not in a.node.axes}
        stores = [array for array in stores if array.node not in self.between]
        self.done: list[Phase] = []
        self.tile_axis = axis
        self.along = [array for array in stores if axis in array.node.axes]
        self.stores = [array for array in stores if axis not in array.node.axes]
        self.inline = products_of_one_sum(body, self.stores)
        rest = [node for node in body if node not in self.inline]
        self.levels = levels(rest, axis)
        self.sources = loop_sources(rest, self.memory, axis)
        self.lasting = lasting_values(body, self.sources)
        self.late = self._postponed() if inner else {}
        self.summed: set[Node] = set()
        # Large sums, and what is summed up in the same loop.
        self.beside: dict[Node, Sequence[Node]] = {}
        self.fresh: set[Node] = set()

    def phases(self) -> tuple[Phase, ...]:
        """All phases in order."""
        totals = [node for node in self.levels if node not in self.memory and self._is_sum(node)]
        waited_for = set[Node]().union(*(self.sources[node] - {node} for node in totals))
        waited_for.update(*(self.sources.get(plain(array.node), ()) for array in self.along))
        for level in range(max(self.levels.values(), default=0) + 1):
            here = [node for node in totals if self._level(node) == level + 1]
            along = [array for array in self.along if self._level(plain(array.node)) == level]
            sums = [node for node in here if is_large(node)]
            numbers = [node for node in here if not is_large(node) and not is_alone(node)]
            self.beside |= self._beside(numbers, along, sums)
            apart = set().union(*self.beside.values())
            self._small([node for node in numbers if node not in apart], along)
            for node in sums:
                if node in waited_for:
                    self._loop([node])
        inverted = solved(self.body)  # after what else the operands are for, so that none waits meanwhile
        ordered = sorted(self.stores, key=lambda array: plain(array.node) in inverted)
        small = [array for array in ordered if not is_large(array.node)]
        large = [array for array in self.stores if is_large(array.node)]
        for core in self._operands(large):
            self.need(core)
        early = [array for array in small if not self._pending(array.node)]
        self._close()
        self._finish(early)
        for array in large:
            self._close()
            self._build(array)
        self._finish([array for array in small if array not in early])
        self._end()
        return tuple(self.done)

    def _beside(
        self, small: Sequence[Node], along: Sequence[Array], large: Sequence[Node]
    ) -> dict[Node, list[Node]]:
        """By large sum, the numbers that are summed up in its loop: as both take a state that may have to be
        formed anew, and nothing else of a loop before does.
        """
        roots = [*small, *(plain(array.node) for array in along)]
        taking = [node for node in roots if self._states_in_loop(node)]
        if any(node.axes for node in taking):
            return {}
        found: dict[Node, list[Node]] = {}
        for node in taking:
            states = self._states_in_loop(node)
            for total in (each for each in large if states <= self._states_in_loop(each)):
                found.setdefault(total, []).append(node)
                break
        return found

    def _states_in_loop(self, total: Node) -> set[Node]:
        """The states that the loop which forms a sum reads, of those that need not be kept."""
        found, stack = set[Node](), [plain(argument) for argument in total.args]
        while stack:
            node = stack.pop()
            if node in self.memory:
                found |= {node} if self.memory[node].place == "kept" else set()
            elif self._is_tiled(node):
                stack += map(plain, node.args)
        return found

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

    def _finish(self, stores: Iterable[Array]) -> None:
        for array in stores:
            self._sum_up(array.node)
            self.need(array.node)
            self.once.append(Store(array))

    def _level(self, node: Node) -> int:
        return self.late.get(node, self.levels.get(node, 0))

    def _postponed(self) -> dict[Node, int]:
        """What waits for the loop that forms the inner matrices, though it could be formed before: only
        there is it formed once.
        """
        first = max(self.levels[node] for node in self.inner)
        before = set[Node]().union(*(self.sources[node] for node in (*self.inner, *self.between)))
        sums = {n: max(level, first + 1) for n, level in self.levels.items() if self._is_sum(n)}
        along = {node: max(self.levels.get(node, 0), first) for node in (plain(a.node) for a in self.along)}
        return {node: level for node, level in sums.items() if node not in before} | along

    def _is_sum(self, node: Node) -> bool:
        return is_accumulated(node, self.tile_axis)

    def _is_tiled(self, node: Node) -> bool:
        return self.tile_axis in node.axes

    def _is_inside(self, node: Node) -> bool:
        return self._is_tiled(node) or node in self.inner

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
        totals = [node for total in totals for node in (*self.beside.get(total, ()), total)]
        totals = [node for node in totals if node not in self.summed]
        if not totals and not along:
            return
        for root in (*totals, *(plain(array.node) for array in along)):
            for earlier in self._pending(root):
                if earlier not in totals:
                    self._loop([earlier])
        self.tiled, self.sums = [], []
        self.here.clear()
        waiting = self._settle(totals, along)
        for root in totals:
            self.need(root)
        for array in waiting:
            self.need(array.node)
            self.store_ready([array])
        self._end_loop()
        self.memory |= {array.node: array for array in along if array.node in self.later}
        self._consume()

    def _settle(self, totals: Sequence[Node], along: Sequence[Array]) -> Sequence[Array]:
        """Forms products under decays, if there are several, one by one, with what becomes ready after each;
        returns the arrays that are left.
        """
        assert self.tiled is not None
        roots = [*totals, *(array.node for array in along)]
        body = needed(roots, {*self.known, *self.memory}, plain)
        products = {n: self.groups[n].decay for n in body if n in self.groups}
        if self.inner:
            products |= {n: n for n in body if crosses(n, self.tile_axis)}
        work = Settling(body, products, self.tile_axis, 1 if self.inner else 2)
        if len(work.left) < 2:
            return along
        while work.left:
            self.tiled.append(Anew())
            self.here.clear()
            self.known = {n for n in self.known if not self._is_inside(n) or not work.is_cheap(n)}
            self.need(work.take())
            for part in work.parts(self.need):
                self.tiled.append(part)
                if part.total not in work.waiting:
                    self.known.add(part.total)
            for root in filter(work.is_ready, totals):
                self.need(root)
            ready = [array for array in along if work.is_ready(array.node)]
            for array in ready:
                self.need(array.node)
                self.store_ready([array])
            along = [array for array in along if array not in ready]
        return along

    def _end_loop(self) -> None:
        assert self.tiled is not None
        self._end()
        self.done.append(Phase(self.axis, tuple(self.tiled), tuple(self.sums)))
        self.summed |= set(self.sums)
        self.fresh |= {node for node in self.sums if len(node.axes) == 2}
        self.tiled = None
        self._forget()

    def _forget(self) -> None:
        """What is in memory is read again from here on, and what costs little is formed of it again."""
        self.known = {node for node in self.known if not self._is_inside(node) and node in self.lasting}

    def _close(self) -> None:
        """Ends a phase without a loop; nothing is forgotten where nothing but stores was done."""
        if any(not isinstance(step, Store) for step in self.once):
            self._end()
            self._forget()

    def _end(self) -> None:
        if self.once:
            self.done.append(Phase(None, tuple(self.once)))
            self.once = []

    def _consume(self) -> None:
        """Forms the vectors and scalars that matrices of the last loops go into."""
        roots = []
        for node in self.body:
            if self._is_tiled(node) or node in self.known:
                continue
            if not any(plain(argument) in self.fresh for argument in node.args):
                continue
            if len(node.axes) == 2:
                self.fresh.add(node)
            elif not self._pending(node):
                roots.append(node)
        if self._crowded(roots):
            self._in_parts(roots)
        for root in roots:
            self.need(root)

    def _crowded(self, roots: Sequence[Node]) -> bool:
        """Whether the roots are formed of sums of several sizes, and by way of more matrices between tokens
        than registers have room for beside them.
        """
        formed = needed(roots, {*self.known, *self.memory}, plain)
        sizes = {matrix_count(node) for node in self.sums if is_square(node)}
        return len(sizes) > 1 and sum(map(matrix_count, formed)) > MANY

    def _in_parts(self, roots: Sequence[Node]) -> None:
        """Forms the roots sum by sum, the largest first: of each what is gathered to smaller matrices, which
        may wait for another sum, then what needs no other, that of several sums first.
        """
        sums = sorted((n for n in self.sums if is_square(n)), key=matrix_count, reverse=True)
        formed = list(needed(roots, {*self.known, *self.memory}, plain))
        of = {node: self.sources.get(node, set()).intersection(sums) for node in formed}
        done: set[Node] = set()
        for total in sums:
            done.add(total)
            here = [node for node in formed if total in of[node] and of[node] <= done]
            gathered = [node for node in here if isinstance(node.op, ir.OverSteps) and is_square(node)]
            for node in gathered:
                self.need(node)
            if gathered:
                self._part()
            for node in sorted((node for node in here if node in roots), key=lambda node: -len(of[node])):
                self.need(node)
            self._part()

    def _part(self) -> None:
        """Ends a phase without a loop; what it read is read again, what it formed of that stays."""
        self._end()
        self.known = {node for node in self.known if node not in self.memory and not is_large(node)}

    def _build(self, array: Array) -> None:
        """Appends what forms a large array, term by term, and its store."""
        total = plain(array.node)
        if isinstance(total.op, ir.Add) and total not in self.known:
            self._accumulate(total)
        else:
            self._sum_up(total)
            self.need(total)
        self.once.append(Store(array))

    def _accumulate(self, total: Node) -> None:
        """Appends the terms of a sum: elementwise ones, matrix products, those over the tiled axis."""
        ranked = sorted(range(len(total.args)), key=lambda index: self._rank(plain(total.args[index])))
        over_tiles = [index for index in ranked if self._rank(plain(total.args[index])) == 2]
        first = True
        for index in ranked[: len(ranked) - len(over_tiles)]:
            term = plain(total.args[index])
            inline = term in self.inline
            for node in term.args if inline else [term]:
                self._sum_up(node)
                self.need(node)
            self.once.append(Part(total, index, first, inline))
            first = False
        if over_tiles:
            for index in over_tiles:
                for node in plain(total.args[index]).args:
                    self._sum_up(node)
            self.tiled, self.sums = [], [total] if first else []
            for index in over_tiles:
                for node in plain(total.args[index]).args:
                    self.need(node)
                self.tiled.append(Part(total, index, False, True))
            self._end_loop()
        self.known.add(total)

    def _operands(self, stores: Sequence[Array]) -> list[Node]:
        """The matrices between tokens that sums were made into and large results are made of."""
        reached = reachable(plain(array.node) for array in stores)
        operands = {unscaled(plain(n)) for x in reached if is_product(x) for n in x.args}
        return [n for n in self.body if n in operands and is_square(n) and self._is_ready(n)]

    def _is_ready(self, node: Node) -> bool:
        return bool(self.sources.get(node)) and not self._pending(node)

    def _rank(self, term: Node) -> int:
        return 0 if term not in self.inline else 2 if self._is_sum(term) else 1
