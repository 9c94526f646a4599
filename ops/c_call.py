"""The two passes in C as one differentiable function of tensors; the second derivative is torch's."""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from rnnc.ops.autograd import Tensors, recorded
from rnnc.ops.pages import in_large_pages

Backward = Callable[[Tensors, Sequence[Tensor | None], Sequence[bool]], list[Tensor | None]]


class Library:
    """A pass in C."""

    def __init__(self, loaded: ctypes.CDLL) -> None:
        self.loaded = loaded
        loaded.room.restype = ctypes.c_long
        self.room = int(loaded.room())
        first = ctypes.pointer(ctypes.c_long.in_dll(loaded, "unwritten"))
        self.unwritten = frozenset(
            itertools.takewhile(lambda n: n >= 0, (first[n] for n in itertools.count()))
        )

    def run(
        self, arrays: Sequence[Tensor | None], counts: Sequence[int], sequences: Sequences, threads: int
    ) -> None:
        """Walks all sequences and heads."""
        self.loaded.run(
            (ctypes.c_void_p * len(arrays))(*(None if x is None else x.data_ptr() for x in arrays)),
            (ctypes.c_long * len(counts))(*counts),
            *(ctypes.c_void_p(each.data_ptr()) for each in sequences),
            ctypes.c_long(len(sequences.order)),
            ctypes.c_long(threads),
            ctypes.c_void_p(_workspace(self.room * threads)),
        )


class Sequences(NamedTuple):
    """Where sequences begin, how many chunks those before have ([N + 1] each), and all, the longest first."""

    bounds: Tensor
    firsts: Tensor
    order: Tensor


@lru_cache(maxsize=32)
def sequences_of(batch: int, length: int, offsets: tuple[int, ...] | None, tokens: int) -> Sequences:
    """The sequences of a call, in chunks of so many tokens."""
    limits = offsets or tuple(length * n for n in range(batch + 1))
    lengths = [stop - start for start, stop in itertools.pairwise(limits)]
    firsts = [0, *itertools.accumulate(-(-each // tokens) for each in lengths)]
    order = sorted(range(len(lengths)), key=lambda n: -lengths[n])
    with torch.inference_mode(False):  # they outlive the call
        return Sequences(*(torch.tensor(each, dtype=torch.int64) for each in (limits, firsts, order)))


@dataclass(frozen=True)
class Call:
    """One call. `library` gives a pass; `groups` counts those of each input, `shared` says which parameters
    lack the axis of heads, `outputs` are shapes [B, T, H, axes]; `again` is the backward pass where its own
    derivative is asked for.
    """

    library: Callable[[str], Library]
    sequences: Sequences
    heads: int
    groups: tuple[int, ...]
    shared: tuple[bool, ...]
    outputs: tuple[tuple[int, ...], ...]
    output_dtype: torch.dtype
    reverse: bool
    keep: bool
    again: Backward

    def apply(self, tensors: Tensors) -> tuple[Tensors, Tensors]:
        """The outputs [B, T, H, axes] and the final states [N, H, axes] of inputs, parameters and states."""
        if recorded(tensors):
            results = cast(Tensors, _Walked.apply(self, *tensors))  # type: ignore[no-untyped-call]
        else:
            results = self.forward(tensors, keep=False)[0]
        count = len(self.outputs)
        return results[:count], results[count:]

    def forward(self, tensors: Tensors, keep: bool) -> tuple[Tensors, Tensors]:
        """Outputs and final states; the states at the start of all chunks, if they are kept."""
        given, params, states = self._split(tensors)
        outputs = tuple(_empty(shape, self.output_dtype) for shape in self.outputs)
        final = tuple(torch.empty_like(state) for state in states)
        kept = self._room_for_states(states) if keep else ()
        arrays = [*given, *params, *states, *outputs, *final, *(kept or [None] * len(states))]
        self._run("forward", arrays, keep)
        return outputs + final, kept

    def states(self, tensors: Tensors) -> Tensors:
        """The states at the start of all chunks."""
        given, params, states = self._split(tensors)
        kept, final = self._room_for_states(states), [torch.empty_like(state) for state in states]
        self._run("states", [*given, *params, *states, *([None] * len(self.outputs)), *final, *kept], True)
        return kept

    def backward(
        self, tensors: Tensors, kept: Tensors, gradients: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The gradients of all tensors."""
        given, params, states = self._split(tensors)
        count, number = len(self.outputs), len(self.sequences.order)
        cotangents = [None if g is None else g.to(self.output_dtype).contiguous() for g in gradients[:count]]
        ends = [
            torch.zeros_like(state) if gradient is None else gradient.contiguous()
            for gradient, state in zip(gradients[count:], states, strict=True)
        ]
        real = states[0].dtype
        written = [
            _empty((*x.shape[:2], self.heads, *x.shape[3:]), x.dtype if own else real)
            for x, own in zip(given, (groups == self.heads for groups in self.groups), strict=True)
        ]
        sums = [
            p.new_empty((number, self.heads, *p.shape[0 if shared else 1 :]))
            for p, shared in zip(params, self.shared, strict=True)
        ]
        starts = [torch.empty_like(state) for state in states]
        before = [*given, *params, *kept, *cotangents, *ends]
        unwritten = self._run("backward", [*before, *written, *sums, *starts], True)
        found: list[Tensor | None] = [_grouped(*each) for each in zip(written, self.groups, strict=True)]
        found += [x.sum((0, 1) if shared else 0) for x, shared in zip(sums, self.shared, strict=True)]
        cast_back = zip(found, tensors, strict=False)
        found = [
            None if x is None or len(before) + n in unwritten else x.to(tensor.dtype)
            for n, (x, tensor) in enumerate(cast_back)
        ]
        return [*found, *starts]

    def _split(self, tensors: Tensors) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Inputs, parameters and states as C reads them."""
        first, second = len(self.groups), len(self.groups) + len(self.shared)
        real = tensors[second].dtype
        given = [x.detach().contiguous() for x in tensors[:first]]
        params = [p.detach().to(real).contiguous() for p in tensors[first:second]]
        return given, params, [state.detach().contiguous() for state in tensors[second:]]

    def _room_for_states(self, states: Sequence[Tensor]) -> Tensors:
        """[chunks * H, entries], rows padded to cache lines."""
        chunks = int(self.sequences.firsts[-1]) * self.heads
        return tuple(_empty((chunks, _padded(x.shape[2:], x.itemsize)), x.dtype) for x in states)

    def _run(self, which: str, arrays: Sequence[Tensor | None], keep: bool) -> frozenset[int]:
        """Calls a pass; the numbers of the arrays that it leaves as they are."""
        library = self.library(which)
        counts = [self.heads, int(self.reverse), int(keep), *self.groups]
        library.run(arrays, counts, self.sequences, _threads())
        return library.unwritten


class _Walked(torch.autograd.Function):
    """A call as a differentiable function of its tensors."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Tensors:
        results, kept = call.forward(tensors, call.keep)
        ctx.call, ctx.count = call, len(tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *kept)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        call, saved = ctx.call, tuple(ctx.saved_tensors)
        tensors, kept = saved[: ctx.count], saved[ctx.count :]
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *call.again(tensors, gradients, wanted)
        found = call.backward(tensors, kept or call.states(tensors), gradients)
        return None, *(g if want else None for g, want in zip(found, wanted, strict=True))


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Room for a result."""
    return in_large_pages(torch.empty(shape, dtype=dtype))


def _grouped(gradient: Tensor, groups: int) -> Tensor:
    """The gradient of an input [B, T, G, axes] from that of all heads."""
    return gradient if gradient.shape[2] == groups else gradient.unflatten(2, (groups, -1)).sum(3)


def _padded(shape: Sequence[int], itemsize: int) -> int:
    """How many numbers a state takes where its rows begin at cache lines."""
    lanes = 64 // itemsize
    *rows, last = shape or (1,)
    return math.prod(rows) * (-(-last // lanes) * lanes)


_forked: list[bool] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _forked.append(True))


def _threads() -> int:
    """How many threads walk: one in a forked process, which OpenMP's do not reach but are waited for."""
    return 1 if _forked else torch.get_num_threads()


_own = threading.local()


def _workspace(size: int) -> int:
    """The address of so many bytes that this thread has for itself, at a cache line; they stay."""
    held = getattr(_own, "memory", None)
    if held is None or held.numel() < size + 64:
        with torch.inference_mode(False):
            held = _own.memory = torch.zeros(size + 64, dtype=torch.uint8)
    return -(-held.data_ptr() // 64) * 64
