"""Sums that another order of summation has formed already, in kernels.

The identity of `contractions` serves derivatives by factors of rows: a row sum instead of a matrix product;
and, with the sum over the value axis inside, leaves a large product free to be added to others as it is
formed. A product with a sum of matrices between tokens is distributed: pairs of its factors are multiplied
anyway.
"""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.contractions import exchanges
from rnnc.codegen.operands import all_in_channels, is_matrix
from rnnc.codegen.program import Node, Program, reachable
from rnnc.codegen.rewriting import rewritten


def reassociate(program: Program, builder: Builder, value_axis: str, micro: str | None = None) -> Program:
    """The program with such sums taken of the products that it forms for other results; `micro` is the axis
    of micro-steps, if there are any.
    """
    formed = {node for node in program.nodes() if isinstance(node.op, ir.Dot)}
    channels = all_in_channels(program, micro)

    def rule(node: Node, args: list[Node], build: Builder) -> Node | None:
        value = node if list(node.args) == args else build.with_args(node, args)
        return _reordered(value, formed, build, value_axis, channels) or _distributed(value, build)

    return rewritten(program, builder, rule)


def _distributed(node: Node, builder: Builder) -> Node | None:
    """f (a + b) as f a + f b, for matrices between tokens."""
    sums = [f for f in node.args if isinstance(f.op, ir.Add) and is_matrix(f)]
    if not isinstance(node.op, ir.Multiply) or len(sums) != 1 or len(node.args) < 2:
        return None
    total, rest = sums[0], [factor for factor in node.args if factor is not sums[0]]
    assert isinstance(total.op, ir.Add)
    terms = [builder.multiply([*rest, term], node.op.coefficient) for term in total.args]
    return builder.add(zip(total.op.coefficients, terms, strict=True))


def _reordered(
    node: Node, formed: set[Node], builder: Builder, value_axis: str, channels: bool
) -> Node | None:
    """The sum in the other order, if the matrix products that it takes are formed; of a sum over values and
    one over channels that over `channels` stays outside, where those are in tiles, else the other.
    """
    if not isinstance(node.op, ir.Sum) or node.op.axis in ir.TIME_AXES:
        return None

    def product(x: Node, right: Node, axis: str) -> Node | None:
        made = builder.dot(x, right, axis)
        return made if {n for n in reachable([made]) if isinstance(n.op, ir.Dot)} <= formed else None

    for order in exchanges(node, product):
        outer, inner = (order.axis, node.op.axis) if channels else (node.op.axis, order.axis)
        if order.axis in ir.TIME_AXES or (inner == value_axis and outer != value_axis):
            return builder.sum(builder.multiply([order.left, order.product], order.coefficient), order.axis)
    return None
