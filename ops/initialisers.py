"""How a layer starts its parameters: the initialisers of `rnnc.dsl.initialisers`, in torch.

A source takes a shape and draws or fills it; the others take what another has made, so that they nest:
`inv_softplus(log_uniform(0.001, 0.1))`. The shape is [H, axes], or [axes] for a shared parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Shape = tuple[int, ...]


def init_zeros(shape: Shape) -> Tensor:
    """0."""
    return torch.zeros(shape)


def init_ones(shape: Shape) -> Tensor:
    """1."""
    return torch.ones(shape)


def init_constant(value: float, shape: Shape) -> Tensor:
    """The value everywhere."""
    return torch.full(shape, float(value))


def init_uniform(low: float, high: float, shape: Shape) -> Tensor:
    """Uniform in [low, high)."""
    return torch.rand(shape) * (high - low) + low


def init_log_uniform(low: float, high: float, shape: Shape) -> Tensor:
    """x in [low, high] with log x uniform (the step sizes of Mamba, Gu and Dao 2023, arXiv:2312.00752)."""
    return torch.exp(init_uniform(math.log(low), math.log(high), shape))


def init_normal(mean: float, std: float, shape: Shape) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return torch.randn(shape) * std + mean


def init_linspace(first: float, last: float, shape: Shape) -> Tensor:
    """Evenly spaced along the last axis, the same for all heads (over the heads, where there is no axis)."""
    ramp = torch.linspace(first, last, math.prod(shape[-1:]))
    return ramp.reshape(shape[-1:]).expand(shape).clone()


def init_log_linspace(first: float, last: float, shape: Shape) -> Tensor:
    """x from first to last with log x evenly spaced, as `linspace`."""
    return torch.exp(init_linspace(math.log(first), math.log(last), shape))


def init_retention_decay(shape: Shape) -> Tensor:
    """1 - 2**(-5 - h) for head h, the first axis (RetNet, Sun et al. 2023, arXiv:2307.08621)."""
    h = torch.arange(math.prod(shape[:1])).reshape(shape[:1] + (1,) * len(shape[1:]))
    return (1 - 2.0 ** (-5 - h)).expand(shape).clone()


def init_log(x: Tensor) -> Tensor:
    """log x: `log(uniform(1, 16))` is the A_log of Mamba-2 (Dao and Gu 2024, arXiv:2405.21060)."""
    return torch.log(x)


def init_exp(x: Tensor) -> Tensor:
    """exp x."""
    return torch.exp(x)


def init_negate(x: Tensor) -> Tensor:
    """-x."""
    return -x


def init_logit(x: Tensor) -> Tensor:
    """log(x / (1 - x)), so that a sigmoid gives x."""
    return torch.logit(x)


def init_inv_softplus(x: Tensor) -> Tensor:
    """log(exp(x) - 1), so that a softplus gives x (the dt_bias of Mamba, arXiv:2312.00752)."""
    return x + torch.log(-torch.expm1(-x))


INITIALISERS: dict[str, Callable[..., Tensor]] = {
    "zeros": init_zeros,
    "ones": init_ones,
    "constant": init_constant,
    "uniform": init_uniform,
    "log_uniform": init_log_uniform,
    "normal": init_normal,
    "linspace": init_linspace,
    "log_linspace": init_log_linspace,
    "retention_decay": init_retention_decay,
    "log": init_log,
    "exp": init_exp,
    "negate": init_negate,
    "logit": init_logit,
    "inv_softplus": init_inv_softplus,
}
