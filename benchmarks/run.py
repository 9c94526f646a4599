"""Times of the gated delta rule on this CPU: rnnc, the naive loop, and transformers where installed.

    python benchmarks/run.py [--T 2048] [--H 8] [--size 128] [--threads 2] [--naive]

All run in one process on the same input. The peak memory of forward and backward is that of a process of
its own, above what that held before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from rnnc.ops import gated_delta_net

Call = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Shape:
    B: int
    T: int
    H: int
    size: int

    def inputs(self) -> list[Tensor]:
        """q, k, v, a, b, A_log, dt_bias in float32."""
        torch.manual_seed(0)
        vectors = [torch.randn(self.B, self.T, self.H, self.size) for _ in range(3)]
        gates = [torch.randn(self.B, self.T, self.H) for _ in range(2)]
        return [*vectors, *gates, torch.rand(self.H), torch.rand(self.H) - 4]


def rnnc_chunked(*inputs: Tensor) -> Tensor:
    """The operator under test."""
    output, _ = gated_delta_net(*inputs)
    assert isinstance(output, Tensor)
    return output


def naive_loop(*inputs: Tensor) -> Tensor:
    """Its reference, a token at a time."""
    output, _ = gated_delta_net.reference(*inputs)
    assert isinstance(output, Tensor)
    return output


def transformers_chunked(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, A_log: Tensor, dt: Tensor
) -> Tensor:
    """transformers' fallback for machines without a GPU, gates included as its models compute them."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

    g = -A_log.exp() * F.softplus(a + dt)
    output: Tensor = torch_chunk_gated_delta_rule(q, k, v, g, 2 * b.sigmoid(), use_qk_l2norm_in_kernel=True)[
        0
    ]
    return output


CANDIDATES: dict[str, Call] = {
    "rnnc": rnnc_chunked,
    "transformers": transformers_chunked,
    "naive loop": naive_loop,
}


def forward(call: Call, inputs: list[Tensor]) -> None:
    """One pass that keeps nothing."""
    with torch.no_grad():
        call(*inputs)


def both(call: Call, inputs: list[Tensor]) -> None:
    """Forward and backward, all gradients."""
    leaves = [x.requires_grad_() for x in inputs]
    torch.autograd.grad(call(*leaves).square().mean(), leaves)


def seconds(run: Callable[[Call, list[Tensor]], None], call: Call, inputs: list[Tensor], times: int) -> float:
    """The median of `times` runs after one that warms up."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        run(call, inputs)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:] or taken)


def peak_megabytes(name: str, shape: Shape, threads: int) -> float:
    """Of forward and backward in a fresh process, above what it held before."""
    sizes = [f"--{axis}={getattr(shape, axis)}" for axis in ("B", "T", "H", "size")]
    command = [sys.executable, __file__, *sizes, f"--threads={threads}", f"--memory={name}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_memory(name: str, shape: Shape) -> None:
    """What `peak_megabytes` reads."""
    small, inputs = Shape(1, 64, 1, 16).inputs(), shape.inputs()
    both(CANDIDATES[name], small)
    before = high_water()
    both(CANDIDATES[name], inputs)
    print((high_water() - before) / 1024)


def high_water() -> int:
    """The most memory this process has held, in KiB (getrusage would count its parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Parses the arguments and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for axis, default in (("B", 1), ("T", 2048), ("H", 8), ("size", 128), ("threads", 2), ("times", 7)):
        parser.add_argument(f"--{axis}", type=int, default=default)
    parser.add_argument("--naive", action="store_true", help="the naive loop too: about a minute more")
    parser.add_argument("--memory", choices=CANDIDATES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = Shape(arguments.B, arguments.T, arguments.H, arguments.size)
    if arguments.memory:
        print_memory(arguments.memory, shape)
        return
    table = Table(
        "", "forward, ms", "forward + backward, ms", "peak, MB", title=f"gated delta rule, {shape}, float32"
    )
    for name, call in CANDIDATES.items():
        if name == "naive loop" and not arguments.naive:
            continue
        times = 1 if name == "naive loop" else arguments.times
        try:
            row = [seconds(run, call, shape.inputs(), times) * 1000 for run in (forward, both)]
        except ImportError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        table.add_row(
            name, *(f"{value:.0f}" for value in (*row, peak_megabytes(name, shape, arguments.threads)))
        )
    Console().print(table)


if __name__ == "__main__":
    main()
