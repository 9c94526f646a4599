"""How kernels run, as data: what is known of a configuration, what was chosen, for one kernel or for all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from rnnc.codegen.resources import Configuration, Need
from rnnc.codegen.times import Times

STEP = 16  # registers: of what does not fit, what is off by less is alike


class Measured(NamedTuple):
    """What is known of a configuration: registers of a thread, bytes of its stack and shared memory, as a
    compiler says; `seconds` for a token and head, where it has run; `wrong`: it does not compute what it
    should on this device, and is never taken.
    """

    registers: int = 0
    stack: int = 0
    shared: int = 0
    seconds: float | None = None
    wrong: bool = False


Findings = Mapping[Configuration, Measured]
NOTHING: Findings = MappingProxyType({})


class Choice(NamedTuple):
    """How one kernel runs, what it needs, the time it is estimated to take for a token and head, and how many
    candidates were dropped for want of what. `measured`: what a compiler made of it, if that is known;
    `excess`: registers that do not fit; `bytes`: what it moves through memory for a token and head.
    """

    configuration: Configuration
    need: Need
    times: Times
    dropped: tuple[tuple[str, int], ...]
    measured: Measured | None
    excess: float
    bytes: float = 0.0

    @property
    def fits(self) -> bool:
        return self.excess <= 0

    @property
    def seconds(self) -> float:
        """For a token and head: as measured, else as estimated."""
        said = self.measured
        return self.times.seconds if said is None or said.seconds is None else said.seconds


Pair = tuple[Choice, Choice]  # of two kernels that are one launch


class Tiling(NamedTuple):
    """The choices of all kernels, by name, for chunks of `chunk` tokens, states kept for one in `spacing`;
    `joined`: those of both kernels of those that are one launch, by its name. `cut`: which of the forward
    passes that there are they belong to.
    """

    chunk: int
    spacing: int
    kernels: Mapping[str, Choice]
    joined: Mapping[str, Pair] = MappingProxyType({})
    cut: str = ""

    @property
    def seconds(self) -> float:
        """For a token and head, forward and backward."""
        return sum(choice.seconds for choice in self.kernels.values())

    @property
    def memory(self) -> float:
        """Bytes through memory for a token and head: unlike seconds, not an estimate."""
        return sum(choice.bytes for choice in self.kernels.values())

    @property
    def excess(self) -> int:
        """How far its kernels are from fitting, in steps."""
        return sum(math.ceil(choice.excess / STEP) for choice in self.kernels.values())

    @property
    def fits(self) -> bool:
        return not self.excess

    @property
    def compiled(self) -> bool:
        """Whether compilers have seen all of it."""
        return all(choice.measured for choice in self.kernels.values())

    @property
    def measured(self) -> bool:
        """Whether all of it has run on the device, and was right."""
        return all(choice.measured and choice.measured.seconds for choice in self.kernels.values())


class Joint(Protocol):
    """Two kernels that may be one launch, and what that is called; `beside` each other, or in turn."""

    @property
    def kernel(self) -> str: ...
    @property
    def first(self) -> str: ...
    @property
    def second(self) -> str: ...
    @property
    def beside(self) -> bool: ...


class TooLarge(ValueError):
    """No configuration of a kernel fits the shared memory of a processor."""
