"""Lines of the printed function: statements, and the deletion of what is no longer needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rnnc.codegen.torch_sums import PREVIOUS

WIDTH = 100


@dataclass
class Statement:
    """Lines of text, and the values they need and make; `instead` are those to print where no later statement
    needs the array that they are found by: they overwrite it.
    """

    lines: list[str]
    uses: set[str]
    makes: set[str] = field(default_factory=set)
    instead: dict[str, list[str]] = field(default_factory=dict)


def assignment(name: str, code: str) -> list[str]:
    """`name = code`; a call that is too long for one line has its arguments on a line of their own."""
    code = code.replace(PREVIOUS, name)
    function, _, arguments = code.partition("(")
    if len(name) + len(code) < 104 or not code.endswith(")") or not function.replace(".", "").isidentifier():
        return [f"{name} = {code}"]
    depth = 0
    for character in arguments[:-1]:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return [f"{name} = {code}"]
    return [f"{name} = {function}(", f"    {arguments[:-1]}", ")"]


def tuple_text(names: Sequence[str]) -> str:
    """A tuple of names as text."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def with_deletions(statements: Sequence[Statement], returned: Iterable[str]) -> list[str]:
    """The lines, with every value deleted after its last use: peak memory is what is alive, not what was
    made.
    """
    last: dict[str, int] = {}
    for index, statement in enumerate(statements):
        for name in statement.uses | statement.makes:
            last[name] = index
    made = set().union(*(s.makes for s in statements)) if statements else set()
    kept, lines = set(returned), []
    for index, statement in enumerate(statements):
        free = (array for array in statement.instead if last[array] == index and array not in kept)
        array = next(free, None)
        lines += statement.lines if array is None else statement.instead[array]
        dead = sorted(name for name in made - kept if last[name] == index)
        lines += _deletions(dead)
    return lines


def _deletions(names: Sequence[str]) -> list[str]:
    """Statements that delete the names, each in a line."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) < WIDTH:
            lines[-1] += f", {name}"
        else:
            lines.append(f"del {name}")
    return lines
