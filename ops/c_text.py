"""What the C back end compiles, as text: the passes of an operator for given sizes of axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from rnnc.dsl.recurrence import Recurrence
from rnnc.ops.c_backend import C_TYPES, Kind
from rnnc.ops.errors import ArgumentError, UnavailableError
from rnnc.ops.options import CHUNK_SIZES, passes

PASSES = ("forward", "states", "backward")
DTYPES = {"fp32": torch.float32, "fp64": torch.float64}


def c_text(
    whole: Recurrence,
    stages: Sequence[Recurrence],
    generate: Callable[[str, Kind, int], str],
    which: str,
    chunk: int,
    dtype: str,
    sizes: Mapping[str, int],
) -> str:
    """See `rnnc.ops.operator.Operator.c_source`; `generate` prints a pass of a stage, counted from 0."""
    _choose("which", which, PASSES)
    _choose("chunk", chunk, CHUNK_SIZES)
    _choose("dtype", dtype, tuple(DTYPES))
    _check_sizes(whole, sizes)
    axes, texts = tuple(sorted(sizes.items())), []
    for number, stage in enumerate(stages):
        steps = math.prod(sizes[axis] for axis in stage.loops)
        tokens = passes("chunked", chunk, chunk, steps=steps)[1]
        assert tokens is not None
        try:
            texts.append(generate(which, Kind(tokens, axes, C_TYPES[DTYPES[dtype]], ()), number))
        except NotImplementedError as reason:
            raise UnavailableError(f"c_source: no C for {stage.name} in this version: {reason}") from None
    return "\n\n".join(texts)


def _choose(option: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        raise ArgumentError(
            f"c_source: {option}: expected one of {', '.join(map(str, choices))}, got {value!r}"
        )


def _check_sizes(recurrence: Recurrence, sizes: Mapping[str, int]) -> None:
    """Raises ArgumentError unless they are those of all axes."""
    for axis in recurrence.axes:
        if axis not in sizes:
            raise ArgumentError(f"c_source: the size of {axis} is missing")
    for axis, size in sizes.items():
        if axis not in recurrence.axes:
            known = ", ".join(recurrence.axes) or "there are none"
            raise ArgumentError(f"c_source: '{axis}' is not an axis of {recurrence.name}: {known}")
        if type(size) is not int or size < 1:
            raise ArgumentError(f"c_source: {axis}: expected a size of at least 1, got {size!r}")
