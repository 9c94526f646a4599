"""How the chunked kernels of an operator run for the sizes of a call: what was chosen, and what is to be."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from types import ModuleType
from typing import TypeVar

import torch

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import SHORTEST, cover, rows_for
from rnnc.codegen.stretches import Load
from rnnc.codegen.tiling import longest, suiting
from rnnc.codegen.tiling_record import Choice, Findings, Tiling, TooLarge
from rnnc.ops.arguments import REMEMBERED, Bound
from rnnc.ops.errors import UnavailableError
from rnnc.ops.triton_call import Tiled
from rnnc.ops.triton_stretches import WHOLE, Split
from rnnc.ops.triton_tiling import (
    FindingsOf,
    Kept,
    forward_alone,
    hardware_of,
    in_stretches,
    launched,
    map_choices,
    tiled,
    tiling,
)

Chosen = TypeVar("Chosen")
Generated = tuple[ModuleType, str]  # a module of kernels, and its text


class Choices:
    """The choices for the kernels of the recurrence of that name, each made once.

    `available`: their module and its text; `findings`: what is known of how they compile; `kept`: what finds
    a choice again that was made before.
    """

    def __init__(
        self,
        name: str,
        available: Callable[[], Generated],
        findings: FindingsOf | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.name, self.available, self.findings, self.kept = name, available, findings, kept
        # The schedule's hook: in how many stretches sequences are split (1: in none), instead of in as many
        # as are estimated to take the least time. Packed ones are split only so.
        self.stretches: int | None = None
        # The cut of a forward pass that keeps nothing, instead of that estimated to take the least time.
        self.cut: str | None = None
        self.tilings: dict[Hashable, Tiled] = {}
        self.splits: dict[Hashable, Split] = {}

    @property
    def module(self) -> ModuleType:
        """The kernels; raises UnavailableError."""
        return self.available()[0]

    @property
    def text(self) -> str:
        """The text of the kernels; raises UnavailableError."""
        return self.available()[1]

    def tiled(
        self,
        sizes: dict[str, int],
        size: int,
        device: torch.device,
        length: int,
        chunk_size: int | None = None,
    ) -> Tiled:
        """How the chunked kernels run for the sizes of axes and entries of `size` bytes: chunks as asked for,
        or as suits sequences of that length.

        Raises UnavailableError.
        """
        rows = self._rows(sizes)
        tokens = max(SHORTEST, chunk_size // rows) if chunk_size else None
        try:
            if tokens:
                return self._tiled(sizes, size, device, tokens)
            return suiting(length, lambda chunk: self._tiled(sizes, size, device, chunk))
        except TooLarge as reason:
            most = longest(self.module.WORK, sizes, size, hardware_of(device)) * rows
            if not most or not tokens:
                without = self._without(sizes, reason)
                raise UnavailableError(f"{without}: use form='recurrent', or backend='torch'") from None
            given = ", ".join(f"{axis} = {n}" for axis, n in sizes.items())
            what = "tokens" if rows == 1 else "rows"
            raise UnavailableError(
                f"chunk_size: triton takes at most {most} {what} for {self.name} with {given}, got"
                f" {chunk_size}: leave it out, or use backend='torch'"
            ) from None

    def alone(
        self,
        sizes: dict[str, int],
        size: int,
        device: torch.device,
        length: int,
        how: Tiled,
        chunk_size: int | None = None,
    ) -> Tiled:
        """How the forward pass of a call runs that keeps nothing, for sequences of that length, or of no more
        than the next power of two; `how`: as it runs otherwise.
        """
        module = self.module
        if self.cut not in (None, *module.CUTS) or not module.CUTS:
            return how
        hardware = hardware_of(device)
        length = cover(length)
        key = ("alone", *sizes.values(), size, hardware.name, length, how.chunk, bool(chunk_size), self.cut)
        if key not in self.tilings:

            def chosen() -> Tiled | None:
                known = self._known((*module.WORK, *module.CUT_WORK), sizes, size, hardware)
                chunk = how.chunk if chunk_size else None
                return forward_alone(module, how.chunk, sizes, size, hardware, length, chunk, known, self.cut)

            self.tilings[key] = self._kept(key, hardware, chosen) or how
        return self.tilings[key]

    def with_every_state(self, sizes: dict[str, int], size: int, device: torch.device, chunk: int) -> Tiled:
        """As `tiled` for chunks of that many tokens, the state of each kept, in the usual cut."""
        return self._tiled(sizes, size, device, chunk, 1)

    def split(self, bound: Bound, length: int, may: bool, how: Tiled) -> Split:
        """In how many stretches the sequences of a call are walked, and how what summarises them runs; `may`:
        in more than one without being asked for.

        Raises UnavailableError for stretches that are asked for and not to be had.
        """
        module = self.module
        if module.NO_STRETCHES and self.stretches not in (None, 1):
            raise UnavailableError(f"triton does not split sequences of {self.name}: {module.NO_STRETCHES}")
        count = 1 if module.NO_STRETCHES or (self.stretches is None and not may) else self.stretches
        if count == 1:
            return WHOLE
        sizes, size = bound.sizes.axes, bound.output_dtype.itemsize
        load = Load(bound.sizes.batch * bound.sizes.heads, length)
        key = (*sizes.values(), size, str(bound.device), how.chunk, count, load)
        if len(self.splits) > REMEMBERED:
            self.splits.clear()
        if key not in self.splits:
            self.splits[key] = self._split(sizes, size, hardware_of(bound.device), how.chunk, load, count)
        return self.splits[key]

    def _split(
        self, sizes: dict[str, int], size: int, hardware: Hardware, chunk: int, load: Load, count: int | None
    ) -> Split:
        """In how many stretches, or in `count`. Raises TooLarge for such."""
        module = self.module

        def chosen() -> Mapping[str, Choice]:
            known = self._known(module.SUMMARY_WORK, sizes, size, hardware)
            return map_choices(module, sizes, size, hardware, chunk, known)

        try:
            found = self._tiling(sizes, size, hardware, chunk, 1)
            maps = self._kept(("maps", *sizes.items(), size, chunk), hardware, chosen)
        except TooLarge:
            if count is None:
                return WHOLE
            raise
        return in_stretches(module, found, sizes, size, hardware, load, count, maps)

    def too_large(self, bound: Bound) -> str:
        """Why no chunks fit a GPU for the sizes of a call; empty if some do."""
        try:
            self._tiled(bound.sizes.axes, bound.output_dtype.itemsize, bound.device, None)
        except TooLarge as reason:
            return self._without(bound.sizes.axes, reason)
        return ""

    def _without(self, sizes: dict[str, int], reason: TooLarge) -> str:
        given = ", ".join(f"{axis} = {n}" for axis, n in sizes.items())
        return f"triton has no chunked form of {self.name} for {given}: {reason}"

    def _rows(self, sizes: dict[str, int]) -> int:
        """The rows of a tile for each token."""
        micro = self.module.MICRO_AXIS
        return rows_for(sizes[micro]) if micro else 1

    def _tiled(
        self,
        sizes: dict[str, int],
        size: int,
        device: torch.device,
        chunk: int | None,
        spacing: int | None = None,
    ) -> Tiled:
        """Raises TooLarge."""
        hardware = hardware_of(device)
        key = (*sizes.values(), size, hardware.name, chunk, spacing)
        if key not in self.tilings:
            self.tilings[key] = tiled(self._tiling(sizes, size, hardware, chunk, spacing), hardware)
        return self.tilings[key]

    def _tiling(
        self,
        sizes: dict[str, int],
        size: int,
        hardware: Hardware,
        chunk: int | None,
        spacing: int | None = None,
    ) -> Tiling:
        """Raises TooLarge."""
        module = self.module

        def chosen() -> Tiling:
            known = self._known(launched(module), sizes, size, hardware)
            return tiling(module, sizes, size, hardware, chunk, known, spacing)

        return self._kept(("chunked", *sizes.items(), size, chunk, spacing), hardware, chosen)

    def _known(
        self, names: Iterable[str], sizes: dict[str, int], size: int, hardware: Hardware
    ) -> Mapping[str, Findings] | None:
        """What is known of kernels, by name."""
        return self.findings(self.text, names, sizes, size, hardware) if self.findings else None

    def _kept(self, given: tuple[object, ...], hardware: Hardware, choose: Callable[[], Chosen]) -> Chosen:
        """What is chosen, now or before. Raises TooLarge where that does."""
        return self.kept(self.text, given, hardware, choose) if self.kept else choose()
