"""Rules that replace nodes, applied to a whole program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program


def rewritten(
    program: Program, builder: Builder, rule: Callable[[Node, list[Node], Builder], Node | None]
) -> Program:
    """The program with the nodes that the rule replaces replaced."""
    new: dict[Node, Node] = {}
    for node in program.nodes():
        args = [new[argument] for argument in node.args]
        made = rule(node, args, builder)
        if made is None:
            made = node if list(node.args) == args else builder.with_args(node, args)
        builder.gradients.replaced(node, made)
        new[node] = made
    return replace(
        program,
        results={name: new[node] for name, node in program.results.items()},
        carries=tuple(replace(carry, end=new[carry.end]) for carry in program.carries),
    )
