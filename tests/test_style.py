"""ruff and mypy have nothing to say."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TREE = ROOT / ".mypy_cache" / "tree"


def run(*command: str, **environment: str) -> None:
    """Runs a tool from the root; its output is the message where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.smoke
def test_ruff() -> None:
    run("ruff", "check", "--quiet", "--output-format=concise", ".")


@pytest.mark.smoke
def test_format() -> None:
    run("ruff", "format", "--check", "--quiet", "--output-format=concise", ".")


def test_mypy() -> None:
    run("mypy", "-p", "rnnc", MYPYPATH=str(package_tree()))


def package_tree() -> Path:
    """A folder in which the packages stand below `rnnc`, as mypy wants to find them, by links."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = project["tool"]["setuptools"]["package-dir"].items()
    top = TREE / "rnnc"
    top.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in (ROOT / "rnnc").glob("*.py*")}
    wanted |= {name.split(".")[1]: ROOT / path for name, path in folders if name.count(".") == 1}
    for link in top.iterdir():
        if link.name not in wanted:
            link.unlink()
    for name, target in wanted.items():
        if not (top / name).is_symlink():
            (top / name).symlink_to(target)
    return TREE
