"""What a call costs, as a record and as text: launches, passes, the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rnnc.codegen.stretches import Splitting
from rnnc.codegen.tiling_text import sentence

BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
STATES = "@states"  # among the arrays of a minimum: the states at both ends of the sequences


@dataclass(frozen=True, slots=True)
class KernelCost:
    """One launch; the role `sum` sums gradients over chunks, or over the heads of a group.

    `how`: in what configuration a kernel of the chunked form runs, and why; `reread_bytes`: of arrays that
    the launch writes and its programs read back while they are in the cache, which are not in `bytes`.
    """

    name: str
    role: str
    bytes: int
    flops: int
    grid: tuple[int, ...]
    how: dict[str, Any] = field(default_factory=dict)
    reread_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PassCost:
    """Forward or backward: `minimum_bytes` reads what is given once and writes what is asked for once.

    `minimum` has them by array; `saved_bytes`: what is held in memory from forward to backward beside the
    caller's own tensors.
    """

    kernels: tuple[KernelCost, ...]
    minimum: Mapping[str, int]
    saved_bytes: int

    @property
    def minimum_bytes(self) -> int:
        return sum(self.minimum.values())

    @property
    def bytes(self) -> int:
        """Bytes through device memory, over all launches."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Floating point operations, over all launches."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def launches(self) -> int:
        """How many kernels are launched."""
        return len(self.kernels)

    def as_dict(self) -> dict[str, Any]:
        """The record for machines."""
        totals = {name: getattr(self, name) for name in ("bytes", "flops", "launches", "minimum_bytes")}
        return {name: value for name, value in (totals | asdict(self)).items() if name != "minimum"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call of an operator costs; `sizes` are B, T, H, G (heads of inputs per group) and the axes.

    `chunk`: the tokens of a chunk, or, in the recurrent form, between two states that are kept; `split`:
    whether sequences are walked in stretches, by which estimate; None where they cannot be; `spacing`: chunks
    from one state that is kept to the next; `choice`: what else was weighed, and the figures of both.
    """

    name: str
    dtype: str
    chunk: int
    sizes: Mapping[str, int]
    forward: PassCost
    backward: PassCost
    form: str = "chunked"
    split: Splitting | None = None
    spacing: int = 1
    choice: str = ""

    @property
    def stretches(self) -> int:
        """Of each sequence, walked beside each other."""
        return self.split.parts if self.split else 1

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        given = {"name": self.name, "form": self.form, "dtype": self.dtype, "chunk": self.chunk}
        given |= {"sizes": dict(self.sizes), "stretches": self.stretches, "spacing": self.spacing}
        return given | {"forward": self.forward.as_dict(), "backward": self.backward.as_dict()}

    def __str__(self) -> str:
        per = self.sizes["B"] * self.sizes["T"] * self.sizes["H"]
        given = " ".join(f"{name}={size}" for name, size in self.sizes.items())
        how = "chunks of" if self.form == "chunked" else "a state kept every"
        how = f"{self.stretches} stretches of each sequence, {how}" if self.stretches > 1 else how
        kept = f", a state kept for {self.spacing} of them" if self.spacing > 1 else ""
        lines = [f"{self.name}: {given}, {self.dtype}, {how} {self.chunk} tokens{kept}; per token and head:"]
        for name, part in (("forward", self.forward), ("backward", self.backward)):
            once = f"each tensor once: {part.minimum_bytes / per:,.0f}"
            kept = f"; kept for the backward pass: {part.saved_bytes / per:,.0f}" if part.saved_bytes else ""
            lines.append(
                f"{name:<9}{_figures(part.bytes, part.flops, per)}  {part.launches} launches ({once}{kept})"
            )
            for kernel in part.kernels:
                grid = " x ".join(map(str, kernel.grid))
                figures = _figures(kernel.bytes, kernel.flops, per)
                back = kernel.reread_bytes / per
                lines.append(
                    f"  {kernel.role:<7}{figures}  {kernel.name}"
                    + (f", grid {grid}" if grid else "")
                    + (f"; reads back {back:,.0f} of what it writes" if back else "")
                )
                if kernel.how:
                    lines.append(f"    {sentence(kernel.how)}")
        lines += [self.choice] if self.choice else []
        return "\n".join(lines)


def _figures(size: int, flops: int, per: int) -> str:
    return f"{size / per:>9,.0f} bytes{flops / per / 1e3:>9,.1f} kFLOP"
