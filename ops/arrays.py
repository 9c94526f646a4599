"""Sums, products and stacked rows of arrays in torch; generated functions find them in `tiles`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), to full precision for every x (torch's own is x from 20 on)."""
    return -F.logsigmoid(-x)


def step(x: Tensor) -> Tensor:
    """1 where x > 0, else 0."""
    return (x > 0).to(x.dtype)


def sum_squares(x: Tensor, dim: int) -> Tensor:
    """The sum of x * x over an axis: the square of torch's norm, which forms no array of squares, unless the
    gradient is recorded.
    """
    return (x * x).sum(dim) if torch.is_grad_enabled() else torch.linalg.vector_norm(x, dim=dim).square_()


def product(first: Tensor, second: Tensor, *rest: Tensor | float) -> Tensor:
    """The product of all: one new array, multiplied in place unless the gradient is recorded."""
    out = first * second
    for factor in rest:
        inside = not isinstance(factor, Tensor) or fits(factor, out)
        out = out.mul_(factor) if inside and not torch.is_grad_enabled() else out * factor
    return out


def scale_(x: Tensor, factor: Tensor, *numbers: float) -> Tensor:
    """x * factor, times the numbers, in x (which nothing else needs) unless the gradient is recorded."""
    for number in numbers:
        factor = factor * number
    return x.mul_(factor) if not torch.is_grad_enabled() and fits(factor, x) else x * factor


def product_(x: Tensor, *factors: Tensor | float) -> Tensor:
    """`product` of x and the factors in x, which nothing else needs, unless the gradient is recorded or the
    product is larger.
    """
    for factor in factors:
        inside = not isinstance(factor, Tensor) or fits(factor, x)
        x = x.mul_(factor) if inside and not torch.is_grad_enabled() else x * factor
    return x


def apply_(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The function, which writes its result to its argument, of x; of a copy if the gradient is recorded."""
    return function(x.clone() if torch.is_grad_enabled() else x)


def fits(x: Tensor, into: Tensor) -> bool:
    """Whether x broadcasts to the shape of `into`. (torch.broadcast_shapes takes 100 times as long.)"""
    sizes = zip(reversed(x.shape), reversed(into.shape), strict=False)
    return x.ndim <= into.ndim and all(own in (1, size) for own, size in sizes)


def addcmul_(x: Tensor, small: Tensor, large: Tensor, value: float = 1) -> Tensor:
    """x + value * small * large, in x (a new array) unless the gradient is recorded or the sum is larger."""
    if torch.is_grad_enabled() or not (fits(small, x) and fits(large, x)):
        return torch.addcmul(x, small, large, value=value)
    return x.addcmul_(small, large, value=value)


def addmm_(x: Tensor, left: Tensor, right: Tensor, alpha: float = 1, beta: float = 1) -> Tensor:
    """beta * x + alpha * left @ right for [M, H, rows, columns], in x (a fresh array) unless the gradient is
    recorded.
    """
    alike = x.shape[:2] == left.shape[:2] == right.shape[:2]
    if torch.is_grad_enabled() or not alike or not x.is_contiguous():
        return torch.add(x if beta == 1 else beta * x, left @ right, alpha=alpha)
    x.flatten(0, 1).baddbmm_(left.flatten(0, 1), right.flatten(0, 1), beta=beta, alpha=alpha)
    return x


def at_first(x: Tensor, tokens: int) -> Tensor:
    """x [M, H, ...] in the first of C tokens, zero in the others: [M, H, C, ...]."""
    first = x.unsqueeze(2)
    rest = first.new_zeros(()).expand(*x.shape[:2], tokens - 1, *x.shape[2:])
    return torch.cat((first, rest), 2)


def interleave(parts: Sequence[Tensor], dim: int) -> Tensor:
    """The n parts as n rows per token: axis `dim` of C tokens becomes C * n rows, a token's rows together."""
    axis = dim % parts[0].ndim
    return torch.stack(torch.broadcast_tensors(*parts), axis + 1).flatten(axis, axis + 1)


def deinterleave(x: Tensor, dim: int, n: int) -> tuple[Tensor, ...]:
    """The n parts that `interleave` put together."""
    axis = dim % x.ndim
    return x.unflatten(axis, (x.shape[axis] // n, n)).unbind(axis + 1)


def rows(x: Tensor, dim: int, n: int) -> Tensor:
    """Every token of axis `dim` n times in a row: C tokens become C * n rows."""
    return interleave([x] * n, dim)


def assemble(blocks: Sequence[Tensor]) -> Tensor:
    """n * n blocks [..., C, C], in row-major order, interleaved into [..., C * n, C * n]."""
    n = math.isqrt(len(blocks))
    return interleave([interleave(blocks[n * row : n * row + n], -1) for row in range(n)], -2)
