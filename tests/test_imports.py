"""Imports run dsl <- codegen <- ops <- rnnc, and the mathematics knows neither torch nor triton."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EVERYTHING = {"dsl", "codegen", "templates", "ops", "examples", "rnnc"}
MAY_IMPORT = {
    "dsl": {"dsl"},
    "codegen": {"dsl", "codegen", "templates"},
    "templates": {"templates"},
    "ops": {"dsl", "codegen", "templates", "ops"},
    "rnnc": EVERYTHING,
    "examples": EVERYTHING,
}
pytestmark = pytest.mark.smoke


@cache
def imported(path: Path) -> tuple[str, ...]:
    """The modules a file imports, anywhere in it; `from rnnc import x` counts as `rnnc.x`."""
    found: list[str] = []
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            found += [f"rnnc.{a.name}" for a in node.names] if node.module == "rnnc" else [node.module]
    return tuple(found)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node; expressions, which are most of a tree, are not looked into."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        below = getattr(node, part, [])
        for inner in below if isinstance(below, list) else []:
            yield inner
            yield from statements(inner)


def folder(module: str) -> str:
    """The folder of the repository that a module `rnnc...` lives in."""
    part = [*module.split("."), ""][1]
    return part if part in EVERYTHING else "rnnc"


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_direction(layer: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / layer).rglob("*.py")
        for module in imported(path)
        if module.split(".")[0] == "rnnc" and folder(module) not in MAY_IMPORT[layer]
    ]
    assert not wrong


def test_folders_are_never_imported_bare() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for layer in [*MAY_IMPORT, "tests", "benchmarks"]
        for path in (ROOT / layer).rglob("*.py")
        for module in imported(path)
        if module.split(".")[0] in EVERYTHING - {"rnnc"}
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("package", "banned"),
    [
        ("rnnc.dsl", {"torch", "triton", "jinja2"}),
        ("rnnc.codegen", {"torch", "triton"}),
        ("rnnc.cli", {"torch", "triton", "sympy"}),
    ],
)
def test_import_stays_light(package: str, banned: set[str]) -> None:
    program = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module('{package}')\n"
        "for module in pkgutil.iter_modules(getattr(package, '__path__', ())):\n"
        f"    importlib.import_module('{package}.' + module.name)\n"
        f"print(*sorted({banned!r} & set(sys.modules)))"
    )
    assert run(program) == ""


def test_face_is_quick() -> None:
    program = (
        "import time\nstart = time.process_time()\nimport rnnc\n"
        "print(time.process_time() - start)\nassert rnnc.SpecError and rnnc.__version__"
    )
    assert float(run(program)) < 0.3


def run(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
