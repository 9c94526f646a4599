"""One node of a tile program as a line of torch: the table of operations.

Arrays are [M, H, axes...]: chunks (or tokens), heads, then the node's own axes in order. A node without axes
that depends on no array is a Python number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Protocol

from rnnc.codegen import program as ir
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import Term, number, print_sum
from rnnc.dsl.expression import Axes

BATCH = 2  # M and H come first

FUNCTIONS: dict[str, str] = {
    "exp": "torch.exp({0})",
    "log": "torch.log({0})",
    "sqrt": "torch.sqrt({0})",
    "rsqrt": "torch.rsqrt({0})",
    "abs": "torch.abs({0})",
    "sign": "torch.sign({0})",
    "max": "torch.maximum({0}, {1})",
    "min": "torch.minimum({0}, {1})",
    "sigmoid": "torch.sigmoid({0})",
    "tanh": "torch.tanh({0})",
    "relu": "torch.relu({0})",
    "silu": "F.silu({0})",
    "gelu": "F.gelu({0})",
    "softplus": "tiles.softplus({0})",
    "logsigmoid": "F.logsigmoid({0})",
    "elu": "F.elu({0})",
    "erf": "torch.erf({0})",
    "sin": "torch.sin({0})",
    "cos": "torch.cos({0})",
    "step": "tiles.step({0})",
    "reciprocal": "torch.reciprocal({0})",
    "exp2": "torch.exp2({0})",
    "log2": "torch.log2({0})",
    "log2_exp": "({0} * tiles.LOG2E)",
}
SCALAR_FUNCTIONS: dict[str, str] = {
    "exp": "math.exp({0})",
    "log": "math.log({0})",
    "sqrt": "({0}) ** 0.5",
    "rsqrt": "({0}) ** -0.5",
    "abs": "abs({0})",
    "max": "max({0}, {1})",
    "min": "min({0}, {1})",
    "tanh": "math.tanh({0})",
    "sin": "math.sin({0})",
    "cos": "math.cos({0})",
    "erf": "math.erf({0})",
    "reciprocal": "1 / ({0})",
    "exp2": "2.0 ** ({0})",
    "log2": "math.log2({0})",
    "log2_exp": "({0}) * tiles.LOG2E",
}


class Namer(Protocol):
    """Where the printer looks up what a node, or a value shared between lines, is called."""

    def name(self, node: Node) -> str: ...

    def factors(self, node: Node, mode: str, exclusive: bool) -> str: ...

    def size(self, axis: str) -> str: ...

    def inlined(self, node: Node) -> bool: ...


def is_number(node: Node) -> bool:
    """Whether the node is a Python number in the printed text."""
    match node.op:
        case ir.Const() | ir.NamedConst() | ir.AxisSize():
            return True
        case ir.Add() | ir.Multiply() | ir.Apply():
            return all(map(is_number, node.args))
        case _:
            return False


def aligned(text: str, own: Axes, axes: Axes) -> str:
    """The array with its axes in the order of `axes`, and new ones of size 1 where it lacks some."""
    shared = [axis for axis in axes if axis in own]
    if shared != list(own):
        order = [BATCH + own.index(axis) for axis in shared]
        text = f"{text}.permute(0, 1, {', '.join(map(str, order))})"
    missing = [axis not in own for axis in axes]
    while missing and not missing[0]:
        missing.pop(0)
    if not any(missing):
        return text
    where = [":" if axis in own else "None" for axis in axes]
    while where and where[-1] == ":":
        where.pop()
    return f"{text}[:, :, {', '.join(where)}]"


def line(node: Node, names: Namer) -> str:
    """The right-hand side of the node's assignment."""
    args = ["" if names.inlined(argument) else names.name(argument) for argument in node.args]
    if is_number(node):
        return _number_line(node, args)
    match node.op:
        case ir.Add(coefficients):
            return _sum(node, coefficients, args, names)
        case ir.Multiply(coefficient):
            return _product(node, coefficient, args)
        case ir.Apply("power", exponent):
            return f"{args[0]} ** {number(exponent or Fraction(1))}"
        case ir.Apply(function):
            parts = _tensors(node, args) if len(args) > 1 else args
            return _plain(FUNCTIONS[function].format(*parts))
        case ir.Keep(fill):
            value, valid = (aligned(t, a.axes, node.axes) for t, a in zip(args, node.args, strict=True))
            return f"torch.where({valid} > 0, {value}, {fill})"
        case ir.Softmax(axis):
            return f"torch.softmax({args[0]}, {dim(node, axis)})"
        case ir.Sum(axis):
            return f"{args[0]}.sum({dim(node.args[0], axis)})"
        case ir.Broadcast(axis):
            return _broadcast(node, args[0], names.size(axis))
        case ir.Dot(axis):
            return _dot(node.args[0], node.args[1], args, axis)
        case _:
            return _time(node, args, names)


def dim(node: Node, axis: str) -> int:
    return BATCH + node.axes.index(axis)


def _plain(text: str) -> str:
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _number_line(node: Node, args: Sequence[str]) -> str:
    match node.op:
        case ir.Const(value):
            return number(value)
        case ir.NamedConst(name):
            return f"tiles.{name.upper()}"
        case ir.Add(coefficients):
            return " + ".join(f"{number(c)} * {a}" for c, a in zip(coefficients, args, strict=True))
        case ir.Multiply(coefficient):
            return " * ".join([*args, number(coefficient)] if coefficient != 1 else args)
        case ir.Apply("power", exponent):
            return f"{args[0]} ** {number(exponent or Fraction(1))}"
        case ir.Apply(function):
            if function in SCALAR_FUNCTIONS:
                return SCALAR_FUNCTIONS[function].format(*args)
            tensors = (f"torch.tensor({text}, dtype=torch.float64)" for text in args)
            return f"float({FUNCTIONS[function].format(*tensors)})"
        case _:
            raise AssertionError(node.op)


def _tensors(node: Node, args: Sequence[str]) -> list[str]:
    """Arguments of a two-argument function, which takes no Python numbers."""
    like = next(t for t, a in zip(args, node.args, strict=True) if not is_number(a))
    return [
        f"torch.as_tensor({t}, dtype={like}.dtype, device={like}.device)"
        if is_number(a)
        else aligned(t, a.axes, node.axes)
        for t, a in zip(args, node.args, strict=True)
    ]


def _sum(node: Node, coefficients: Iterable[ir.Number], args: Sequence[str], names: Namer) -> str:
    terms = [_term(c, t, a, node.axes, names) for c, t, a in zip(coefficients, args, node.args, strict=True)]
    return print_sum(terms, node.axes)


def _term(coefficient: ir.Number, text: str, term: Node, axes: Axes, names: Namer) -> Term:
    if is_number(term):
        return Term("number", coefficient, text)
    if not names.inlined(term):
        return Term("plain", coefficient, aligned(text, term.axes, axes), axes=term.axes)
    match term.op:
        case ir.Multiply(scale):
            first, second = sorted(term.args, key=lambda argument: len(argument.axes))
            small, large = (
                aligned(names.name(argument), argument.axes, axes) for argument in (first, second)
            )
            return Term("product", coefficient * scale, small, large, axes)
        case ir.Dot(axis):
            left, right = term.args
            first_text, second_text = _operands(left, right, [names.name(left), names.name(right)], axis)
            return Term("dot", coefficient, first_text, second_text, axes)
        case _:
            raise AssertionError(term.op)


def _product(node: Node, coefficient: ir.Number, args: Sequence[str]) -> str:
    """Factors over few axes are multiplied first, so that few passes run over the large ones."""
    groups: dict[Axes, list[str]] = {}
    numbers = [] if coefficient == 1 else [number(coefficient)]
    for text, argument in zip(args, node.args, strict=True):
        if is_number(argument):
            numbers.append(text)
        else:
            groups.setdefault(argument.axes, []).append(text)
    ordered = sorted(groups.items(), key=lambda group: len(group[0]))
    if groups.get(node.axes) and len(groups[node.axes]) + len(ordered) > 3:
        return _long_product(node, ordered, numbers)
    out, axes = "", node.axes[:0]
    for own, texts in ordered:
        term = " * ".join(texts)
        if not out:
            out, axes = " * ".join([*texts, *numbers]), own
            continue
        wide = tuple(axis for axis in node.axes if axis in own or axis in axes)
        left = aligned(f"({out})" if " " in out else out, axes, wide)
        right = aligned(f"({term})" if " " in term and own != wide else term, own, wide)
        out, axes = f"{left} * {right}", wide
    return out if axes == node.axes else aligned(f"({out})", axes, node.axes)


def _long_product(node: Node, groups: Sequence[tuple[Axes, list[str]]], numbers: list[str]) -> str:
    """A product of more than two arrays: one new array, multiplied in place from then on."""
    factors = [text for own, texts in groups if own == node.axes for text in texts]
    for position, (own, texts) in enumerate(group for group in groups if group[0] != node.axes):
        term = " * ".join([*texts, *numbers] if position == 0 else texts)
        factors.append(aligned(f"({term})" if " " in term else term, own, node.axes))
    if not any(own != node.axes for own, _ in groups) and numbers:
        factors += [f"({' * '.join(numbers)})"]
    return f"tiles.product({', '.join(factors)})"


def _broadcast(node: Node, text: str, size: str) -> str:
    (argument,) = node.args
    if is_number(argument):
        return f"torch.full((1, 1, {size}), {text}, dtype=dtype, device=device)"
    shape = ["-1" if axis in argument.axes else size for axis in node.axes]
    return f"{aligned(text, argument.axes, node.axes)}.expand(-1, -1, {', '.join(shape)})"


def _dot(left: Node, right: Node, args: Sequence[str], axis: str) -> str:
    rest = [[a for a in side.axes if a != axis] for side in (left, right)]
    if any(len(free) > 1 for free in rest):
        raise NotImplementedError(f"a contraction of {left.axes} with {right.axes}")
    if not rest[0] and not rest[1]:
        return f"({args[0]} * {args[1]}).sum(-1)"
    product = " @ ".join(_operands(left, right, args, axis))
    if not rest[0]:
        return f"({product}).squeeze(-2)"
    return f"({product}).squeeze(-1)" if not rest[1] else product


def _operands(left: Node, right: Node, args: Sequence[str], axis: str) -> tuple[str, str]:
    """The operands of `@`: a vector as a matrix of one row or column."""
    first = args[0] if left.axes[-1] == axis else f"{args[0]}.mT"
    second = args[1] if right.axes[0] == axis else f"{args[1]}.mT"
    first = f"{args[0]}[..., None, :]" if len(left.axes) == 1 else first
    return first, f"{args[1]}[..., None]" if len(right.axes) == 1 else second


def _time(node: Node, args: Sequence[str], names: Namer) -> str:
    """Operations along time: functions of `rnnc.ops.tiles`."""
    match node.op:
        case ir.First():
            return f"{args[0]}[:, :, 0]"
        case ir.AtFirst():
            return f"tiles.at_first({args[0]}, C)"
        case ir.Running(direction, exclusive):
            return f"tiles.{direction}_sum({args[0]}, {BATCH}{_flags(exclusive=exclusive)})"
        case ir.RunningProduct(direction, exclusive):
            return f'tiles.running_product({args[0]}, {BATCH}, "{direction}"{_flags(exclusive=exclusive)})'
        case ir.RunningProductAdjoint(direction, exclusive):
            flag = _flags(exclusive=exclusive)
            return f'tiles.running_product_grad({args[0]}, {args[2]}, {BATCH}, "{direction}"{flag})'
        case ir.Segment(exclusive, strict):
            return f"tiles.segment_sum({args[0]}{_flags(exclusive=exclusive, strict=strict)})"
        case ir.SegmentAdjoint(exclusive, _):
            return f"tiles.segment_sum_grad({args[0]}{_flags(exclusive=exclusive)})"
        case ir.Path(exclusive, strict):
            return f"tiles.path({args[0]}{_flags(exclusive=exclusive, strict=strict)})"
        case ir.PathAdjoint(exclusive, _):
            return f"tiles.path_grad({args[0]}, {args[1]}{_flags(exclusive=exclusive)})"
        case ir.DecayDot(_, mode, exclusive, strict):
            factors = names.factors(node.args[2], mode, exclusive)
            return f"tiles.decay_dot({args[0]}, {args[1]}, {factors}{_flags(strict=strict)})"
        case ir.DecayDotRows(_, mode, exclusive, strict):
            factors = names.factors(node.args[2], mode, exclusive)
            return f"tiles.decay_dot_rows({args[0]}, {args[1]}, {factors}{_flags(strict=strict)})"
        case ir.DecayDotColumns(_, mode, exclusive, strict):
            factors = names.factors(node.args[2], mode, exclusive)
            return f"tiles.decay_dot_columns({args[0]}, {args[1]}, {factors}{_flags(strict=strict)})"
        case ir.DecayDotDecay(_, mode, exclusive, _):
            factors = names.factors(node.args[3], mode, exclusive)
            return f"tiles.decay_dot_decay({args[0]}, {args[1]}, {args[2]}, {factors})"
        case ir.Mask(strict):
            return f"{args[0]}.tril({-1 if strict else 0})"
        case ir.Inverse():
            return f"tiles.inverse({args[0]})"
        case ir.Interleave():
            return f"tiles.interleave([{', '.join(_zero_filled(node, args))}], {BATCH})"
        case ir.Deinterleave(index, count):
            return f"{args[0]}[:, :, {index}::{count}]"
        case ir.Assemble():
            return f"tiles.assemble([{', '.join(_zero_filled(node, args))}])"
        case ir.Block(row, column, count):
            return f"{args[0]}[..., {row}::{count}, {column}::{count}]"
        case _:
            raise NotImplementedError(f"no torch for {type(node.op).__name__}")


def _zero_filled(node: Node, args: Sequence[str]) -> list[str]:
    like = next(t for t, a in zip(args, node.args, strict=True) if not is_number(a))
    return [f"torch.zeros_like({like})" if is_number(a) else t for t, a in zip(args, node.args, strict=True)]


def _flags(**flags: bool) -> str:
    return "".join(f", {name}=True" for name, on in flags.items() if on)
