"""A call of a recurrence with delays: what is delayed is formed for all tokens, then the rest is run on it.

A delayed value is free of the states, so that it needs nothing but the inputs. The first tokens of a sequence
are given what was carried, and the last values are what is carried on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from rnnc.dsl.delays import Delayed
from rnnc.dsl.recurrence import Recurrence
from rnnc.ops.arguments import Bound
from rnnc.ops.function import Function, Outputs, single
from rnnc.ops.options import NAMES, Options, check_options
from rnnc.ops.reference import TorchArithmetic
from rnnc.ops.state import State

Values = dict[str, Tensor]
Formula = Callable[[TorchArithmetic, Values], Tensor]  # of the values by name
Shift = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class KernelsInside(Protocol):
    """Kernels that form what is delayed."""

    @property
    def recurrence(self) -> Recurrence:
        """With `earlier` inputs."""

    def replaces(self, bound: Bound, options: Options) -> bool:
        """Whether they can take a call."""

    def run(
        self,
        bound: Bound,
        params: tuple[Tensor, ...],
        states: tuple[Tensor, ...],
        form: str,
        options: Options,
        precise: bool,
        starts: tuple[Tensor, ...],
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The outputs and, if asked for, the final states; `starts`: what is carried of delayed values."""


class WithDelays(Function):
    """A recurrence on tensors by `inner`, which is given the delayed values too.

    `found`: what is delayed, in the order in which it is carried; `lets`: those that it is made of, in order,
    as (name, the names of what it needs, its formula). `inside`: kernels of the chunked form that form what
    is delayed themselves, of the inputs of earlier tokens.
    """

    inner: Function
    inside: KernelsInside | None = None
    found: tuple[Delayed, ...] = ()
    lets: tuple[tuple[str, tuple[str, ...], Formula], ...] = ()

    def call(
        self, args: Sequence[Any], named: dict[str, Any], options: Options
    ) -> tuple[Outputs, State | None]:
        """As `Function` has it."""
        check_options(options)
        bound = self._bind(args, named, options.check)
        count, _ = self._sequences(bound, options.cu_seqlens, options.check)
        params = self._params(bound)
        if bound.sizes.batch * bound.sizes.length and self._in_kernels(bound, options):
            return self._by_kernels(bound, params, count, options)
        own, carried = self._start(bound, options.initial_state, count, "initial_state")
        shift = _Sequences(bound, options.cu_seqlens, bool(options.reverse)).shift
        given, kept = self._delayed(bound, params, carried, shift)
        outputs, final = self.inner.call(
            (*bound.inputs, *given, *params), {}, options._replace(initial_state=own, check=False)
        )
        if not options.output_final_state:
            return outputs, None
        return outputs, self.carry.pack((*_tuple(final), *kept))

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
        check_options(Options(backend=backend))
        bound = self.signature.bind(args, named, NAMES, time=False)
        params, batch = self._params(bound), bound.sizes.batch
        own, carried = self._start(bound, state, batch, "state")
        given, kept = self._delayed(
            bound, params, carried, lambda x, first: (first, x.to(first.dtype, copy=True))
        )
        place, places = None, tuple[Tensor, ...]()
        if out_state is not None:
            places = self.carry.unpack(out_state, batch, bound.sizes, bound.dtype, bound.device, "out_state")
            place = self.inner.carry.pack(places[: len(self.recurrence.states)])
        outputs, final = self.inner.step(
            *bound.inputs, *given, *params, state=own, out_state=place, backend=backend
        )
        if out_state is None:
            return outputs, self.carry.pack((*_tuple(final), *kept))
        for target, value in zip(places[len(self.recurrence.states) :], kept, strict=True):
            target.copy_(value)
        return outputs, out_state

    def _in_kernels(self, bound: Bound, options: Options) -> bool:
        """Whether kernels take the call that form what is delayed: not where sequences are better split."""
        if self.inside is None or not self.inside.replaces(bound, options):
            return False
        return self.inner.kernels is None or not self.inner.kernels.stretched(bound, options)

    def _by_kernels(
        self, bound: Bound, params: tuple[Tensor, ...], count: int, options: Options
    ) -> tuple[Outputs, State | None]:
        """The call by the kernels that form what is delayed; torch does so only for the last tokens."""
        assert self.inside is not None
        states = self._initial(bound, params, options.initial_state, count, "initial_state", zeros=False)
        own = len(self.recurrence.states)
        carried = {each.state: x for each, x in zip(self.found, states[own:], strict=False)}
        wanted = [e.source for e in self.inside.recurrence.earlier if e.kind == "start"]
        starts = tuple(carried[name] for name in wanted) if carried else ()
        outputs, last = self.inside.run(bound, params, states[:own], "chunked", options, False, starts)
        if not options.output_final_state:
            return single(outputs), None
        first = carried or self._start(bound, None, count, "initial_state")[1]
        kept = self._last(bound, params, first, options.cu_seqlens, bool(options.reverse))
        return single(outputs), self.carry.pack((*last, *kept))

    def _last(
        self,
        bound: Bound,
        params: tuple[Tensor, ...],
        carried: Values,
        cu_seqlens: Tensor | None,
        reverse: bool,
    ) -> list[Tensor]:
        """What is carried on, of the last tokens alone; of packed sequences, of all where that is not one."""
        longest = max(each.lag for each in self.found)
        sequences = _Sequences(bound, cu_seqlens, reverse)
        shift = sequences.shift
        if cu_seqlens is None:
            tails = (x[:, :longest] if reverse else x[:, -longest:] for x in bound.inputs)
            bound = bound._replace(inputs=tuple(tails))
        elif longest == 1:
            bound = bound._replace(inputs=tuple(map(sequences.last_tokens, bound.inputs)))
            shift = sequences.shift_last
        return self._delayed(bound, params, carried, shift)[1]

    def _start(self, bound: Bound, given: Any, count: int, what: str) -> tuple[State | None, Values]:
        """The states as `inner` takes them, what is carried of delayed values, by name: zero if not given."""
        if given is None:
            shapes = {each.state: (count, *bound.sizes.shape(each.axes)) for each in self.found}
            zeros = {
                name: torch.zeros(shape, dtype=bound.dtype, device=bound.device)
                for name, shape in shapes.items()
            }
            return None, zeros
        states = self.carry.unpack(given, count, bound.sizes, bound.dtype, bound.device, what)
        own = len(self.recurrence.states)
        carried = {each.state: x for each, x in zip(self.found, states[own:], strict=True)}
        return self.inner.carry.pack(states[:own]), carried

    def _delayed(
        self, bound: Bound, params: tuple[Tensor, ...], carried: Values, shift: Shift
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The delayed values as `inner` takes them, and copies of what is carried on.

        `shift` gives a value one token later and that of the last token, from the value of all tokens
        [..., H, axes] and that before the first. An input is delayed as it is, a let in float32.
        """
        sizes, dtype = bound.sizes, bound.dtype
        lead = bound.inputs[0].shape[: bound.inputs[0].dim() - 1 - len(self.recurrence.inputs[0].axes)]
        shifted, kept = Values(), Values()

        def enter(name: str, x: Tensor) -> None:
            """What is delayed of a value [..., H, axes]."""
            for each in (each for each in self.found if each.source == name):
                x, kept[each.state] = shift(x, carried[each.state])
                shifted[each.name] = x

        sources = {each.source for each in self.found}
        known = dict(zip((item.name for item in self.recurrence.inputs), bound.inputs, strict=True))
        for name, x in known.items():
            if name in sources:
                enter(name, _repeated(x, sizes.heads, len(lead)))
        learned = dict(zip((param.name for param in self.recurrence.params), params, strict=True))
        shared = {param.name for param in self.recurrence.params if param.shared}
        arithmetic = TorchArithmetic(sizes.axes, dtype, bound.device)
        scope = Values()
        with torch.autocast(bound.device.type, enabled=False):
            for name, needs, formula in self.lets:
                for each in needs:
                    if each in scope:
                        continue
                    if each in learned:
                        value = learned[each].to(dtype)[None]
                        scope[each] = value[None] if each in shared else value
                    else:
                        value = shifted[each] if each in shifted else known[each]
                        scope[each] = _repeated(value.flatten(0, len(lead) - 1), sizes.heads, 1).to(dtype)
                value = scope[name] = formula(arithmetic, scope)
                if name in sources:
                    axes = next(each.axes for each in self.found if each.source == name)
                    shape = sizes.shape(axes)
                    enter(name, value.expand(lead.numel(), *shape).reshape(*lead, *shape))
        wanted = {item.name for item in self.inner.recurrence.inputs}
        given = [self._typed(shifted[each.name], each, bound) for each in self.found if each.name in wanted]
        return given, [kept[each.state] for each in self.found]

    def _typed(self, x: Tensor, each: Delayed, bound: Bound) -> Tensor:
        """The delayed value in the dtype of the vectors; scalars, and what a decay is made of, in float32."""
        if not each.axes or (x.dtype != bound.output_dtype and each.name in self.inner.signature.gates()):
            return x.to(bound.dtype)
        return x.to(bound.output_dtype)


def _repeated(x: Tensor, heads: int, axis: int) -> Tensor:
    """The inputs of groups, one for every head along `axis`."""
    return x if x.shape[axis] == heads else x.repeat_interleave(heads // x.shape[axis], axis)


class _Sequences:
    """Tokens [B, T, H, axes] of sequences; with `cu_seqlens` [N + 1] packed, empty ones among them."""

    def __init__(self, bound: Bound, cu_seqlens: Tensor | None, reverse: bool) -> None:
        self.bounds, self.reverse, self.length = cu_seqlens, reverse, bound.sizes.length

    def shift(self, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """The value of the token before, at the first token `first` [N, H, axes]; that of the last token.

        Of no token: `first`. Both are copies.
        """
        if not x.shape[1]:
            return x, first.clone()
        if self.bounds is None:
            found: tuple[Tensor, Tensor] = _Shift.apply(x, first, self.reverse)  # type: ignore[no-untyped-call]
            return found
        return self._delayed(x, first), self._last(x, first).to(first.dtype)

    def last_tokens(self, x: Tensor) -> Tensor:
        """Those of the packed sequences, [1, N, H, axes]; of one without tokens, any."""
        return x[:, self._ends[0 if self.reverse else 1].clamp(0, self.length - 1)]

    def shift_last(self, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """As `shift`, of the last tokens; the value of the token before is not there."""
        return x, torch.where(self._empty.view(-1, *[1] * (first.dim() - 1)), first, x[0].to(first.dtype))

    def _delayed(self, x: Tensor, first: Tensor) -> Tensor:
        ahead, behind = (x[:, 1:], x[:, -1:]) if self.reverse else (x[:, :1], x[:, :-1])
        moved = torch.cat([ahead, behind, x[:, :1]], 1)[0]  # and a row for sequences without tokens
        places = torch.where(self._empty, self.length, self._ends[1 if self.reverse else 0])
        return moved.index_copy(0, places, first.to(x.dtype))[None, :-1]

    def _last(self, x: Tensor, first: Tensor) -> Tensor:
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


class _Shift(torch.autograd.Function):
    """Tokens [B, T, H, axes] one later, the first of them `first` [B, H, axes], and a copy of the last: the
    same values in another order, so that the gradient is them back in theirs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
        ctx.reverse, ctx.dtypes = reverse, (x.dtype, first.dtype)
        given, last = first[:, None].to(x.dtype), x[:, 0 if reverse else -1].to(first.dtype, copy=True)
        return torch.cat([x[:, 1:], given] if reverse else [given, x[:, :-1]], 1), last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        moved, last = gradients
        end, rest = (moved[:, -1], moved[:, :-1]) if ctx.reverse else (moved[:, 0], moved[:, 1:])
        last = last[:, None].to(ctx.dtypes[0])
        return torch.cat([last, rest] if ctx.reverse else [rest, last], 1), end.to(ctx.dtypes[1]), None


def _tuple(values: Any) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)
