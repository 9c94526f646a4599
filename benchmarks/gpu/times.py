"""Times, memory and error of one operator at one shape: the project's own, or the peer's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.calls import Tensors, draw, operator
from benchmarks.gpu.entries import Call, Entry
from benchmarks.gpu.errors import LIMITS, compare, named, reference
from rnnc.peers import PEERS, Peer

MILLISECONDS = (20, 80)  # to warm up, to measure
Function = Callable[..., Any]


def time_entry(entry: Entry, device: str) -> dict[str, Any]:
    """Milliseconds (median) and peak megabytes; without a GPU only that it runs, and no time."""
    result: dict[str, Any] = {}
    if entry.who != "rnnc":
        peer = _peer(entry)
        if peer is None:
            return {"status": "not run", "reason": f"{entry.who}: no adapter for {entry.model}"}
        try:
            result["version"] = peer.version()
        except ImportError as error:
            return {"status": "not run", "reason": f"{entry.who}: {error}"}
    tensors = draw(entry.model, entry.call, entry.dtype, device)
    function = _function(entry)
    if device == "cuda":
        result |= _measure(function, tensors)
    else:
        forward, both = _passes(function, tensors)
        forward()
        both()
        result |= {"forward_ms": None, "both_ms": None, "megabytes": None}
    result |= _error(entry, function, tensors)
    limit = max(LIMITS[entry.dtype])
    right = all(e <= limit for e in result["errors"].values())
    return {"status": "ok" if right else "failed", **result}


def warm_up(entry: Entry, device: str) -> dict[str, Any]:
    """One forward and backward pass of a peer, so that its kernels are compiled."""
    peer = _peer(entry)
    if peer is None:
        return {"status": "not run", "reason": f"{entry.who}: no adapter for {entry.model}"}
    try:
        version = peer.version()
    except ImportError as error:
        return {"status": "not run", "reason": f"{entry.who}: {error}"}
    forward, both = _passes(peer.call, draw(entry.model, entry.call, entry.dtype, device))
    forward()
    both()
    return {"version": version}


def _peer(entry: Entry) -> Peer | None:
    found = (peer for peer in PEERS.get(entry.model, ()) if peer.package == entry.who)
    return next(found, None)


def _function(entry: Entry) -> Function:
    peer = _peer(entry)
    if peer is not None:
        return peer.call
    op = operator(entry.model)
    return lambda *arguments: op(*arguments, backend="triton", form="chunked", chunk_size=entry.call.chunk)[0]


def _passes(function: Function, tensors: Tensors) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The forward pass alone, and both passes with all gradients."""
    leaves = [x.detach().requires_grad_() for x in tensors.arguments]

    def outputs() -> list[Tensor]:
        found = function(*leaves)
        return [found] if isinstance(found, Tensor) else list(found)

    cotangents = [torch.randn_like(x) for x in outputs()]

    def forward() -> None:
        with torch.no_grad():
            outputs()

    def both() -> None:
        torch.autograd.grad(outputs(), leaves, cotangents, allow_unused=True)

    return forward, both


def _measure(function: Function, tensors: Tensors) -> dict[str, Any]:
    from triton.testing import do_bench

    forward, both = _passes(function, tensors)
    warmup, repeat = MILLISECONDS
    times = {}
    for name, run in (("forward_ms", forward), ("both_ms", both)):
        run()
        times[name] = round(do_bench(run, warmup=warmup, rep=repeat, return_mode="median"), 4)
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


def _error(entry: Entry, function: Function, tensors: Tensors) -> dict[str, Any]:
    """The errors of outputs and inputs' gradients, on the first sequence and two heads of the same tensors.

    The reference would not fit for all of them; parameters' gradients sum over all, and are left out.
    """
    recurrence = operator(entry.model).recurrence
    inputs = len(recurrence.inputs)
    leaves = [x.detach().requires_grad_() for x in tensors.arguments]
    found = named("output", recurrence.outputs, function(*leaves))
    cotangents = [torch.randn_like(x) for x in found.values()]
    gradients = torch.autograd.grad(
        list(found.values()), leaves[:inputs], cotangents, allow_unused=True, materialize_grads=True
    )
    values = found | {f"d{x.name}": g for x, g in zip(recurrence.inputs, gradients, strict=True)}
    few = min(2, entry.call.H)
    some = tensors.heads(1, few, inputs)
    call = Call(1, entry.call.T, few, entry.call.sizes, chunk=entry.call.chunk)
    expected, where = reference(entry.model, call, some, [x[:1, :, :few] for x in cotangents])
    sliced = {what: x.detach()[:1, :, :few] for what, x in values.items()}
    names = {f"d{x.name}": tensor for x, tensor in zip(recurrence.inputs, some.arguments, strict=False)}
    return {"errors": compare(entry.model, sliced, expected, names), "reference": where}
