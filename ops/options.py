"""The options of a call: their values, and what `auto` stands for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor

from rnnc.ops.errors import ArgumentError

BACKENDS = ("auto", "triton", "torch", "c")
FORMS = ("auto", "recurrent", "chunked", "parallel")
SAVES = ("auto", "states", "inputs")
CHUNK_SIZES = (16, 32, 64, 128, 256)
CHUNK = 64
SHORT = 8  # sequences shorter than this take the recurrent form


class Options(NamedTuple):
    """Those of a call; see `rnnc.ops.function.Function`."""

    initial_state: Any = None
    output_final_state: bool = False
    cu_seqlens: Tensor | None = None
    reverse: bool = False
    backend: str = "auto"
    form: str = "auto"
    chunk_size: int | None = None
    save: str = "auto"
    check: bool = False


NAMES = (*Options._fields, "state", "out_state")


def check_options(options: Options) -> None:
    """Raises ArgumentError for a value that is not offered."""
    _choose("form", options.form, FORMS)
    _choose("save", options.save, SAVES)
    _choose("backend", options.backend, BACKENDS)
    size = options.chunk_size
    if size is not None and size not in CHUNK_SIZES:
        raise ArgumentError(f"chunk_size: expected a power of two from 16 to 256, got {size!r}")


def passes(
    form: str, chunk_size: int | None, longest: int, default: int = CHUNK, steps: int = 1
) -> tuple[str, int | None]:
    """The passes of the module to take, and the tokens in a chunk; the parallel form is one chunk.

    A chunk size counts rows, of which a token has `steps`: they are what a chunk costs.
    """
    if form == "auto":
        form = "recurrent" if longest < SHORT and chunk_size is None else "chunked"
    if form == "recurrent":
        return form, None
    whole = 1 << max(4, (longest - 1).bit_length())
    if form == "parallel":
        return "chunked", whole
    tokens = max(1, (chunk_size or default) // max(1, steps))
    return "chunked", min(1 << tokens.bit_length() - 1, whole if chunk_size is None else tokens)


def longest(length: int, offsets: tuple[int, ...] | None) -> int:
    """The length of the longest sequence."""
    return length if offsets is None else max(stop - start for start, stop in pairwise(offsets))


def _choose(option: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        listed = ", ".join(f"'{choice}'" for choice in choices)
        raise ArgumentError(f"{option}: expected one of {listed}, got {value!r}")
