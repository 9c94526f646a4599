"""What the binary of a kernel depends on beside its arguments: its text, and that of what it calls."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files


@cache
def kernel_of(text: str, name: str) -> ast.FunctionDef:
    """A kernel in the text of a generated module."""
    return _kernels(text)[name]


@cache
def _kernels(text: str) -> Mapping[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


@cache
def sources(text: str, name: str) -> tuple[str, ...]:
    """The text of a kernel and of those that it calls, comments and layout left out, and of the files that
    they need.
    """
    kernel = kernel_of(text, name)
    calls = [node.func for node in ast.walk(kernel) if isinstance(node, ast.Call)]
    names = [function.id for function in calls if isinstance(function, ast.Name)]
    called = [_kernels(text)[each] for each in names if each in _kernels(text)]
    own = list(map(ast.unparse, (kernel, *called)))
    return *own, *_library(text, "\n".join(own))


def fingerprint(text: str, name: str) -> str:
    """A digest of `sources`."""
    return hashlib.sha256("\0".join(sources(text, name)).encode()).hexdigest()[:32]


def _library(text: str, source: str) -> list[str]:
    """The texts of the files of tile operations that a kernel calls, and of those that these import."""
    waiting = [
        file
        for file, names in _imports(text).items()
        if any(re.search(rf"\b{name}\(", source) for name in names)
    ]
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop(0)
        if file not in found:
            package, _, name = file.rpartition(".")
            found[file] = files(package).joinpath(f"{name}.py").read_text("utf-8")
            waiting += _imports(found[file])
    return list(found.values())


@cache
def _imports(text: str) -> Mapping[str, list[str]]:
    """The files of this package that a module imports from, and the names that it takes from each."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rnnc."):
            found.setdefault(node.module or "", []).extend(alias.name for alias in node.names)
    return found
