"""Bytes -> the text of a spec: what cannot be one is refused before the parser sees it."""

from __future__ import annotations

from rnnc.dsl.diagnostics import Diagnostic, SpecError

SPEC_BYTES = 1 << 20  # a spec is a page of text; what is longer is another file given by mistake


def decode(data: bytes, path: str) -> str:
    """The text; read `SPEC_BYTES + 1` bytes at most. Raises SpecError where it cannot be a spec."""
    if len(data) > SPEC_BYTES:
        message = f"a spec has at most {SPEC_BYTES >> 20} MiB, this file has more"
        raise SpecError([Diagnostic("too-large", message)], path=path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"not a text file: byte {error.start} is not UTF-8"
        raise SpecError([Diagnostic("not-text", message)], path=path) from None
    if "\0" in text:
        raise SpecError([Diagnostic("not-text", "not a text file: it holds a null character")], path=path)
    return text
