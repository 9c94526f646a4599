"""The statements of a chunk, and the places of the workspace that they read and write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rnnc.codegen import operations as ir
from rnnc.codegen.c_loops import Line, block, loops, offset
from rnnc.codegen.c_target import Sizes
from rnnc.codegen.c_values import Index, Loop, Values
from rnnc.codegen.program import Node
from rnnc.dsl.expression import Axes

LONGEST = 108  # letters of an equation that stands above its lines


@dataclass(frozen=True, slots=True)
class Statement:
    """Lines; `makes` are the places that begin to be used, and how many numbers they take."""

    lines: tuple[str, ...]
    makes: tuple[tuple[str, int], ...] = ()


@dataclass
class Body:
    """The statements so far. `copies` are values in another order of axes, `needs` what functions want of
    `scratch`, `given` places outside the workspace.
    """

    values: Values
    sizes: Sizes
    statements: list[Statement] = field(default_factory=list)
    copies: dict[tuple[str, ...], str] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    given: set[str] = field(default_factory=set)

    def formed(self, node: Node, lines: Sequence[str]) -> None:
        """Adds the lines that write a value."""
        self.formed_together([node], lines)

    def formed_together(self, nodes: Sequence[Node], lines: Sequence[str]) -> None:
        """Adds the lines that write several values; those of a number stay where all others see it."""
        stored = [node for node in nodes if node.axes]
        made = ((self.values.called[node], self.sizes.room(node.axes)) for node in stored)
        equations = [f"// {self.values.equation(node)}" for node in nodes]
        text = [
            *(each for each in equations if len(each) <= LONGEST),
            *(block(lines) if stored else lines),
        ]
        self.statements.append(Statement(tuple(text), tuple(m for m in made if m[0] not in self.given)))

    def plain(self, lines: Sequence[str]) -> None:
        """Adds lines that write no place of the workspace."""
        self.statements.append(Statement(block(lines)))

    def assigned(self, node: Node, value: Line, lower: bool = False) -> list[str]:
        """Loops that write every entry of a stored value."""

        def line(index: Index, loop: Loop) -> str:
            return f"{self.place(node, index)} = {value(index, loop)};"

        return loops(self.sizes, node.axes, line, lower)

    def place(self, node: Node, index: Index) -> str:
        """The entry of a stored value, to be written."""
        return self.values.entry(node, index, Loop())

    def leading(self, axes: Axes) -> int:
        """The distance of rows."""
        return self.sizes.strides(axes)[0] if len(axes) > 1 else 1

    # Operands

    def operand(self, node: Node, axes: Axes | None = None) -> str:
        """The place of a value with its axes in this order; a copy where it has none of its own."""
        axes = axes or node.axes
        base, order = node, list(axes)
        while isinstance(base.op, ir.Rename) and base not in self.values.stored:
            order = [base.op.old if axis == base.op.new else axis for axis in order]
            base = base.args[0]
        if base in self.values.stored and tuple(order) == base.axes and base.axes:
            return self.values.called[base]
        key = ("copy", f"{node.number}", *axes)
        return self.copy(key, axes, lambda index, loop: self.values.text(node, index, loop))

    def decays(self, node: Node) -> str:
        """The place of decays of which there are logarithms."""

        def value(index: Index, loop: Loop) -> str:
            return f"apply_exp2({self.values.text(node, index, loop)})"

        return self.copy(("decay", f"{node.number}"), node.axes, value)

    def transposed(self, node: Node) -> str:
        """The place of a matrix with its axes swapped."""
        name, (rows, columns) = self.operand(node), node.axes
        leading = self.leading((columns, rows)), self.leading(node.axes)
        sizes = f"{self.sizes.size(rows)}, {self.sizes.size(columns)}"

        def lines(made: str) -> list[str]:
            return [f"transpose({made}, {leading[0]}, {name}, {leading[1]}, {sizes});"]

        return self._temporary((name, "turned"), (columns, rows), lines)

    def copy(self, key: tuple[str, ...], axes: Axes, value: Line) -> str:
        """The place of a value that is written entry by entry."""
        strides = self.sizes.strides(axes)

        def lines(name: str) -> list[str]:
            return loops(
                self.sizes, axes, lambda i, loop: f"{name}[{offset(i, axes, strides)}] = {value(i, loop)};"
            )

        return self._temporary(key, axes, lines)

    def _temporary(self, key: tuple[str, ...], axes: Axes, lines: Callable[[str], Sequence[str]]) -> str:
        """The name of a copy, which is made once."""
        if key not in self.copies:
            name = self.copies[key] = self.values.names.fresh(f"{key[0]}_{key[1]}")
            self.statements.append(Statement(block(lines(name)), ((name, self.sizes.room(axes)),)))
        return self.copies[key]

    # Arguments of functions

    def matrix(self, node: Node, axes: Axes | None = None) -> str:
        """The place of a value and the distance of its rows; a vector has rows of one."""
        axes = axes or node.axes
        own = node in self.values.stored and axes == node.axes
        return f"{self.values.called[node] if own else self.operand(node, axes)}, {self.leading(axes)}"

    def extent(self, node: Node) -> str:
        """The rows and columns of a value."""
        rows, *columns = map(self.sizes.size, node.axes)
        return f"{rows}, {columns[0] if columns else 1}"

    def scratch(self, size: str) -> str:
        """Room for a function's own use."""
        self.needs.append(size)
        return "scratch"
