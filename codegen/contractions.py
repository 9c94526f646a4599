"""A matrix product that is only contracted again becomes one that is formed anyway.

    sum_v x[i,v] (sum_c l[i,c] r[c,v])  =  sum_c l[i,c] (sum_v x[i,v] r[c,v])

The right side needs no product of its own where x r^T is there for another gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program, reachable
from rnnc.codegen.schedule import needed


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
        if isinstance(node.op, ir.Sum) and users[node.args[0]] == 1:
            for x, dot in _halves(node.args[0]):
                product = products.get((frozenset((x, dot.args[1])), node.op.axis))
                if users[dot] > 1 or product is None or product.axes != dot.args[0].axes:
                    continue
                if node not in reachable([product]):
                    return node, _contracted(node, dot, product, builder)
    return None


def _halves(node: Node) -> list[tuple[Node, Node]]:
    """(x, l @ r) for a product of the two."""
    if not isinstance(node.op, ir.Multiply) or len(node.args) != 2:
        return []
    pairs = (node.args, node.args[::-1])
    return [
        (x, dot) for x, dot in pairs if isinstance(dot.op, ir.Dot) and x.axes == dot.axes and len(x.axes) == 2
    ]


def _contracted(node: Node, dot: Node, product: Node, builder: Builder) -> Node:
    inner = node.args[0].op
    assert isinstance(inner, ir.Multiply)
    pair = builder.node(ir.Multiply(inner.coefficient), [dot.args[0], product], product.axes)
    (axis,) = (axis for axis in product.axes if axis not in node.axes)
    return builder.node(ir.Sum(axis), [pair], node.axes)


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
