"""Tile programs: the computation of one chunk, or one token, as a graph over arrays with named axes.

A node is an operation, its arguments and its axes; equal nodes are one node, so shared work is shared by
construction. A program has loads, named results, and states carried from one chunk to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rnnc.codegen.operations import Op
from rnnc.dsl.expression import Axes


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One value. `number` is the order of creation: arguments come before what uses them."""

    op: Op
    args: tuple[Node, ...]
    axes: Axes
    number: int

    def __repr__(self) -> str:
        return f"%{self.number}"


@dataclass(frozen=True, slots=True)
class Carry:
    """A state: its value at the start of the chunk, and at the end (in a backward program: the reverse)."""

    name: str
    start: Node
    end: Node


@dataclass(frozen=True, slots=True)
class Program:
    """The computation of one chunk (or token): named results and carried states."""

    name: str
    results: Mapping[str, Node]
    carries: tuple[Carry, ...]
    decisions: tuple[str, ...] = field(default=())

    def nodes(self) -> tuple[Node, ...]:
        """All nodes that a result or a carried state needs, arguments first."""
        return reachable([*self.results.values(), *(carry.end for carry in self.carries)])

    def __str__(self) -> str:
        lines = [f"program {self.name}:"]
        lines += [f"  {describe(node)}" for node in self.nodes()]
        lines += [f"  carry {c.name}: {c.start!r} -> {c.end!r}" for c in self.carries]
        lines += [f"  result {name} = {node!r}" for name, node in self.results.items()]
        return "\n".join(lines)


def describe(node: Node) -> str:
    """The node as one line."""
    detail = ", ".join([*map(repr, node.args), *_attributes(node.op)])
    return f"{node!r}[{', '.join(node.axes)}] = {type(node.op).__name__}({detail})"


def _attributes(op: Op) -> Iterator[str]:
    for name in op.__dataclass_fields__:
        yield f"{name}={getattr(op, name)}"


def reachable(roots: Iterable[Node]) -> tuple[Node, ...]:
    """The roots and everything they are computed from, arguments first, each once."""
    seen: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.number not in seen:
            seen[node.number] = node
            stack.extend(node.args)
    return tuple(seen[number] for number in sorted(seen))


def dependents(nodes: Iterable[Node], sources: Iterable[Node]) -> frozenset[int]:
    """The numbers of the nodes that are, or are computed from, one of the sources; arguments come first."""
    found = {source.number for source in sources}
    for node in nodes:
        if any(argument.number in found for argument in node.args):
            found.add(node.number)
    return frozenset(found)
