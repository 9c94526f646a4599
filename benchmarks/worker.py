"""One process that does entries: a line of JSON in, a line of JSON out.

A process of its own, because a kernel that goes wrong on a GPU takes its process with it, and because
Triton's interpreter is on or off for all of a process.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
from typing import Any

from benchmarks.entries import Entry


def main(mode: str) -> None:
    """Answers until there are no more lines. What entries print goes to standard error.

    `mode`: cuda, cpu, or dry, in Triton's interpreter.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            answer = about(mode) if request is None else _answer(request, mode)
        print(json.dumps(answer), file=answers, flush=True)


def _answer(request: dict[str, Any], mode: str) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        answer = {"status": "ok", **_do(request, mode)}
    except Exception as error:  # whatever happens is the result
        trace = traceback.format_exc().strip().splitlines()
        answer = {"status": "error", "reason": f"{type(error).__name__}: {error}"[:400], "trace": trace[-8:]}
    return answer | {"took": round(time.perf_counter() - start, 2)}


def _do(request: dict[str, Any], mode: str) -> dict[str, Any]:
    device = "cuda" if mode == "cuda" else "cpu"
    if "list" in request:
        from benchmarks.gpu.compilation import signatures

        return {"kernels": signatures(Entry.of(request["list"]))}
    entry = Entry.of(request)
    if mode == "dry" and entry.dtype == "bf16" and entry.kind != "compile":
        return {"status": "not run", "reason": "Triton's interpreter multiplies matrices in bf16 wrongly"}
    if entry.kind == "compile" and entry.who != "rnnc":
        from benchmarks.times import warm_up

        return warm_up(entry, device)
    if entry.kind == "compile":
        from benchmarks.gpu.compilation import compile_kernel, launches

        if mode == "dry":
            _, launch = launches(entry.model, entry.dtype, entry.call)[entry.kernel]
            return {"status": "not run", "reason": "no GPU", "launch": launch.kernel}
        return compile_kernel(entry)
    if entry.kind == "time":
        from benchmarks.times import time_entry

        return time_entry(entry, mode)
    if entry.kind in OTHERS:
        return OTHERS[entry.kind](entry, device)
    from benchmarks.errors import error, graph

    return (graph if entry.kind == "graph" else error)(entry, device)


def _check(entry: Entry, device: str) -> dict[str, Any]:
    from benchmarks.gpu import checks

    if entry.kind == "sanitizer":
        return checks.sanitized(entry)
    if entry.kind == "demo":
        return checks.demo(device, 60 if device == "cuda" else 1)
    return checks.traced(entry, device) if entry.kind == "traced" else checks.large(entry, device)


def _measure(entry: Entry, device: str) -> dict[str, Any]:
    from benchmarks.gpu import measures

    if entry.kind == "ceilings":
        return measures.ceilings(device)
    return measures.step(entry, device) if entry.kind == "step" else measures.warps(entry, device)


OTHERS = dict.fromkeys(("traced", "large", "demo", "sanitizer"), _check)
OTHERS |= dict.fromkeys(("ceilings", "step", "warps"), _measure)


def about(mode: str) -> dict[str, Any]:
    """The device and the versions of what decides a result."""
    import platform

    import torch
    import triton

    from rnnc.ops.cache import compiler_digest

    found = {
        "device": "interpreter",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "compiler": compiler_digest()[:16],
    }
    if mode == "cpu":
        return found | {"device": f"{processor()}, {torch.get_num_threads()} threads"}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "gigabytes": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda or torch.version.hip or "",
        }
    return found


def processor() -> str:
    """What this machine calls its processor."""
    import platform
    from pathlib import Path

    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    main(sys.argv[1])
