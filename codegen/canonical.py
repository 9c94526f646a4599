"""Which values are equal although they are multiplied in another order."""

from __future__ import annotations

from collections.abc import Hashable

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import is_number, plain


class Canonical:
    """A number for each value, the same for values that are equal with their products opened.

    Which tokens exist does not count: what is zero beyond the sequence is what it is for tokens.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[Node, int] = {}

    def key(self, node: Node) -> int:
        """The same number for equal values."""
        node = plain(node)
        if node not in self._known:
            self._known[node] = self._number(self._content(node))
        return self._known[node]

    def product(self, leaves: list[Node]) -> tuple[int, ...]:
        """The same for the same factors in any order."""
        return tuple(sorted(map(self.key, leaves)))

    def _number(self, content: Hashable) -> int:
        return self._numbers.setdefault(content, len(self._numbers))

    def _content(self, node: Node) -> Hashable:
        match node.op:
            case ir.Multiply():
                coefficient, factors = opened(node)
                if coefficient == 1 and len(factors) == 1:
                    return ("same", self.key(factors[0]))
                return ("product", coefficient, self.product(factors))
            case ir.Add(coefficients):
                terms = zip(coefficients, map(self.key, node.args), strict=True)
                return ("sum", tuple(sorted(terms, key=lambda term: term[1])))
            case ir.Keep():
                return ("same", self.key(node.args[0]))
            case _:
                return (node.op, node.axes, tuple(map(self.key, node.args)))


def opened(node: Node) -> tuple[ir.Number, list[Node]]:
    """The number and the factors of a product, those of products in it too; without what marks the tokens."""
    node = plain(node)
    if not isinstance(node.op, ir.Multiply):
        marks = isinstance(node.op, ir.Load) and node.op.kind == "valid"
        return 1, [] if marks else [node]
    coefficient, factors = node.op.coefficient, list[Node]()
    for argument in node.args:
        more, inner = opened(argument)
        coefficient, factors = coefficient * more, [*factors, *inner]
    return coefficient, factors


def leaves(node: Node) -> list[Node]:
    """The factors of a product that are no numbers, those of products in it too."""
    return [factor for factor in opened(node)[1] if not is_number(factor)]
