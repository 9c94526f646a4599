"""A sum of terms as one line of torch: each term is added as it is formed, in place once the sum is a new
array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node
from rnnc.dsl.expression import Axes

# A long sum is written in steps, a line each; this stands for the sum so far.
PREVIOUS = "<sum>"
WIDTH = 40

Kind = Literal["state", "plain", "product", "dot", "number"]
RANK: dict[Kind, int] = {"state": 0, "plain": 1, "product": 2, "dot": 3, "number": 4}


@dataclass(frozen=True, slots=True)
class Term:
    """coefficient * left (plain, number), * left * right elementwise (product), or * left @ right (dot);
    times `factors`. A state is `left`, and `right` says whether it may be overwritten.
    """

    kind: Kind
    coefficient: ir.Number
    left: str
    right: str = ""
    axes: Axes = ()
    factors: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        """The coefficient and the factors of a product, which are numbers."""
        parts = [] if self.coefficient == 1 and self.factors else [number(self.coefficient)]
        return " * ".join([*parts, *self.factors])

    @property
    def whole(self) -> bool:
        """Whether the value is 1."""
        return self.coefficient == 1 and not self.factors


def print_sum(terms: Sequence[Term], axes: Axes, inside: bool = False, room: str | None = None) -> str:
    """The expression, in steps of a line each; `inside` a scan, where all arrays have one batch axis, it may
    be computed in `room`.

    Every term but a number is an array that broadcasts to `axes`; one at least has them all.
    """
    ranked = sorted(terms, key=lambda term: (RANK[term.kind], term.axes != axes, not term.whole))
    if inside and ranked[0].kind == "plain" and ranked[0].axes == axes and ranked[1].kind == "dot":
        text, fresh, rest = _dot_onto(ranked[0], ranked[1], room), True, ranked[2:]
    elif ranked[0].kind == "dot" and not ranked[0].whole and ranked[1:] and ranked[1].kind == "dot":
        text, fresh, rest = _two_dots(ranked[0], ranked[1], inside), True, ranked[2:]
    else:
        text, fresh = _start(ranked[0], inside, room)
        fresh, rest = fresh and ranked[0].axes == axes, ranked[1:]
    steps = []
    for term in rest:
        if fresh and len(text) > WIDTH:
            steps.append(text)
            text = PREVIOUS
        text, fresh = _add(text, fresh, term, inside)
    return "\n".join([*steps, text])


def number(value: ir.Number) -> str:
    """The shortest text of a constant."""
    return str(int(value)) if value == int(value) else repr(float(value))


def bmm(left: str, right: str, room: str | None = None) -> str:
    """A matrix product inside a scan."""
    return f"torch.bmm({left}, {right}{', out=' + room if room else ''})"


def _dot_onto(first: Term, product: Term, room: str | None) -> str:
    beta = "" if first.coefficient == 1 else f", beta={number(first.coefficient)}"
    out = f", out={room}" if room else ""
    alpha = "" if product.whole else f", alpha={product.value}"
    return f"torch.baddbmm({first.left}, {product.left}, {product.right}{beta}{alpha}{out})"


def _two_dots(first: Term, second: Term, inside: bool) -> str:
    """The first product is scaled as the second is added to it."""
    function = "scan.addmm" if inside else "tiles.addmm_"
    product = bmm(first.left, first.right) if inside else f"{first.left} @ {first.right}"
    return f"{function}({product}, {second.left}, {second.right}, {second.value}, {first.value})"


def _start(term: Term, inside: bool, room: str | None) -> tuple[str, bool]:
    """The first term, and whether it is a new array."""
    match term.kind:
        case "state":
            return f"scan.scale({term.left}, {' '.join(term.factors) or 1}, {term.right})", True
        case "product" if inside and room and term.coefficient == 1:
            return f"torch.mul({term.left}, {term.right}, out={room})", True
        case "product":
            factor = "" if term.coefficient == 1 else f" * {number(term.coefficient)}"
            return f"{term.left}{factor} * {term.right}", True
        case "dot":
            product = bmm(term.left, term.right, room) if inside else f"{term.left} @ {term.right}"
            if term.whole:
                return product, True
            return f"{term.value} * {product if inside else f'({product})'}", True
        case _:
            if term.coefficient == 1:
                return term.left, False
            scaled = (
                f"-{term.left}" if term.coefficient == -1 else f"{number(term.coefficient)} * {term.left}"
            )
            return scaled, True


def _add(text: str, fresh: bool, term: Term, inside: bool) -> tuple[str, bool]:
    last = "" if term.whole else f", {term.value}"
    match term.kind:
        case "product" if fresh:
            return f"tiles.addcmul_({text}, {term.left}, {term.right}{last})", True
        case "product":
            keyword = "" if term.whole else f", value={term.value}"
            return f"torch.addcmul({text}, {term.left}, {term.right}{keyword})", True
        case "dot" if fresh:
            function = "scan.addmm" if inside else "tiles.addmm_"
            return f"{function}({text}, {term.left}, {term.right}{last})", True
        case "dot":
            product = bmm(term.left, term.right) if inside else f"{term.left} @ {term.right}"
            return _plain_sum(text, product, term), True
        case _:
            return _plain_sum(text, term.left, term), True


def _plain_sum(text: str, other: str, term: Term) -> str:
    if abs(term.coefficient) == 1 and not term.factors:
        return f"{text} {'+' if term.coefficient > 0 else '-'} {other}"
    if not term.factors and not other.isidentifier() and "[" not in other and "@" not in other:
        return f"{text} + {number(term.coefficient)} * {other}"
    return f"torch.add({text}, {other}, alpha={term.value})"


def inlined_terms(stages: Sequence[Sequence[Node]], wanted: set[Node]) -> set[Node]:
    """Products of two arrays and matrix products that one sum over the same axes, in the same stage, needs
    and nothing else: they are printed inside that sum. So are squares that are only summed over an axis.
    """
    users: dict[Node, list[Node]] = {}
    for node in (node for stage in stages for node in stage):
        for argument in node.args:
            users.setdefault(plain(argument), []).append(node)
    found: set[Node] = set()
    for stage in stages:
        inside = set(stage)
        for node in stage:
            sums = users.get(node, [])
            if node in wanted or len(sums) != 1 or sums[0] not in inside or node not in sums[0].args:
                continue
            added = isinstance(sums[0].op, ir.Add) and sums[0].axes == node.axes
            squared = isinstance(sums[0].op, ir.Sum) and _is_square(node)
            if squared or (added and can_inline(node)):
                found.add(node)
            elif added:
                product = _times_numbers(node)
                if product in inside and product not in wanted and len(users[product]) == 1:
                    found |= {node, product}
    return found


def can_inline(node: Node) -> bool:
    """Whether a sum over the node's axes may add the product as it is formed."""
    match node.op:
        case ir.Multiply():
            two = len(node.args) == 2 and not any(map(is_number, node.args))
            full = any(argument.axes == node.axes for argument in node.args)
            outer = len(node.axes) == 2 and all(len(argument.axes) == 1 for argument in node.args)
            return two and (full or outer)
        case ir.Dot():
            return len(node.axes) == 2
        case _:
            return False


def _is_square(node: Node) -> bool:
    """Whether the node is an array times itself."""
    square = isinstance(node.op, ir.Multiply) and node.op.coefficient == 1 and len(node.args) == 2
    return square and node.args[0] is node.args[1] and not is_number(node)


def _times_numbers(node: Node) -> Node | None:
    """The matrix product, if the node is one times numbers."""
    if not isinstance(node.op, ir.Multiply):
        return None
    arrays = [argument for argument in node.args if not is_number(argument)]
    dot = len(arrays) == 1 and isinstance(arrays[0].op, ir.Dot) and arrays[0].axes == node.axes
    return arrays[0] if dot and len(node.axes) == 2 else None


def is_number(node: Node) -> bool:
    """Whether the node is a Python number in the printed text."""
    match node.op:
        case ir.Const() | ir.NamedConst() | ir.AxisSize():
            return True
        case ir.Add() | ir.Multiply() | ir.Apply():
            return all(map(is_number, node.args))
        case _:
            return False


def plain(node: Node) -> Node:
    """The node that a chain of relabellings is of."""
    while isinstance(node.op, ir.Rename):
        node = node.args[0]
    return node
