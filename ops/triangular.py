"""The inverse of a unit triangular matrix, in torch. Times in comments are in the units of `tiles`."""

from __future__ import annotations

import torch
from torch import Tensor

# This many rows are substituted one after the other, and then this many blocks of rows.
LEAF = 8
BLOCKS = 64


def inverse(p: Tensor) -> Tensor:
    """(I - P)^-1 for strictly lower triangular p [..., R, R] of any size R; no other entry of p is read.

    By forward substitution, of rows in blocks of 8, of these in blocks of 512, and so on: only true inverses
    appear. (0.5; torch's triangular solve 1.4, merging pairs of blocks 0.9, and both lose more digits where
    keys repeat. The product (I + P)(I + P^2)(I + P^4)... loses all of them there.)
    """
    size = p.shape[-1]
    if size <= LEAF and not torch.is_grad_enabled():
        return _small_inverse(p)
    if size <= LEAF * BLOCKS and size % LEAF == 0 and not torch.is_grad_enabled():
        return _blocked_inverse(p.reshape(-1, size, size)).view(p.shape)
    block = 1 if size <= LEAF else LEAF
    while block * BLOCKS < size:
        block *= BLOCKS
    x = torch.eye(size, dtype=p.dtype, device=p.device).expand(p.shape).clone()
    diagonal = _diagonal_inverses(p, block) if block > 1 else []
    for i, start in enumerate(range(0, size, block)):
        stop = min(start + block, size)
        done = x[..., :start, :start]
        if torch.is_grad_enabled():
            done = done.clone()  # a copy that autograd may keep, for x changes
        before = p[..., start:stop, :start] @ done
        if block > 1:
            x[..., start:stop, start:stop] = diagonal[i]
            before = diagonal[i] @ before
        x[..., start:stop, :start] = before
    return x


def inverse_grad(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of P from that of X = (I - P)^-1: the part of X^T dX X^T below the diagonal."""
    return (x.mT @ grad @ x.mT).tril(-1)


def _diagonal_inverses(p: Tensor, block: int) -> list[Tensor]:
    """The inverses of the diagonal blocks, all but a shorter last one in one batch."""
    whole = p.shape[-1] // block
    square = p[..., : whole * block, : whole * block]
    grid = square.unflatten(-1, (whole, block)).unflatten(-3, (whole, block))
    found = list(inverse(grid.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)).unbind(-3))
    rest = p[..., whole * block :, whole * block :]
    return [*found, inverse(rest)] if rest.shape[-1] else found


def _blocked_inverse(p: Tensor) -> Tensor:
    """`inverse` of [N, R, R] by blocks of 8 rows, in few operations: for a CPU, where each takes its time."""
    count, size = p.shape[0], p.shape[-1] // LEAF
    x = p.new_zeros(p.shape)
    grids = (each.view(count, size, LEAF, size, LEAF) for each in (p, x))
    own, places = (grid.diagonal(dim1=1, dim2=3).permute(1, 2, 3, 0) for grid in grids)  # [8, 8, blocks, N]
    blocks = _side_by_side(own.contiguous()).permute(2, 3, 0, 1).contiguous()
    places.copy_(blocks.permute(2, 3, 0, 1))
    for i in range(1, size):
        start = LEAF * i
        rows = slice(start, start + LEAF)
        before = torch.bmm(p[:, rows, :start], x[:, :start, :start])
        x[:, rows, :start] = torch.bmm(blocks[i], before)
    return x


def _small_inverse(p: Tensor) -> Tensor:
    """`inverse` by rows, with the matrices side by side in the last axis: in half the time."""
    size = p.shape[-1]
    entries = p.reshape(-1, size * size).t().contiguous().view(size, size, -1)
    return _side_by_side(entries).view(size * size, -1).t().contiguous().view(p.shape)


def _side_by_side(entries: Tensor) -> Tensor:
    """The inverses of [R, R, ...]: every row that is done is added to all rows below it."""
    x = torch.zeros_like(entries)
    x.diagonal().fill_(1)
    rows, columns = x.unbind(0), entries.unbind(1)
    for j in range(entries.shape[0] - 1):
        x[j + 1 :, : j + 1].addcmul_(columns[j][j + 1 :, None], rows[j][: j + 1])
    return x
