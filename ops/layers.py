"""What a layer is made of besides `nn.Linear`: convolution, token shift, norm, and the state between calls.

All work on values [B, T, channels] and on packed ones [1, T, channels] with `cu_seqlens` [N + 1], in which
nothing leaks from a sequence into the next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class LayerState(NamedTuple):
    """What a layer carries to the tokens that follow: the operator's state, and the last inputs of every
    convolution and token shift, each [N, n - 1, channels], in the order in which the layer calls them."""

    recurrence: Any
    windows: tuple[Tensor, ...]


def check_widths(**sizes: Any) -> None:
    """Raises ValueError for a size of a layer that is no whole number above 0."""
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name}: expected a whole number above 0, got {size!r}")


class Windows:
    """Hands the windows of a `LayerState` to the modules in the order of their calls; collects new ones."""

    def __init__(self, x: Tensor, d_model: int, state: LayerState | None, cu_seqlens: Tensor | None) -> None:
        """Checks a layer's arguments. Raises ValueError for shapes, TypeError for what is no `LayerState`."""
        if x.dim() != 3 or x.shape[2] != d_model:
            raise ValueError(f"x: expected [B, T, d_model] = [B, T, {d_model}], got {list(x.shape)}")
        if cu_seqlens is not None and x.shape[0] != 1:
            raise ValueError(f"x: packed sequences are [1, T, d_model], got B = {x.shape[0]}")
        if state is not None and not isinstance(state, LayerState):
            raise TypeError(f"state: expected what the layer returned, got {type(state).__name__}")
        self.old = iter(state.windows) if state is not None else None
        self.new: list[Tensor] = []
        self.cu_seqlens = cu_seqlens

    def recent(self, x: Tensor, n: int) -> list[Tensor]:
        """The values of x [B, T, D] at 0, 1, ..., n - 1 tokens back, in that order; zero before the start."""
        B, _, D = x.shape
        N = B if self.cu_seqlens is None else self.cu_seqlens.numel() - 1
        window = x.new_zeros(N, n - 1, D) if self.old is None else next(self.old, None)
        if window is None or window.shape != (N, n - 1, D):
            found = "none" if window is None else list(window.shape)
            raise ValueError(f"state: expected a window {[N, n - 1, D]}, got {found}")
        pick = _dense(x, window, n) if self.cu_seqlens is None else _packed(x, window, n, self.cu_seqlens)
        self.new.append(pick[1])
        return pick[0]


def _dense(x: Tensor, window: Tensor, n: int) -> tuple[list[Tensor], Tensor]:
    T = x.shape[1]
    past = torch.cat([window.to(x.dtype), x], dim=1)
    return [past[:, n - 1 - j : n - 1 - j + T] for j in range(n)], past[:, T:]


def _packed(x: Tensor, window: Tensor, n: int, cu_seqlens: Tensor) -> tuple[list[Tensor], Tensor]:
    """As `_dense`, through one table of all windows and tokens; no synchronisation with the host."""
    (N, W, D), T = window.shape, x.shape[1]
    table = torch.cat([window.to(x.dtype).reshape(N * W, D), x[0]])
    bos, eos = cu_seqlens[:-1].long(), cu_seqlens[1:].long()
    back = torch.arange(n, device=x.device)[:, None]

    def row(sequence: Tensor, position: Tensor) -> Tensor:
        """The table's row of a position in a sequence; positions -W, ..., -1 are its window."""
        index = torch.where(position < 0, sequence * W + W + position, N * W + bos[sequence] + position)
        return index.clamp(
            0, max(table.shape[0] - 1, 0)
        )  # boundaries that do not fit are the operator's to refuse

    t = torch.arange(T, device=x.device)
    sequence = torch.searchsorted(eos, t, right=True).clamp(max=N - 1)
    taps = table[row(sequence, t - bos[sequence] - back)]
    last = (eos - bos)[:, None] - torch.arange(W, 0, -1, device=x.device)
    return list(taps[:, None]), table[row(torch.arange(N, device=x.device)[:, None], last)]


class LowRank(nn.Sequential):
    """A linear map through a bottleneck; both halves start as `nn.Linear` does."""

    def __init__(self, inputs: int, outputs: int, rank: int, bias: bool = False) -> None:
        super().__init__(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=bias))


class CausalConv(nn.Module):
    """A causal depthwise convolution over n tokens: y[t] = sum_j weight[:, j] x[t - j] (+ bias).

    The weights start as those of `nn.Conv1d` do, uniform in +-1/sqrt(n); the bias at zero.
    """

    def __init__(self, channels: int, n: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter((2 * torch.rand(channels, n) - 1) * n**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def extra_repr(self) -> str:
        channels, n = self.weight.shape
        return f"{channels}, {n}" + ", bias=True" * (self.bias is not None)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """x [B, T, channels] -> y [B, T, channels]."""
        now, *before = windows.recent(x, self.weight.shape[1])
        y = now * self.weight[:, 0]
        for j, tap in enumerate(before, 1):
            y = y + tap * self.weight[:, j]
        return y if self.bias is None else y + self.bias


class TokenShift(nn.Module):
    """A learned mix of each token with the one before it, per channel: x[t] + mix (x[t-1] - x[t]).

    From RWKV (Peng et al. 2023, arXiv:2305.13048). The mix starts as a ramp from 0 to 1 over the channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.linspace(0, 1, channels))

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """x [B, T, channels] -> [B, T, channels]."""
        now, before = windows.recent(x, 2)
        return now + self.mix * (before - now)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x**2) + 1e-5) * weight over the last axis (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def extra_repr(self) -> str:
        return str(len(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., size] -> [..., size]; the mean square is taken in float32 at least."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * self.weight


def unit(x: Tensor) -> Tensor:
    """x at length one over the last axis: x * rsqrt(sum(x * x) + 1e-6)."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)
