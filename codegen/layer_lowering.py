"""Lowers a `layer:` block to the text of a module: what it is made of, and the lines of its `forward`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rnnc.codegen.layer_shapes import MODEL, NUMBER, Shape, join, mismatch, shape_of
from rnnc.codegen.names import Names
from rnnc.dsl.diagnostics import NOWHERE
from rnnc.dsl.expression import Axes, union
from rnnc.dsl.syntax import LayerBinary, LayerCall, LayerExpression, LayerName, LayerNegate, LayerNumber

ELEMENTWISE = {
    "abs": "torch.abs",
    "cos": "torch.cos",
    "elu": "F.elu",
    "erf": "torch.erf",
    "exp": "torch.exp",
    "gelu": "F.gelu",
    "log": "torch.log",
    "logsigmoid": "F.logsigmoid",
    "max": "torch.maximum",
    "min": "torch.minimum",
    "relu": "F.relu",
    "rsqrt": "torch.rsqrt",
    "sigmoid": "torch.sigmoid",
    "sign": "torch.sign",
    "silu": "F.silu",
    "sin": "torch.sin",
    "softplus": "F.softplus",
    "sqrt": "torch.sqrt",
    "tanh": "torch.tanh",
}
LEVEL = {"+": 1, "-": 1, "*": 2, "/": 2}
ATOM = 3


@dataclass(frozen=True, slots=True)
class Value:
    """A piece of Python and what it evaluates to; `flat` if heads and axes are still one axis, as a linear
    leaves them. `level` is how tightly its outermost operation binds."""

    code: str
    shape: Shape
    flat: bool = False
    level: int = ATOM


@dataclass
class Lowering:
    """The state of one lowering: the modules made so far, the lines of `forward`, and the values by name."""

    attributes: Names
    locals: Names
    known: dict[str, Value]
    modules: list[tuple[str, str]] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)

    def value(self, target: str, expression: LayerExpression, expected: Shape) -> Value:
        """The expression as a value of the expected shape; modules are named after the target."""
        shapes = {name: value.shape for name, value in self.known.items()}
        found = shape_of(expression, shapes) or expected
        if found.lead != expected.lead or not set(found.axes) <= set(expected.axes):
            raise mismatch(f"'{target}' is {expected}, this is {found}", expression.span)
        return in_heads(self._lower(expression, expected, target, shapes), expected.axes)

    def shape(self, expression: LayerExpression) -> Shape:
        """The shape of a value nobody prescribes; a `linear` then keeps the model's width."""
        return shape_of(expression, {name: value.shape for name, value in self.known.items()}) or MODEL

    def _lower(self, e: LayerExpression, expected: Shape, target: str, shapes: dict[str, Shape]) -> Value:
        match e:
            case LayerName(name=name):
                return self.known[name]
            case LayerNumber(value=number):
                return Value(repr(number), NUMBER)
            case LayerNegate(operand=operand):
                value = self._lower(operand, expected, target, shapes)
                return replace(value, code=f"-{bracket(value, 2)}", level=1)
            case LayerBinary(op=op, left=left, right=right):
                within = join(shape_of(left, shapes), shape_of(right, shapes), e.span) or expected
                left_shape, right_shape = shape_of(left, shapes) or within, shape_of(right, shapes) or within
                operands = (
                    self._lower(left, left_shape, target, shapes),
                    self._lower(right, right_shape, target, shapes),
                )
                return binary(op, *self._short(operands, target))
            case LayerCall():
                return self._call(e, expected, target, shapes)

    def _short(self, operands: tuple[Value, Value], target: str) -> list[Value]:
        """The operands, those too long for one line under names of their own."""
        values = align(list(operands))
        if sum(len(value.code) for value in values) < 88:
            return values
        return [self._named(value, target) if len(value.code) > 44 else value for value in values]

    def _named(self, value: Value, target: str) -> Value:
        name = self.locals.fresh(f"{target}_part")
        self.lines.append((name, value.code))
        return replace(value, code=name, level=ATOM)

    def _call(self, call: LayerCall, expected: Shape, target: str, shapes: dict[str, Shape]) -> Value:
        inner = MODEL if call.function == "linear" else shape_of(call, shapes) or expected
        values = [a for a in call.arguments if call.function != "conv" or a is call.arguments[0]]
        argument, *others = [self._lower(a, shape_of(a, shapes) or inner, target, shapes) for a in values]
        if {argument.shape, *(value.shape for value in others)} == {NUMBER}:
            raise mismatch(f"'{call.function}' of a number", call.span)
        options = {name: value.value for name, value in call.keywords if isinstance(value, LayerNumber)}
        bias = bool(options.get("bias", 0))
        width = features(argument.shape)
        match call.function:
            case "linear":
                module = linear(width, features(expected), options.get("rank"), bias)
                return Value(
                    f"{self._module(target, 'linear', module)}({in_one(argument).code})", expected, True
                )
            case "conv":
                module = f"CausalConv({width}, {taps(call)}{', bias=True' if bias else ''})"
                name = self._module(target, "conv", module)
                return Value(f"{name}({in_one(argument).code}, windows)", argument.shape, True)
            case "shift":
                name = self._module(target, "shift", f"TokenShift({width})")
                return Value(f"{name}({in_one(argument).code}, windows)", argument.shape, True)
            case "rmsnorm" | "unit":
                return self._norm(call, argument, target)
            case _:
                return elementwise(call.function, align([argument, *others]))

    def _norm(self, call: LayerCall, argument: Value, target: str) -> Value:
        if argument.shape.lead != "model" and not argument.shape.axes:
            raise mismatch(f"'{call.function}' needs an axis, this is {argument.shape}", call.span)
        argument = in_heads(argument, argument.shape.axes)
        if call.function == "unit":
            return replace(argument, code=f"unit({argument.code})", level=ATOM)
        size = argument.shape.axes[-1] if argument.shape.axes else "d_model"
        return replace(
            argument, code=f"{self._module(target, 'norm', f'RMSNorm({size})')}({argument.code})", level=ATOM
        )

    def _module(self, target: str, kind: str, code: str) -> str:
        name = self.attributes.fresh(f"{target}_{kind}")
        self.modules.append((name, code))
        return f"self.{name}"


def taps(call: LayerCall) -> int:
    """The length of a convolution, its second argument."""
    number = call.arguments[1]
    assert isinstance(number, LayerNumber)
    return int(number.value)


def linear(inputs: str, outputs: str, rank: int | float | None, bias: bool) -> str:
    """The constructor of a linear map, or of two through a bottleneck of `rank`."""
    kind, width = ("nn.Linear", "") if rank is None else ("LowRank", f", rank={rank}")
    return f"{kind}({inputs}, {outputs}{width}, bias={bias})"


def lead_size(shape: Shape) -> str:
    """The number of heads or groups as the module's constructor knows it."""
    return "num_groups" if shape.lead == "groups" else "num_heads"


def features(shape: Shape) -> str:
    """The width of a value whose heads and axes are one axis."""
    return "d_model" if shape.lead == "model" else " * ".join([lead_size(shape), *shape.axes])


def in_one(value: Value) -> Value:
    """The value with heads and axes as one axis."""
    if value.flat or value.shape.lead == "model" or not value.shape.axes:
        return value
    return replace(value, code=f"{bracket(value, ATOM)}.flatten(2)", flat=True, level=ATOM)


def in_heads(value: Value, axes: Axes) -> Value:
    """The value with heads and axes apart, size one where it lacks one of `axes`."""
    if value.shape.lead in ("number", "model"):
        return replace(value, flat=False)
    if value.flat and value.shape.axes:
        sizes = ", ".join(f"self.{size}" for size in [lead_size(value.shape), *value.shape.axes])
        value = replace(value, code=f"{bracket(value, ATOM)}.unflatten(-1, ({sizes}))", level=ATOM)
    if value.shape.axes != axes:
        index = ", ".join(":" if axis in value.shape.axes else "None" for axis in axes)
        value = replace(value, code=f"{bracket(value, ATOM)}[:, :, :, {index}]", level=ATOM)
    return replace(value, flat=False)


def align(values: list[Value]) -> list[Value]:
    """The values in one arrangement: flat if all arrays are flat and alike, else apart and broadcast."""
    arrays = [value for value in values if value.shape != NUMBER]
    if (
        all(value.flat or value.shape.lead == "model" for value in arrays)
        and len({v.shape for v in arrays}) < 2
    ):
        return values
    shape: Shape | None = NUMBER
    for value in arrays:
        shape = join(shape, value.shape, NOWHERE)
    assert shape is not None
    return [in_heads(value, shape.axes) if value.shape != NUMBER else value for value in values]


def elementwise(function: str, values: list[Value]) -> Value:
    """A function of aligned values; of a number and an array, the larger and the smaller are a clamp."""
    arrays = [value for value in values if value.shape != NUMBER]
    numbers = [value.code for value in values if value.shape == NUMBER]
    code = f"{ELEMENTWISE[function]}({', '.join(value.code for value in values)})"
    if numbers:
        code = f"torch.clamp({arrays[0].code}, {'min' if function == 'max' else 'max'}={numbers[0]})"
    axes = union(value.shape.axes for value in arrays)
    return replace(arrays[0], code=code, shape=replace(arrays[0].shape, axes=axes), level=ATOM)


def binary(op: str, left: Value, right: Value) -> Value:
    """`left op right`, bracketed where Python needs it."""
    left, right = align([left, right])
    level = LEVEL[op]
    code = f"{bracket(left, level)} {op} {bracket(right, level + (op in '-/'))}"
    shape = join(left.shape, right.shape, NOWHERE)
    assert shape is not None
    return Value(code, shape, left.flat or right.flat, level)


def bracket(value: Value, level: int) -> str:
    """The code, in brackets if it binds less tightly than `level`."""
    return f"({value.code})" if value.level < level else value.code
