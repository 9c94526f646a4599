"""One node of a tile program as a line of Triton: the table of operations.

A tile has the node's axes in order: C rows along time, a power of two that covers the axis for features.
Values are float32 except where they come straight from memory; the operands of a product are cast to the
dtype of the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from rnnc.codegen import operations as ir
from rnnc.codegen.float_functions import constant
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import is_number, number, plain
from rnnc.codegen.triton_rows import assembled, block, rows_per_token
from rnnc.dsl.expression import Axes

FUNCTIONS: dict[str, str] = {
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sqrt": "tl.sqrt({0})",
    "rsqrt": "tl.rsqrt({0})",
    "abs": "tl.abs({0})",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0))",
    "max": "tl.maximum({0}, {1})",
    "min": "tl.minimum({0}, {1})",
    "sigmoid": "tl.sigmoid({0})",
    "tanh": "tanh({0})",
    "relu": "tl.maximum({0}, 0.0)",
    "silu": "({0} * tl.sigmoid({0}))",
    "gelu": "(0.5 * {0} * (1 + tl.erf({0} * 0.7071067811865476)))",
    "softplus": "softplus({0})",
    "logsigmoid": "(-softplus(-{0}))",
    "elu": "tl.where({0} > 0, {0}, expm1(tl.minimum({0}, 0.0)))",
    "erf": "tl.erf({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "step": "tl.where({0} > 0, 1.0, 0.0)",
    "select": "tl.where({0} > 0, {1}, {2})",
    "reciprocal": "(1 / {0})",
    "exp2": "tl.exp2({0})",
    "log2": "tl.log2({0})",
    "log2_exp": "({0} * 1.4426950408889634)",
}
# f(0) = 0, so that what lies beyond an axis stays zero.
KEEPS_ZERO = frozenset("sqrt abs sign tanh relu silu gelu elu erf sin step log2_exp select".split())
# Not finite at 0.
UNBOUNDED = frozenset("log log2 rsqrt reciprocal".split())
NUMBERS = {"ln2": "0.6931471805599453", "log2e": "1.4426950408889634"}


class Namer(Protocol):
    """Where the printer looks up names; `dot`: of the function that forms matrix products."""

    dot: str

    def name(self, node: Node) -> str: ...

    def raw(self, node: Node) -> str:
        """The name of a value in the dtype that it has in memory."""

    def size(self, axis: str) -> str:
        """The name of an axis' size."""

    def mask(self, axis: str) -> str:
        """The name of the vector that says which entries along a feature axis exist."""

    def tile(self, axis: str) -> str:
        """How many entries a tile has along an axis."""


def line(node: Node, names: Namer) -> str:
    """The right-hand side of the node's assignment."""
    if is_number(node):
        return _number(node, names)
    args = [names.name(argument) for argument in node.args]
    match node.op:
        case ir.Add(coefficients):
            return _sum(node.axes, coefficients, args, node.args)
        case ir.Multiply(coefficient):
            return _product(node.axes, coefficient, args, node.args)
        case ir.Apply("power", exponent):
            base = _one_beyond(node.args[0], args[0], names)
            return f"tl.exp2({number(exponent or Fraction(1))} * tl.log2({base}))"
        case ir.Apply(function) if function in UNBOUNDED:
            return FUNCTIONS[function].format(_one_beyond(node.args[0], args[0], names))
        case ir.Apply(function):
            return FUNCTIONS[function].format(
                *(aligned(t, a, node.axes) for t, a in zip(args, node.args, strict=True))
            )
        case ir.Keep(fill):
            value, valid = (aligned(t, a, node.axes) for t, a in zip(args, node.args, strict=True))
            return f"tl.where({valid} > 0, {value}, {fill}.0)"
        case ir.Sum(axis):
            value = cleared(node.args[0], args[0], axis, names)
            return f"tl.sum({value}, {node.args[0].axes.index(axis)})"
        case ir.Max(axis):
            where = spread(names.mask(axis), axis, node.args[0].axes)
            lowest = f'tl.where({where}, {args[0]}, float("-inf"))'
            return f"tl.max({lowest}, {node.args[0].axes.index(axis)})"
        case ir.Within(axis):
            return f"tl.where({spread(names.mask(axis), axis, node.axes)}, {args[0]}, 0.0)"
        case ir.Broadcast(axis):
            ones = ", ".join(map(names.tile, node.axes))
            return f"tl.zeros([{ones}], tl.float32) + {aligned(args[0], node.args[0], node.axes)}"
        case ir.Dot(axis):
            return _dot(node, args, axis, names)
        case _:
            return _time(node, args, names)


def aligned(text: str, node: Node, axes: Axes) -> str:
    """The tile with new axes of size 1 where it lacks some of `axes`."""
    own = [axis for axis in axes if axis in node.axes]
    if not node.axes or tuple(axes) == node.axes:
        return text
    if tuple(own) != node.axes:
        text = f"tl.trans({text})"
    if len(own) == len(axes):
        return text
    return f"{text}[{', '.join(':' if axis in node.axes else 'None' for axis in axes)}]"


def _product(axes: Axes, coefficient: ir.Number, args: Sequence[str], nodes: Sequence[Node]) -> str:
    """Vectors along the same axis are multiplied with each other first."""
    groups: dict[Axes, list[tuple[str, Node]]] = {}
    for text, node in zip(args, nodes, strict=True):
        groups.setdefault(node.axes, []).append((text, node))
    factors = [] if coefficient == 1 else [number(coefficient)]
    for own, members in groups.items():
        if len(members) == 1 or len(own) == len(axes):
            factors += [aligned(text, node, axes) for text, node in members]
        else:
            product = " * ".join(text for text, _ in members)
            factors.append(aligned(f"({product})", members[0][1], axes))
    return " * ".join(factors)


def _number(node: Node, names: Namer) -> str:
    match node.op:
        case ir.Const(value):
            return number(value)
        case ir.NamedConst(name):
            return NUMBERS[name]
        case ir.AxisSize(axis):
            return names.size(axis)
        case ir.Add(coefficients):
            terms = (f"{number(c)} * {names.name(a)}" for c, a in zip(coefficients, node.args, strict=True))
            return f"({' + '.join(terms)})"
        case ir.Multiply(coefficient):
            factors = [] if coefficient == 1 else [number(coefficient)]
            return f"({' * '.join([*map(names.name, node.args), *factors])})"
        case ir.Apply("rsqrt"):
            return f"({names.name(node.args[0])}**-0.5)"
        case ir.Apply("power", exponent):
            return f"({names.name(node.args[0])}**{number(exponent or Fraction(1))})"
        case ir.Apply("reciprocal"):
            return f"(1 / {names.name(node.args[0])})"
        case ir.Apply():
            return repr(constant(node, _unknown))
        case _:
            raise AssertionError(node.op)


def _unknown(axis: str) -> int:
    raise NotImplementedError(f"a function of the size of '{axis}'")


def term(node: Node, index: int, names: Namer) -> str:
    """One term of a sum."""
    assert isinstance(node.op, ir.Add)
    argument = node.args[index]
    return _sum(node.axes, [node.op.coefficients[index]], [names.name(argument)], [argument])


def _sum(axes: Axes, coefficients: Sequence[ir.Number], args: Sequence[str], nodes: Sequence[Node]) -> str:
    out = ""
    for coefficient, text, argument in zip(coefficients, args, nodes, strict=True):
        term = aligned(text, argument, axes)
        magnitude = coefficient if coefficient > 0 else -coefficient
        size = "" if magnitude == 1 else f"{number(magnitude)} * "
        sign = "-" if coefficient < 0 else "+"
        out = f"{out} {sign} {size}{term}" if out else f"{'-' if coefficient < 0 else ''}{size}{term}"
    return out


def zero_beyond(node: Node, axis: str) -> bool:
    """Whether the entries beyond a feature axis are surely zero."""
    args = [a for a in node.args if axis in a.axes]
    match node.op:
        case ir.Load():
            return True
        case ir.Rename(old, new):
            return zero_beyond(node.args[0], old if axis == new else axis)
        case ir.Within(own) if own == axis:
            return True
        case ir.Keep(0) | ir.Sum() | ir.Dot() | ir.Within() | ir.Repeat() | ir.OverSteps():
            return all(zero_beyond(a, axis) for a in args)
        case ir.Add():
            return len(args) == len(node.args) and all(zero_beyond(a, axis) for a in args)
        case ir.Multiply():
            return any(zero_beyond(a, axis) for a in args)
        case ir.Apply(function):
            return function in KEEPS_ZERO and all(zero_beyond(a, axis) for a in args)
        case _:
            return False


def _one_beyond(node: Node, text: str, names: Namer) -> str:
    """The tile, 1 beyond its feature axes, so that no function of it is infinite there."""
    for axis in node.axes:
        if axis not in ir.TIME_AXES:
            text = f"tl.where({spread(names.mask(axis), axis, node.axes)}, {text}, 1.0)"
    return text


def cleared(node: Node, text: str, axis: str, names: Namer) -> str:
    """The value with zeros beyond a feature axis."""
    if axis in ir.TIME_AXES or zero_beyond(node, axis):
        return text
    return f"tl.where({spread(names.mask(axis), axis, node.axes)}, {text}, 0.0)"


def spread(text: str, axis: str, axes: Axes) -> str:
    """A vector along one axis of a tile."""
    if len(axes) < 2:
        return text
    return f"{text}[{', '.join(':' if other == axis else 'None' for other in axes)}]"


def _dot(node: Node, args: Sequence[str], axis: str, names: Namer) -> str:
    left, right = node.args
    if len(left.axes) == 2 and len(right.axes) == 2:
        texts = [cleared(side, names.raw(side), axis, names) for side in node.args]
        if node.axes == (ir.ROW, ir.COLUMNS) or _is_square(right):
            # The side with more rows first: matrix units take 64 at a time.
            flipped = _dot(
                Node(node.op, (right, left), node.axes[::-1], node.number), args[::-1], axis, names
            )
            return f"tl.trans({flipped})"
        first = texts[0] if left.axes[1] == axis else f"tl.trans({texts[0]})"
        second = texts[1] if right.axes[0] == axis else f"tl.trans({texts[1]})"
        return f"{names.dot}({first}.to(DOT), {second}.to(DOT), WARPS, PRECISION)"
    texts = [cleared(side, text, axis, names) for side, text in zip(node.args, args, strict=True)]
    axes = (axis, *node.axes) if len(right.axes) == 2 or not node.axes else (*node.axes, axis)
    product = " * ".join(aligned(t, a, axes) for t, a in zip(texts, node.args, strict=True))
    return f"tl.sum({product}, {axes.index(axis)})"


def _is_square(node: Node) -> bool:
    """Whether a value is over an axis twice."""
    return any(axis.endswith("'") for axis in node.axes) and not set(ir.TIME_AXES) & set(node.axes)


def _time(node: Node, args: Sequence[str], names: Namer) -> str:
    """Operations along time: functions of the tile library."""
    match node.op:
        case ir.Running(direction, exclusive) if len(node.axes) == 2:
            return f"running_sum({args[0]}, C, {direction == 'suffix'}, {exclusive})"
        case ir.DecayDot(axis, mode, exclusive, strict):
            left, right, decay = args
            if not zero_beyond(plain(node.args[0]), axis):
                right = cleared(node.args[1], right, axis, names)
            dot = f"{'decay' if mode == 'log' else 'product'}_dot"
            return f"{dot}({left}, {right}, {decay}, C, {exclusive}, {strict}, DOT, PRECISION)"
        case ir.DecayDotRows(_, mode, exclusive, strict) | ir.DecayDotColumns(_, mode, exclusive, strict):
            columns = isinstance(node.op, ir.DecayDotColumns)
            sums = f"{'decay' if mode == 'log' else 'product'}_sum"
            return f"{sums}({', '.join(args)}, C, {columns}, {exclusive}, {strict}, DOT, PRECISION)"
        case ir.Running(direction, exclusive):
            return f"running_scalar({args[0]}, C, {direction == 'suffix'}, {exclusive})"
        case ir.Segment(exclusive, strict):
            return f"segment_sum({args[0]}, C, {exclusive}, {strict})"
        case ir.SegmentAdjoint(exclusive, _):
            return f"segment_sum_grad({args[0]}, C, {exclusive})"
        case ir.LinearScan(direction, exclusive):
            scan = "linear_scan" if len(node.axes) == 2 else "scalar_scan"
            return f"{scan}({', '.join(args)}, C, {direction == 'suffix'}, {exclusive})"
        case ir.RunningProduct(direction, exclusive):
            return f"running_product({args[0]}, C, {direction == 'suffix'}, {exclusive})"
        case ir.RunningProductAdjoint(direction, exclusive):
            grad = "running_product_grad" if len(node.axes) == 2 else "running_product_scalar_grad"
            return f"{grad}({args[0]}, {args[2]}, C, {direction == 'suffix'}, {exclusive})"
        case ir.Path(exclusive, strict):
            return f"path({args[0]}, C, {exclusive}, {strict})"
        case ir.PathAdjoint(exclusive, _):
            return f"path_grad({args[0]}, {args[1]}, C, {exclusive}, DOT, PRECISION)"
        case ir.First():
            return f"tl.sum(tl.where({_first(node.args[0])}, {args[0]}, 0.0), 0)"
        case ir.AtFirst():
            return f"tl.where({_first(node)}, {aligned(args[0], node.args[0], node.axes)}, 0.0)"
        case ir.Mask(strict):
            below = ">" if strict else ">="
            return f"tl.where({_positions(node.axes, names, below)}, {args[0]}, 0.0)"
        case ir.Inverse():
            count = rows_per_token(node)
            return f"inverse({args[0]}, {f'{count} * C' if count > 1 else names.tile(node.axes[0])})"
        case ir.InverseAdjoint():
            return f"inverse_grad({', '.join(args)}, DOT, PRECISION)"
        case ir.Repeat(micro, time, _):
            return f"repeat({args[0]}, B{names.size(micro)}, {node.args[0].axes.index(time)})"
        case ir.OverSteps(micro, _, rows, largest):
            steps = names.size(micro)
            return f"over_steps({args[0]}, {steps}, B{steps}, {node.args[0].axes.index(rows)}, {largest})"
        case ir.OverTokens(micro):
            return f"over_tokens({args[0]}, B{names.size(micro)})"
        case ir.Assemble():
            return assembled(node, args)
        case ir.Block():
            return block(node, args[0])
        case _:
            raise NotImplementedError(f"no Triton for {type(node.op).__name__}")


def _positions(axes: Axes, names: Namer, below: str) -> str:
    """Which pairs of a matrix are in its lower triangle: of rows, or of a token with the rows of others."""
    match axes:
        case (ir.ROW, ir.COLUMN):
            return f"o_c[:, None] {below} o_c[None, :]"
        case (ir.ROWS, ir.COLUMNS):
            return f"o_rows[:, None] {below} o_rows[None, :]"
        case _:
            return f"o_c[:, None] {below} i_rows[None, :]"


def _first(node: Node) -> str:
    """The mask of the first row."""
    return "o_c[:, None] == 0" if len(node.axes) == 2 else "o_c == 0"
