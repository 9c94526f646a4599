"""Making nodes: hash-consing, and the simplifications that keep products canonical.

In a contraction, a factor that lacks the contracted axis leaves it, and a factor on that axis alone moves to
the smaller operand: the large operands reach the matrix product as they were loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial

from rnnc.codegen import operations as ir
from rnnc.codegen.factors import (
    components,
    largest_factor,
    typical_size,
    without_broadcasts,
    without_inverses,
)
from rnnc.codegen.gradient_notes import Gradients
from rnnc.codegen.operations import COLUMN, COLUMNS, ROW, ROWS, TIME_AXES, Number, Op
from rnnc.codegen.program import Node
from rnnc.dsl.expression import Axes, union
from rnnc.dsl.functions import LN2, LOG2E


class Builder:
    """Creates the nodes of one compilation; equal nodes are made once."""

    def __init__(self, features: Axes = ()) -> None:
        self.order = {axis: number for number, axis in enumerate((*TIME_AXES, *features))}
        self._nodes: dict[tuple[Op, tuple[int, ...], Axes], Node] = {}
        self.gradients = Gradients()

    def copy(self) -> Builder:
        """A builder that finds the nodes made so far, and whose new nodes this one does not know."""
        other = Builder()
        other.order, other._nodes = self.order, dict(self._nodes)
        return other

    # Nodes

    def node(self, op: Op, args: Sequence[Node], axes: Axes) -> Node:
        """The one node of an operation on these arguments, as it is."""
        key = (op, tuple(argument.number for argument in args), axes)
        if key not in self._nodes:
            self._nodes[key] = Node(op, tuple(args), axes, len(self._nodes))
        return self._nodes[key]

    def load(self, load: ir.Load, axes: Axes) -> Node:
        """A value given to the program."""
        return self.node(load, (), axes)

    def constant(self, value: Number | int) -> Node:
        """A number; ln 2 and log2 e by name."""
        if value in (LN2, LOG2E):
            return self.node(ir.NamedConst("ln2" if value == LN2 else "log2e"), (), ())
        return self.node(ir.Const(_exact(value)), (), ())

    # Elementwise

    def add(self, terms: Iterable[tuple[Number | int, Node]]) -> Node:
        """The sum of coefficient * node, flattened, like terms collected."""
        collected: dict[Node, Number] = {}
        constant: Number = Fraction(0)
        for coefficient, node in terms:
            for inner, argument in self._terms(_exact(coefficient), node):
                if isinstance(argument.op, ir.Const):
                    constant = constant + inner * argument.op.value
                else:
                    collected[argument] = collected.get(argument, Fraction(0)) + inner
        collected = self._factored(self._merge_interleaved(collected))
        kept = sorted(((c, n) for n, c in collected.items() if c), key=lambda term: term[1].number)
        if constant:
            kept.append((Fraction(1), self.constant(constant)))
        if not kept:
            return self.constant(0)
        if len(kept) == 1:
            return self.multiply([kept[0][1]], kept[0][0])
        nodes = [node for _, node in kept]
        return self.node(ir.Add(tuple(c for c, _ in kept)), nodes, self.joined(nodes))

    def _factored(self, terms: dict[Node, Number]) -> dict[Node, Number]:
        """Terms that are the same large value times small factors become one: a x + b x = (a + b) x."""
        groups: dict[Node, list[tuple[Number, Node, list[Node]]]] = {}
        for node, coefficient in terms.items():
            large, rest = largest_factor(node)
            groups.setdefault(large, []).append((coefficient, node, rest))
        result: dict[Node, Number] = {}
        for large, members in groups.items():
            if len(members) == 1:
                coefficient, node, _ = members[0]
                result[node] = result.get(node, Fraction(0)) + coefficient
                continue
            weight = self.add((c, self.multiply(rest)) for c, _, rest in members)
            for coefficient, node in self._terms(Fraction(1), self.multiply([large, weight])):
                result[node] = result.get(node, Fraction(0)) + coefficient
        return result

    def _merge_interleaved(self, terms: dict[Node, Number]) -> dict[Node, Number]:
        """Interleaved terms become one, part by part."""
        stacked = [(c, n) for n, c in terms.items() if isinstance(n.op, ir.Interleave) and c]
        if len(stacked) < 2:
            return terms
        count = len(stacked[0][1].args)
        parts = [self.add((c, n.args[index]) for c, n in stacked) for index in range(count)]
        rest = {n: c for n, c in terms.items() if not isinstance(n.op, ir.Interleave)}
        merged = self.node(ir.Interleave(), parts, stacked[0][1].axes)
        return {**rest, merged: rest.get(merged, Fraction(0)) + 1}

    def _terms(self, coefficient: Number, node: Node) -> list[tuple[Number, Node]]:
        match node.op:
            case ir.Add(inner):
                return [(coefficient * c, a) for c, a in zip(inner, node.args, strict=True)]
            case ir.Multiply(inner_coefficient) if inner_coefficient != 1:
                return [(coefficient * inner_coefficient, self.multiply(node.args))]
            case _:
                return [(coefficient, node)]

    def multiply(self, factors: Iterable[Node], coefficient: Number | int = 1) -> Node:
        """coefficient * the product of the factors, flattened and sorted."""
        number = _exact(coefficient)
        flat: list[Node] = []
        for factor in factors:
            match factor.op:
                case ir.Const(value):
                    number = number * value
                case ir.Multiply(inner):
                    number = number * inner
                    flat += factor.args
                case _:
                    flat.append(factor)
        if number == 0:
            return self.constant(0)
        flat = without_broadcasts(without_inverses(flat))
        if not flat:
            return self.constant(number)
        flat.sort(key=lambda node: node.number)
        if len(flat) == 1 and number == 1:
            return flat[0]
        if len(flat) == 1 and isinstance(flat[0].op, ir.Add):
            op = flat[0].op
            return self.add(zip((number * c for c in op.coefficients), flat[0].args, strict=True))
        return self.node(ir.Multiply(number), flat, self.joined(flat))

    def apply(self, function: str, *args: Node | Number | int) -> Node:
        """An elementwise function of `rnnc.dsl.functions`."""
        nodes = [self.value(argument) for argument in args]
        return self.node(ir.Apply(function), nodes, self.joined(nodes))

    def power(self, base: Node, exponent: Fraction) -> Node:
        """base ** exponent; small whole powers as products."""
        if exponent.denominator == 1 and 1 <= exponent <= 4:
            return self.multiply([base] * int(exponent))
        if exponent == -1:
            return self.apply("reciprocal", base)
        if exponent == Fraction(-1, 2):
            return self.apply("rsqrt", base)
        return self.node(ir.Apply("power", exponent), [base], base.axes)

    def keep(self, value: Node, valid: Node, fill: int = 0) -> Node:
        """The value for tokens that exist, `fill` for others."""
        return self.node(ir.Keep(fill), [value, valid], self.joined([value, valid]))

    def sorted(self, axes: Axes) -> Axes:
        """The axes in one order for the whole program: time, then features as declared."""
        return tuple(sorted(axes, key=lambda axis: self.order.get(axis, len(self.order))))

    def joined(self, nodes: Iterable[Node]) -> Axes:
        """The axes of what the nodes broadcast to."""
        return self.sorted(union(node.axes for node in nodes))

    def value(self, value: Node | Number | int) -> Node:
        """A number as a node."""
        return value if isinstance(value, Node) else self.constant(value)

    # Axes

    def rename(self, value: Node, old: str, new: str) -> Node:
        """Relabel an axis: through elementwise operations to the values they combine."""
        if old == new or old not in value.axes:
            return value
        match value.op:
            case ir.Add(coefficients):
                parts = [self.rename(argument, old, new) for argument in value.args]
                return self.add(zip(coefficients, parts, strict=True))
            case ir.Multiply(coefficient):
                return self.multiply(
                    [self.rename(argument, old, new) for argument in value.args], coefficient
                )
            case ir.Apply() | ir.Keep():
                parts = [self.rename(argument, old, new) for argument in value.args]
                return self.node(value.op, parts, self.joined(parts))
            case ir.Sum(axis) if axis not in (*TIME_AXES, new):
                return self.sum(self.rename(value.args[0], old, new), axis)
            case ir.Rename(first, middle) if middle == old:
                return self.rename(value.args[0], first, new)
            case _:
                axes = tuple(new if axis == old else axis for axis in value.axes)
                return self.node(ir.Rename(old, new), [value], axes)

    def broadcast(self, value: Node, axis: str) -> Node:
        """The value repeated along an axis, if it lacks it."""
        return (
            value
            if axis in value.axes
            else self.node(ir.Broadcast(axis), [value], self.sorted((axis, *value.axes)))
        )

    def sum(self, value: Node, axis: str) -> Node:
        """The sum over an axis; a product of two values that share only that axis becomes a dot."""
        if axis not in value.axes:
            return self.multiply([value, self.node(ir.AxisSize(axis), (), ())])
        match value.op:
            case ir.Multiply(coefficient):
                inside = [factor for factor in value.args if axis in factor.axes]
                outside = [factor for factor in value.args if axis not in factor.axes]
                parts = components(inside, axis)
                if len(parts) == 2:
                    left, right = (self.multiply(part) for part in parts)
                    return self.multiply([*outside, self.dot(left, right, axis)], coefficient)
                if outside or coefficient != 1:
                    return self.multiply([*outside, self.sum(self.multiply(inside), axis)], coefficient)
            case ir.Broadcast(own) if own == axis:
                return self.sum(value.args[0], axis)
            case _:
                pass
        return self.node(ir.Sum(axis), [value], tuple(a for a in value.axes if a != axis))

    def dot(self, left: Node, right: Node, axis: str) -> Node:
        """sum over axis of left * right."""
        if axis not in left.axes or axis not in right.axes or set(left.axes) & set(right.axes) != {axis}:
            return self.sum(self.multiply([left, right]), axis)
        outside: list[Node] = []
        lone: list[Node] = []
        sides: list[Node] = []
        number: Number = Fraction(1)
        for side in (left, right):
            if isinstance(side.op, ir.Multiply):
                number = number * side.op.coefficient
                outside += [f for f in side.args if axis not in f.axes]
                lone += [f for f in side.args if f.axes == (axis,)]
                kept = [f for f in side.args if axis in f.axes and f.axes != (axis,)]
                sides.append(self.multiply(kept) if kept else self.constant(1))
            else:
                sides.append(side)
        if any(axis not in side.axes for side in sides):  # a vector: its factors stay with it
            sides, lone, outside, number = [left, right], [], [], Fraction(1)
        if lone:
            target = min((0, 1), key=lambda i: typical_size(sides[i].axes))
            sides[target] = self.multiply([sides[target], *lone])
        left, right = sides
        free = [tuple(a for a in side.axes if a != axis) for side in (left, right)]
        if self.sorted((*free[0], *free[1])) != (*free[0], *free[1]):
            left, right, free = right, left, free[::-1]
        return self.multiply([*outside, self.node(ir.Dot(axis), [left, right], (*free[0], *free[1]))], number)

    # Time

    def running(self, value: Node, direction: str, exclusive: bool) -> Node:
        """Running sums along time; see `Running`."""
        return self.node(ir.Running(direction, exclusive), [value], value.axes)  # type: ignore[arg-type]

    def first(self, value: Node) -> Node:
        """The first row; of running sums from the end, that is the sum."""
        match value.op:
            case ir.Running("suffix", False):
                return self.sum(value.args[0], ROW)
            case ir.Apply() if all(argument.axes[:1] in ((ROW,), ()) for argument in value.args):
                return self.node(
                    value.op, [self.first(a) if a.axes else a for a in value.args], value.axes[1:]
                )
            case _:
                assert value.axes[0] == ROW, value.axes
                return self.node(ir.First(), [value], value.axes[1:])

    def segment(self, value: Node, exclusive: bool, strict: bool) -> Node:
        """Sums between pairs of tokens; see `Segment`."""
        return self.node(ir.Segment(exclusive, strict), [value], (ROW, COLUMN))

    def mask(self, value: Node, strict: bool) -> Node:
        """The lower triangle of a matrix; see `Mask`."""
        if isinstance(value.op, ir.Const) and value.op.value == 0:
            return value
        return self.node(ir.Mask(strict), [value], value.axes)

    def solve(self, matrix: Node, right: Node, transposed: bool = False) -> Node:
        """(I - matrix)^-1 right, or with the transposed inverse."""
        row, column = matrix.axes
        old, new = (row, column) if transposed else (column, row)
        axes = tuple(new if axis == old else axis for axis in right.axes)
        return self.node(ir.Solve(transposed), [matrix, right], axes)

    def interleave(self, parts: Sequence[Node]) -> Node:
        """Parts over (ROW, ...) stacked row by row; a part may be the constant 0."""
        (axes,) = {part.axes[1:] for part in parts if part.axes}
        return self.node(ir.Interleave(), parts, (ROWS, *axes))

    def deinterleave(self, value: Node, index: int, count: int) -> Node:
        """Part `index` of `count` of a stacked value."""
        assert value.axes[0] == ROWS, value.axes
        return self.node(ir.Deinterleave(index, count), [value], (ROW, *value.axes[1:]))

    def assemble(self, blocks: Sequence[Node]) -> Node:
        """Blocks between tokens, row-major, as one matrix between stacked rows."""
        return self.node(ir.Assemble(), blocks, (ROWS, COLUMNS))

    def block(self, value: Node, row: int, column: int, count: int) -> Node:
        """One block of a matrix between stacked rows."""
        return self.node(ir.Block(row, column, count), [value], (ROW, COLUMN))

    # Micro-steps

    def flatten(self, value: Node, micro: str, time: str = ROW) -> Node:
        """Micro-steps as rows: the axes `time` and `micro` become ROWS (from COLUMN: COLUMNS).

        What is the same for all micro-steps of a token is repeated; what differs is flattened at its leaves.
        """
        if micro not in value.axes and time not in value.axes:
            return value
        op = ir.Flatten(micro, time, ROWS if time == ROW else COLUMNS)
        flat = partial(self.flatten, micro=micro, time=time)
        inner = None if micro not in value.axes else value.op
        match inner:
            case ir.Add(coefficients):
                return self.add(zip(coefficients, map(flat, value.args), strict=True))
            case ir.Multiply(coefficient):
                return self.multiply(map(flat, value.args), coefficient)
            case ir.Apply() | ir.Keep():
                parts = [flat(argument) for argument in value.args]
                return self.node(inner, parts, self.joined(parts))
            case ir.Sum(axis) if axis not in TIME_AXES:
                return self.sum(flat(value.args[0]), axis)
            case ir.Dot(axis) if axis not in TIME_AXES:
                return self.dot(flat(value.args[0]), flat(value.args[1]), axis)
            case ir.Broadcast(axis) if axis not in (micro, time):
                return self.broadcast(flat(value.args[0]), axis)
            case ir.Unflatten() if inner == ir.Unflatten(micro, time, op.rows):
                return value.args[0]
            case _:
                value = self.broadcast(self.broadcast(value, micro), time)
                axes = (op.rows if axis == time else axis for axis in value.axes if axis != micro)
                return self.node(op, [value], tuple(axes))

    def unflatten(self, value: Node, op: ir.Flatten) -> Node:
        """The tokens and micro-steps of a flattened value."""
        if op.rows not in value.axes:
            return value
        if value.op == op:
            return value.args[0]
        split = ((op.time, op.micro) if axis == op.rows else (axis,) for axis in value.axes)
        axes = tuple(axis for part in split for axis in part)
        return self.node(ir.Unflatten(op.micro, op.time, op.rows), [value], axes)

    # Rebuilding

    def with_args(self, node: Node, args: Sequence[Node]) -> Node:
        """The node with other arguments, simplified anew where the operation can be."""
        match node.op:
            case ir.Add(coefficients):
                return self.add(zip(coefficients, args, strict=True))
            case ir.Multiply(coefficient):
                return self.multiply(args, coefficient)
            case ir.Sum(axis):
                return self.sum(args[0], axis)
            case ir.Dot(axis):
                return self.dot(args[0], args[1], axis)
            case ir.Rename(old, new):
                return self.rename(args[0], old, new)
            case _:
                return self.node(node.op, args, node.axes)


def _exact(value: Number | int) -> Number:
    return Fraction(value) if isinstance(value, int) else value
