"""One node of a tile program as a line of torch: the table of operations.

Arrays are [M, H, axes...]: chunks (or tokens), heads, then the node's own axes in order; in a scan, where
both are one axis, [n, axes...]. A node without axes that depends on no array is a Python number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Protocol

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import Term, bmm, is_number, number, print_sum
from rnnc.dsl.expression import Axes

BATCH = 2  # M and H come first, outside a scan

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
    "select": "torch.where({0} > 0, {1}, {2})",
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
    """Where the printer looks up what a node, or a value shared between lines, is called.

    `batch` axes come before a node's own; `inside` a scan, that is one.
    """

    batch: int
    inside: bool

    def name(self, node: Node) -> str:
        """The array, or the number."""

    def view(self, node: Node, axes: Axes) -> str:
        """The array with the axes in this order, those it lacks of size 1."""

    def transposed(self, node: Node) -> str:
        """The matrix with its axes swapped."""

    def state(self, node: Node) -> str | None:
        """Whether a sum may overwrite the state, as text; None: it may not."""

    def room(self, node: Node) -> str | None:
        """Where the value may be computed, as text; None: anywhere."""

    def factors(self, node: Node, mode: str, exclusive: bool) -> str:
        """The factors of decays that products under decays share."""

    def size(self, axis: str) -> str:
        """The name of an axis' size."""

    def inlined(self, node: Node) -> bool:
        """Whether the value is printed inside the one sum that needs it."""


def aligned(text: str, own: Axes, axes: Axes, batch: int = BATCH) -> str:
    """The array with its axes in the order of `axes`, and new ones of size 1 where it lacks some."""
    shared = [axis for axis in axes if axis in own]
    if shared != list(own):
        order = [*range(batch), *(batch + own.index(axis) for axis in shared)]
        text = f"{text}.permute({', '.join(map(str, order))})"
    missing = [axis not in own for axis in axes]
    while missing and not missing[0]:
        missing.pop(0)
    if not any(missing):
        return text
    where = [":" if axis in own else "None" for axis in axes]
    while where and where[-1] == ":":
        where.pop()
    return f"{text}[{', '.join([':'] * batch + where)}]"


def line(node: Node, names: Namer) -> str:
    """The right-hand side of the node's assignment."""
    if is_number(node):
        return _number_line(node, [names.name(argument) for argument in node.args])
    match node.op:  # what does not take every argument by its name
        case ir.Add(coefficients):
            return _sum(node, coefficients, names)
        case ir.Keep(fill):
            value, valid = (names.view(argument, node.axes) for argument in node.args)
            return f"torch.where({valid} > 0, {value}, {fill})"
        case ir.Broadcast(axis):
            return _broadcast(node, names.size(axis), names)
        case ir.Dot(axis):
            return _dot(node, axis, names)
        case ir.Flatten(micro, time, rows):
            split = ((time, micro) if axis == rows else (axis,) for axis in node.axes)
            axes = tuple(axis for part in split for axis in part)
            where = dim(node, rows, names)
            return f"{names.view(node.args[0], axes)}.flatten({where}, {where + 1})"
        case ir.Sum(axis) if names.inlined(node.args[0]):
            square = node.args[0]
            return f"tiles.sum_squares({names.name(square.args[0])}, {dim(square, axis, names)})"
        case ir.Apply(function) if len(node.args) > 1:
            return _plain(FUNCTIONS[function].format(*_tensors(node, names)))
        case _:
            return _line(node, [names.name(argument) for argument in node.args], names)


def _line(node: Node, args: Sequence[str], names: Namer) -> str:
    match node.op:
        case ir.Multiply(coefficient):
            return _product(node, coefficient, args, names.batch)
        case ir.Apply("power", exponent):
            return f"{args[0]} ** {number(exponent or Fraction(1))}"
        case ir.Apply(function):
            return _plain(FUNCTIONS[function].format(*args))
        case ir.Softmax(axis):
            return f"torch.softmax({args[0]}, {dim(node, axis, names)})"
        case ir.Sum(axis):
            where, room = dim(node.args[0], axis, names), names.room(node)
            return f"torch.sum({args[0]}, {where}, out={room})" if room else f"{args[0]}.sum({where})"
        case _:
            return _time(node, args, names)


def dim(node: Node, axis: str, names: Namer) -> int:
    """The number of an axis, after the batch axes."""
    return names.batch + node.axes.index(axis)


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


def _tensors(node: Node, names: Namer) -> list[str]:
    """Arguments of a two-argument function, which takes no Python numbers."""
    like = next(names.view(a, node.axes) for a in node.args if not is_number(a))
    return [
        f"torch.as_tensor({names.name(a)}, dtype={like}.dtype, device={like}.device)"
        if is_number(a)
        else names.view(a, node.axes)
        for a in node.args
    ]


def _sum(node: Node, coefficients: Iterable[ir.Number], names: Namer) -> str:
    terms = [_term(c, a, node.axes, names) for c, a in zip(coefficients, node.args, strict=True)]
    return print_sum(terms, node.axes, names.inside, names.room(node))


def _term(coefficient: ir.Number, term: Node, axes: Axes, names: Namer) -> Term:
    if is_number(term):
        return Term("number", coefficient, names.name(term))
    if not names.inlined(term):
        own = names.state(term)
        if own is not None and coefficient == 1:
            return Term("state", 1, names.name(term), own, axes)
        return Term("plain", coefficient, names.view(term, axes), axes=term.axes)
    match term.op:
        case ir.Multiply(scale):
            return _scaled(coefficient * scale, term, axes, names)
        case ir.Dot():
            return Term("dot", coefficient, *_operands(term, names), axes)
        case _:
            raise AssertionError(term.op)


def _scaled(coefficient: ir.Number, term: Node, axes: Axes, names: Namer) -> Term:
    """An inlined product: of a state, of two arrays, or of numbers and a matrix product."""
    numbers = tuple(names.name(argument) for argument in term.args if is_number(argument))
    arrays = sorted((a for a in term.args if not is_number(a)), key=lambda argument: len(argument.axes))
    if len(arrays) == 1:
        (product,) = arrays
        left, right = _operands(product, names)
        return Term("dot", coefficient, left, right, axes, numbers)
    small, large = arrays
    own = names.state(large)
    if own is not None and coefficient == 1:
        return Term("state", 1, names.name(large), own, axes, (names.view(small, axes),))
    return Term("product", coefficient, names.view(small, axes), names.view(large, axes), axes)


def _product(node: Node, coefficient: ir.Number, args: Sequence[str], batch: int) -> str:
    """Factors over few axes are multiplied first, so that few passes run over the large ones."""
    groups: dict[Axes, list[str]] = {}
    numbers = [] if coefficient == 1 else [number(coefficient)]
    for text, argument in zip(args, node.args, strict=True):
        if is_number(argument):
            numbers.append(text)
        else:
            groups.setdefault(argument.axes, []).append(text)
    ordered = sorted(groups.items(), key=lambda group: len(group[0]))
    alone = bool(numbers) and len(ordered) == 1 < len(node.axes)  # the numbers are a pass of their own
    if groups.get(node.axes) and len(groups[node.axes]) + len(ordered) + alone > 3:
        return _long_product(node, ordered, numbers, batch)
    out, axes = "", node.axes[:0]
    for own, texts in ordered:
        term = " * ".join(texts)
        if not out:
            out, axes = " * ".join([*texts, *numbers]), own
            continue
        wide = tuple(axis for axis in node.axes if axis in own or axis in axes)
        left = aligned(f"({out})" if " " in out else out, axes, wide, batch)
        right = aligned(f"({term})" if " " in term and own != wide else term, own, wide, batch)
        out, axes = f"{left} * {right}", wide
    return out if axes == node.axes else aligned(f"({out})", axes, node.axes, batch)


def _long_product(
    node: Node, groups: Sequence[tuple[Axes, list[str]]], numbers: list[str], batch: int
) -> str:
    """A product of more than two arrays: one new array, multiplied in place from then on."""
    factors = [text for own, texts in groups if own == node.axes for text in texts]
    for position, (own, texts) in enumerate(group for group in groups if group[0] != node.axes):
        term = " * ".join([*texts, *numbers] if position == 0 else texts)
        factors.append(aligned(f"({term})" if " " in term else term, own, node.axes, batch))
    if not any(own != node.axes for own, _ in groups) and numbers:
        factors.append(" * ".join(numbers))
    return f"tiles.product({', '.join(factors)})"


def _broadcast(node: Node, size: str, names: Namer) -> str:
    (argument,) = node.args
    if is_number(argument):
        lead = "1, " * names.batch
        return f"torch.full(({lead}{size}), {names.name(argument)}, dtype=dtype, device=device)"
    shape = ["-1"] * names.batch + ["-1" if axis in argument.axes else size for axis in node.axes]
    return f"{names.view(argument, node.axes)}.expand({', '.join(shape)})"


def _dot(node: Node, axis: str, names: Namer) -> str:
    left, right = node.args
    rest = [[a for a in side.axes if a != axis] for side in (left, right)]
    if any(len(free) > 1 for free in rest):
        raise NotImplementedError(f"a contraction of {left.axes} with {right.axes}")
    if not rest[0] and not rest[1]:
        return f"({names.name(left)} * {names.name(right)}).sum(-1)"
    first, second = _operands(node, names)
    if rest[0] and rest[1] and names.inside:
        return bmm(first, second, names.room(node))
    product = f"{first} @ {second}"
    if not rest[0]:
        return f"({product}).squeeze(-2)"
    return f"({product}).squeeze(-1)" if not rest[1] else product


def _operands(node: Node, names: Namer) -> tuple[str, str]:
    """The operands of `@`: a vector as a matrix of one row or column."""
    assert isinstance(node.op, ir.Dot)
    (left, right), axis = node.args, node.op.axis
    if len(left.axes) == 1:
        first = f"{names.name(left)}[..., None, :]"
    else:
        first = names.name(left) if left.axes[-1] == axis else names.transposed(left)
    if len(right.axes) == 1:
        return first, f"{names.name(right)}[..., None]"
    return first, names.name(right) if right.axes[0] == axis else names.transposed(right)


def _time(node: Node, args: Sequence[str], names: Namer) -> str:
    """Operations along time: functions of `rnnc.ops.tiles`."""
    lead = ":, " * names.batch
    match node.op:
        case ir.First():
            return f"{args[0]}[{lead}0]"
        case ir.AtFirst():
            assert not names.inside
            return f"tiles.at_first({args[0]}, C)"
        case ir.Running(direction, exclusive):
            return f"tiles.{direction}_sum({args[0]}, {names.batch}{_flags(exclusive=exclusive)})"
        case ir.LinearScan(direction, exclusive):
            flags = _flags(suffix=direction == "suffix", exclusive=exclusive)
            return f"tiles.linear_scan({args[0]}, {args[1]}, {names.batch}{flags})"
        case ir.RunningProduct(direction, exclusive):
            return (
                f'tiles.running_product({args[0]}, {names.batch}, "{direction}"{_flags(exclusive=exclusive)})'
            )
        case ir.RunningProductAdjoint(direction, exclusive):
            flag = _flags(exclusive=exclusive)
            return f'tiles.running_product_grad({args[0]}, {args[2]}, {names.batch}, "{direction}"{flag})'
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
        case ir.Mask(strict) if node.axes == (ir.ROW, ir.COLUMNS):
            return f"tiles.mask_tokens({args[0]}{_flags(strict=strict)})"
        case ir.Mask(strict):
            return f"{args[0]}.tril({-1 if strict else 0})"
        case ir.Inverse():
            return f"tiles.inverse({args[0]})"
        case ir.InverseAdjoint():
            return f"tiles.inverse_grad({args[0]}, {args[1]})"
        case ir.Interleave():
            return f"tiles.interleave([{', '.join(_zero_filled(node, args))}], {names.batch})"
        case ir.Deinterleave(index, count):
            return f"{args[0]}[{lead}{index}::{count}]"
        case ir.Assemble():
            return f"tiles.assemble([{', '.join(_zero_filled(node, args))}])"
        case ir.Block(row, column, count):
            return f"{args[0]}[..., {row}::{count}, {column}::{count}]"
        case ir.Unflatten(micro, _, rows):
            return f"{args[0]}.unflatten({dim(node.args[0], rows, names)}, (-1, {names.size(micro)}))"
        case _:
            raise NotImplementedError(f"no torch for {type(node.op).__name__}")


def _zero_filled(node: Node, args: Sequence[str]) -> list[str]:
    like = next(t for t, a in zip(args, node.args, strict=True) if not is_number(a))
    return [f"torch.zeros_like({like})" if is_number(a) else t for t, a in zip(args, node.args, strict=True)]


def _flags(**flags: bool) -> str:
    return "".join(f", {name}=True" for name, on in flags.items() if on)
