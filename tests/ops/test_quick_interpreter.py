"""The interpreter of the tests gives what Triton's own gives, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor

from rnnc.ops.builtin import builtin

pytest.importorskip("triton")


def called(name: str, dtype: torch.dtype) -> list[Tensor]:
    """Outputs, final states and gradients of a call, by kernels."""
    operator, source = builtin(name), torch.Generator().manual_seed(3)
    recurrence = operator.recurrence
    given = [
        torch.randn(1, 19, 1, *(5 for _ in x.axes), generator=source).to(dtype) for x in recurrence.inputs
    ]
    given += [torch.randn(1, *(5 for _ in x.axes), generator=source) for x in recurrence.params]
    leaves = [x.requires_grad_() for x in given]
    options: dict[str, Any] = {"backend": "triton", "chunk_size": 16, "output_final_state": True}
    out, state = operator(*leaves, **options)
    found = [out, *((state,) if isinstance(state, Tensor) else state)]
    loss = torch.stack([x.float().sin().sum() for x in found]).sum()
    return [*found, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["kda", "gla_signed", "preconditioned_delta"])
def test_results_are_those_of_the_original(
    name: str, dtype: torch.dtype, own_interpreter: Callable[[], AbstractContextManager[None]]
) -> None:
    quick = called(name, dtype)
    with own_interpreter():
        original = called(name, dtype)
    for one, other in zip(quick, original, strict=True):
        assert torch.equal(one, other)
