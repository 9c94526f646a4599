"""What a call is estimated to take as the axes grow, by the size that 128 channels take: no GPU is asked.

    python -m benchmarks.growth [model ...] [--heads 16 | --width 2048]

Forward and backward of one sequence of 8192 tokens, every axis of the same size, in bfloat16 on sm_90:
seconds for each entry of the states, token and head, and for each floating point operation that the plan
does, both as parts of what they are at 128 channels. `--width`: as many heads as make so many channels.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from typing import NamedTuple

from rnnc.codegen.compiler import Compiled, Spec, Staged, compile_text
from rnnc.codegen.cost import cost, of_stage
from rnnc.codegen.plan_list import plan_lists
from rnnc.files import builtin_specs, read_spec
from rnnc.kernel_jobs import MICRO_STEPS
from rnnc.ops.tuned import of_spec

SIZES = (64, 96, 128, 192, 256, 512)
USUAL = 128
LENGTH = 8192
DTYPE, ARCH = "bf16", "sm_90"


class Estimate(NamedTuple):
    """A call: seconds, floating point operations, tokens of a chunk, of each stage."""

    seconds: float
    flops: int
    chunks: tuple[int, ...]
    fits: bool


def estimated(compiled: Spec, sizes: Mapping[str, int]) -> Estimate:
    """Of all stages together."""
    stages: list[tuple[Compiled, Mapping[str, int]]]
    if isinstance(compiled, Staged):
        stages = [(stage, of_stage(stage.recurrence, sizes)) for stage in compiled.stages]
    else:
        stages = [(compiled, sizes)]
    each = [_of_one(stage, own) for stage, own in stages]
    seconds, flops = sum(one.seconds for one in each), sum(one.flops for one in each)
    chunks = tuple(length for one in each for length in one.chunks)
    return Estimate(seconds, flops, chunks, all(one.fits for one in each))


def _of_one(stage: Compiled, sizes: Mapping[str, int]) -> Estimate:
    found = cost(stage, DTYPE, arch=ARCH, findings=of_spec, **sizes)
    (plans,) = plan_lists(stage, DTYPE, ARCH, of_spec, sizes)
    (taken,) = (plan for plan in plans.both if plan.chosen)
    saved = found.split.whole - found.split.seconds if found.split and found.split.parts > 1 else 0.0
    flops = found.forward.flops + found.backward.flops
    return Estimate(taken.seconds - saved, flops, (found.chunk,), taken.fits)


def sizes_of(compiled: Spec, size: int, heads: int) -> dict[str, int]:
    """Of every axis."""
    recurrence = compiled.recurrence
    groups = {"G": heads} if any(item.per_group for item in recurrence.inputs) else {}
    axes = dict.fromkeys(recurrence.axes, size) | dict.fromkeys(recurrence.loops, MICRO_STEPS)
    return {"B": 1, "T": LENGTH, "H": heads, **groups, **axes}


def row(name: str, heads: int | None, width: int) -> str:
    """A line of the table: by size the two parts and the chunks; `!` where a kernel spills."""
    compiled = compile_text(read_spec(name)[0], name)
    found = {}
    for size in SIZES:
        sizes = sizes_of(compiled, size, heads or max(1, width // size))
        entries = sum(math.prod(sizes[axis] for axis in state.axes) for state in compiled.recurrence.states)
        made = estimated(compiled, sizes)
        found[size] = made, made.seconds / sizes["H"] / entries, made.seconds / made.flops
    _, entry, operation = found[USUAL]
    cells = []
    for made, by_entry, by_operation in found.values():
        chunks = "+".join(map(str, made.chunks)) + ("" if made.fits else "!")
        cells.append(f"{by_entry / entry:.2f} / {by_operation / operation:.2f} ({chunks})")
    return f"| `{name}` | {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("models", nargs="*", help="all built-in ones if none is given")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--heads", type=int, default=16)
    given.add_argument("--width", type=int, default=0, help="channels of all heads together")
    asked = parser.parse_args(arguments)
    print(f"| estimated | {' | '.join(map(str, SIZES))} |")
    print(f"|---|{'---|' * len(SIZES)}")
    for name in asked.models or builtin_specs():
        print(row(name, None if asked.width else asked.heads, asked.width), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
