"""How tokens are arranged for the generated modules, and back.

A module works on chunks of C tokens, [M, H, C, axes]. The chunks of all sequences are ordered by (number
of the chunk, sequence), the longest sequence first, so that the chunks of one serial step are a contiguous
slice of M and only ever the first n sequences are still running:

    step 0: rows 0..n0      step 1: rows n0..n0+n1      ...      n0 >= n1 >= ...

`gather` is one copy per tensor: it also casts, repeats the inputs of a group for its heads, turns time
around and fills the last chunk: cotangents with zeros, inputs with their last token, for which everything
that a spec computes is defined (1 / norm(k) is not for zeros). `scatter` is its adjoint where nothing is
repeated. Both are plain torch operations and can be differentiated.

The recurrent form is the case C = 1 with that dimension left out (`chunk=None`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

Steps = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Regular:
    """`count` sequences of `length` tokens each: x is [count, length, ...] or [1, count * length, ...]."""

    count: int
    length: int
    chunk: int | None
    reverse: bool
    device: torch.device

    @cached_property
    def size(self) -> int:
        return self.chunk or 1

    @cached_property
    def steps(self) -> Steps:
        n = self.count
        return tuple((c * n, (c + 1) * n) for c in range(-(-self.length // self.size)))

    def _span(self, first: int, last: int) -> tuple[int, int, int, int]:
        """The tokens of the steps, as (start, stop) in the sequence, the full chunks and what is over."""
        low, high = first * self.size, min(last * self.size, self.length)
        full, over = divmod(high - low, self.size)
        if self.reverse:
            low, high = self.length - high, self.length - low
        return low, high, full, over

    def gather(
        self, x: Tensor, heads: int, dtype: torch.dtype, first: int, last: int, repeat: bool = False
    ) -> Tensor:
        """The steps `first` to `last` of x [B, T, H or G, axes] as [M, H, C, axes] ([M, H, axes]).

        What is over in the last chunk is filled with the last token if `repeat`, else with zeros.
        """
        low, high, full, over = self._span(first, last)
        x = x.reshape(self.count, self.length, *x.shape[2:])[:, low:high]
        if self.reverse:
            x = x.flip(1)
        groups, axes = x.shape[2], x.shape[3:]
        shape = (last - first, self.count, groups, heads // groups, self.size, *axes)
        out = torch.empty(shape, dtype=dtype, device=x.device)
        body = x[:, : full * self.size].unflatten(1, (full, self.size))
        out[:full].copy_(body.transpose(2, 3).transpose(0, 1).unsqueeze(3))
        if over:
            tail = x[:, full * self.size :].transpose(1, 2).unsqueeze(2)
            out[full].narrow(3, 0, over).copy_(tail)
            rest = out[full].narrow(3, over, self.size - over)
            rest.copy_(tail.narrow(3, over - 1, 1)) if repeat else rest.zero_()
        out = out.view(-1, heads, self.size, *axes)
        return out if self.chunk else out.squeeze(2)

    def view(self, x: Tensor, heads: int, dtype: torch.dtype, first: int, last: int) -> Tensor | None:
        """What `gather` gives as a view of x, None where there is no such view."""
        low, high, full, over = self._span(first, last)
        x = x.reshape(self.count, self.length, *x.shape[2:])
        alike = x.shape[2] == heads and x.dtype == dtype and x.is_contiguous()
        if over or self.reverse or not self.chunk or not alike or min(self.count, full) > 1:
            return None
        return x[:, low:high].unflatten(1, (full, self.size)).flatten(0, 1).transpose(1, 2)

    def scatter(self, y: Tensor, out: Tensor, first: int, last: int) -> None:
        """Writes the steps of y [M, H, C, axes] to their places in out [B, T, H, axes], without padding."""
        low, high, full, over = self._span(first, last)
        y = y if self.chunk else y.unsqueeze(2)
        y = y.expand((last - first) * self.count, out.shape[2], self.size, *out.shape[3:])
        y = y.unflatten(0, (last - first, self.count)).transpose(0, 1).transpose(2, 3)  # [B, n, C, H, axes]
        place = out.view(self.count, self.length, *out.shape[2:])[:, low:high]
        if self.reverse:
            place.copy_(y.flatten(1, 2)[:, : high - low].flip(1))
            return
        place[:, : full * self.size].unflatten(1, (full, self.size)).copy_(y[:, :full])
        if over:
            place[:, full * self.size :].copy_(y[:, full, :over])

    def valid(self, dtype: torch.dtype, first: int, last: int) -> Tensor | None:
        """[M, 1, C]: 1 for tokens, 0 for padding. None in the recurrent form."""
        if self.chunk is None:
            return None
        rows = (last - first) * self.count
        over = self._span(first, last)[3]
        if not over:
            return torch.ones(1, 1, 1, dtype=dtype, device=self.device).expand(rows, 1, self.chunk)
        valid = torch.ones(rows, 1, self.chunk, dtype=dtype, device=self.device)
        valid[rows - self.count :, :, over:] = 0
        return valid

    def sort(self, state: Tensor) -> Tensor:
        """States [N, ...] from the order of the user to the order of the rows."""
        return state

    def unsort(self, state: Tensor) -> Tensor:
        return state


@dataclass(frozen=True)
class Packed:
    """Sequences of any lengths, end to end: number s is tokens offsets[s] to offsets[s + 1] of [1, T]."""

    offsets: tuple[int, ...]
    chunk: int | None
    reverse: bool
    device: torch.device

    @cached_property
    def size(self) -> int:
        return self.chunk or 1

    @cached_property
    def _lengths(self) -> Tensor:
        return torch.tensor(self.offsets).diff()

    @cached_property
    def _order(self) -> Tensor:
        with torch.inference_mode(False):  # it outlives the call
            return torch.argsort(self._lengths, descending=True, stable=True)

    @cached_property
    def _counts(self) -> Tensor:
        """How many sequences are still running, for every step."""
        chunks = -(-self._lengths // self.size)
        ends = torch.bincount(chunks)
        return (len(self.offsets) - 1 - ends.cumsum(0))[:-1]

    @cached_property
    def steps(self) -> Steps:
        ends = self._counts.cumsum(0).tolist()
        return tuple(zip([0, *ends[:-1]], ends, strict=True)) if ends else ()

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        """Two times [M, C]: the token at each place, in padding the last one; whether it is no padding."""
        with torch.inference_mode(False):  # they outlive the call
            return self._place_tokens()

    def _place_tokens(self) -> tuple[Tensor, Tensor]:
        steps = torch.repeat_interleave(torch.arange(len(self._counts)), self._counts)
        starts = self._counts.cumsum(0) - self._counts
        sequence = self._order[torch.arange(len(steps)) - starts[steps]][:, None]
        place = steps[:, None] * self.size + torch.arange(self.size)
        offsets = torch.tensor(self.offsets)
        valid = place < self._lengths[sequence]
        place = torch.minimum(place, self._lengths[sequence] - 1)
        token = offsets[sequence + 1] - 1 - place if self.reverse else offsets[sequence] + place
        return token.to(self.device), valid.to(self.device)

    @cached_property
    def _full(self) -> bool:
        return bool(self._places[1].all())

    def _rows(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        rows = slice(self.steps[first][0], self.steps[last - 1][1])
        return self._places[0][rows], self._places[1][rows]

    def gather(
        self, x: Tensor, heads: int, dtype: torch.dtype, first: int, last: int, repeat: bool = False
    ) -> Tensor:
        """The steps `first` to `last` of x [1, T, H or G, axes] as [M, H, C, axes] ([M, H, axes]).

        What is over in the last chunks is filled with the last token if `repeat`, else with zeros.
        """
        tokens, valid = self._rows(first, last)
        head = torch.arange(heads, device=self.device) // (heads // x.shape[2])
        out = x[0][tokens[:, None, :], head[:, None]]
        if not repeat and not self._full:
            padding = ~valid.reshape(len(tokens), 1, self.size, *[1] * (x.dim() - 3))
            out = out.masked_fill_(padding, 0)
        out = out.to(dtype)
        return out if self.chunk else out.squeeze(2)

    def view(self, x: Tensor, heads: int, dtype: torch.dtype, first: int, last: int) -> Tensor | None:
        """None: sequences of several lengths have no view."""
        return None

    def scatter(self, y: Tensor, out: Tensor, first: int, last: int) -> None:
        """Writes the steps of y [M, H, C, axes] to their places in out [1, T, H, axes], without padding."""
        tokens, valid = self._rows(first, last)
        y = y if self.chunk else y.unsqueeze(2)
        y = y.expand(len(tokens), out.shape[2], self.size, *out.shape[3:])
        row, column = valid.nonzero(as_tuple=True)
        head = torch.arange(y.shape[1], device=self.device)
        out[0].index_copy_(0, tokens[row, column], y[row[:, None], head, column[:, None]].to(out.dtype))

    def valid(self, dtype: torch.dtype, first: int, last: int) -> Tensor | None:
        """[M, 1, C]: 1 for tokens, 0 for padding. None in the recurrent form."""
        return None if self.chunk is None else self._rows(first, last)[1].to(dtype)[:, None]

    def sort(self, state: Tensor) -> Tensor:
        """States [N, ...] from the order of the user to the order of the rows: the longest sequence first."""
        return state.index_select(0, self._order.to(self.device))

    def unsort(self, state: Tensor) -> Tensor:
        return state.index_select(0, torch.argsort(self._order).to(self.device))


Layout = Regular | Packed


@lru_cache(maxsize=32)
def arrange(
    batch: int,
    length: int,
    offsets: tuple[int, ...] | None,
    chunk: int | None,
    reverse: bool,
    device: torch.device,
) -> Layout:
    """The layout of `batch` sequences of `length` tokens, or of the packed sequences between `offsets`."""
    if offsets is None:
        return Regular(batch, length, chunk, reverse, device)
    lengths = {stop - start for start, stop in itertools.pairwise(offsets)}
    if len(lengths) == 1:
        return Regular(len(offsets) - 1, lengths.pop(), chunk, reverse, device)
    return Packed(offsets, chunk, reverse, device)


def ungroup(gradient: Tensor, groups: int) -> Tensor:
    """The gradient [M, H, ...] of a tensor repeated from `groups` to H heads, summed to [M, G, ...]."""
    if gradient.shape[1] == groups:
        return gradient
    return gradient.unflatten(1, (groups, -1)).sum(2)
