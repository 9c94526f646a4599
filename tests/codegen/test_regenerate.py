"""The generated modules of the built-in models are those that the compiler prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rnnc.codegen import regenerate
from rnnc.codegen.compiler import Spec

OPS = Path(__file__).parents[2] / "ops"


def test_generated_modules_are_up_to_date(
    analysed: Callable[[Path], Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(name: str) -> str:
        return analysed(OPS / f"{name}.rnn").source

    assert regenerate.generated_text("gla") == printed("gla")
    monkeypatch.setattr(regenerate, "generated_text", printed)
    assert regenerate.regenerate(check=True) == []
