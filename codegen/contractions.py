"""A matrix product that is only contracted again becomes one that is formed anyway.

    sum_v x[i,v] (sum_c l[i,c] r[c,v])  =  sum_c l[i,c] (sum_v x[i,v] r[c,v])

The right side needs no product of its own where x r^T is there for another gradient: the derivative by a
factor of rows is found in that by what it multiplies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program, reachable
from rnnc.codegen.schedule import needed

Formed = Callable[[Node, Node, str], Node | None]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A sum in the other order: over `axis`, of `left` times `product`, times `coefficient`.

    `without` is the matrix product that it does not need.
    """

    without: Node
    left: Node
    product: Node
    axis: str
    coefficient: ir.Number


def exchanges(node: Node, formed: Formed) -> Iterator[Exchange]:
    """The other orders of a sum; `formed(x, r, axis)` is sum over axis of x * r, None if it is not there."""
    if not isinstance(node.op, ir.Sum) or not isinstance(node.args[0].op, ir.Multiply):
        return
    axis, factors = node.op.axis, node.args[0].args
    if len(factors) != 2:
        return
    for x, dot in (factors, factors[::-1]):
        if isinstance(dot.op, ir.Dot) and x.axes == dot.axes and len(x.axes) == 2:
            left, right = dot.args if axis in dot.args[1].axes else dot.args[::-1]
            product = formed(x, right, axis)
            if product is not None:
                yield Exchange(dot, left, product, dot.op.axis, node.args[0].op.coefficient)


def share_contractions(program: Program, given: Iterable[Node], builder: Builder) -> Program:
    """The program without matrix products whose contraction another gives; `given` stay as they are."""
    atoms = frozenset(given)
    while (found := _found(program, atoms, builder)) is not None:
        program = _replaced(program, *found, atoms, builder)
    return program


def _found(program: Program, atoms: frozenset[Node], builder: Builder) -> tuple[Node, Node] | None:
    """A sum, and what takes its place."""
    nodes = needed([*program.results.values(), *(carry.end for carry in program.carries)], atoms)
    products = {(frozenset(node.args), node.op.axis): node for node in nodes if isinstance(node.op, ir.Dot)}
    users = Counter(argument for node in nodes for argument in node.args)
    users.update([*program.results.values(), *(carry.end for carry in program.carries)])
    for node in nodes:
        if not isinstance(node.op, ir.Sum) or users[node.args[0]] > 1:
            continue
        for order in exchanges(node, lambda x, right, axis: products.get((frozenset((x, right)), axis))):
            alone = users[order.without] == 1 and order.product.axes == order.left.axes
            if alone and node not in reachable([order.product]):
                return node, _contracted(order, builder)
    return None


def _contracted(order: Exchange, builder: Builder) -> Node:
    """The sum as it is: simplification would take apart what is shared."""
    factors = [order.left, order.product]
    pair = builder.node(ir.Multiply(order.coefficient), factors, order.product.axes)
    axes = tuple(axis for axis in pair.axes if axis != order.axis)
    return builder.node(ir.Sum(order.axis), [pair], axes)


def _replaced(program: Program, old: Node, other: Node, atoms: frozenset[Node], builder: Builder) -> Program:
    new = {old: other}

    def current(node: Node) -> Node:
        if node in atoms:
            return node
        if node not in new:
            args = [current(argument) for argument in node.args]
            new[node] = node if args == list(node.args) else builder.node(node.op, args, node.axes)
        return new[node]

    return replace(
        program,
        results={name: current(value) for name, value in program.results.items()},
        carries=tuple(replace(carry, end=current(carry.end)) for carry in program.carries),
    )
