"""Values of a tile program as formulas: what lines of a kernel compute, in the terms of the header.

Elementwise operations align by axis, `x y^T` is a matrix product; in a matrix between tokens, `x[i]` scales
its rows and `x[j]` its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fractions import Fraction

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import is_number, number, plain

SUM, PRODUCT, MATRIX, ATOM = range(4)  # what binds tighter comes later
CONSTANTS = {"ln2": "ln(2)", "log2e": "log2(e)"}
BETWEEN = {False: "j < t <= i", True: "j < t < i"}
UP_TO = {
    ("prefix", False): "t <= i",
    ("prefix", True): "t < i",
    ("suffix", False): "t >= i",
    ("suffix", True): "t > i",
}


class Notation:
    """Formulas in which values are called what `name` calls them."""

    def __init__(self, name: Callable[[Node], str]) -> None:
        self.name = name
        self.inline: Collection[Node] = ()

    def formula(self, node: Node, inline: Collection[Node], factor: ir.Number = 1) -> str:
        """`factor` times the value; those in `inline` that it is formed of are written out."""
        self.inline = inline
        front = "" if factor == 1 else "-" if factor == -1 else f"{number(factor)} "
        return front + self._written(plain(node), MATRIX if front else SUM)

    def _text(self, node: Node, level: int = SUM) -> str:
        inner = plain(node)
        if is_number(inner):
            return _bracketed(_number(inner), SUM if " " in _number(inner) else ATOM, level)
        return self._written(inner, level) if inner in self.inline else self.name(inner)

    def _written(self, node: Node, level: int) -> str:
        text, own = self._operation(node)
        return _bracketed(text, own, level)

    def _operation(self, node: Node) -> tuple[str, int]:
        """The formula, and how tightly its outermost operation binds."""
        match node.op:
            case ir.Add(coefficients):
                return self._sum(node, coefficients), SUM
            case ir.Multiply(coefficient):
                return self._product(node, coefficient)
            case ir.Dot(axis):
                return self._dot(node, axis), MATRIX
            case ir.Mask(strict):
                return f"tril({self._text(node.args[0])}{', -1' if strict else ''})", ATOM
            case ir.Inverse():
                return f"(I - {self._text(node.args[0], PRODUCT)})^-1", ATOM
            case ir.Keep() | ir.Within() | ir.Broadcast():
                text = self._text(node.args[0])
                return text, SUM if " " in text else ATOM
            case ir.Apply(function):
                return self._function(node, function)
            case ir.Load(name):
                return name, ATOM
            case _:
                return self._reduction(node), ATOM

    def _sum(self, node: Node, coefficients: tuple[ir.Number, ...]) -> str:
        out = ""
        for coefficient, argument in zip(coefficients, node.args, strict=True):
            size = coefficient if coefficient > 0 else -coefficient
            term = self._text(argument, PRODUCT)
            term = term if size == 1 else f"{number(size)} {self._text(argument, MATRIX)}"
            sign = "-" if coefficient < 0 else "+"
            out = f"{out} {sign} {term}" if out else f"{'-' if coefficient < 0 else ''}{term}"
        return out

    def _product(self, node: Node, coefficient: ir.Number) -> tuple[str, int]:
        coefficient, factors = self._factors(node, coefficient)
        factors.sort(key=lambda argument: (len(argument.axes), not is_number(argument)))
        front = "" if coefficient == 1 else "-" if coefficient == -1 else f"{number(coefficient)} "
        level = PRODUCT if len(factors) > 1 or front else SUM
        sides = [[a for a in factors if a.axes == (axis,)] for axis in node.axes]
        if len(node.axes) == 2 and all(sides) and not any(len(a.axes) == 2 for a in factors):
            outer = " ".join(self._side(side) for side in sides) + "^T"
            scalars = [self._text(a, MATRIX) for a in factors if not a.axes]
            return front + " * ".join([*scalars, outer]), level
        return front + " * ".join(self._indexed(argument, node) for argument in factors), level

    def _factors(self, node: Node, coefficient: ir.Number) -> tuple[ir.Number, list[Node]]:
        """The number and the factors of a product, those of products in it too."""
        found: list[Node] = []
        for argument in node.args:
            inner = plain(argument)
            if isinstance(inner.op, ir.Multiply) and inner in self.inline and argument is inner:
                more, factors = self._factors(inner, inner.op.coefficient)
                coefficient, found = coefficient * more, [*found, *factors]
            else:
                found.append(argument)
        return coefficient, found

    def _side(self, side: list[Node]) -> str:
        if len(side) == 1:
            return self._text(side[0], ATOM)
        return f"({' * '.join(self._text(a, MATRIX) for a in side)})"

    def _indexed(self, argument: Node, product: Node) -> str:
        """A factor; in a product between tokens, or rows, a vector says whether it scales rows or columns."""
        alike = {"" if axis in ir.TIME_AXES else axis.rstrip("'") for axis in product.axes}
        if len(product.axes) < 2 or len(alike) > 1 or len(argument.axes) != 1:
            return self._text(argument, MATRIX)
        return f"{self._text(argument, ATOM)}[{'i' if argument.axes == product.axes[:1] else 'j'}]"

    def _dot(self, node: Node, axis: str) -> str:
        left, right = map(plain, node.args)
        axes = [argument.axes for argument in node.args]
        texts = [self._text(side, MATRIX if len(side.axes) < 2 else ATOM) for side in (left, right)]
        if len(axes[0]) == 1 and len(axes[1]) == 2:  # a vector: S^T k
            (right_text, left_text), sides = texts, (axes[1], axes[0])
            return f"{_transposed(left_text, sides[0][-1] != axis)} {_bracketed_word(right_text)}"
        first = _transposed(texts[0], axes[0][-1] != axis or len(axes[0]) == 1)
        return f"{first} {_transposed(texts[1], len(axes[1]) == 2 and axes[1][0] != axis)}"

    def _function(self, node: Node, function: str) -> tuple[str, int]:
        base = plain(node.args[0])
        args = ", ".join(map(self._text, node.args))
        if function == "rsqrt" and (vector := norm_of(base)) is not None and base in self.inline:
            return f"1/|{self._text(vector)}|", MATRIX
        match function:
            case "exp2":
                return f"2^({args})" if " " in args else f"2^{args}", ATOM
            case "reciprocal":
                return f"1/{self._text(node.args[0], ATOM)}", MATRIX
            case "log2_exp":
                return f"log2(e) {self._text(node.args[0], MATRIX)}", PRODUCT
            case "power":
                assert isinstance(node.op, ir.Apply)
                return f"{self._text(node.args[0], ATOM)}^{number(node.op.exponent or Fraction(1))}", ATOM
            case _:
                return f"{function}({args})", ATOM

    def _reduction(self, node: Node) -> str:
        """Sums, and operations along time."""
        args = [self._text(argument) for argument in node.args]
        first = self._text(node.args[0], MATRIX) if node.args else ""
        match node.op:
            case ir.Sum(axis) if axis in ir.TIME_AXES:
                return f"sum_{'ij'[node.args[0].axes.index(axis)] if len(node.axes) else 't'} {first}"
            case ir.Sum(axis):
                return f"sum_{axis} {first}"
            case ir.Max(axis):
                return f"max_{axis} {first}"
            case ir.Running(direction, exclusive):
                return f"sum({first}[t], {UP_TO[direction, exclusive]})"
            case ir.RunningProduct(direction, exclusive):
                return f"product({first}[t], {UP_TO[direction, exclusive]})"
            case ir.LinearScan(direction, exclusive):
                place = "i" if not exclusive else "i-1" if direction == "prefix" else "i+1"
                decay = "t+1" if direction == "suffix" and not exclusive else "t"
                before = "t-1" if direction == "prefix" else "t+1"
                return f"y[{place}] with y[t] = {args[0]}[{decay}] y[{before}] + {args[1]}[t]"
            case ir.Segment(exclusive):
                return f"sum({first}[t], {BETWEEN[exclusive]})"
            case ir.Path(exclusive):
                return f"product({first}[t], {BETWEEN[exclusive]})"
            case ir.SegmentAdjoint(exclusive):
                return f"sum({first}[i,j], {'i > t > j' if exclusive else 'i >= t > j'})"
            case ir.PathAdjoint() | ir.RunningProductAdjoint():
                return f"d{args[0]} of {args[-1]}"
            case ir.DecayDot(axis, mode, exclusive):
                gate = f"product({args[2]}[t]" if mode == "product" else f"2^sum({args[2]}[t]"
                return f"sum_{axis} {args[0]}[i] * {args[1]}[j] * {gate}, {BETWEEN[exclusive]})"
            case ir.DecayDotRows(_, mode, exclusive) | ir.DecayDotColumns(_, mode, exclusive):
                there = "j" if isinstance(node.op, ir.DecayDotRows) else "i"
                gate = f"product({args[2]}[t]" if mode == "product" else f"2^sum({args[2]}[t]"
                return f"sum_{there} {first}[i,j] * {args[1]}[{there}] * {gate}, {BETWEEN[exclusive]})"
            case ir.InverseAdjoint():
                return f"({first}^T {self._text(node.args[1], MATRIX)} {first}^T below the diagonal)"
            case ir.First():
                return f"{first}[1]"
            case ir.AtFirst():
                return f"({first} in the first row)"
            case ir.Block(row, column):
                return f"{first}_{row + 1}{column + 1}"
            case _:
                return f"{type(node.op).__name__.lower()}({', '.join(args)})"


def norm_of(node: Node) -> Node | None:
    """x, where the value is |x|^2 + a number."""
    node = plain(node)
    if isinstance(node.op, ir.Add) and len(node.args) == 2 and is_number(node.args[1]):
        return squared(node.args[0])
    return None


def squared(node: Node) -> Node | None:
    """x, where the value is |x|^2."""
    node = plain(node)
    if isinstance(node.op, ir.Sum) and plain(node.args[0]).op == ir.Multiply(1):
        factors = list(map(plain, plain(node.args[0]).args))
        return factors[0] if len(factors) == 2 and factors[0] is factors[1] else None
    return None


def _number(node: Node) -> str:
    match node.op:
        case ir.Const(value):
            return number(value)
        case ir.NamedConst(name):
            return CONSTANTS[name]
        case ir.AxisSize(axis):
            return axis
        case ir.Add(coefficients):
            terms = zip(coefficients, node.args, strict=True)
            return " + ".join(_number(a) if c == 1 else f"{number(c)} {_number(a)}" for c, a in terms)
        case ir.Multiply(coefficient):
            return " ".join([*([] if coefficient == 1 else [number(coefficient)]), *map(_number, node.args)])
        case ir.Apply("rsqrt"):
            return f"{_number(node.args[0])}^-0.5"
        case ir.Apply("power", exponent):
            return f"{_number(node.args[0])}^{number(exponent or Fraction(1))}"
        case ir.Apply("reciprocal"):
            return f"1/{_number(node.args[0])}"
        case ir.Apply(function):
            return f"{function}({', '.join(map(_number, node.args))})"
        case _:
            raise AssertionError(node.op)


def _bracketed(text: str, own: int, level: int) -> str:
    return f"({text})" if own < level else text


def _bracketed_word(text: str) -> str:
    return f"({text})" if " " in text and not text.startswith("(") else text


def _transposed(text: str, yes: bool) -> str:
    return f"{text}^T" if yes else text
