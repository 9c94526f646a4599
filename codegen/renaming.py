"""Names of a module changed in its text, where they stand for what the module itself defines or imports.

Parameters and variables of functions and fields of classes that happen to have such a name are left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

Place = tuple[int, int, str]


def rename(text: str, names: Mapping[str, str]) -> str:
    """The text with every name that is a key replaced. Raises ValueError where that cannot be done."""
    if not names or not any(name in text for name in names):
        return text
    finder = _Finder(names)
    finder.visit(ast.parse(text))
    lines = [line.encode() for line in text.split("\n")]
    for row, column, name in sorted(finder.places, reverse=True):
        line, old = lines[row - 1], name.encode()
        if line[column : column + len(old)] != old:
            raise ValueError(f"'{name}' cannot be renamed in: {line.decode()}")
        lines[row - 1] = line[:column] + names[name].encode() + line[column + len(old) :]
    return b"\n".join(lines).decode()


class _Finder(ast.NodeVisitor):
    """Where the names stand, as (line, column in bytes, name)."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names, self.places = frozenset(names), list[Place]()
        self.in_class = False

    def visit_Name(self, node: ast.Name) -> None:
        field = self.in_class and isinstance(node.ctx, ast.Store)
        if node.id in self.names and not field:
            self.places.append((node.lineno, node.col_offset, node.id))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._definition(node, "class ")
        self.in_class = True
        self.generic_visit(node)
        self.in_class = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._definition(node, "def ")
        outside = [*node.decorator_list, *_annotations(node.args), *node.args.defaults]
        for child in (*outside, *filter(None, (node.returns, *node.args.kw_defaults))):
            self.visit(child)
        self._inside(node.args, node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inside(node.args, [node.body])

    def _definition(self, node: ast.ClassDef | ast.FunctionDef, word: str) -> None:
        if node.name in self.names:
            self.places.append((node.lineno, node.col_offset + len(word), node.name))

    def _inside(self, arguments: ast.arguments, body: Iterable[ast.AST]) -> None:
        """The body of a function, without the names that are its own."""
        found, own = list(body), {argument.arg for argument in _all(arguments)}
        for child in (inner for statement in found for inner in ast.walk(statement)):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                own.add(child.id)
        before, self.names = self.names, self.names - own
        for statement in found:
            self.visit(statement)
        self.names = before


def _all(arguments: ast.arguments) -> list[ast.arg]:
    rest = [x for x in (arguments.vararg, arguments.kwarg) if x is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def _annotations(arguments: ast.arguments) -> list[ast.expr]:
    return [argument.annotation for argument in _all(arguments) if argument.annotation is not None]
