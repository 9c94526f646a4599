"""Specs on disk."""

from __future__ import annotations

from pathlib import Path

from rnnc.dsl.spec_text import SPEC_BYTES, decode
from rnnc.ops.errors import SpecFileError


def read_spec(path: Path) -> str:
    """The text of a spec. Raises SpecFileError if it cannot be read, SpecError if it is no text."""
    try:
        with path.open("rb") as file:
            content = file.read(SPEC_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise SpecFileError(f"{path}: cannot be read: {reason}") from None
    return decode(content, str(path))
