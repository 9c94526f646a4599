"""Sums that another order of summation has formed already, in kernels.

The identity of `contractions` serves derivatives by factors of rows: a row sum instead of a matrix product;
and, with the sum over the value axis inside, leaves a large product free to be added to others as it is
formed. Where it saves the only product over the keys of a state, which may have to be formed anew, the sum
over the value axis is inside, too: then one loop over tiles of the state is enough. A product with a sum of
products of matrices between tokens is distributed: pairs of its factors are multiplied anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.contractions import Exchange, Formed, exchanges
from rnnc.codegen.operands import all_in_channels, is_matrix, per_channel
from rnnc.codegen.program import Node, Program, reachable
from rnnc.codegen.rewriting import rewritten


def reassociate(program: Program, builder: Builder, value_axis: str, micro: str | None = None) -> Program:
    """The program with such sums taken of the products that it forms for other results; `micro` is the axis
    of micro-steps, if there are any.
    """
    nodes = program.nodes()
    formed = {node for node in nodes if isinstance(node.op, ir.Dot)}
    channels = all_in_channels(program, value_axis, micro)
    starts = {carry.start for carry in program.carries}
    # Where decays are per channel, sums over channels are another kernel's.
    reads = formed if not per_channel(program) else set()
    read = [n for n in reads if any(_is_state(a) and a not in starts for a in n.args)]

    def rule(node: Node, args: list[Node], build: Builder) -> Node | None:
        value = node if list(node.args) == args else build.with_args(node, args)
        exchanged = _reordered(value, formed, build, value_axis, channels)
        exchanged = exchanged or _without_state(value, formed, read, build, value_axis)
        return exchanged or _distributed(value, build)

    return rewritten(program, builder, rule)


def _distributed(node: Node, builder: Builder) -> Node | None:
    """f (a + b) as f a + f b, for matrices between tokens."""
    sums = [f for f in node.args if isinstance(f.op, ir.Add) and is_matrix(f)]
    if not isinstance(node.op, ir.Multiply) or len(sums) != 1 or len(node.args) < 2:
        return None
    total, rest = sums[0], [factor for factor in node.args if factor is not sums[0]]
    assert isinstance(total.op, ir.Add)
    if not any(_is_pair(term) for term in total.args):
        return None
    terms = [builder.multiply([*rest, term], node.op.coefficient) for term in total.args]
    return builder.add(zip(total.op.coefficients, terms, strict=True))


def _is_pair(term: Node) -> bool:
    """Whether a value is a product of several matrices between tokens."""
    return isinstance(term.op, ir.Multiply) and sum(map(is_matrix, term.args)) > 1


def _reordered(
    node: Node, formed: set[Node], builder: Builder, value_axis: str, channels: bool
) -> Node | None:
    """The sum in the other order, if the matrix products that it takes are formed; of a sum over values and
    one over channels that over `channels` stays outside, where those are in tiles, else the other.
    """
    if not isinstance(node.op, ir.Sum) or node.op.axis in ir.TIME_AXES:
        return None
    for order in exchanges(node, _among(formed, builder)):
        outer, inner = (order.axis, node.op.axis) if channels else (node.op.axis, order.axis)
        if order.axis in ir.TIME_AXES or (inner == value_axis and outer != value_axis):
            return _in_order(order, builder)
    return None


def _without_state(
    node: Node, formed: set[Node], read: Sequence[Node], builder: Builder, value_axis: str
) -> Node | None:
    """The sum over values in the other order, if that saves the only product over keys of those that `read`
    a state which another pass kept.
    """
    if not isinstance(node.op, ir.Sum) or node.op.axis != value_axis:
        return None
    for order in exchanges(node, _among(formed, builder)):
        alike = [product for product in read if product.op == order.without.op]
        if order.axis not in ir.TIME_AXES and alike == [order.without]:
            return _in_order(order, builder)
    return None


def _is_state(node: Node) -> bool:
    return isinstance(node.op, ir.Load) and node.op.kind == "state"


def _among(formed: set[Node], builder: Builder) -> Formed:
    """Gives products for which no matrix product is formed that is not `formed` anyway."""

    def product(x: Node, right: Node, axis: str) -> Node | None:
        made = builder.dot(x, right, axis)
        return made if {n for n in reachable([made]) if isinstance(n.op, ir.Dot)} <= formed else None

    return product


def _in_order(order: Exchange, builder: Builder) -> Node:
    return builder.sum(builder.multiply([order.left, order.product], order.coefficient), order.axis)
