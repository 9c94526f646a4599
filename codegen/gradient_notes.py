"""Which values are known to be gradients, and in what: their names say so."""

from __future__ import annotations

from rnnc.codegen.program import Node


class Gradients:
    """Notes made while a program is differentiated and rewritten."""

    def __init__(self) -> None:
        self._values: dict[Node, Node] = {}

    def note(self, node: Node, value: Node) -> None:
        """Notes that a node is the gradient in a value."""
        self._values.setdefault(node, value)

    def value_of(self, node: Node) -> Node | None:
        """The value that a node is the gradient in, if it is known to be one."""
        return self._values.get(node)

    def replaced(self, old: Node, new: Node) -> None:
        """Notes that a node takes the place of another: what is known of one is true of the other."""
        if old is not new and old in self._values:
            self._values.setdefault(new, self._values[old])
