"""A call of a recurrence with delays: what is delayed is formed for all tokens, then the rest is run on it.

A delayed value is free of the states, so that it needs nothing but the inputs. The first tokens of a sequence
are given what was carried, and the last values are what is carried on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.delays import Delayed
from rnnc.ops.arguments import Bound
from rnnc.ops.function import Function, Outputs
from rnnc.ops.options import NAMES, check_options
from rnnc.ops.reference import TorchArithmetic
from rnnc.ops.state import State

Values = dict[str, Tensor]
Formula = Callable[[TorchArithmetic, Values], Tensor]  # of the values known so far


class WithDelays(Function):
    """A recurrence on tensors by `inner`, which is given the delayed values too.

    `found`: what is delayed, in the order in which it is carried; `lets`: those that it is made of, in order.
    """

    inner: Function
    found: tuple[Delayed, ...] = ()
    lets: tuple[tuple[str, Formula], ...] = ()

    def __call__(
        self,
        *args: Tensor | None,
        initial_state: State | None = None,
        output_final_state: bool = False,
        cu_seqlens: Tensor | None = None,
        reverse: bool = False,
        backend: str = "auto",
        form: str = "auto",
        chunk_size: int | None = None,
        save: str = "auto",
        check: bool = False,
        **named: Tensor | None,
    ) -> tuple[Outputs, State | None]:
        """As `Function` has it."""
        check_options(backend, form, chunk_size, save)
        bound = self._bind(args, named, check)
        count, _ = self._sequences(bound, cu_seqlens, check)
        params = self._params(bound)
        start = self._initial(bound, params, initial_state, count, "initial_state")
        before, carried = self._split(start)
        shift = _Sequences(bound, cu_seqlens, bool(reverse))
        given, last = self._delayed(bound, params, carried, shift.delayed, shift.last)
        own = None if initial_state is None else self.inner.carry.pack(before)
        outputs, final = self.inner(
            *bound.inputs,
            *given,
            *params,
            initial_state=own,
            output_final_state=output_final_state,
            cu_seqlens=cu_seqlens,
            reverse=reverse,
            backend=backend,
            form=form,
            chunk_size=chunk_size,
            save=save,
        )
        if not output_final_state:
            return outputs, None
        return outputs, self.carry.pack((*_tuple(final), *last))

    @torch.no_grad()
    def step(
        self,
        *args: Tensor | None,
        state: State | None = None,
        out_state: State | None = None,
        backend: str = "auto",
        **named: Tensor | None,
    ) -> tuple[Outputs, State]:
        """As `Function` has it."""
        check_options(backend)
        bound = self.signature.bind(args, named, NAMES, time=False)
        params, batch = self._params(bound), bound.sizes.batch
        before, carried = self._split(self._initial(bound, params, state, batch, "state"))
        given, last = self._delayed(bound, params, carried, lambda x, first: first, lambda x, first: x)
        places: tuple[Tensor, ...] = ()
        if out_state is not None:
            places = self.carry.unpack(out_state, batch, bound.sizes, bound.dtype, bound.device, "out_state")
        own = self.inner.carry.pack(before)
        place = self.inner.carry.pack(places[: len(before)]) if places else None
        last = [x.clone() for x in last]  # what is overwritten next may be a part of it
        outputs, final = self.inner.step(
            *bound.inputs, *given, *params, state=own, out_state=place, backend=backend
        )
        if out_state is None:
            return outputs, self.carry.pack((*_tuple(final), *last))
        for target, value in zip(places[len(before) :], last, strict=True):
            target.copy_(value)
        return outputs, out_state

    def _split(self, states: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Values]:
        """The states, and what is carried of delayed values, by name."""
        count = len(self.recurrence.states)
        return states[:count], {d.state: x for d, x in zip(self.found, states[count:], strict=True)}

    def _delayed(
        self, bound: Bound, params: tuple[Tensor, ...], carried: Values, shift: Any, last: Any
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The delayed values as `inner` takes them, and what is carried on.

        `shift` gives a value one token later, `last` that of the last token, both from the value of all
        tokens [..., H, axes] and that before the first.
        """
        sizes, dtype = bound.sizes, bound.dtype
        lead = bound.inputs[0].shape[: bound.inputs[0].dim() - 1 - len(self.recurrence.inputs[0].axes)]
        rows = int(torch.Size(lead).numel())
        arithmetic = TorchArithmetic(sizes.axes, dtype, bound.device)
        scope, shifted, kept = Values(), Values(), Values()

        def enter(name: str, value: Tensor) -> None:
            """A value [rows, H, axes], and what is delayed of it."""
            scope[name] = value
            for each in (each for each in self.found if each.source == name):
                shape, first = sizes.shape(each.axes), carried[each.state]
                whole = value.expand(rows, *shape).reshape(*lead, *shape)
                kept[each.state] = last(whole, first)
                shifted[each.name] = shift(whole, first)
                scope[each.name] = value = shifted[each.name].reshape(rows, *shape)

        for item, x in zip(self.recurrence.inputs, bound.inputs, strict=True):
            own = x.reshape(rows, *x.shape[len(lead) :]).to(dtype)
            enter(item.name, own.repeat_interleave(sizes.heads // own.shape[1], 1))
        for param, x in zip(self.recurrence.params, params, strict=True):
            scope[param.name] = x.to(dtype)[None, None] if param.shared else x.to(dtype)[None]
        with torch.autocast(bound.device.type, enabled=False):
            for name, formula in self.lets:
                enter(name, formula(arithmetic, scope))
        wanted = {item.name: item for item in self.inner.recurrence.inputs}
        given = [
            shifted[each.name].to(bound.output_dtype if each.axes else dtype)
            for each in self.found
            if each.name in wanted
        ]
        return given, [kept[each.state] for each in self.found]


class _Sequences:
    """Tokens [B, T, H, axes] of sequences; with `cu_seqlens` [N + 1] packed, empty ones among them."""

    def __init__(self, bound: Bound, cu_seqlens: Tensor | None, reverse: bool) -> None:
        self.bounds, self.reverse, self.length = cu_seqlens, reverse, bound.sizes.length

    def delayed(self, x: Tensor, first: Tensor) -> Tensor:
        """The value of the token before, at the first token `first` [N, H, axes]."""
        if not x.shape[1]:
            return x
        if self.bounds is None:
            parts = [x[:, 1:], first[:, None]] if self.reverse else [first[:, None], x[:, :-1]]
            return torch.cat(parts, 1)
        ahead, behind = (x[:, 1:], x[:, -1:]) if self.reverse else (x[:, :1], x[:, :-1])
        moved = torch.cat([ahead, behind, x[:, :1]], 1)[0]  # and a row for sequences without tokens
        places = torch.where(self._empty, self.length, self._ends[1 if self.reverse else 0])
        return moved.index_copy(0, places, first.to(x.dtype))[None, :-1]

    def last(self, x: Tensor, first: Tensor) -> Tensor:
        """The value of the last token, [N, H, axes]; of no token: `first`."""
        if not x.shape[1]:
            return first
        if self.bounds is None:
            return x[:, 0 if self.reverse else -1]
        found = x[0, self._ends[0 if self.reverse else 1].clamp(0, self.length - 1)]
        return torch.where(self._empty.view(-1, *[1] * (found.dim() - 1)), first, found)

    @property
    def _empty(self) -> Tensor:
        assert self.bounds is not None
        return self.bounds.diff() == 0

    @property
    def _ends(self) -> tuple[Tensor, Tensor]:
        """The first and the last token of every sequence."""
        assert self.bounds is not None
        return self.bounds[:-1].long(), self.bounds[1:].long() - 1


def _tuple(values: Any) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)
