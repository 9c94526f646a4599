"""What `rnnc check` and `rnnc explain` say of eigenvalues and state tracking: goldens of whole reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rnnc.cli import app

GOLDENS = Path(__file__).parent / "goldens"
NAMES = ("gated_delta_net", "gated_delta_net2", "gla_signed", "iplr", "mamba2", "rwkv7")


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", [*NAMES, "gsa"])
def test_check(name: str, golden: Callable[[Path, str], None]) -> None:
    golden(GOLDENS / f"check-{name}.txt", said("check", name))


@pytest.mark.parametrize("name", NAMES)
def test_explain(name: str, golden: Callable[[Path, str], None]) -> None:
    text = said("explain", name)
    golden(GOLDENS / f"explain-{name}.txt", text[text.index("Eigenvalues of one") :])
