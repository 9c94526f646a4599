"""Programs with some of their axes called otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rnnc.codegen.program import Carry, Node, Program


def relabelled(programs: Sequence[Program], labels: Mapping[str, str]) -> list[Program]:
    """The programs of one builder with new names for axes; values that they share are shared again."""
    new: dict[Node, Node] = {}

    def visit(node: Node) -> Node:
        if node not in new:
            new[node] = _node(node, [visit(argument) for argument in node.args], labels)
        return new[node]

    found = []
    for program in programs:
        for node in program.nodes():  # arguments first: no deep recursion
            visit(node)
        carries = tuple(Carry(c.name, visit(c.start), visit(c.end)) for c in program.carries)
        results = {name: visit(node) for name, node in program.results.items()}
        found.append(replace(program, results=results, carries=carries))
    return found


def _node(node: Node, args: list[Node], labels: Mapping[str, str]) -> Node:
    """The node on new arguments, with the names in its operation changed too."""
    op: Any = node.op
    named = {name: getattr(op, name) for name in ("axis", "old", "new") if hasattr(op, name)}
    changed = {name: labels[axis] for name, axis in named.items() if axis in labels}
    axes = tuple(labels.get(axis, axis) for axis in node.axes)
    same = not changed and axes == node.axes and args == list(node.args)
    return node if same else Node(replace(op, **changed) if changed else op, tuple(args), axes, node.number)
