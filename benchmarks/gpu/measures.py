"""What the estimates of time rest on, measured: copies, products, one step of the serial walk, warps."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.calls import draw, form, operator, parts
from benchmarks.entries import Call, Entry
from rnnc.ops.triton_backend import TritonKernels
from rnnc.probing import Probe

Answer = dict[str, Any]
COPY = 2**32  # bytes
PRODUCT = 8192
WARPS = (4, 8)


def ceilings(device: str) -> Answer:
    """Bytes per second of a copy, read and written, and operations per second of a product of random bf16."""
    big = device == "cuda"
    source = torch.empty(COPY if big else 2**16, dtype=torch.uint8, device=device)
    target, size = torch.empty_like(source), PRODUCT if big else 64
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    copied = 2 * source.numel() / _seconds(lambda: target.copy_(source), device)
    multiplied = 2 * size**3 / _seconds(lambda: one @ other, device)
    return {"terabytes_per_second": round(copied / 1e12, 3), "teraflops": round(multiplied / 1e12, 1)}


def step(entry: Entry, device: str) -> Answer:
    """Microseconds of one chunk of the walk over chunks, forward and with the way back, one head alone.

    The difference of two lengths, sequences not being split: what is parallel over chunks hardly adds to it.
    """
    model, call = entry.model, entry.call
    taken = {}
    kernels: list[Any] = [part.kernels for part in parts(operator(model))]
    for each in kernels:
        each.stretches = 1
    try:
        for length in (call.T, 2 * call.T):
            longer = Call(1, length, 1, call.sizes)
            leaves = [x.requires_grad_() for x in draw(model, longer, entry.dtype, device).arguments]
            options = {"backend": "triton", "form": form(model, longer)}

            def both(leaves: Any = leaves, options: Any = options) -> None:
                found = operator(model)(*leaves, **options)[0]
                outputs = [found] if isinstance(found, torch.Tensor) else list(found)
                torch.autograd.grad(outputs, leaves, [torch.ones_like(x) for x in outputs], allow_unused=True)

            def forward(leaves: Any = leaves, options: Any = options) -> None:
                with torch.no_grad():
                    operator(model)(*leaves, **options)

            taken[length] = _seconds(forward, device), _seconds(both, device)
    finally:
        for each in kernels:
            each.stretches = None
    axes = call.axes(operator(model).recurrence)
    own = {axis: axes[axis] for axis in parts(operator(model))[0].recurrence.axes}
    size = torch.bfloat16.itemsize if entry.dtype == "bf16" else 4
    chunk = kernels[0].choices.tiled(own, size, torch.device(device), call.T).chunk
    short, long = (taken[length] for length in (call.T, 2 * call.T))
    chunks = call.T / chunk
    return {"chunk": chunk} | {
        f"{name}_us": (b - a) / chunks * 1e6
        for name, a, b in zip(("forward", "both"), short, long, strict=True)
    }


def warps(entry: Entry, device: str) -> Answer:
    """Nanoseconds for a token and head of every kernel with four and with eight warps, else as chosen; where
    the results are wrong, what is wrong.
    """
    found: dict[str, Any] = {}
    for part in parts(operator(entry.model)):
        kernels = part.kernels
        assert isinstance(kernels, TritonKernels)
        axes = entry.call.axes(operator(entry.model).recurrence)
        own = {axis: axes[axis] for axis in part.recurrence.axes}
        given: dict[str, Any] = {} if device == "cuda" else {"loads": ((1, 32),), "length": 20}
        probe = Probe(part, own, entry.dtype, torch.device(device), **given)
        size = torch.bfloat16.itemsize if entry.dtype == "bf16" else 4
        chosen = kernels.choices.tiled(own, size, torch.device(device), 4096)
        for name, configuration in chosen.configurations.items():
            for count in WARPS if device == "cuda" else WARPS[:1]:
                how = {**chosen.configurations, name: configuration._replace(warps=count)}
                tried = chosen._replace(configurations=how, joined={})
                wrong = probe.wrong(tried)
                found[f"{name} {count}"] = wrong or probe.seconds(tried, {name}).get(name, 0.0) * 1e9
    return {"kernels": found}


def _seconds(run: Any, device: str) -> float:
    """The median."""
    if device == "cuda":
        from triton.testing import do_bench

        return float(do_bench(run, warmup=20, rep=100, return_mode="median")) * 1e-3
    import time

    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
