"""Running a tile program on small numpy arrays, straight from the definitions of its operations.

One evaluator serves float64 and exact numbers (object arrays of fractions, polynomials or duals, see
`rnnc.codegen.exact`). It is what every printer is compared with, so it is written to be obviously right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any, assert_never

import numpy as np

from rnnc.codegen import operations as ir
from rnnc.codegen.float_functions import FLOAT_FUNCTIONS
from rnnc.codegen.operations import COLUMN, COLUMNS, LAST, MIDDLE, ROW, ROWS
from rnnc.codegen.program import Node, Program
from rnnc.dsl.expression import Axes

Array = Any


@dataclass(frozen=True)
class Arithmetic:
    """What the evaluator needs of its numbers."""

    number: Callable[[ir.Number], Any]
    apply: Callable[..., Any]  # (function, *scalars) -> scalar; `power` gets (base, exponent)
    named: Mapping[str, Any]
    minus_infinity: Any
    dtype: Any


def evaluate(
    program: Program, loads: Mapping[str, Array], sizes: Mapping[str, int], using: Arithmetic
) -> dict[str, Array]:
    """All results and carried ends by name; `loads` by the names of loads (over rows: followed by ROWS),
    `sizes` by axis (time: ROW).
    """
    doubled = {axis + "'" * primes: size for axis, size in sizes.items() for primes in range(4)}
    run = _Evaluation(loads, {**_time(sizes), **doubled}, using)
    for node in program.nodes():
        run.values[node] = run.node(node)
    found = {name: run.expanded(node) for name, node in program.results.items()}
    return found | {carry.name: run.expanded(carry.end) for carry in program.carries}


def _time(sizes: Mapping[str, int]) -> dict[str, int]:
    return dict.fromkeys((ROW, MIDDLE, COLUMN, LAST), sizes[ROW]) if ROW in sizes else {}


class _Evaluation:
    def __init__(self, loads: Mapping[str, Array], sizes: Mapping[str, int], using: Arithmetic) -> None:
        self.loads, self.sizes, self.using = loads, sizes, using
        self.values: dict[Node, Array] = {}

    def expanded(self, node: Node) -> Array:
        return np.asarray(self.values[node])

    def aligned(self, node: Node, axes: Axes) -> Array:
        """The node's value, transposed and with new axes of size 1, to broadcast over `axes`."""
        value = np.asarray(self.values[node])
        order = [node.axes.index(axis) for axis in axes if axis in node.axes]
        value = value.transpose(order)
        return value[tuple(slice(None) if axis in node.axes else None for axis in axes)]

    def zeros(self, shape: Sequence[int]) -> Array:
        return np.full(tuple(shape), self.using.number(Fraction(0)), dtype=self.using.dtype)

    def ones(self, shape: Sequence[int]) -> Array:
        return np.full(tuple(shape), self.using.number(Fraction(1)), dtype=self.using.dtype)

    def node(self, node: Node) -> Array:
        args = [np.asarray(self.values[argument]) for argument in node.args]
        match node.op:
            case ir.Load(name):
                return np.asarray(self.loads[f"{name}{ROWS}" if ROWS in node.axes else name])
            case ir.Const(value):
                return np.asarray(self.using.number(value), dtype=self.using.dtype)
            case ir.NamedConst(name):
                return np.asarray(self.using.named[name], dtype=self.using.dtype)
            case ir.AxisSize(axis):
                return np.asarray(self.using.number(Fraction(self.sizes[axis])), dtype=self.using.dtype)
            case ir.Add(coefficients):
                terms = (self.aligned(a, node.axes) for a in node.args)
                return reduce(np.add, (self.scaled(t, c) for c, t in zip(coefficients, terms, strict=True)))
            case ir.Multiply(coefficient):
                product = reduce(np.multiply, (self.aligned(a, node.axes) for a in node.args))
                return self.scaled(product, coefficient)
            case ir.Apply("power", exponent):
                return self.map(lambda x: self.using.apply("power", x, exponent), *args)
            case ir.Apply(function):
                parts = [self.aligned(a, node.axes) for a in node.args]
                return self.map(lambda *xs: self.using.apply(function, *xs), *parts)
            case ir.Keep(fill):
                value, valid = (self.aligned(a, node.axes) for a in node.args)
                return self.map(lambda x, m: x if m == 1 else self.using.number(Fraction(fill)), value, valid)
            case ir.Softmax(axis):
                index = node.axes.index(axis)
                raised = self.map(lambda x: self.using.apply("exp", x), args[0])
                total = self.map(
                    lambda x: self.using.apply("reciprocal", x), raised.sum(index, keepdims=True)
                )
                return raised * total
            case ir.Rename():
                return args[0]
            case ir.Sum(axis):
                return args[0].sum(node.args[0].axes.index(axis))
            case ir.Max(axis):
                return args[0].max(node.args[0].axes.index(axis))
            case ir.Within():
                return args[0]
            case ir.Broadcast(axis):
                shape = [
                    self.sizes[axis] if a == axis else args[0].shape[node.args[0].axes.index(a)]
                    for a in node.axes
                ]
                return np.broadcast_to(self.aligned(node.args[0], node.axes), shape)
            case ir.First():
                return args[0][0]
            case ir.AtFirst():
                out = self.zeros((self.sizes[ROW], *args[0].shape))
                out[0] = args[0]
                return out
            case ir.Dot(axis):
                left, right = (a.axes.index(axis) for a in node.args)
                return np.tensordot(args[0], args[1], (left, right))
            case _:
                return self.time(node, node.op, args)

    def scaled(self, value: Array, coefficient: ir.Number) -> Array:
        return value if coefficient == 1 else np.multiply(value, np.asarray(self.using.number(coefficient)))

    def map(self, function: Callable[..., Any], *args: Array) -> Array:
        return np.asarray(np.frompyfunc(function, len(args), 1)(*args), dtype=self.using.dtype)

    def time(self, node: Node, op: Any, args: list[Array]) -> Array:
        """Operations along time, each from its definition."""
        match op:
            case ir.Running(direction, exclusive):
                return self.scan(args[0], direction, exclusive, np.add, self.zeros)
            case ir.LinearScan(direction, exclusive):
                return self.linear_scan(args[0], args[1], direction, exclusive)
            case ir.RunningProduct(direction, exclusive):
                return self.scan(args[0], direction, exclusive, np.multiply, self.ones)
            case ir.RunningProductAdjoint(direction, exclusive):
                return self.running_product_adjoint(args[0], args[2], direction, exclusive)
            case ir.Segment(exclusive, strict):
                return self.pairs(
                    exclusive,
                    strict,
                    lambda ts: sum((args[0][t] for t in ts), self.using.number(Fraction(0))),
                    self.using.minus_infinity,
                )
            case ir.Path(exclusive, strict):
                return self.pairs(exclusive, strict, lambda ts: self.product(args[0], ts))
            case ir.SegmentAdjoint(exclusive, strict):
                out = self.zeros(args[0].shape[:1])
                for i, j in self.tokens(exclusive or strict):
                    for t in self.between(i, j, exclusive):
                        out[t] = out[t] + args[0][i, j]
                return out
            case ir.PathAdjoint(exclusive, strict):
                out = self.zeros(args[0].shape)
                for i, j in self.tokens(exclusive or strict):
                    ts = self.between(i, j, exclusive)
                    for t in ts:
                        rest = self.product(args[0], [s for s in ts if s != t])
                        out[t] = out[t] + rest * args[1][i, j]
                return out
            case ir.DecayDot() | ir.DecayDotRows() | ir.DecayDotColumns() | ir.DecayDotDecay():
                return self.decay_dot(node, op, args)
            case ir.Mask(strict):
                out = self.zeros(args[0].shape)
                for i, j in self.allowed(node.axes, args[0].shape, strict):
                    out[i, j] = args[0][i, j]
                return out
            case ir.Solve(transposed):
                return self.solve(
                    args[0].T if transposed else args[0], node.args[1], node.args[0], transposed
                )
            case ir.Inverse():
                return self.substitute(args[0], self.identity(args[0].shape[0]), False)
            case ir.InverseAdjoint():
                return np.tril(args[0].T @ args[1] @ args[0].T, -1)
            case ir.Interleave():
                shape = next(a.shape for a in args if a.shape)
                parts = [np.broadcast_to(a, shape) for a in args]
                return np.stack(parts, 1).reshape(-1, *shape[1:])
            case ir.Deinterleave(index, count):
                return args[0][index::count]
            case ir.Assemble():
                return self.assemble(args)
            case ir.Block(row, column, count):
                return args[0][row::count, column::count]
            case ir.Flatten(micro, time, rows):
                split = ((time, micro) if axis == rows else (axis,) for axis in node.axes)
                value = self.aligned(node.args[0], tuple(axis for part in split for axis in part))
                where = node.axes.index(rows)
                return value.reshape(*value.shape[:where], -1, *value.shape[where + 2 :])
            case ir.Unflatten(micro, _, rows):
                where = node.args[0].axes.index(rows)
                shape = args[0].shape
                return args[0].reshape(*shape[:where], -1, self.sizes[micro], *shape[where + 1 :])
            case ir.Repeat(micro, _, rows):
                return args[0].repeat(self.sizes[micro], node.axes.index(rows))
            case ir.OverSteps(micro, _, rows, largest):
                where, shape = node.args[0].axes.index(rows), args[0].shape
                value = args[0].reshape(*shape[:where], -1, self.sizes[micro], *shape[where + 1 :])
                return value.max(where + 1) if largest else value.sum(where + 1)
            case ir.OverTokens(micro):
                return args[0].reshape(-1, self.sizes[micro], *args[0].shape[1:]).sum(0)
            case _:
                raise AssertionError(op)

    def scan(
        self,
        x: Array,
        direction: str,
        exclusive: bool,
        merge: Callable[[Any, Any], Any],
        start: Callable[[Any], Array],
    ) -> Array:
        x = x[::-1] if direction == "suffix" else x
        out, running = [], start(x.shape[1:])
        for row in x:
            before, running = running, merge(running, row)
            out.append(before if exclusive else running)
        stacked = np.stack(out[::-1] if direction == "suffix" else out)
        return stacked.astype(self.using.dtype)

    def linear_scan(self, d: Array, x: Array, direction: str, exclusive: bool) -> Array:
        """y[i] is the sum over the x[j] up to i, each times the decays between j and i."""
        size, out = d.shape[0], self.zeros(x.shape)
        for i in range(size):
            for j in range(i if exclusive else i + 1):
                row, column = (i, j) if direction == "prefix" else (j, i)
                factor = self.product(d, self.between(i, j, exclusive))
                term = np.multiply(factor, x[column])
                out[row] = np.add(out[row], term)
        return out

    def running_product_adjoint(self, d: Array, dout: Array, direction: str, exclusive: bool) -> Array:
        size = d.shape[0]
        out = self.zeros(d.shape)
        for i in range(size):
            if direction == "prefix":
                used = range(i if exclusive else i + 1)
            else:
                used = range(i + 1 if exclusive else i, size)
            for t in used:
                rest = self.product(d, [s for s in used if s != t])
                out[t] = np.add(out[t], np.multiply(rest, dout[i]))
        return out

    def between(self, i: int, j: int, exclusive: bool) -> range:
        return range(j + 1, i if exclusive else i + 1)

    def tokens(self, strict: bool) -> list[tuple[int, int]]:
        """The pairs of tokens in the lower triangle."""
        return [(i, j) for i in range(self.sizes[ROW]) for j in range(i if strict else i + 1)]

    def allowed(self, axes: Axes, shape: Sequence[int], strict: bool) -> list[tuple[int, int]]:
        """The pairs in the lower triangle of `Mask`."""
        rows, columns = shape
        steps = columns // rows if axes == (ROW, COLUMNS) else 1
        return [(i, j) for i in range(rows) for j in range(columns) if j // steps < i + (not strict)]

    def pairs(self, exclusive: bool, strict: bool, value: Callable[[range], Any], rest: Any = None) -> Array:
        size = self.sizes[ROW]
        out = self.zeros((size, size))
        if rest is not None:
            out[:] = rest
        for i, j in self.tokens(exclusive or strict):
            out[i, j] = value(self.between(i, j, exclusive))
        return out

    def decay_dot(self, node: Node, op: Any, args: list[Array]) -> Array:
        """All four contractions of sum M[i,j] x[i,k] y[j,k] E[i,j,k]."""
        decay, size = args[-1], self.sizes[ROW]
        product = op.mode == "product"
        matrix = isinstance(op, ir.DecayDot)
        axes = node.axes if matrix else node.args[0].axes
        shape = (len(args[0]), len(args[1])) if matrix else args[0].shape
        pairs = self.allowed(axes, shape, op.strict or op.exclusive)
        rows, columns = shape[0] // size, shape[1] // size  # for every token
        factors = {
            (i, j): self.factor(decay, self.between(i // rows, j // columns, op.exclusive), product)
            for i, j in pairs
        }
        sizes = {axes[0]: shape[0], axes[1]: shape[1]}
        out = self.zeros([sizes.get(node.axes[0], size), shape[1] if matrix else decay.shape[1]])
        for (i, j), factor in factors.items():
            match op:
                case ir.DecayDot():
                    out[i, j] = np.multiply(args[0][i] * args[1][j], factor).sum()
                case ir.DecayDotRows():
                    out[i] = out[i] + np.multiply(args[1][j], args[0][i, j]) * factor
                case ir.DecayDotColumns():
                    out[j] = out[j] + np.multiply(args[1][i], args[0][i, j]) * factor
                case ir.DecayDotDecay():
                    weight = np.multiply(args[1][i] * args[2][j], args[0][i, j])
                    used = self.between(i // rows, j // columns, op.exclusive)
                    for t in used:
                        rest = (
                            self.factor(decay, [s for s in used if s != t], True)
                            if product
                            else np.multiply(factor, self.using.named["ln2"])
                        )
                        out[t] = out[t] + weight * rest
                case _:
                    assert_never(op)
        return out

    def product(self, values: Array, tokens: Iterable[int]) -> Array:
        return np.asarray(reduce(np.multiply, (values[t] for t in tokens), self.ones(values.shape[1:])))[()]

    def factor(self, decay: Array, tokens: Sequence[int], product: bool) -> Array:
        if product:
            return self.product(decay, tokens)
        total = reduce(np.add, (decay[t] for t in tokens), self.zeros(decay.shape[1:]))
        return self.map(lambda x: self.using.apply("exp2", x), total)

    def solve(self, matrix: Array, right: Node, left: Node, transposed: bool) -> Array:
        axis = left.axes[0] if transposed else left.axes[1]
        return self.substitute(
            matrix, np.moveaxis(np.asarray(self.values[right]), right.axes.index(axis), 0), transposed
        )

    def substitute(self, matrix: Array, right: Array, upper: bool) -> Array:
        """(I - P)^-1 R row by row; from the last row if P is upper triangular."""
        size = matrix.shape[0]
        out = self.zeros(right.shape)
        for i in range(size - 1, -1, -1) if upper else range(size):
            known = range(i + 1, size) if upper else range(i)
            out[i] = reduce(np.add, (np.multiply(out[j], matrix[i, j]) for j in known), right[i])
        return out

    def identity(self, size: int) -> Array:
        out = self.zeros((size, size))
        for i in range(size):
            out[i, i] = self.using.number(Fraction(1))
        return out

    def assemble(self, blocks: list[Array]) -> Array:
        count = math.isqrt(len(blocks))
        shape = next(b.shape for b in blocks if b.shape)
        out = self.zeros((shape[0] * count, shape[1] * count))
        for index, block in enumerate(blocks):
            out[index // count :: count, index % count :: count] = block
        return out


def _float(function: str, *args: float) -> float:
    x = args[0]
    return FLOAT_FUNCTIONS[function](*args) if x == x else math.nan


FLOAT64 = Arithmetic(
    number=float,
    apply=_float,
    named={"ln2": math.log(2), "log2e": 1 / math.log(2)},
    minus_infinity=-math.inf,
    dtype=np.float64,
)
