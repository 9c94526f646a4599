"""What is timed on a CPU: operators beside transformers' torch paths and the naive loop, on equal input."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnc.ops import gated_delta_net, mamba2
from rnnc.ops.operator import Operator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
Call = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Shape:
    B: int
    T: int
    H: int
    size: int


@dataclass(frozen=True, slots=True)
class Case:
    """An operator, its arguments for a shape, in float32, and what computes the same."""

    operator: Operator
    inputs: Callable[[Shape], list[Tensor]]
    candidates: Mapping[str, Call]


def gated_delta_inputs(shape: Shape) -> list[Tensor]:
    """q, k, v, a, b, A_log, dt_bias."""
    torch.manual_seed(0)
    vectors = [torch.randn(shape.B, shape.T, shape.H, shape.size) for _ in range(3)]
    gates = [torch.randn(shape.B, shape.T, shape.H) for _ in range(2)]
    return [*vectors, *gates, torch.rand(shape.H), torch.rand(shape.H) - 4]


def mamba_inputs(shape: Shape) -> list[Tensor]:
    """u, dt, B, C (one group), A_log, dt_bias, D; heads of 64 channels, `size` is the state's."""
    torch.manual_seed(0)
    u, dt = torch.randn(shape.B, shape.T, shape.H, 64), torch.randn(shape.B, shape.T, shape.H)
    b, c = (torch.randn(shape.B, shape.T, 1, shape.size) for _ in range(2))
    return [u, dt, b, c, torch.rand(shape.H), torch.rand(shape.H) - 4, torch.ones(shape.H)]


def transformers_gated_delta(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, A_log: Tensor, dt: Tensor
) -> Tensor:
    """The fallback of Qwen3-Next for machines without a GPU, gates included as the model computes them."""
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule as rule

    g = -A_log.exp() * F.softplus(a + dt)
    output: Tensor = rule(q, k, v, g, 2 * b.sigmoid(), use_qk_l2norm_in_kernel=True)[0]
    return output


def transformers_mamba(chunk: int) -> Call:
    """The torch path of Mamba-2; 256 tokens a chunk are its configuration's default."""

    def call(
        u: Tensor, dt: Tensor, b: Tensor, c: Tensor, A_log: Tensor, dt_bias: Tensor, d: Tensor
    ) -> Tensor:
        from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan as scan

        options = {"chunk_size": chunk, "D": d, "dt_bias": dt_bias, "dt_softplus": True}
        output: Tensor = scan(u, dt, -A_log.exp(), b, c, **options)
        return output

    return call


def of(operator: Operator) -> dict[str, Call]:
    """The operator under test, and its reference: a token at a time."""

    def call(*inputs: Tensor) -> Tensor:
        output, _ = operator(*inputs)
        assert isinstance(output, Tensor)
        return output

    def naive(*inputs: Tensor) -> Tensor:
        output, _ = operator.reference(*inputs)
        assert isinstance(output, Tensor)
        return output

    return {"rnnc": call, "naive loop": naive}


CASES = {
    "gated_delta_net": Case(
        gated_delta_net,
        gated_delta_inputs,
        {**of(gated_delta_net), "transformers": transformers_gated_delta},
    ),
    "mamba2": Case(
        mamba2,
        mamba_inputs,
        {
            **of(mamba2),
            "transformers, chunks of 256": transformers_mamba(256),
            "transformers, chunks of 64": transformers_mamba(64),
        },
    ),
}
