"""Which values of a program have room in the workspace, and all others as expressions of C.

A value is formed where it is used if only one elementwise statement uses it, entry by entry; whatever is used
more often, or by a product of matrices or an operation along time, is stored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rnnc.codegen import operations as ir
from rnnc.codegen.c_target import Sizes
from rnnc.codegen.float_functions import NUMBERS, constant
from rnnc.codegen.lower_triangles import is_lower
from rnnc.codegen.names import Names
from rnnc.codegen.notation import Notation
from rnnc.codegen.program import Node, Program
from rnnc.codegen.torch_sums import is_number
from rnnc.codegen.value_names import ValueNames

Index = Mapping[str, str]

VIEWS = (ir.Rename, ir.Broadcast, ir.Deinterleave, ir.Block, ir.Unflatten, ir.First, ir.Within)
POINTWISE = (ir.Add, ir.Multiply, ir.Apply, ir.Keep, ir.Mask, ir.AtFirst, ir.Flatten)
REDUCTIONS = (ir.Sum, ir.Max)
SQUARES = ((ir.ROW, ir.COLUMN), (ir.ROWS, ir.COLUMNS))
RESERVED = """auto break case char const continue default do double else enum extern float for goto if
inline int long register restrict return short signed sizeof static struct switch typedef union unsigned void
volatile while real""".split()


def viewed(node: Node) -> Node:
    """The value that a chain of views is of."""
    while isinstance(node.op, VIEWS):
        node = node.args[0]
    return node


def is_lower_square(node: Node) -> bool:
    """Whether the value is a lower triangle of tokens, or of their rows: zero above the diagonal."""
    return node.axes in SQUARES and is_lower(node)


@dataclass
class Loop:
    """The innermost loop of a statement: its variable (none: there is no loop), and what is the same in every
    round.
    """

    variable: str = ""
    hoisted: dict[str, str] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)

    @property
    def lines(self) -> list[str]:
        """The definitions of what is formed before the loop."""
        return [
            f"const {'long' if name in self.addresses else 'real'} {name} = {text};"
            for text, name in self.hoisted.items()
        ]

    def address(self, text: str) -> str:
        """As `outside`, of where something lies."""
        name = self.outside(f"({text})")
        if name.startswith("r"):
            self.addresses.add(name)
        return name

    def outside(self, text: str) -> str:
        """The text, or the name of what it is formed as before the loop."""
        alone = not self.variable or not re.search(r"[(\[]", text)
        if alone or re.search(rf"\b{self.variable}\b", text):
            return text
        return self.hoisted.setdefault(text, f"r{len(self.hoisted)}")


class Values:
    """The values of a program: where each is stored, or how it is formed where it is used."""

    def __init__(self, program: Program, sizes: Sizes, values: ValueNames) -> None:
        self.program, self.sizes = program, sizes
        self.nodes = program.nodes()
        self.lower = {node for node in self.nodes if is_lower_square(node)}
        self.users: dict[Node, list[tuple[Node | None, Node]]] = {}
        for node in self.nodes:
            if not isinstance(node.op, VIEWS):
                for argument in node.args:
                    self.users.setdefault(viewed(argument), []).append((node, argument))
        for result in program.results.values():
            self.users.setdefault(viewed(result), []).append((None, result))
        ends = {viewed(carry.end) for carry in program.carries}
        self.absorbed = self._absorbed(ends)
        self.stored = {node for node in self.nodes if node in ends or self._is_stored(node)}
        self.stored = {node for node in self.stored if not is_number(node)}
        names, self.called = Names(RESERVED), dict[Node, str]()
        for node in self.nodes:
            if node in self.stored:
                self.called[node] = names.fresh(f"b_{values.name(node)}")
        self.names = names
        self.inside = {n for n in self.nodes if n not in self.stored and not isinstance(n.op, ir.Load)}

    def equation(self, node: Node) -> str:
        """What a stored value is, in the terms of the header."""
        formula = Notation(self._word).formula(node, self.inside)
        return f"{self._word(node)} = {formula}"

    def _word(self, node: Node) -> str:
        name = self.called.get(node)
        return name.removeprefix("b_") if name else "valid"

    # What is stored

    def _is_stored(self, node: Node) -> bool:
        if isinstance(node.op, VIEWS) or is_number(node) or node in self.absorbed:
            return False
        if isinstance(node.op, ir.Load):
            return node.op.kind != "valid"
        if not node.axes or not isinstance(node.op, POINTWISE) or node in self.absorbed.values():
            return True
        users = self.users.get(node, [])
        return len(users) != 1 or not self._inside(node, *users[0])

    def _inside(self, node: Node, user: Node | None, argument: Node) -> bool:
        """Whether the only user forms the value itself, each entry once."""
        chain: list[Node] = []
        while argument is not node:
            chain.append(argument)
            argument = argument.args[0]
        if any(not isinstance(view.op, ir.Rename) for view in chain):
            return False
        if user is None:
            return node not in self.lower
        if not isinstance(user.op, (*POINTWISE, *REDUCTIONS)) or isinstance(user.op, ir.Flatten):
            return False
        if isinstance(user.op, REDUCTIONS):
            return not chain
        same = self.sizes.count(node.axes) == self.sizes.count(user.axes)
        ordered = self._in_order(node, chain, user)
        return same and ordered and (node not in self.lower or (user in self.lower and not chain))

    def _in_order(self, node: Node, chain: Iterable[Node], user: Node) -> bool:
        """Whether entries of the value come in the order in which the user forms its own."""
        axes = node.axes
        for view in reversed(list(chain)):
            assert isinstance(view.op, ir.Rename)
            axes = tuple(view.op.new if axis == view.op.old else axis for axis in axes)
        return axes == user.axes

    def _absorbed(self, ends: Iterable[Node]) -> dict[Node, Node]:
        """Products of matrices that are only added to a sum, which they are added to as they are formed; and
        such a product times numbers.
        """
        found: dict[Node, Node] = {}
        kept = set(ends)
        for node in self.nodes:
            if not isinstance(node.op, ir.Add) or len(node.axes) != 2:
                continue
            for argument in node.args:
                parts = [argument]
                if isinstance(argument.op, ir.Multiply):
                    parts += [a for a in argument.args if a.axes]
                if len(parts) > 2 or any(len(self.users.get(part, ())) != 1 for part in parts):
                    continue
                product = parts[-1]
                if is_product(product) and product.axes == node.axes and not kept.intersection(parts):
                    found |= dict.fromkeys(parts, node)
        return found

    # Expressions

    def number(self, value: float) -> str:
        """A constant."""
        if math.isinf(value):
            return "INFINITY" if value > 0 else "-INFINITY"
        text = repr(float(value))
        return f"{text}f" if self.sizes.target.real == "float" else text

    def entry(self, node: Node, index: Index, loop: Loop) -> str:
        """The entry of a stored value."""
        name = self.called[node]
        if not node.axes:
            return name
        strides = self.sizes.strides(node.axes)
        terms = []
        for axis, stride in zip(node.axes, strides, strict=True):
            at = index[axis]
            if at != "0":
                at = f"({at})" if " " in at and stride != 1 else at
                terms.append(at if stride == 1 else f"{at} * {stride}")
        return loop.outside(f"{name}[{' + '.join(terms) or '0'}]")

    def text(self, node: Node, index: Index, loop: Loop) -> str:
        """The entry of a value at an index, as an expression."""
        if is_number(node):
            return self.number(constant(node, self.sizes.size))
        if node in self.stored:
            return self.entry(node, index, loop)
        if isinstance(node.op, VIEWS):
            return self.text(node.args[0], through(node, index, self.sizes), loop)
        return loop.outside(self.formed(node, index, loop))

    def formed(self, node: Node, index: Index, loop: Loop) -> str:
        """The same, from its arguments."""
        match node.op:
            case ir.Load(_, "valid"):
                return f"(real)({index[ir.ROW]} < rows)"
            case ir.Flatten(micro, time, rows):
                steps, at = self.sizes.size(micro), index[rows]
                inner = {**index, time: f"({at}) / {steps}", micro: f"({at}) % {steps}"}
                return self.text(node.args[0], inner, loop)
            case _:
                args = [self.text(argument, index, loop) for argument in node.args]
                return self._combined(node, args, index, loop)

    def _combined(self, node: Node, args: list[str], index: Index, loop: Loop) -> str:
        match node.op:
            case ir.Add(coefficients):
                return self.sum(zip(coefficients, args, strict=True))
            case ir.Multiply(coefficient):
                return self._product(coefficient, args, loop)
            case ir.Apply("power", exponent):
                assert exponent is not None
                return f"apply_power({args[0]}, {self.number(float(exponent))})"
            case ir.Apply("log2_exp"):
                return f"({args[0]} * {self.number(NUMBERS['log2e'])})"
            case ir.Apply(function):
                return f"apply_{function}({', '.join(args)})"
            case ir.Keep(fill):
                return f"({args[1]} > 0 ? {args[0]} : {fill})"
            case ir.Mask(strict):
                return f"({self._below(node, index, strict)} ? {args[0]} : 0)"
            case ir.AtFirst():
                return f"({index[ir.ROW]} == 0 ? {args[0]} : 0)"
            case _:
                raise NotImplementedError(f"no C for {type(node.op).__name__}")

    def sum(self, terms: Iterable[tuple[ir.Number, str]]) -> str:
        """The terms times their coefficients, added."""
        out = ""
        for coefficient, text in terms:
            size = abs(float(coefficient))
            term = text if size == 1 else f"{self.number(size)} * {text}"
            sign = "-" if coefficient < 0 else "+"
            out = f"{out} {sign} {term}" if out else f"{'-' if coefficient < 0 else ''}{term}"
        return f"({out})"

    def _product(self, coefficient: ir.Number, args: Sequence[str], loop: Loop) -> str:
        """The factors, those first that are the same in every round: together they are one."""
        if not loop.variable:
            scale = [] if coefficient == 1 else [self.number(float(coefficient))]
            return f"({' * '.join([*scale, *args])})"
        inner = [text for text in args if re.search(rf"\b{loop.variable}\b", text)]
        outer = [text for text in args if text not in inner]
        outer += [self.number(float(coefficient))] if coefficient != 1 or not (inner or outer) else []
        if len(outer) > 1 and inner:
            outer = [loop.outside(f"({' * '.join(outer)})")]
        return f"({' * '.join([*outer, *inner])})"

    def _below(self, node: Node, index: Index, strict: bool) -> str:
        """Whether an entry is in the lower triangle."""
        row, column = (index[axis] for axis in node.axes)
        if node.axes == (ir.ROW, ir.COLUMNS):
            column = f"({column}) / {self.sizes.rows // self.sizes.target.tokens}"
        return f"{row} {'>' if strict else '>='} {column}"


def through(node: Node, index: Index, sizes: Sizes) -> Index:
    """Where an entry of a view lies in what it is a view of."""
    match node.op:
        case ir.Rename(old, new):
            return {**index, old: index[new]}
        case ir.Deinterleave(number, count):
            return {**index, ir.ROWS: f"({index[ir.ROW]}) * {count} + {number}"}
        case ir.Block(row, column, count):
            return {
                **index,
                ir.ROWS: f"({index[ir.ROW]}) * {count} + {row}",
                ir.COLUMNS: f"({index[ir.COLUMN]}) * {count} + {column}",
            }
        case ir.Unflatten(micro, time, rows):
            return {**index, rows: f"({index[time]}) * {sizes.size(micro)} + {index[micro]}"}
        case ir.First():
            return {**index, ir.ROW: "0"}
        case _:
            return index


def is_product(node: Node) -> bool:
    """Whether the value is a product of two matrices."""
    return isinstance(node.op, ir.Dot) and all(len(argument.axes) == 2 for argument in node.args)
