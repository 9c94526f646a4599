"""Kernels that are launched again and again with the same shapes: Triton sorts the arguments out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

ALIGNED = 15  # of an address: bits that are zero where Triton takes it to be aligned


class Repeated:
    """A kernel on a grid. `options` are the arguments that all launches have in common, `names` those of the
    tensors that differ (and take the place of options of the same name).

    The first launch goes through Triton, which finds a binary by dtypes, constants and alignment. Later ones
    go straight to that binary: what Triton does with fifty arguments takes longer than small kernels do. So
    dtypes must be those of the first launch, and None only where it was; tensors that are not aligned as
    usual go through Triton.
    """

    __slots__ = ("grid", "kernel", "names", "options", "places", "shared", "straight")

    def __init__(
        self, kernel: Any, grid: tuple[int, ...], options: dict[str, Any], names: Sequence[str]
    ) -> None:
        self.kernel, self.grid, self.options, self.names = kernel, grid, options, names
        self.straight: Callable[..., None] | None = None
        self.places: tuple[int, ...] = ()
        self.shared: list[Any] = []

    def __call__(self, tensors: Sequence[Any]) -> None:
        """Launches it on tensors (or tuples of such), in the order of `names`."""
        straight = self.straight
        if straight is not None and _aligned(tensors):
            arguments = self.shared.copy()
            for place, tensor in zip(self.places, tensors):  # noqa: B905 (a check for every launch)
                arguments[place] = tensor
            straight(*arguments)
            return
        given = dict(zip(self.names, tensors, strict=True))
        compiled = self.kernel[self.grid](**(self.options | given))
        if straight is None and _is_binary(compiled) and _aligned(tensors):
            self._remember(compiled)

    def _remember(self, compiled: Any) -> None:
        """A binary takes all arguments by position, constants too, and a grid of three numbers."""
        order = {name: place for place, name in enumerate(self.kernel.arg_names)}
        self.places = tuple(order[name] for name in self.names)
        self.shared = [self.options.get(name) for name in order]
        self.straight = compiled[(*self.grid, 1, 1)[:3]]


def _is_binary(compiled: Any) -> bool:
    """Whether that is what Triton compiled: its interpreter returns nothing."""
    return hasattr(compiled, "asm")


def _aligned(tensors: Sequence[Any]) -> bool:
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) is tuple:
            if not _aligned(tensor):
                return False
        elif tensor.data_ptr() & ALIGNED:
            return False
    return True
