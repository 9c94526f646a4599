"""Public things say what they are, and the examples in docstrings run."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("dsl", "codegen", "ops", "rnnc", "examples")
PACKAGES = ("rnnc", "rnnc.dsl", "rnnc.codegen", "rnnc.ops", "rnnc.examples")
# Package by package: in an editable install the folders do not lie below rnnc's.
MODULES = [
    f"{package}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    if module.name != "__main__"
]


def test_walk_finds_all_packages() -> None:
    assert {"rnnc.dsl.expression", "rnnc.ops.testing", "rnnc.cli"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.smoke
@pytest.mark.parametrize("folder", FOLDERS)
def test_public_functions_and_classes_have_docstrings(folder: str) -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in sorted((ROOT / folder).glob("*.py"))
        for node in public(ast.parse(path.read_text(encoding="utf-8")))
        if not ast.get_docstring(node)
    ]
    assert not bare


def public(module: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a module; not plain data and one-line functions, whose names say it."""
    for node in module.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        plain = "dataclass" in "".join(map(ast.unparse, node.decorator_list))
        if not plain and (isinstance(node, ast.ClassDef) or len(node.body) > 1):
            yield node
