"""Times, memory and error of one candidate at one shape."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.calls import Tensors, draw, operator
from benchmarks.candidates import COMPILED, IN_TORCH, NAIVE, OWN, Function, function, peer
from benchmarks.entries import Call, Entry
from benchmarks.errors import compare, named, reference
from rnnc.measurement import SECONDS, milliseconds
from rnnc.probing import LIMITS

MILLISECONDS = (20, 80)  # on a GPU: to warm up, to measure
TINY = 64  # tokens up to which nothing is to be learned from a time
LONG = 16384  # tokens of a sequence from which on no error is measured: the reference would take too long


def time_entry(entry: Entry, mode: str) -> dict[str, Any]:
    """Milliseconds (median, least) and peak megabytes of a forward pass, and of it and the backward pass.

    `mode` is cuda, cpu, or dry: that it runs, in Triton's interpreter, and no time.
    """
    result: dict[str, Any] = {}
    found = peer(entry)
    if found is not None:
        try:
            result["version"] = found.version()
        except ImportError as error:
            return {"status": "not run", "reason": f"{entry.who}: {error}"}
    elif entry.who not in (OWN, NAIVE, COMPILED, IN_TORCH):
        return {"status": "not run", "reason": f"{entry.who}: no adapter for {entry.model}"}
    seconds = SECONDS if entry.call.T > TINY else 0.05
    tensors = draw(entry.model, entry.call, entry.dtype, "cuda" if mode == "cuda" else "cpu")
    call = function(entry, "auto" if mode == "cpu" else "triton")
    if mode == "dry":
        for run in _passes(call, tensors):
            run()
        result |= {"forward_ms": None, "both_ms": None, "megabytes": None}
    else:
        try:
            result |= _on_gpu(call, tensors, result) if mode == "cuda" else _on_cpu(call, tensors, seconds)
        except Exception as error:
            if entry.who == OWN or "forward_ms" not in result:
                raise
            return {"status": "failed", "reason": f"backward: {error}"[:300], **result}
    result["least_bytes"] = least_bytes(entry, tensors)
    if entry.call.T >= LONG:
        return {"status": "ok", **result}
    result |= _error(entry, call, tensors)
    limit = max(LIMITS[entry.dtype])
    right = entry.who != OWN or all(e <= limit for e in result["errors"].values())
    return {"status": "ok" if right else "failed", **result}


def least_bytes(entry: Entry, tensors: Tensors) -> tuple[int, int]:
    """What a forward pass must move, every input and output once, and what both passes must."""
    recurrence, call = operator(entry.model).recurrence, entry.call
    axes, size = call.axes(recurrence), tensors.arguments[0].element_size()
    given = sum(x.numel() * x.element_size() for x in tensors.arguments)
    rows = call.B * call.T * call.H * size
    made = sum(rows * math.prod(axes[axis] for axis in output.axes) for output in recurrence.outputs)
    return given + made, 3 * given + 2 * made


def warm_up(entry: Entry, device: str) -> dict[str, Any]:
    """One forward and backward pass of a peer, so that its kernels are compiled."""
    found = peer(entry)
    if found is None:
        return {"status": "not run", "reason": f"{entry.who}: no adapter for {entry.model}"}
    try:
        version = found.version()
    except ImportError as error:
        return {"status": "not run", "reason": f"{entry.who}: {error}"}
    for run in _passes(found.call, draw(entry.model, entry.call, entry.dtype, device)):
        run()
    return {"version": version}


def _passes(call: Function, tensors: Tensors) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The forward pass alone, and both passes with all gradients."""
    leaves = [x.detach().requires_grad_() for x in tensors.arguments]

    def outputs() -> list[Tensor]:
        found = call(*leaves)
        return [found] if isinstance(found, Tensor) else list(found)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return outputs()

    cotangents = [torch.randn_like(x) for x in forward()]

    def both() -> None:
        torch.autograd.grad(outputs(), leaves, cotangents, allow_unused=True)

    return forward, both


def _on_cpu(call: Function, tensors: Tensors, seconds: float) -> dict[str, Any]:
    """`cpu_ms` are of the least CPU time of all threads: what a busy machine disturbs least."""
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    for name, run in zip(("forward", "both"), _passes(call, tensors), strict=True):
        taken = milliseconds(run, torch.device("cpu"), seconds=seconds)
        busy = milliseconds(run, torch.device("cpu"), time.process_time, seconds)
        result |= {f"{name}_ms": round(statistics.median(taken), 3), f"{name}_least_ms": round(min(taken), 3)}
        result[f"{name}_cpu_ms"] = round(min(busy), 3)
    _release()
    before = _resident("VmRSS")
    with suppress(OSError):  # resets the high-water mark
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    run()
    peak = _resident("VmHWM")
    return result | {"megabytes": None if before is None or peak is None else round(peak - before, 1)}


def _release() -> None:
    """Gives memory that is free back to the system, so that what a call takes is seen."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _resident(name: str) -> float | None:
    """Megabytes of this process, as Linux counts them."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def _on_gpu(call: Function, tensors: Tensors, times: dict[str, Any]) -> dict[str, Any]:
    """Adds to `times` as they are taken: a backward pass may fail."""
    from triton.testing import do_bench

    forward, both = _passes(call, tensors)
    warmup, repeat = MILLISECONDS
    for name, run in (("forward", forward), ("both", both)):
        run()
        least, median = do_bench(run, warmup=warmup, rep=repeat, quantiles=[0.0, 0.5])
        times[f"{name}_ms"], times[f"{name}_least_ms"] = round(median, 4), round(least, 4)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both()
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    return times | {"megabytes": round(peak, 1), "host_us": _host(forward)}


def _host(run: Callable[[], Any], times: int = 20) -> float:
    """Microseconds until a call returns, the GPU still at work."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        run()
    spent = time.perf_counter() - start
    torch.cuda.synchronize()
    return round(spent / times * 1e6, 1)


def _error(entry: Entry, call: Function, tensors: Tensors) -> dict[str, Any]:
    """The errors of outputs and inputs' gradients, on the first sequence and two heads of the same tensors.

    The reference would not fit for all of them; parameters' gradients sum over all, and are left out.
    """
    recurrence = operator(entry.model).recurrence
    inputs = len(recurrence.inputs)
    leaves = [x.detach().requires_grad_() for x in tensors.arguments]
    found = named("output", recurrence.outputs, call(*leaves))
    cotangents = [torch.randn_like(x) for x in found.values()]
    gradients = torch.autograd.grad(
        list(found.values()), leaves[:inputs], cotangents, allow_unused=True, materialize_grads=True
    )
    values = found | {f"d{x.name}": g for x, g in zip(recurrence.inputs, gradients, strict=True)}
    few = min(2, entry.call.H)
    some = tensors.heads(1, few, inputs)
    part = Call(1, entry.call.T, few, entry.call.sizes, chunk=entry.call.chunk)
    expected, where = reference(entry.model, part, some, [x[:1, :, :few] for x in cotangents])
    sliced = {what: x.detach()[:1, :, :few] for what, x in values.items()}
    names = {f"d{x.name}": tensor for x, tensor in zip(recurrence.inputs, some.arguments, strict=False)}
    return {"errors": compare(entry.model, sliced, expected, names), "reference": where}
