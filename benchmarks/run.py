"""Times of an operator on this CPU beside what else computes the same: the naive loop, and transformers.

    python benchmarks/run.py [--model mamba2] [--T 2048] [--H 8] [--size 128] [--threads 2] [--naive]
    python benchmarks/run.py --lengths 1024 4096 16384 65536       the time per token as sequences grow
    options: --times 7, --cpu-time (of the process, for a machine that is busy), --json FILE

All run in one process on the same input, one after the other in turn. The peak memory of forward and backward
is that of a process of its own, above what that held before.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Call, Shape
from rich.console import Console
from rich.table import Table
from torch import Tensor

Row = dict[str, Any]


def forward(call: Call, inputs: list[Tensor]) -> None:
    """One pass that keeps nothing."""
    with torch.no_grad():
        call(*inputs)


def both(call: Call, inputs: list[Tensor]) -> None:
    """Forward and backward, all gradients."""
    leaves = [x.requires_grad_() for x in inputs]
    torch.autograd.grad(call(*leaves).square().mean(), leaves)


PASSES = {"forward": forward, "forward + backward": both}


def milliseconds(
    run: Callable[[Call, list[Tensor]], None],
    calls: Mapping[str, Call],
    inputs: list[Tensor],
    times: int,
    clock: Callable[[], float],
) -> dict[str, tuple[float, float]]:
    """The median and the least of `times` runs of each, in turn, after one that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(times + 1):
        for name, call in calls.items():
            start = clock()
            run(call, inputs)
            taken[name].append((clock() - start) * 1000)
    kept = {name: found[1:] or found for name, found in taken.items()}
    return {name: (statistics.median(found), min(found)) for name, found in kept.items()}


def peak_megabytes(model: str, name: str, shape: Shape, threads: int) -> float:
    """Of forward and backward in a fresh process, above what it held before."""
    sizes = [f"--{axis}={getattr(shape, axis)}" for axis in ("B", "T", "H", "size")]
    options = [f"--model={model}", f"--threads={threads}", f"--memory={name}"]
    command = [sys.executable, __file__, *sizes, *options]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_memory(model: str, name: str, shape: Shape) -> None:
    """What `peak_megabytes` reads."""
    case = CASES[model]
    small, inputs = case.inputs(Shape(1, 64, 1, 16)), case.inputs(shape)
    both(case.candidates[name], small)
    before = high_water()
    both(case.candidates[name], inputs)
    print((high_water() - before) / 1024)


def high_water() -> int:
    """The most memory this process has held, in KiB (getrusage would count its parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def available(calls: Mapping[str, Call], inputs: list[Tensor]) -> dict[str, Call]:
    """Those whose packages are installed."""
    found = {}
    for name, call in calls.items():
        try:
            forward(call, inputs)
        except ImportError:
            continue
        found[name] = call
    return found


def compare(arguments: argparse.Namespace, shape: Shape, clock: Callable[[], float]) -> list[Row]:
    """A row for each candidate."""
    case = CASES[arguments.model]
    wanted = {n: call for n, call in case.candidates.items() if n != "naive loop" or arguments.naive}
    calls = available(wanted, case.inputs(Shape(1, 64, 1, 16)))
    rows: dict[str, Row] = {name: {"name": name} for name in calls}
    for title, run in PASSES.items():
        slow = {name: call for name, call in calls.items() if name == "naive loop"}
        quick = {name: call for name, call in calls.items() if name != "naive loop"}
        found = milliseconds(run, quick, case.inputs(shape), arguments.times, clock)
        found |= milliseconds(run, slow, case.inputs(shape), 0, clock)
        for name, (median, least) in found.items():
            rows[name] |= {f"{title}, ms": median, f"{title}, least": least}
    for name, row in rows.items():
        row["peak, MB"] = peak_megabytes(arguments.model, name, shape, arguments.threads)
    return list(rows.values())


def grow(arguments: argparse.Namespace, shape: Shape, clock: Callable[[], float]) -> list[Row]:
    """A row for each length: microseconds per token of the operator."""
    case, rows = CASES[arguments.model], []
    calls = {"rnnc": case.candidates["rnnc"]}
    for length in arguments.lengths:
        row: Row = {"T": length}
        for title, run in PASSES.items():
            inputs = case.inputs(Shape(shape.B, length, shape.H, shape.size))
            median, _ = milliseconds(run, calls, inputs, arguments.times, clock)["rnnc"]
            row[f"{title}, us per token"] = median * 1000 / (shape.B * length)
        rows.append(row)
    return rows


def print_table(rows: list[Row], title: str) -> None:
    """The rows; small numbers with a decimal."""
    table = Table(*(key for key in rows[0] if not key.endswith(", least")), title=title)
    for row in rows:
        values = [value for key, value in row.items() if not key.endswith(", least")]
        table.add_row(*(f"{v:.{0 if v >= 100 else 1}f}" if isinstance(v, float) else str(v) for v in values))
    Console().print(table)


def main() -> None:
    """Parses the arguments and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for axis, default in (("B", 1), ("T", 2048), ("H", 8), ("size", 128), ("threads", 2), ("times", 7)):
        parser.add_argument(f"--{axis}", type=int, default=default)
    parser.add_argument("--model", choices=CASES, default="gated_delta_net")
    parser.add_argument("--naive", action="store_true", help="the naive loop too: about a minute more")
    parser.add_argument("--lengths", type=int, nargs="+", help="time per token at these lengths")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time of the process: take one thread")
    parser.add_argument("--json", type=Path, help="where to write the results too")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = Shape(arguments.B, arguments.T, arguments.H, arguments.size)
    if arguments.memory:
        print_memory(arguments.model, arguments.memory, shape)
        return
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rows = (grow if arguments.lengths else compare)(arguments, shape, clock)
    print_table(rows, f"{arguments.model}, {shape}, float32, {arguments.threads} threads")
    if arguments.json:
        setting = {"model": arguments.model, "shape": [shape.B, shape.T, shape.H, shape.size]}
        setting |= {"threads": arguments.threads, "cpu time": arguments.cpu_time, "times": arguments.times}
        setting |= {"torch": torch.__version__, "machine": platform.processor() or platform.machine()}
        arguments.json.write_text(json.dumps({**setting, "rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
