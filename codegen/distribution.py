"""Products with sums of tiles become sums of products that are formed anyway.

    sum_k (s[i] x[i,k] + t[i] y[i,k]) r[k,j]  =  s[i] (sum_k x[i,k] r[k,j]) + t[i] (sum_k y[i,k] r[k,j])

Where all of these products but one are there for another value, this takes none more, and the sum of tiles,
which fills registers before the product and whose gradient does after it, need not be formed.
"""

from __future__ import annotations

from collections.abc import Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program, reachable
from rnnc.codegen.rewriting import rewritten


def distribute(program: Program, builder: Builder) -> Program:
    """The program with such products distributed."""
    formed = {node for node in program.nodes() if _is_product(node)}

    def rule(node: Node, args: list[Node], build: Builder) -> Node | None:
        return _distributed(node, args, formed, build) if _is_product(node) else None

    return rewritten(program, builder, rule)


def _distributed(node: Node, args: Sequence[Node], formed: set[Node], builder: Builder) -> Node | None:
    """The product as a sum of products; None where it takes more of them."""
    assert isinstance(node.op, ir.Dot)
    for total, other in (args, args[::-1]):
        if not isinstance(total.op, ir.Add) or any(len(term.axes) < 2 for term in total.args):
            continue
        terms = [builder.dot(term, other, node.op.axis) for term in total.args]
        products = {n for n in reachable(terms) if _is_product(n)} - set(reachable(args))
        if products and len(products - formed) <= 1:
            return builder.add(zip(total.op.coefficients, terms, strict=True))
    return None


def _is_product(node: Node) -> bool:
    """Whether a value is a product of two matrices."""
    return isinstance(node.op, ir.Dot) and len(node.axes) == 2 and all(len(a.axes) == 2 for a in node.args)
