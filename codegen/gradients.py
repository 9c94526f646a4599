"""Program -> the program of its gradients, by one rule for each tile operation.

The backward program walks the chunks in reverse: it carries the cotangent of the state, reads the state at
the start of the chunk (the forward's, stored or recomputed: the schedule decides), and gives the gradient
of every input and parameter. A parameter's gradient is that of one chunk; the caller sums over chunks and
sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.operations import ROW, Load
from rnnc.codegen.program import Carry, Node, Program
from rnnc.dsl.functions import FUNCTIONS

Gradients = Sequence[Node | None]
Rule = Callable[[Builder, Node, Node], Gradients]


def differentiate(program: Program, builder: Builder) -> Program:
    """The backward program: results `d'<name>` for every input and parameter, the state's cotangent
    carried.
    """
    ends = [builder.load(Load(f"d'{carry.name}", "state"), carry.end.axes) for carry in program.carries]
    nodes = program.nodes()
    cotangents: dict[Node, list[Node]] = {}
    for name, result in program.results.items():
        cotangents.setdefault(result, []).append(builder.load(Load(f"d'{name}", "cotangent"), result.axes))
    for carry, end in zip(program.carries, ends, strict=True):
        cotangents.setdefault(carry.end, []).append(end)
    totals: dict[Node, Node] = {}
    for node in reversed(nodes):
        if node not in cotangents:
            continue
        total = builder.add((1, part) for part in cotangents.pop(node))
        totals[node] = total
        builder.gradients.note(total, node)
        for argument, gradient in zip(node.args, RULES[type(node.op)](builder, node, total), strict=True):
            if gradient is not None and not _is_zero(gradient):
                cotangents.setdefault(argument, []).append(_reduced(builder, gradient, argument))
    zero = builder.constant(0)
    results = {
        f"d'{node.op.name}": totals.get(node, zero)
        for node in nodes
        if isinstance(node.op, Load) and node.op.kind in ("input", "param")
    }
    carries = tuple(
        Carry(f"d'{carry.name}", end, totals.get(carry.start, zero))
        for carry, end in zip(program.carries, ends, strict=True)
    )
    return Program(f"{program.name}_backward", results, carries)


def _is_zero(node: Node) -> bool:
    return isinstance(node.op, ir.Const) and node.op.value == 0


def _reduced(build: Builder, gradient: Node, argument: Node) -> Node:
    """The gradient summed over the axes that the argument was broadcast along, and broadcast where it lacks
    one.
    """
    for axis in gradient.axes:
        if axis not in argument.axes:
            gradient = build.sum(gradient, axis)
    return gradient


class _Arithmetic:
    """Lets the derivative table of `rnnc.dsl.functions` compute on nodes."""

    def __init__(self, build: Builder, node: Node) -> None:
        self.build, self.node = build, node

    def _other(self, other: Any) -> Node:
        return other.node if isinstance(other, _Arithmetic) else self.build.value(other)

    def __add__(self, other: Any) -> _Arithmetic:
        return _Arithmetic(self.build, self.build.add([(1, self.node), (1, self._other(other))]))

    def __sub__(self, other: Any) -> _Arithmetic:
        return _Arithmetic(self.build, self.build.add([(1, self.node), (-1, self._other(other))]))

    def __rsub__(self, other: Any) -> _Arithmetic:
        return _Arithmetic(self.build, self.build.add([(1, self._other(other)), (-1, self.node)]))

    def __mul__(self, other: Any) -> _Arithmetic:
        return _Arithmetic(self.build, self.build.multiply([self.node, self._other(other)]))

    __radd__, __rmul__ = __add__, __mul__

    def apply(self, function: str, *args: Any) -> _Arithmetic:
        return _Arithmetic(self.build, self.build.apply(function, *map(self._other, args)))


def _apply(build: Builder, node: Node, out: Node) -> Gradients:
    op = node.op
    assert isinstance(op, ir.Apply)
    if op.function == "power":
        assert op.exponent is not None
        return [build.multiply([out, build.power(node.args[0], op.exponent - 1)], op.exponent)]
    wrapped = [_Arithmetic(build, argument) for argument in (node, *node.args)]
    partials = FUNCTIONS[op.function].derivative(wrapped[0].apply, *wrapped)
    return [build.multiply([out, wrapped[0]._other(partial)]) for partial in partials]


def _multiply(build: Builder, node: Node, out: Node) -> Gradients:
    op = node.op
    assert isinstance(op, ir.Multiply)
    rest = [node.args[:i] + node.args[i + 1 :] for i in range(len(node.args))]
    return [build.multiply([out, *others], op.coefficient) for others in rest]


def _add(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.Add)
    return [build.multiply([out], coefficient) for coefficient in node.op.coefficients]


def _dot(build: Builder, node: Node, out: Node) -> Gradients:
    """d(sum_a l r): dl = dout r^T, dr = l^T dout, contracted over the other's own axes."""
    left, right = node.args
    return [_contract(build, out, right, left), _contract(build, out, left, right)]


def _contract(build: Builder, out: Node, other: Node, target: Node) -> Node:
    value = build.multiply([out, other])
    own = [axis for axis in other.axes if axis not in target.axes]
    if len(own) == 1 and own[0] in out.axes:
        return build.dot(out, other, own[0])
    for axis in own:
        value = build.sum(value, axis)
    return value


def _softmax(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.Softmax)
    weighted = build.sum(build.multiply([node, out]), node.op.axis)
    return [build.multiply([node, build.add([(1, out), (-1, weighted)])])]


def _running(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.Running)
    other = "suffix" if node.op.direction == "prefix" else "prefix"
    return [build.running(out, other, node.op.exclusive)]


def _segment(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.Segment)
    op = ir.SegmentAdjoint(node.op.exclusive, node.op.strict)
    return [build.node(op, [out], (ROW,))]


def _path(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.Path)
    op = ir.PathAdjoint(node.op.exclusive, node.op.strict)
    return [build.node(op, [node.args[0], out], (ROW,))]


def _linear_scan(build: Builder, node: Node, out: Node) -> Gradients:
    """e, the scan of dy in the other direction, is dx; dd[i] = e[i] y[i-1]."""
    op = node.op
    assert isinstance(op, ir.LinearScan)
    if op.direction == "suffix":
        raise NotImplementedError("the gradient of a reversed scan is not needed by any first derivative")
    d, x = node.args
    back = build.node(ir.LinearScan("suffix", op.exclusive), [d, out], node.axes)
    before = build.node(ir.LinearScan("prefix", True), [d, x], node.axes)
    return [build.multiply([back, before]), back]


def _running_product(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.RunningProduct)
    op = ir.RunningProductAdjoint(node.op.direction, node.op.exclusive)
    return [build.node(op, [node.args[0], node, out], node.axes)]


def _decay_dot(build: Builder, node: Node, out: Node) -> Gradients:
    """The derivatives of the trilinear form by x, y and the decay: the same pairs, contracted differently."""
    op = node.op
    assert isinstance(op, ir.DecayDot)
    x, y, g = node.args
    attributes = (op.axis, op.mode, op.exclusive, op.strict)
    row, column = node.axes
    dx = build.node(ir.DecayDotRows(*attributes), [out, y, g], (row, op.axis))
    dy = build.node(ir.DecayDotColumns(*attributes), [out, x, g], (column, op.axis))
    return [dx, dy, build.node(ir.DecayDotDecay(*attributes), [out, x, y, g], (ROW, op.axis))]


def _decay_dot_rows(build: Builder, node: Node, out: Node) -> Gradients:
    """The derivatives by M, y and the decay of what is the derivative by x."""
    op = node.op
    assert isinstance(op, ir.DecayDotRows)
    matrix, y, g = node.args
    attributes = (op.axis, op.mode, op.exclusive, op.strict)
    dmatrix = build.node(ir.DecayDot(*attributes), [out, y, g], matrix.axes)
    dy = build.node(ir.DecayDotColumns(*attributes), [matrix, out, g], y.axes)
    return [dmatrix, dy, build.node(ir.DecayDotDecay(*attributes), [matrix, out, y, g], (ROW, op.axis))]


def _solve(build: Builder, node: Node, out: Node) -> Gradients:
    """U = (I - P)^-1 R: dR = (I - P)^-T dU, dP = tril(dR U^T); no differential of the inverse itself."""
    assert isinstance(node.op, ir.Solve)
    if node.op.transposed:
        raise NotImplementedError("the gradient of a transposed solve is not needed by any first derivative")
    matrix, _ = node.args
    row, column = matrix.axes
    dright = build.solve(matrix, out, transposed=True)
    (free,) = [axis for axis in node.axes if axis != row]
    dmatrix = build.dot(build.rename(dright, column, row), build.rename(node, row, column), free)
    assembled = isinstance(matrix.op, ir.Assemble)  # whose blocks are masked one by one
    return [dmatrix if assembled else build.mask(dmatrix, strict=True), dright]


def _interleave(build: Builder, node: Node, out: Node) -> Gradients:
    count = len(node.args)
    return [build.deinterleave(out, index, count) for index in range(count)]


def _deinterleave(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.Deinterleave)
    zero = build.constant(0)
    parts = [out if index == node.op.index else zero for index in range(node.op.count)]
    return [build.interleave(parts)]


def _assemble(build: Builder, node: Node, out: Node) -> Gradients:
    count = round(len(node.args) ** 0.5)
    blocks = [(row, column) for row in range(count) for column in range(count)]
    return [build.mask(build.block(out, row, column, count), strict=True) for row, column in blocks]


def _flatten(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.Flatten)
    return [build.unflatten(out, node.op)]


def _unflatten(build: Builder, node: Node, out: Node) -> Gradients:
    assert isinstance(node.op, ir.Unflatten)
    return [build.flatten(out, node.op.micro, node.op.time)]


def _none(build: Builder, node: Node, out: Node) -> Gradients:
    return []


def _refused(build: Builder, node: Node, out: Node) -> Gradients:
    raise NotImplementedError(f"{type(node.op).__name__} only occurs in programs that are not differentiated")


RULES: dict[type[Any], Rule] = {
    ir.Load: _none,
    ir.Const: _none,
    ir.AxisSize: _none,
    ir.NamedConst: _none,
    ir.Add: _add,
    ir.Multiply: _multiply,
    ir.Apply: _apply,
    ir.Keep: lambda build, node, out: [build.multiply([out, node.args[1]]), None],
    ir.Softmax: _softmax,
    ir.Rename: lambda build, node, out: [build.rename(out, node.op.new, node.op.old)],  # type: ignore[union-attr]
    ir.Sum: lambda build, node, out: [build.broadcast(out, node.op.axis)],  # type: ignore[union-attr]
    ir.Broadcast: lambda build, node, out: [build.sum(out, node.op.axis)],  # type: ignore[union-attr]
    ir.First: lambda build, node, out: [build.node(ir.AtFirst(), [out], (ROW, *out.axes))],
    ir.AtFirst: lambda build, node, out: [build.first(out)],
    ir.Dot: _dot,
    ir.Running: _running,
    ir.Segment: _segment,
    ir.SegmentAdjoint: _refused,
    ir.Mask: lambda build, node, out: [build.mask(out, node.op.strict)],  # type: ignore[union-attr]
    ir.Path: _path,
    ir.PathAdjoint: _refused,
    ir.LinearScan: _linear_scan,
    ir.RunningProduct: _running_product,
    ir.RunningProductAdjoint: _refused,
    ir.DecayDot: _decay_dot,
    ir.DecayDotRows: _decay_dot_rows,
    ir.DecayDotColumns: _refused,
    ir.DecayDotDecay: _refused,
    ir.Solve: _solve,
    ir.Inverse: lambda build, node, out: [build.node(ir.InverseAdjoint(), [node, out], node.axes)],
    ir.InverseAdjoint: _refused,
    ir.Interleave: _interleave,
    ir.Deinterleave: _deinterleave,
    ir.Assemble: _assemble,
    ir.Block: _refused,
    ir.Flatten: _flatten,
    ir.Unflatten: _unflatten,
    ir.Repeat: _refused,
    ir.OverSteps: _refused,
    ir.OverTokens: _refused,
}
