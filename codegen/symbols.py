"""The values of a form that stand in its equations, or in the spec, and their symbols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.canonical import Canonical, leaves, opened
from rnnc.codegen.lowering import Lowering
from rnnc.codegen.operands import unscaled
from rnnc.codegen.program import Carry, Node
from rnnc.codegen.torch_sums import is_number, plain
from rnnc.dsl.abbreviations import Abbreviations
from rnnc.dsl.expression import Delay, Expression, Final, Identity, Name, Select, walk
from rnnc.dsl.normal import Normal
from rnnc.dsl.ranges import inference

T = TypeVar("T")
RUNNING = {
    ("prefix", False): "G",
    ("prefix", True): "G_before",
    ("suffix", True): "G_after",
    ("suffix", False): "G_from",
}


class Symbols:
    """`of`: the symbols of values; `products`: those of factors that may stand among others.

    `nodes`: all values, arguments first; `derived`: the numbers of derivatives.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        derived: frozenset[int],
        carries: Iterable[Carry],
        normal: Normal,
        builder: Builder,
    ) -> None:
        self.nodes, self.derived, self.normal = nodes, derived, normal
        self.canonical = Canonical()
        self.of: dict[Node, str] = {}
        self.lets: set[Node] = set()
        self.products: dict[tuple[int, ...], str] = {}  # by `Canonical.product`
        build = builder.copy()  # what is lowered only to be found leaves no trace
        for time in (ir.ROW, None):
            self._spec(Lowering(build, normal.recurrence, time))
        self._decays()
        self._matrices()
        for carry in carries:
            time = "before" if carry.name.startswith("d'") else "new"  # cotangents walk back
            self._add(carry.end, f"{carry.name}_{time}".replace("'", ""))

    def _add(self, node: Node, name: str) -> None:
        node = plain(node)
        if not isinstance(node.op, ir.Load) and not is_number(node):
            self.of.setdefault(node, name)

    def _spec(self, lowering: Lowering) -> None:
        """Lets, the decay, what is written, and what scales keys, reads and queries."""
        lets = list(self._lets(lowering))
        there = {self.canonical.key(node): node for node in reversed(self.nodes)}
        for name, node in lets:
            if opened(node)[0] == 1:
                self._product(leaves(node), name)
        for name, node in (*lets, *self._updates(lowering)):
            if (found := there.get(self.canonical.key(node))) is not None:
                self._add(found, name)
                if (name, node) in lets and self.of.get(found) == name:
                    self.lets.add(found)
        for name, vector in self._vectors():
            if _is_lowered(vector, lowering):
                node = lowering.lower(vector)
                if (found := there.get(self.canonical.key(node))) is not None:
                    self._add(found, name)
                small = [leaf for leaf in leaves(node) if len(leaf.axes) < len(node.axes)]
                self._product(small, f"{name}_scale")
                if opened(node)[0] == 1:
                    self._product(leaves(node), name)

    def _product(self, factors: list[Node], name: str) -> None:
        if len(factors) > 1:
            self.products.setdefault(self.canonical.product(factors), name)

    def _lets(self, lowering: Lowering) -> Iterator[tuple[str, Node]]:
        normal = self.normal
        for let, value in Abbreviations(normal.recurrence, inference(normal.recurrence)).lets:
            if _is_lowered(value, lowering):
                lowering.names[let.name] = lowering.lower(value)
                yield let.name, lowering.names[let.name]
        if normal.decay is not None and _is_lowered(normal.decay, lowering):
            yield "D", lowering.lower(normal.decay)

    def _updates(self, lowering: Lowering) -> Iterator[tuple[str, Node]]:
        """v + f^T S, of one token."""
        build, normal = lowering.builder, self.normal
        old = build.load(ir.Load(normal.state, "state"), normal.axes)
        for index, write in _numbered(normal.reads):
            values = [value for value in (write.read, write.value) if value is not None]
            if all(_is_lowered(value, lowering) for value in values):
                read, *others = map(lowering.lower, values)
                terms = [build.dot(build.broadcast(read, normal.key_axis), old, normal.key_axis), *others]
                yield f"u{index}", build.add((1, term) for term in terms)

    def _vectors(self) -> Iterator[tuple[str, Expression]]:
        """Keys, reads and queries."""
        for index, write in _numbered(self.normal.writes):
            yield f"w{index}", write.key
        for index, write in _numbered(self.normal.reads):
            read = write.read_of_decayed or write.read
            assert read is not None
            yield f"f{index}", read
            yield f"f{index}", write.read or read
        for index, readout in _numbered(self.normal.readouts):
            yield f"q{index}", readout.query

    def _decays(self) -> None:
        """Decays, or their logarithms, and what runs along time of them."""
        for node in self.nodes:
            if node.number in self.derived:
                continue
            match node.op:
                case ir.Running(direction, exclusive):
                    self._add(node.args[0], "log2_D")
                    self._add(node, f"log2_{RUNNING[direction, exclusive]}")
                case ir.RunningProduct(direction, exclusive):
                    self._add(node.args[0], "D")
                    self._add(node, RUNNING[direction, exclusive])
                case ir.Segment(exclusive):
                    self._add(node.args[0], "log2_D")
                    self._add(node, "log2_G_before_ij" if exclusive else "log2_G_ij")
                case ir.Path(exclusive):
                    self._add(node.args[0], "D")
                    self._add(node, "G_before_ij" if exclusive else "G_ij")
                case ir.DecayDot(_, mode):
                    self._add(node.args[2], "log2_D" if mode == "log" else "D")
                case ir.Sum(ir.ROW) if self.of.get(plain(node.args[0])) == "log2_D":
                    self._add(node, "log2_G_C")
                case ir.First() if self.of.get(plain(node.args[0])) == "G_from":
                    self._add(node, "G_C")
                case ir.Apply("exp2") if self.of.get(plain(node.args[0]), "").startswith("log2_"):
                    self._add(node, self.of[plain(node.args[0])].removeprefix("log2_"))
                case _:
                    pass

    def _matrices(self) -> None:
        """The matrices of the chunked form."""
        solved = self._solved()
        for node in self.nodes:
            match node.op:
                case ir.Inverse():
                    self._add(node.args[0], "P")
                    self._add(node, "inv")
                case ir.Dot(axis) if node.number not in self.derived:
                    matrix = unscaled(plain(node.args[0]))
                    if isinstance(matrix.op, ir.Inverse | ir.Block):
                        self._add(node, "U")
                    elif axis in (ir.COLUMN, ir.COLUMNS) and len(matrix.axes) == 2:
                        self._add(matrix, "P_rp" if node in solved else "A")
                case _:
                    pass

    def _solved(self) -> set[Node]:
        """The terms of what the triangular systems are solved for."""
        found: set[Node] = set()
        for node in reversed(self.nodes):
            if isinstance(node.op, ir.Dot) and isinstance(plain(node.args[0]).op, ir.Inverse | ir.Block):
                found.add(plain(node.args[1]))
            elif node in found and isinstance(node.op, ir.Add | ir.Multiply):
                found.update(map(plain, node.args))
        return found


def _numbered(items: Sequence[T]) -> list[tuple[str, T]]:
    """Each with its number, if there are several."""
    return [(str(number) if len(items) > 1 else "", item) for number, item in enumerate(items, 1)]


def _is_lowered(expression: Expression, lowering: Lowering) -> bool:
    """Whether the lowering knows all of an expression: no loop, no earlier token, no state."""
    parts = list(walk(expression))
    known = all(part.name in lowering.names for part in parts if isinstance(part, Name))
    return known and not any(isinstance(part, Delay | Final | Identity | Select) for part in parts)
