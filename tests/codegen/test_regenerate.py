"""The generated modules of the built-in models are those that the compiler prints."""

from __future__ import annotations

from rnnc.codegen.regenerate import regenerate


def test_generated_modules_are_up_to_date() -> None:
    assert regenerate(check=True) == []
