"""Factors that several products share are multiplied once.

Canonical products are flat, so that equal ones are found; computing them flat would form q k^T * decay anew
for every gradient that contains it. This pass takes the most expensive pair of factors that two or more
products have in common, gives it a value of its own, and goes on until no pair is shared. It runs last:
simplification would flatten its values again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.factors import typical_size
from rnnc.codegen.program import Node, Program, reachable
from rnnc.dsl.expression import Axes

Pair = tuple[Node, Node]


def share_products(programs: Sequence[Program], builder: Builder) -> list[Program]:
    """The programs with shared pairs of factors multiplied once; the same pairs in all of them."""
    roots = [r for p in programs for r in (*p.results.values(), *(carry.end for carry in p.carries))]
    nodes = reachable(roots)
    factors = {n: list(n.args) for n in nodes if isinstance(n.op, ir.Multiply) and len(n.args) > 1}
    made: dict[Node, Pair] = {}
    _share(factors, made, builder, alike=True)
    for node, parts in factors.items():
        factors[node] = _grouped(node, parts, made, builder)
    _share(factors, made, builder, alike=False)
    return _rebuilt(programs, nodes, factors, made, builder)


def _share(factors: dict[Node, list[Node]], made: dict[Node, Pair], builder: Builder, alike: bool) -> None:
    """Give shared pairs values of their own; `alike`: only factors over the same axes."""
    while (pair := _best_pair(factors, builder, alike)) is not None:
        shared = builder.node(ir.Multiply(1), pair, builder.joined(pair))
        made[shared] = pair
        for parts in factors.values():
            if _contains(parts, pair):
                for factor in pair:
                    parts.remove(factor)
                parts.append(shared)


def _grouped(node: Node, parts: list[Node], made: dict[Node, Pair], builder: Builder) -> list[Node]:
    """The factors over few axes combined, so that each group costs one pass over the product."""
    groups: dict[Axes, list[Node]] = {}
    for part in sorted(parts, key=lambda n: n.number):
        groups.setdefault(part.axes, []).append(part)
    result = []
    for axes, members in groups.items():
        while axes != node.axes and len(members) > 1:
            pair = (members.pop(0), members.pop(0))
            combined = builder.node(ir.Multiply(1), pair, axes)
            made[combined] = pair
            members.insert(0, combined)
        result += members
    return result


def _best_pair(factors: dict[Node, list[Node]], builder: Builder, alike: bool) -> Pair | None:
    """The pair of factors whose sharing saves most; None if no two products have one in common."""
    counts: Counter[Pair] = Counter()
    for parts in factors.values():
        if len(parts) > 1:
            counts.update(set(itertools.combinations(sorted(parts, key=lambda n: n.number), 2)))
    best: tuple[int, Pair] | None = None
    for pair, count in counts.items():
        size = typical_size(builder.joined(pair))
        wide = size > max(typical_size(factor.axes) for factor in pair)
        if count < 2 or wide or (alike and pair[0].axes != pair[1].axes):
            continue
        saving = (count - 1) * size
        order = (-pair[0].number, -pair[1].number)
        if best is None or (saving, order) > (best[0], (-best[1][0].number, -best[1][1].number)):
            best = (saving, pair)
    return best[1] if best else None


def _contains(parts: Sequence[Node], pair: Pair) -> bool:
    first, second = pair
    return parts.count(first) >= (2 if first is second else 1) and second in parts


def _rebuilt(
    programs: Sequence[Program],
    nodes: Sequence[Node],
    factors: dict[Node, list[Node]],
    made: dict[Node, Pair],
    builder: Builder,
) -> list[Program]:
    new: dict[Node, Node] = {}

    def current(node: Node) -> Node:
        if node not in new:
            pair = [current(factor) for factor in made[node]]
            new[node] = builder.node(node.op, pair, node.axes)
        return new[node]

    for node in nodes:
        if node in made:
            continue
        if node in factors:
            args = [current(factor) for factor in factors[node]]
            unchanged = len(args) == 1 and node.op == ir.Multiply(1)
            new[node] = args[0] if unchanged else builder.node(node.op, args, node.axes)
        else:
            args = [current(argument) for argument in node.args]
            new[node] = node if list(node.args) == args else builder.node(node.op, args, node.axes)
        builder.gradients.replaced(node, new[node])
    return [
        replace(
            program,
            results={name: current(node) for name, node in program.results.items()},
            carries=tuple(replace(carry, end=current(carry.end)) for carry in program.carries),
        )
        for program in programs
    ]
