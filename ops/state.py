"""What is carried between calls: one tensor, or a named tuple of them.

States come in the order of declaration, then delayed values (`prev_x`). An array is [N, H, axes], N the
number of sequences, float32 (float64 if the inputs are).
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.interpreter import Carried
from rnnc.ops.arguments import Sizes, plain
from rnnc.ops.errors import ArgumentError, ArgumentTypeError

State = Tensor | tuple[Tensor, ...]


class Carry:
    """The arrays a recurrence carries, and the type under which they are handed to the user."""

    def __init__(self, arrays: tuple[Carried, ...]) -> None:
        self.arrays = arrays
        self.type = _state_type(tuple(array.name for array in arrays))

    def pack(self, tensors: tuple[Tensor, ...]) -> State:
        """One tensor if there is exactly one array, else a `State`."""
        if len(self.arrays) == 1:
            return tensors[0]
        packed: tuple[Tensor, ...] = self.type._make(tensors)
        return packed

    def unpack(
        self, state: Any, count: int, sizes: Sizes, dtype: torch.dtype, device: torch.device, what: str
    ) -> tuple[Tensor, ...]:
        """The arrays of what a call returned, or of bare arrays, for `count` sequences.

        Raises ArgumentTypeError and ArgumentError, naming the array.
        """
        many = isinstance(state, tuple | list)
        given = tuple(state) if many else (state,)
        if len(given) != len(self.arrays):
            listed = ", ".join(array.name for array in self.arrays)
            raise ArgumentTypeError(
                f"{what}: expected {len(self.arrays)} arrays ({listed}), got {len(given)}"
            )
        for array, value in zip(self.arrays, given, strict=True):
            label = f"{what}.{array.name}" if many else what
            _validate(label, array, value, (count, *sizes.shape(array.axes)), dtype, device)
        return given


@cache
def _state_type(names: tuple[str, ...]) -> Any:
    """The named tuple with these names; a pickle of one holds them, for their type stands in no module."""
    # Names of a spec may be Python keywords or begin with an underscore, hence `rename`.
    made = namedtuple("State", names, rename=True)  # type: ignore[misc]
    setattr(made, "__reduce__", _parts)  # noqa: B010, a method of a class that mypy takes for fixed
    return made


def _parts(state: Any) -> tuple[Any, ...]:
    """How to make a state again."""
    return _state_of, (state._fields, tuple(state))


def _state_of(names: tuple[str, ...], tensors: tuple[Tensor, ...]) -> Any:
    """What `pickle` and `copy` call to make a state again."""
    return _state_type(names)._make(tensors)


def _validate(
    label: str, array: Carried, value: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{label}: expected a tensor, got {type(value).__name__}")
    if value.shape != shape:
        symbols = ", ".join(("N", "H", *array.axes))
        raise ArgumentError(f"{label}: expected [{symbols}] = {list(shape)}, got {list(value.shape)}")
    if value.dtype != dtype:
        raise ArgumentError(f"{label}: expected {plain(dtype)}, got {plain(value.dtype)}")
    if value.device != device:
        raise ArgumentError(f"{label}: expected on {device}, got {value.device}")
