"""A choice of tiles in words: the configuration, what it needs, and what bound it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnnc.codegen.tiling_record import Choice

BOUNDS = {
    "memory": "bytes through memory",
    "cache": "bytes through the cache",
    "products": "matrix products",
    "chain": "the chain of what waits for each other",
}


def described(choice: Choice) -> dict[str, Any]:
    """The choice as plain data."""
    said, how = choice.measured, choice.configuration._asdict()
    del how["second"]  # of a launch that two kernels are, each is described
    return {
        **how,
        "registers": choice.need.registers,
        "shared": choice.need.shared,
        "stack": said.stack if said else None,
        "fits": choice.fits,
        "bound": choice.times.bound,
        "seconds": choice.times.seconds,
        "dropped": dict(choice.dropped),
    }


def sentence(how: Mapping[str, Any]) -> str:
    """What `described` says, as a line."""
    tile = f"tiles of {how['tile']}, " if how["tile"] else ""
    stages = f", {how['stages']} stages" if how["stages"] > 1 else ""
    shared = f"{how['shared'] / 1024:.0f} KiB shared"
    if how["stack"] is None:
        needs = f"about {how['registers']} registers, {shared} (estimated)"
    else:
        needs = f"{how['registers']} registers, {how['stack']} bytes of stack, {shared} (compiled)"
    dropped = " and ".join(f"{count} for {what}" for what, count in how["dropped"].items() if count)
    parts = [f"{tile}{how['warps']} warps{stages}: {needs}", f"bound by {BOUNDS[how['bound']]}"]
    parts += [f"dropped {dropped}"] if dropped else []
    parts += [] if how["fits"] else ["nothing fits the registers: this spills least for its time"]
    return "; ".join(parts)
