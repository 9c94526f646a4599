"""Specs on disk."""

from __future__ import annotations

from pathlib import Path

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.ops.errors import SpecFileError

SPEC_BYTES = 1 << 20  # a spec is a page of text; what is longer is another file given by mistake


def read_spec(path: Path) -> str:
    """The text of a spec. Raises SpecFileError if it cannot be read, SpecError if it is no text."""
    try:
        with path.open("rb") as file:
            content = file.read(SPEC_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise SpecFileError(f"{path}: cannot be read: {reason}") from None
    if len(content) > SPEC_BYTES:
        message = f"a spec has at most {SPEC_BYTES >> 20} MiB, this file has more"
        raise SpecError([Diagnostic("too-large", message)], path=str(path))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"not a text file: byte {error.start} is not UTF-8"
        raise SpecError([Diagnostic("not-text", message)], path=str(path)) from None
