"""The order of work in a loop over tiles that forms several products under decays: one after the other, and
what each of them contributes to is brought up to date before the next.

A sum of what several of them give is built term by term, so that it takes one tile and not one per term.
What costs little to form is read and formed again after each product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.phases import Part, in_order
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import plain


class Settling:
    """What the products of a loop over tiles of an axis lead to.

    `body` is everything that the loop forms; `products` says of which product a value of it is formed. Sums
    of fewer `axes` than a tile's are formed when all their terms are there.
    """

    def __init__(self, body: Iterable[Node], products: Mapping[Node, Node], axis: str, axes: int = 2) -> None:
        self.axes = axes
        self.sources: dict[Node, set[Node]] = {}
        for node, args in in_order(body):
            found: set[Node] = set().union(*(self.sources.get(argument, ()) for argument in args))
            self.sources[node] = found | {products[node]} if node in products else found
        self.left = list(dict.fromkeys(products.values()))
        self.waiting = {n: list(range(len(n.args))) for n in self.sources if self._is_built(n, axis)}

    def _is_built(self, node: Node, axis: str) -> bool:
        """Whether a value is a tile to which several products contribute."""
        if not isinstance(node.op, ir.Add) or axis not in node.axes or len(node.axes) < self.axes:
            return False
        late = [self._of(argument) for argument in node.args if self._of(argument)]
        return len(late) > 1 and len(set().union(*late)) > 1

    def _of(self, node: Node) -> set[Node]:
        return self.sources.get(plain(node), set())

    def take(self) -> Node:
        """The next product: of those that need no other, the one that completes most sums."""
        ready = [p for p in self.left if self._of(p).isdisjoint({*self.left} - {p})]

        def completed(product: Node) -> int:
            after = {*self.left} - {product}
            return sum(self._of(total).isdisjoint(after) for total in self.waiting)

        found = max(ready, key=lambda product: (completed(product), -product.number))
        self.left.remove(found)
        return found

    def is_ready(self, node: Node) -> bool:
        """Whether no product that the value depends on is missing."""
        return self._of(node).isdisjoint(self.left)

    def is_cheap(self, node: Node) -> bool:
        """Whether a value depends on none of the products."""
        return not self._of(node)

    def parts(self, need: Callable[[Node], None]) -> Iterator[Part]:
        """The terms that can be added to sums now, each once `need` has formed it."""
        for total in [node for node in self.sources if node in self.waiting]:
            indices = self.waiting[total]
            for index in self._ready_terms(total):
                first = len(indices) == len(total.args)
                need(total.args[index])
                indices.remove(index)
                if not indices:
                    del self.waiting[total]
                yield Part(total, index, first, False)

    def _ready_terms(self, total: Node) -> Sequence[int]:
        """What no product is part of comes last."""
        indices, args = self.waiting[total], total.args
        late = [i for i in indices if not self.is_cheap(args[i]) and self.is_ready(args[i])]
        return late + [i for i in indices if self.is_cheap(args[i])] if self.is_ready(total) else late
