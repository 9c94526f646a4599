"""A function as one node of a traced graph (`torch.compile`, `torch.export`).

Tracing cannot look into layouts and generated passes and need not: two custom operators stand for the
forward and the backward pass, which know their function by its key. The backward pass recomputes. Outside
a trace they are not used: their dispatch costs more than a short call.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

NAMESPACE = __name__.replace(".", "_")
_numbers = count()
_functions: WeakValueDictionary[str, Traceable] = WeakValueDictionary()


class Traceable(Protocol):
    """What a node asks of its function; `tensors` are inputs, parameters and states."""

    def run_eagerly(
        self,
        tensors: Sequence[Tensor],
        cu_seqlens: Tensor | None,
        reverse: bool,
        backend: str,
        form: str,
        chunk_size: int | None,
    ) -> list[Tensor]:
        """Outputs and final states, contiguous."""

    def empty_results(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the same shapes and dtypes."""


def register(name: str, function: Traceable) -> str:
    """The key under which traces know the function: a text, because numbers may become symbols."""
    key = f"{name} {next(_numbers)}"
    _functions[key] = function
    return key


@torch.library.custom_op(f"{NAMESPACE}::forward", mutates_args=())
def forward(
    key: str,
    tensors: Sequence[Tensor],
    cu_seqlens: Tensor | None,
    reverse: bool,
    backend: str,
    form: str,
    chunk_size: int | None,
) -> list[Tensor]:
    """Outputs and final states."""
    return _functions[key].run_eagerly(tensors, cu_seqlens, reverse, backend, form, chunk_size)


@torch.library.custom_op(f"{NAMESPACE}::backward", mutates_args=())
def backward(
    key: str,
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor],
    cu_seqlens: Tensor | None,
    reverse: bool,
    backend: str,
    form: str,
    chunk_size: int | None,
    wanted: Sequence[bool],
) -> list[Tensor]:
    """The gradients of the wanted tensors."""
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_(want) for x, want in zip(tensors, wanted, strict=True)]
        found = _functions[key].run_eagerly(leaves, cu_seqlens, reverse, backend, form, chunk_size)
        pairs = [(x, g) for x, g in zip(found, gradients, strict=True) if x.requires_grad]
        sources = [leaf for leaf, want in zip(leaves, wanted, strict=True) if want]
        results, cotangents = zip(*pairs, strict=True)
        return list(
            torch.autograd.grad(results, sources, cotangents, allow_unused=True, materialize_grads=True)
        )


@forward.register_fake
def _(key: str, tensors: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return _functions[key].empty_results(tensors)


@backward.register_fake
def _(_key: str, tensors: Sequence[Tensor], *rest: Any) -> list[Tensor]:
    wanted = [x for x, want in zip(tensors, rest[-1], strict=True) if want]
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in wanted]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.key, tensors, cu_seqlens, *ctx.options = inputs
    ctx.save_for_backward(*tensors, *([] if cu_seqlens is None else [cu_seqlens]))
    ctx.packed = cu_seqlens is not None


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    saved: list[Tensor] = list(ctx.saved_tensors)
    cu_seqlens = saved.pop() if ctx.packed else None
    needed = ctx.needs_input_grad[1]
    wanted = [needed] * len(saved) if isinstance(needed, bool) else list(needed)
    found = iter(backward(ctx.key, saved, gradients, cu_seqlens, *ctx.options, wanted))
    return None, [next(found) if want else None for want in wanted], None, *[None] * len(ctx.options)


forward.register_autograd(_differentiate, setup_context=_save)
