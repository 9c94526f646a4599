"""Emitted kernels are as ruff format leaves them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rnnc
from rnnc.codegen.line_breaks import WIDTH, bare, broken

ROOT = Path(rnnc.__file__).parents[1]
LONG = "x" * 40


@pytest.mark.smoke
@pytest.mark.parametrize(
    "line",
    [
        f"b_x = tl.load({LONG} + {LONG}, mask={LONG}[:, None], other=0.0)",
        f"tl.store({LONG} + {LONG} * {LONG}, {LONG}.to(a.dtype), mask=m & n)",
        f"a, b = f({LONG}, {LONG}, {LONG})",
        f"a = {LONG} + {LONG} * b + {LONG}",
        f"a = ({LONG}, ({LONG}, 'b, (c'), ({LONG},))",
        f"a = g({LONG}, {LONG}, other=0.0).to(tl.float32)",
        "# " + 3 * LONG,
        "short = 1",
    ],
)
def test_lines(line: str) -> None:
    """The same program, in lines that fit."""
    text = broken(line)
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(line))
    assert line.startswith("#") or all(len(each) <= WIDTH for each in text.split("\n"))


@pytest.mark.smoke
def test_off_and_bare() -> None:
    off = f"# fmt: off\na = ({LONG}, {LONG}, {LONG})\n# fmt: on"
    assert broken(off) == off
    assert [bare(text) for text in ("(a + b)", "(a) + (b)", "a")] == ["a + b", "(a) + (b)", "a"]


def test_kernels_are_stable(tmp_path: Path, printed: Callable[[Path], tuple[str, ...]]) -> None:
    for path in [*ROOT.glob("ops/*.rnn"), ROOT / "examples" / "two_read_delta.rnn"]:
        for number, text in enumerate(printed(path)):
            (tmp_path / f"{path.stem}_{number}.py").write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--isolated",
        "--line-length",
        str(WIDTH),
        "--check",
        ".",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
