"""A sum of terms as one line of torch: each term is added as it is formed, in place once the sum is a new
array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rnnc.codegen import program as ir
from rnnc.codegen.program import Node
from rnnc.dsl.expression import Axes

# A long sum is written in steps, a line each; this stands for the sum so far.
PREVIOUS = "<sum>"
WIDTH = 40

Kind = Literal["plain", "product", "dot", "number"]


@dataclass(frozen=True, slots=True)
class Term:
    """coefficient * left (plain, number), * left * right elementwise (product), or * left @ right (dot)."""

    kind: Kind
    coefficient: ir.Number
    left: str
    right: str = ""
    axes: Axes = ()


def print_sum(terms: Sequence[Term], axes: Axes) -> str:
    """The expression, in steps of a line each.

    Every term but a number is an array that broadcasts to `axes`; one at least has them all.
    """
    order = {"plain": 0, "product": 1, "dot": 2, "number": 3}
    ranked = sorted(terms, key=lambda term: (order[term.kind], term.axes != axes, term.coefficient != 1))
    text, fresh = _start(ranked[0])
    fresh = fresh and ranked[0].axes == axes
    steps = []
    for term in ranked[1:]:
        if fresh and len(text) > WIDTH:
            steps.append(text)
            text = PREVIOUS
        text, fresh = _add(text, fresh, term)
    return "\n".join([*steps, text])


def number(value: ir.Number) -> str:
    """The shortest text of a constant."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _start(term: Term) -> tuple[str, bool]:
    """The first term, and whether it is a new array."""
    match term.kind:
        case "product":
            factor = "" if term.coefficient == 1 else f" * {number(term.coefficient)}"
            return f"{term.left}{factor} * {term.right}", True
        case "dot":
            product = f"{term.left} @ {term.right}"
            return (
                (product, True)
                if term.coefficient == 1
                else (f"{number(term.coefficient)} * ({product})", True)
            )
        case _:
            if term.coefficient == 1:
                return term.left, False
            scaled = (
                f"-{term.left}" if term.coefficient == -1 else f"{number(term.coefficient)} * {term.left}"
            )
            return scaled, True


def _add(text: str, fresh: bool, term: Term) -> tuple[str, bool]:
    value = number(term.coefficient)
    last = "" if term.coefficient == 1 else f", {value}"
    match term.kind:
        case "product" if fresh:
            return f"tiles.addcmul_({text}, {term.left}, {term.right}{last})", True
        case "product":
            keyword = "" if term.coefficient == 1 else f", value={value}"
            return f"torch.addcmul({text}, {term.left}, {term.right}{keyword})", True
        case "dot" if fresh:
            return f"tiles.addmm_({text}, {term.left}, {term.right}{last})", True
        case "dot":
            return _plain_sum(text, f"{term.left} @ {term.right}", term.coefficient), True
        case _:
            return _plain_sum(text, term.left, term.coefficient), True


def _plain_sum(text: str, other: str, coefficient: ir.Number) -> str:
    if abs(coefficient) == 1:
        return f"{text} {'+' if coefficient > 0 else '-'} {other}"
    if not other.isidentifier() and "[" not in other and "@" not in other:
        return f"{text} + {number(coefficient)} * {other}"
    return f"torch.add({text}, {other}, alpha={number(coefficient)})"


def inlined_terms(stages: Sequence[Sequence[Node]], wanted: set[Node]) -> set[Node]:
    """Products of two arrays and matrix products that one sum over the same axes, in the same stage, needs
    and nothing else: they are printed inside that sum.
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
            if isinstance(sums[0].op, ir.Add) and sums[0].axes == node.axes and _can_inline(node):
                found.add(node)
    return found


def _can_inline(node: Node) -> bool:
    match node.op:
        case ir.Multiply():
            two = len(node.args) == 2 and all(argument.axes for argument in node.args)
            return two and any(argument.axes == node.axes for argument in node.args)
        case ir.Dot():
            return len(node.axes) == 2
        case _:
            return False


def plain(node: Node) -> Node:
    """The node that a chain of relabellings is of."""
    while isinstance(node.op, ir.Rename):
        node = node.args[0]
    return node
