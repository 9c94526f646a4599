"""The kernels of a call, compiled before they are needed: Triton finds them in its cache when they run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.calls import TYPES, operator, parts
from benchmarks.entries import Call, Entry
from rnnc.dsl.recurrence import Recurrence
from rnnc.dsl.stages import in_float32
from rnnc.ops.function import Function
from rnnc.ops.triton_backend import TritonKernels
from rnnc.ops.triton_recording import Recorded, Shapes, record


def launches(model: str, dtype: str, call: Call) -> tuple[tuple[ModuleType, Recorded], ...]:
    """What a call launches, of every stage forward and backward, with the arguments it launches it with, and
    the module of the kernel.
    """
    op = operator(model)
    return tuple(launch for part in parts(op) for launch in _of_part(op.recurrence, part, dtype, call))


def _of_part(
    whole: Recurrence, part: Function, dtype: str, call: Call
) -> Iterator[tuple[ModuleType, Recorded]]:
    kernels, recurrence = cast(TritonKernels, part.kernels), part.recurrence
    module, _ = kernels.available
    sizes = call.axes(whole)
    axes = {axis: sizes[axis] for axis in recurrence.axes}
    shapes = Shapes(call.B, call.T, call.H, call.G or call.H, axes, len(call.lengths))
    form = "recurrent" if kernels.no_chunks else call.form
    options: dict[str, Any] = {"states": call.states, "reverse": call.reverse, "form": form}
    if form == "chunked":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        options["how"] = kernels.choices.tiled(axes, TYPES[dtype].itemsize, device, call.T, call.chunk)
    options["wide"] = in_float32(whole, recurrence)
    forward, backward = record(module, recurrence, shapes, TYPES[dtype], **options)
    for launch in (*forward, *backward):
        yield module, launch


def compile_kernel(entry: Entry) -> dict[str, Any]:
    """Registers, bytes spilled and shared per program, seconds of one launch's kernel. Needs a GPU."""
    module, launch = launches(entry.model, entry.dtype, entry.call)[entry.kernel]
    start = time.perf_counter()
    compiled = getattr(module, launch.kernel).warmup(grid=launch.grid, **launch.options)
    seconds = time.perf_counter() - start
    compiled._init_handles()
    return {
        "launch": launch.kernel,
        "registers": compiled.n_regs,
        "spills": compiled.n_spills,
        "shared": compiled.metadata.shared,
        "seconds": round(seconds, 2),
    }


def signatures(entry: Entry) -> list[str]:
    """For every launch of a call, what its binary depends on: equal ones are compiled once."""
    return [_signature(launch) for _, launch in launches(entry.model, entry.dtype, entry.call)]


def _signature(launch: Recorded) -> str:
    """Names, dtypes and constants; of a size only whether it is 1 or a multiple of 16."""
    parts = [launch.kernel]
    for name, value in sorted(launch.options.items()):
        each = value if isinstance(value, tuple) else (value,)
        if all(isinstance(one, Tensor) for one in each):
            parts.append(f"{name}: {[one.dtype for one in each]}")
        elif name in ("T", "every"):
            parts.append(name)
        elif name in ("H", "rows", "widths", "sizes") or name.startswith("G_"):
            parts.append(f"{name}: {[(one == 1, one % 16 == 0) for one in each]}")
        else:
            parts.append(f"{name}: {value}")
    return ", ".join(parts)
