"""One node of the autograd graph around the forward and backward pass of a generated module.

The serial steps are processed in segments, so that a segment's tiles stay in the caches of a CPU and memory
does not grow with the length; the state goes from one segment to the next and is kept at their borders.
Only inputs, borders and what the module asks to keep are saved. The second derivative differentiates the
backward pass itself, recomputed from the inputs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rnnc.ops.layout import Layout, Steps, ungroup

Tensors = tuple[Tensor, ...]
Pass = Callable[..., Any]

# What the inputs and outputs of one segment, and their gradients, may take, in bytes: a few chunks of every
# head; and what inputs and outputs may take in a call without gradients, which holds less beside them.
SEGMENT_BYTES = 16 << 20
FORWARD_BYTES = 24 << 20

# Calls from this size on leave what they free in the process: page faults took up to a third of their time.
LARGE_BYTES = 4 << 20

# What glibc's allocator is told, if the environment does not tell it: what may stay free at the end of its
# memory, and from what size on a block is mapped for itself (as much as it takes), by their numbers.
TRIM_THRESHOLD = -1, 128 << 20
MMAP_THRESHOLD = -3, 32 << 20
VARIABLES = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"


@dataclass(frozen=True)
class Plan:
    """One call of a generated module: which passes, on which layout; `states` is `forward` without outputs.

    `inputs` counts the leading tensors of a call, `shared` says for each parameter whether it lacks the
    axis of heads, the rest are states. `outputs` are the shapes [B, T, H, axes], in `output_dtype`;
    everything in between is in `dtype`.
    """

    forward: Pass
    states: Pass
    backward: Pass
    layout: Layout
    inputs: int
    shared: tuple[bool, ...]
    heads: int
    outputs: tuple[tuple[int, ...], ...]
    output_dtype: torch.dtype
    dtype: torch.dtype
    keep: bool
    spans: Steps  # the segments, as ranges of serial steps

    def split(self, tensors: Sequence[Tensor]) -> tuple[Tensors, Tensors, Tensors]:
        """Inputs, parameters, states."""
        first, second = self.inputs, self.inputs + len(self.shared)
        return tuple(tensors[:first]), tuple(tensors[first:second]), tuple(tensors[second:])


def spans(layout: Layout, row_bytes: int, gradients: bool = True) -> Steps:
    """Segments of about SEGMENT_BYTES each (FORWARD_BYTES without gradients), as equal as the steps allow,
    for each has its own overhead; `row_bytes` is what inputs, outputs and their gradients take per row.
    """
    limit = SEGMENT_BYTES if gradients else FORWARD_BYTES
    steps = len(layout.steps)
    if layout.device.type != "cpu" or not steps:
        return ((0, steps),)
    ends = [end for _, end in layout.steps]
    count = min(steps, -(-ends[-1] * row_bytes // limit))
    if ends[-1] * row_bytes > LARGE_BYTES:
        _keep_freed_memory()
    cuts = (bisect_left(ends, number * ends[-1] / count) + 1 for number in range(1, count))
    return tuple(pairwise(sorted({0, *cuts, steps})))


@cache
def _keep_freed_memory() -> None:
    """Leaves what a call frees in the process, up to 128 MB, for the next segment or call.

    glibc hands back what is over twice the largest block that it ever mapped and freed, 64 MB at most: less
    than both passes of a middling call take, and pages that must be mapped again took a tenth of their time.
    """
    if not os.environ.keys() & VARIABLES:
        with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
            allocator = ctypes.CDLL(None)
            for option, value in (MMAP_THRESHOLD, TRIM_THRESHOLD):
                allocator.mallopt(option, value)


def apply(plan: Plan, *tensors: Tensor) -> tuple[Tensors, Tensors]:
    """The outputs [B, T, H, axes] and the final states [N, H, axes]."""
    if recorded(tensors):
        results = cast(Tensors, _Recurrence.apply(plan, *tensors))  # type: ignore[no-untyped-call]
    else:
        results = _forward(plan, tensors, keep=False)[0]
    count = len(plan.outputs)
    return results[:count], results[count:]


def recorded(tensors: Sequence[Tensor]) -> bool:
    """Whether gradients of the call are asked for."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class _Recurrence(torch.autograd.Function):
    """A plan as a differentiable function of its tensors."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *tensors: Tensor) -> Tensors:
        results, borders, kept = _forward(plan, tensors, plan.keep)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.lengths = (len(tensors), [len(part) for part in borders], [len(part) for part in kept])
        ctx.save_for_backward(*tensors, *(x for part in (*borders, *kept) for x in part))
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        count, border_lengths, kept_lengths = ctx.lengths
        saved = list(ctx.saved_tensors)
        tensors = tuple(saved[:count])
        parts = []
        for length in (*border_lengths, *kept_lengths):
            parts.append(tuple(saved[count : count + length]))
            count += length
        borders, kept = parts[: len(border_lengths)], parts[len(border_lengths) :]
        wanted = ctx.needs_input_grad[1:]
        return None, *_backward(ctx.plan, tensors, borders, kept, gradients, wanted)


def _forward(plan: Plan, tensors: Tensors, keep: bool) -> tuple[Tensors, list[Tensors], list[Tensors]]:
    """Outputs and final states; the states at the start of every segment but the first; what is kept."""
    inputs, params, states = plan.split(tensors)
    layout = plan.layout
    outputs = tuple(
        torch.empty(shape, dtype=plan.output_dtype, device=layout.device) for shape in plan.outputs
    )
    borders: list[Tensors] = []
    kept: list[Tensors] = []
    unseen = not keep and _unseen(plan, tensors)
    with _exact(layout.device), torch.inference_mode() if unseen else contextlib.nullcontext():
        h = tuple(layout.sort(state) for state in states)
        for first, last in plan.spans:
            if first and keep:
                borders.append(h)
            args, valid, steps = _segment(plan, inputs, params, first, last, plan.forward)
            rows, h, stored = plan.forward(args, valid, h, steps, keep)
            for row, output in zip(rows, outputs, strict=True):
                layout.scatter(row, output, first, last)
            if keep:
                kept.append(stored)
        final = tuple(layout.unsort(state) for state in h)
    if unseen:
        final = tuple(state.clone() for state in final)  # tensors that later calls may record
    return outputs + final, borders, kept


def _unseen(plan: Plan, tensors: Tensors) -> bool:
    """Whether the operations of a pass that keeps nothing can pass autograd by, which takes a twentieth of
    the time of many small ones: not where the tensors carry forward-mode derivatives.

    (A single step is left as it is: to copy its final state would take longer.)
    """
    if len(plan.layout.steps) < 2 or torch.is_inference_mode_enabled():
        return False
    return all(forward_ad.unpack_dual(tensor).tangent is None for tensor in tensors)


def differentiated(
    plan: Callable[[], Plan], tensors: Tensors, gradients: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of the tensors by a plan, recorded so that they can be differentiated themselves."""
    return _backward(plan(), tensors, [], [], gradients, wanted)


def _backward(
    plan: Plan,
    tensors: Tensors,
    borders: list[Tensors],
    kept: list[Tensors],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The gradient of every wanted tensor, None for the others."""
    inputs, params, states = plan.split(tensors)
    layout, again = plan.layout, torch.is_grad_enabled()
    with _exact(layout.device):
        starts = [tuple(layout.sort(state) for state in states)]
        ranges = ((0, len(layout.steps)),) if again else plan.spans
        if len(ranges) > 1:
            starts += borders if borders else _borders(plan, inputs, params, starts[0])
        count = len(plan.outputs)
        dh = tuple(
            torch.zeros_like(state) if gradient is None else layout.sort(gradient)
            for state, gradient in zip(states, gradients[count:], strict=True)
        )
        collected = _Gradients(plan, inputs, params, wanted)
        for number in reversed(range(len(ranges))):
            first, last = ranges[number]
            stored = kept[number] if kept and not again else None
            reader = None if stored is None else plan.backward
            args, valid, steps = _segment(plan, inputs, params, first, last, reader)
            douts = _cotangents(plan, gradients[:count], first, last)
            dargs, dh = plan.backward(args, valid, starts[number], steps, stored, douts, dh)
            collected.add(dargs, first, last)
        return [*collected.results(), *(layout.unsort(state) for state in dh)]


class _Gradients:
    """The gradients of inputs, written segment by segment, and of parameters, summed over the segments."""

    def __init__(self, plan: Plan, inputs: Tensors, params: Tensors, wanted: Sequence[bool]) -> None:
        self.plan, self.inputs, self.params, self.wanted = plan, inputs, params, wanted
        self.written: list[Tensor | None] = [None] * len(inputs)
        self.sums: list[Tensor | None] = [None] * len(params)

    def add(self, dargs: Sequence[Tensor | None], first: int, last: int) -> None:
        for i, gradient in enumerate(dargs):
            if gradient is None or not self.wanted[i]:
                continue
            if i < self.plan.inputs:
                out = self.written[i]
                if out is None:
                    out = torch.empty_like(self.inputs[i], memory_format=torch.contiguous_format)
                    self.written[i] = out
                self.plan.layout.scatter(ungroup(gradient, out.shape[2]), out, first, last)
            else:
                p = i - self.plan.inputs
                part = _reduce(gradient, self.plan.shared[p])
                total = self.sums[p]
                self.sums[p] = part if total is None else total + part

    def results(self) -> list[Tensor | None]:
        params = [
            None if total is None else total.to(param.dtype)
            for total, param in zip(self.sums, self.params, strict=True)
        ]
        return [*self.written, *params]


def _segment(
    plan: Plan, inputs: Tensors, params: Tensors, first: int, last: int, reader: Pass | None
) -> tuple[Tensors, Tensor | None, list[tuple[int, int]]]:
    """The module's `args`, `valid` and `steps` for the serial steps `first` to `last`.

    A pass says as its attributes which inputs it reads chunk by chunk (`by_step`: a view will do) and which
    not at all (`unread`); None reads all. Inputs but these are copies, which a pass may use up.
    """
    layout = plan.layout
    by_step, unread = getattr(reader, "by_step", ()), getattr(reader, "unread", ())
    gathered = tuple(
        _absent(plan, x, first, last) if i in unread else _rows(plan, x, first, last, i in by_step)
        for i, x in enumerate(inputs)
    )
    prepared = tuple(
        p.to(plan.dtype)[None, None] if shared else p.to(plan.dtype)[None]
        for p, shared in zip(params, plan.shared, strict=True)
    )
    base = layout.steps[first][0]
    steps = [(a - base, b - base) for a, b in layout.steps[first:last]]
    return gathered + prepared, layout.valid(plan.dtype, first, last), steps


def _rows(plan: Plan, x: Tensor, first: int, last: int, view: bool) -> Tensor:
    """The steps of an input, [M, H, C, axes] or [M, H, axes]; where there is a `view`, that."""
    found = plan.layout.view(x, plan.heads, plan.dtype, first, last) if view else None
    return plan.layout.gather(x, plan.heads, plan.dtype, first, last, repeat=True) if found is None else found


def _absent(plan: Plan, x: Tensor, first: int, last: int) -> Tensor:
    """Zeros in the place of the steps of an input."""
    return x.new_zeros((), dtype=plan.dtype).expand(*_tile(plan, first, last), *x.shape[3:])


def _tile(plan: Plan, first: int, last: int) -> tuple[int, ...]:
    """M, H and, of chunks, C."""
    layout = plan.layout
    rows = layout.steps[last - 1][1] - layout.steps[first][0]
    return (rows, plan.heads) if layout.chunk is None else (rows, plan.heads, layout.chunk)


def _borders(plan: Plan, inputs: Tensors, params: Tensors, h: Tensors) -> list[Tensors]:
    """The states at the start of every segment but the first, computed again."""
    borders = []
    for first, last in plan.spans[:-1]:
        args, valid, steps = _segment(plan, inputs, params, first, last, plan.states)
        h = plan.states(args, valid, h, steps, False)[1]
        borders.append(h)
    return borders


def _cotangents(plan: Plan, gradients: Sequence[Tensor | None], first: int, last: int) -> Tensors:
    layout, zero = plan.layout, torch.zeros((), dtype=plan.dtype, device=plan.layout.device)
    tile = _tile(plan, first, last)
    return tuple(
        zero.expand(*tile, *shape[3:])
        if gradient is None
        else layout.gather(gradient, plan.heads, plan.dtype, first, last)
        for gradient, shape in zip(gradients, plan.outputs, strict=True)
    )


def _reduce(gradient: Tensor, shared: bool) -> Tensor:
    """The gradient [M or 1, H, axes] of a parameter as [H, axes] ([axes] if shared)."""
    return gradient.sum((0, 1) if shared else 0)


def _exact(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Autocast switched off: the passes choose their own precision."""
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()
