"""Lines of a kernel -> paragraphs, each under the equation that it implements.

A paragraph ends with the value that the equation gives; the lines before it form what nothing else needs.
So the equation is these lines, written out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rnnc.codegen import operations as ir
from rnnc.codegen.notation import Notation
from rnnc.codegen.program import Node

WIDTH = 100  # of an equation
# Of these a line alone says as much as an equation.
PLAIN = (ir.Add, ir.Multiply, ir.Apply, ir.Keep, ir.Sum, ir.Broadcast, ir.Within, ir.Dot)


@dataclass(frozen=True, slots=True)
class Line:
    """Lines of text that belong together, the values they need, and the one they make.

    `adds`: the term of a sum that they add to `makes`, times `factor`. `equation`: what stands above them in
    any case.
    """

    text: tuple[str, ...]
    uses: tuple[Node, ...] = ()
    makes: Node | None = None
    adds: Node | None = None
    factor: ir.Number = 1
    sign: str = "="
    equation: str = ""

    @property
    def formed(self) -> Node | None:
        """What they compute; None where they only read, or write."""
        value = self.makes if self.adds is None else self.adds
        return None if value is None or isinstance(value.op, ir.Load) or not self.uses else value


class Paragraphs:
    """Puts lines under equations; `is_symbol` says which values always end a paragraph."""

    def __init__(self, name: Callable[[Node], str], is_symbol: Callable[[Node], bool]) -> None:
        self.name, self.is_symbol = name, is_symbol
        self.notation = Notation(name)

    def texts(self, lines: Sequence[Line]) -> list[str]:
        """All lines, an equation before those that implement it."""
        out: list[str] = []
        for group in self._groups(lines):
            equation = self._equation(group)
            out += [f"# {equation}"] if equation else []
            out += [text for line in group for text in line.text]
        return out

    def _groups(self, lines: Sequence[Line]) -> list[list[Line]]:
        """The lines in order: in each group, every line but the last is for those after it in the group."""
        users = Counter(use for line in lines for use in set(line.uses))
        groups: list[list[Line]] = []
        waiting: Counter[Node] = Counter()  # how many lines of the group being collected use a value
        for line in reversed(lines):
            if not groups or not self._belongs(line, groups[-1], users, waiting):
                groups.append([])
                waiting = Counter()
            groups[-1].insert(0, line)
            waiting.update(set(line.uses))
        return groups[::-1]

    def _belongs(self, line: Line, group: list[Line], users: Counter[Node], waiting: Counter[Node]) -> bool:
        """Whether nothing but the group needs what the line makes, and its equation stays short."""
        made = line.makes
        if made is None or line.adds is not None or not 0 < users[made] == waiting[made]:
            return False
        writes = group[0].makes is None and len(group) == 1
        return writes or (not self.is_symbol(made) and len(self._written([line, *group])) <= WIDTH)

    def _equation(self, group: Sequence[Line]) -> str:
        """The equation, or nothing where the lines say as much themselves."""
        if group[-1].equation:
            return group[-1].equation
        formed = [line.formed for line in group if line.formed is not None]
        last = group[-1].makes
        if not formed or (len(formed) == 1 and not self._says_more(formed[0], last)):
            return ""
        return self._written(group)

    def _says_more(self, value: Node, made: Node | None) -> bool:
        """Whether the equation of one line says more than the line."""
        dot = isinstance(value.op, ir.Dot) and (value is not made or self.is_symbol(value))
        return dot or not isinstance(value.op, PLAIN)

    def _written(self, group: Sequence[Line]) -> str:
        *before, last = [line for line in group if line.formed is not None] or [group[-1]]
        if last.formed is None or last.makes is None:
            return ""
        inside = {line.formed for line in before if line.formed is not None}
        formula, sign = self.notation.formula(last.formed, inside, last.factor), last.sign
        if sign == "+=" and formula.startswith("-"):
            sign, formula = "-=", formula[1:]
        return f"{self.name(last.makes)} {sign} {formula}"
