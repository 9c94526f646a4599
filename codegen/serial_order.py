"""The order of work in kernels that walk the chunks, and of any body: each value before its uses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.phases import Phase, Read, Step, Store, is_accumulated, is_free, is_heavy
from rnnc.codegen.program import Node, dependents, reachable
from rnnc.codegen.schedule import decay_gradients, needed
from rnnc.codegen.torch_sums import plain


def serial_phases(
    body: Sequence[Node],
    memory: Iterable[Array],
    stores: Sequence[Array],
    starts: Iterable[Node],
    ends: Iterable[Node],
) -> tuple[Phase, ...]:
    """One chunk of a kernel that walks them: every store as soon as it can be."""
    order = Order(body, memory, None)
    order.known |= set(starts)
    waiting = list(stores)
    heavy = _late_last(_terms_last(body, starts), needed(ends, order.memory, plain))
    for root in (*heavy, *(array.node for array in stores), *ends):
        waiting = order.store_ready(waiting)
        order.need(root)
    order.store_ready(waiting)
    return (Phase(None, tuple(order.once)),)


def _terms_last(body: Sequence[Node], starts: Iterable[Node]) -> list[Node]:
    """The products of a chunk: first those that no state goes into, last those that no other is made of:
    they are terms of sums, and wait in registers for the others.
    """
    heavy = [node for node in body if is_heavy(node)]
    moving = dependents(body, starts)
    inner = {n for root in heavy for n in reachable(map(plain, root.args))}
    return sorted(heavy, key=lambda node: (node not in inner, node.number in moving))


def _late_last(heavy: Sequence[Node], towards: Collection[Node]) -> list[Node]:
    """Products in the order of work, last those between a token and others, and what is made of them: no
    state waits for these, whose operands fill the registers meanwhile. `towards`: what states are made of.
    """
    late = {n for n in heavy if n not in towards and n.axes == (ir.ROW, ir.COLUMNS)}
    late |= {n for n in heavy if n not in towards and any(plain(x) in late for x in reachable(n.args))}
    return [*(n for n in heavy if n not in late), *(n for n in heavy if n in late)]


class Order:
    """Steps as they are appended: `once`, or into the loop over tiles while one is open."""

    def __init__(self, body: Sequence[Node], memory: Iterable[Array], axis: str | None) -> None:
        self.body, self.axis = body, axis
        self.memory = {array.node: array for array in memory}
        self.groups = decay_gradients(body)
        # Read in the loops that need them: matrices held from tile to tile fill the registers.
        self.weights = {plain(node.args[0]) for node in self.groups}
        # What every loop reads again, and what of it the one that is open has read.
        self.read_again: set[Node] = set()
        self.here: set[Node] = set()
        # What is written as soon as it is formed, for loops that read it.
        self.between: dict[Node, Array] = {}
        # Matrices between tokens that the loop forms.
        self.inner: Collection[Node] = ()
        self.known: set[Node] = set()
        self.once: list[Step] = []
        self.tiled: list[Step] | None = None
        self.sums: list[Node] = []

    def need(self, node: Node, inside: bool = True) -> None:
        """Appends what makes the node known, arguments first; `inside`: for what is formed in the loop that
        is open, if one is.
        """
        node = plain(node)
        inside = inside and self.tiled is not None
        if node not in self.known and not is_free(node) and not (inside and node in self.read_again):
            self._append(node, inside)
        if inside and node in self.read_again and node not in self.here:
            assert self.tiled is not None
            self.tiled.append(Read(self.memory[node]))
            self.here.add(node)

    def _append(self, node: Node, inside: bool) -> None:
        """Appends what reads or forms the node."""
        inner = self.axis in node.axes or node in self.inner
        tiled = inner or (node in self.memory and node in self.weights)
        place = self.once if self.tiled is None or not tiled else self.tiled
        if node in self.memory:
            place.append(Read(self.memory[node]))
            self.known.add(node)
            return
        group, summed = self.groups.get(node), self.axis is not None and is_accumulated(node, self.axis)
        for argument in group.decay.args if group else node.args:
            self.need(argument, inside and (inner or summed))
        if self.tiled is not None and summed:
            self.sums.append(node)
            place = self.tiled
        members = [member for member in group.members if member] if group else [node]
        place += members
        self.known |= set(members)
        for array in (self.between[member] for member in members if member in self.between):
            place.append(Store(array))
            self.memory[array.node] = array
            self.read_again.add(array.node)

    def store_ready(self, waiting: Iterable[Array]) -> list[Array]:
        """Appends the stores whose values are there; returns the others."""
        left = []
        for array in waiting:
            if plain(array.node) in self.known or is_free(array.node):
                (self.once if self.tiled is None else self.tiled).append(Store(array))
            else:
                left.append(array)
        return left
