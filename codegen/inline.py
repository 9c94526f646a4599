"""Copies what a standalone file needs out of the project's own modules, definition by definition.

From a few wanted names it follows every name they use, through `from rnnc.ops... import` and the like, and
returns the definitions in an order in which they can stand in one file, and the imports of other packages,
merged. Where two modules define the same name, that of the later one is changed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

from rnnc.codegen.renaming import rename

# Where definitions are taken from: the runtime, how it chooses tiles, and what is said of delays.
CHOICE = (
    "cuts",
    "hardware",
    "resources",
    "slices",
    "stretches",
    "tiling",
    "tiling_record",
    "times",
    "triangles",
    "work",
)
SAID = ("rnnc.dsl.delays", "rnnc.dsl.functions")
FOLLOWED = ("rnnc.ops", *(f"rnnc.codegen.{name}" for name in CHOICE), *SAID)


@dataclass(frozen=True, slots=True)
class Definition:
    """A top-level statement: its names, what it uses, its text with decorators and comment lines above."""

    names: tuple[str, ...]
    uses: frozenset[str]
    attributes: frozenset[tuple[str, str]]
    text: str


@dataclass(frozen=True, slots=True)
class Import:
    """`import module`, `from module import name`, each possibly `as alias`."""

    module: str
    name: str | None
    alias: str

    def __str__(self) -> str:
        origin = self.name or self.module
        renamed = "" if self.alias == origin else f" as {self.alias}"
        return f"from {self.module} import {origin}{renamed}" if self.name else f"import {origin}{renamed}"


@dataclass(frozen=True, slots=True)
class Source:
    """A module taken apart."""

    definitions: tuple[Definition, ...]
    imports: dict[str, Import]


@dataclass
class Inlined:
    """The texts of the definitions, in order, the outside imports they need, and all names they define.

    `namespaces` are modules that are used as modules (`tiles.rows`), with the names used; `provided` are the
    names from packages that are not followed: the file must define them in its own way. `changed` are the
    names, by module, that another module defines too, and what they are called instead.
    """

    imports: set[Import] = field(default_factory=set)
    parts: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    namespaces: dict[str, set[str]] = field(default_factory=dict)
    provided: set[str] = field(default_factory=set)
    changed: dict[str, dict[str, str]] = field(default_factory=dict)

    def spelled(self, text: str, where: Source, module: str = "") -> str:
        """The text of a definition in a module, with the names that were changed."""
        names = dict(self.changed.get(module, {}))
        for alias, found in where.imports.items():
            if found.name in self.changed.get(found.module, {}):
                names[alias] = self.changed[found.module][found.name]
        return rename(text, names)

    def append(self, text: str) -> None:
        """Adds a definition; one-line constants that follow each other make one part."""
        lines = [*(self.parts[-1].splitlines() if self.parts else ()), text]
        if all(re.match(r"\w+ = ", line) and "\n" not in line for line in lines[-2:]) and len(lines) > 1:
            self.parts[-1] += f"\n{text}"
        else:
            self.parts.append(text)


def take_apart(text: str) -> Source:
    """The imports and definitions of a module's text; its docstring is left out."""
    lines = text.splitlines()
    definitions: list[Definition] = []
    imports: dict[str, Import] = {}
    for node in ast.parse(text).body:
        match node:
            case ast.Import(names=aliases):
                imports.update(
                    {a.asname or a.name: Import(a.name, None, a.asname or a.name) for a in aliases}
                )
            case ast.ImportFrom(module=str(module), names=aliases):
                imports.update(
                    {a.asname or a.name: Import(module, a.name, a.asname or a.name) for a in aliases}
                )
            case ast.Expr(value=ast.Constant()):
                pass
            case _:
                definitions.append(_definition(node, lines))
    return Source(tuple(definitions), imports)


def _definition(node: ast.stmt, lines: list[str]) -> Definition:
    start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
    while start and lines[start - 1].startswith("#"):
        start -= 1
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        defined = [node.name]
    else:
        defined = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return Definition(
        tuple(defined),
        frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name)),
        frozenset(
            (n.value.id, n.attr)
            for n in ast.walk(node)
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
        ),
        "\n".join(lines[start : node.end_lineno]),
    )


@lru_cache(maxsize=64)
def source(module: str) -> Source:
    """One of the project's modules, taken apart."""
    package, _, name = module.rpartition(".")
    return take_apart(files(package).joinpath(f"{name}.py").read_text("utf-8"))


def inline(wanted: Iterable[tuple[str, str]], texts: Iterable[str] = ()) -> Inlined:
    """The definitions of all `wanted` (module, name), and of all that the module `texts` use, themselves not
    included.
    """
    marked: dict[str, set[str]] = {}
    result = Inlined()
    for module, name in wanted:
        _mark(module, name, marked, result)
    for text in texts:
        where = take_apart(text)
        for definition in where.definitions:
            _follow(definition, where, marked, result)
    chosen = [
        (module, definition)
        for module in _ordered(marked)
        for definition in source(module).definitions
        if not marked[module].isdisjoint(definition.names)
    ]
    first: dict[str, str] = {}
    for module, definition in chosen:
        for name in definition.names:
            if first.setdefault(name, definition.text) != definition.text:
                new = _other(module, name)
                result.changed.setdefault(module, {})[name] = new
                if first.setdefault(new, definition.text) != definition.text:
                    raise ValueError(f"'{name}' of {module} is defined by two other modules")
    texts_so_far: set[str] = set()
    for module, definition in chosen:
        text = result.spelled(definition.text, source(module), module)
        if text not in texts_so_far:
            texts_so_far.add(text)
            changed = result.changed.get(module, {})
            result.names.update(changed.get(name, name) for name in definition.names)
            result.append(text)
    return result


def _other(module: str, name: str) -> str:
    """A name that says which module it is from: `triton_block`, `_triton_forward`."""
    word = module.rpartition(".")[2].partition("_")[0]
    return f"_{word}{name}" if name.startswith("_") else f"{word}_{name}"


def _mark(module: str, name: str, marked: dict[str, set[str]], result: Inlined) -> None:
    if name in marked.setdefault(module, set()):
        return
    for definition in source(module).definitions:
        if name in definition.names:
            marked[module].update(definition.names)
            _follow(definition, source(module), marked, result, module)
            return
    passed_on = source(module).imports.get(name)
    if passed_on is None or passed_on.name != name:
        raise ValueError(f"{module} does not define '{name}'")
    _mark(passed_on.module, name, marked, result)


def _follow(
    definition: Definition, where: Source, marked: dict[str, set[str]], result: Inlined, module: str = ""
) -> None:
    """Marks everything that a definition uses."""
    for name in sorted(definition.uses):
        found = where.imports.get(name)
        if found is None:
            if any(name in other.names for other in where.definitions) and module:
                _mark(module, name, marked, result)
        elif not found.module.startswith("rnnc"):
            result.imports.add(found)
        elif not found.module.startswith(FOLLOWED):
            result.provided.add(name)
        elif found.name and _is_module(found):
            for owner, attribute in sorted(definition.attributes):
                if owner == name:
                    result.namespaces.setdefault(name, set()).add(attribute)
                    _mark(f"{found.module}.{found.name}", attribute, marked, result)
        elif found.name:
            _mark(found.module, found.name, marked, result)


def _is_module(found: Import) -> bool:
    return (
        files(found.module).joinpath(f"{found.name}.py").is_file() if found.module.count(".") == 1 else False
    )


def _ordered(marked: dict[str, set[str]]) -> Iterator[str]:
    """The marked modules, those first that others import."""
    done: set[str] = set()

    def visit(module: str) -> Iterator[str]:
        if module in done:
            return
        done.add(module)
        for found in source(module).imports.values():
            for name in (found.module, f"{found.module}.{found.name}"):
                if name in marked:
                    yield from visit(name)
        yield module

    for module in sorted(marked):
        yield from visit(module)
