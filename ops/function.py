"""The passes of a generated module as a function on tensors: checks, layout, gradients, one step.

It needs of a recurrence only what it declares, so it also stands, as text, in a compiled file of one's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from rnnc.dsl.interpreter import Carried
from rnnc.dsl.recurrence import Recurrence
from rnnc.ops.arguments import Bound, Default, Signature, check_bounds, offsets_of
from rnnc.ops.autograd import Plan, Tensors, apply, differentiated, recorded, spans
from rnnc.ops.chunks import best_chunk
from rnnc.ops.errors import UnavailableError
from rnnc.ops.layout import Layout, arrange
from rnnc.ops.options import CHUNK, NAMES, Options, check_options, longest, passes
from rnnc.ops.state import Carry, State

Outputs = Tensor | tuple[Tensor, ...]


class Kernels(Protocol):
    """The forms as kernels of a GPU."""

    def take(self, backend: str, form: str, bound: Bound) -> str | None:
        """The form in which they take a call, or None.

        Raises UnavailableError if they are asked to by name but cannot.
        """

    def stretched(self, bound: Bound, options: Options) -> bool:
        """Whether they walk stretches of the sequences of a call beside each other."""

    def run(
        self,
        bound: Bound,
        params: Tensors,
        states: Tensors,
        form: str,
        options: Options,
        precise: bool,
    ) -> tuple[Tensors, Tensors]:
        """The outputs (in float32 if `precise`) and, if asked for, the final states; no `states`: zeros."""

    def step(
        self, bound: Bound, params: Tensors, states: Tensors, places: Tensors | None, precise: bool
    ) -> tuple[Tensors, Tensors]:
        """The outputs of one token (in float32 if `precise`) and the new states, in `places` if given."""


class Walks(Protocol):
    """The chunked form as C for a CPU."""

    def take(
        self,
        bound: Bound,
        tensors: Tensors,
        options: Options,
        offsets: tuple[int, ...] | None,
        output: torch.dtype,
    ) -> Any:
        """What a call is to them, or None where they do not take it.

        Raises UnavailableError if they are asked to by name but cannot.
        """

    def run(
        self,
        kind: Any,
        bound: Bound,
        tensors: Tensors,
        options: Options,
        offsets: tuple[int, ...] | None,
        output: torch.dtype,
        again: Callable[[Tensors, Sequence[Tensor | None], Sequence[bool]], list[Tensor | None]],
    ) -> tuple[Tensors, Tensors]:
        """Outputs and final states; `again` is the backward pass where that is differentiated itself."""


class Function:
    """A recurrence on tensors, by the passes of `module` or by `kernels`.

    `arrays` is what it carries, `gates` gives the names that the decay is made of, and `default` the value
    of an argument that is left out (None where all must be given). With `precise` the outputs of
    vectors of low precision are float32; with `feeds`, as they go into another function, those of float16.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        module: Any,
        arrays: tuple[Carried, ...],
        gates: Callable[[], frozenset[str]],
        default: Default | None,
        kernels: Kernels | None = None,
        precise: bool = False,
        feeds: bool = False,
        walks: Walks | None = None,
    ) -> None:
        self.precise, self.feeds, self.walks = precise, feeds, walks
        self.recurrence, self.module, self.default, self.kernels = recurrence, module, default, kernels
        self.signature = Signature(recurrence, gates, default)
        self.carry = Carry(arrays)
        self.shared = tuple(param.shared for param in recurrence.params)

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
        """(outputs, final state or None): one tensor, or a tuple where the spec declares several.

        Outputs are [B, T, H, axes] in the dtype of the vector inputs; states [N, H, axes] in float32, in
        float64 where the inputs are: one tensor, or a named tuple where several arrays are carried.
        `initial_state` takes what a call returned; without it states start at zero, or at their parameter.
        `cu_seqlens` [N + 1], int32 or int64, packs N sequences into B = 1; `reverse` runs each from its last
        token to its first. `backend`: auto, triton, torch, c; `form`: auto, recurrent, chunked, parallel.
        `chunk_size`, a power of two from 16 to 256, counts rows: one for a token, or one for each of its
        micro-steps. `save="inputs"` keeps nothing for the backward pass and recomputes (auto, states: it
        keeps states); `check` also checks the ranges that inputs promise.
        Raises ArgumentError and ArgumentTypeError, which name the argument; UnavailableError for a back end
        that does not have the form or the dtype.
        """
        options = Options(
            initial_state, output_final_state, cu_seqlens, reverse, backend, form, chunk_size, save, check
        )
        return self.call(args, named, options)

    def call(
        self, args: Sequence[Any], named: dict[str, Any], options: Options
    ) -> tuple[Outputs, State | None]:
        """As above, all options in one."""
        check_options(options)
        bound = self._bind(args, named, options.check)
        taken = self._chosen(options.backend, options.form, bound)
        count, offsets = self._sequences(bound, options.cu_seqlens, options.check or taken is None)
        params, some = self._params(bound), bound.sizes.batch * bound.sizes.length > 0
        kernels = self.kernels if taken and some else None
        given = options.initial_state
        states = self._initial(bound, params, given, count, "initial_state", zeros=kernels is None)
        if kernels and taken:
            outputs, final = kernels.run(bound, params, states, taken, options, self._precise(bound))
        elif some:
            outputs, final = self._run(bound, params, states, options, offsets)
        else:
            outputs, final = self._empty(bound, params, states, self._output_dtype(bound))
        return single(outputs), self.carry.pack(final) if options.output_final_state else None

    @torch.no_grad()
    def step(
        self,
        *args: Tensor | None,
        state: State | None = None,
        out_state: State | None = None,
        backend: str = "auto",
        **named: Tensor | None,
    ) -> tuple[Outputs, State]:
        """(outputs, state) of one token, [B, H, axes]; forward only. Without `state` it is the first.

        With `out_state` (which may be `state` itself) the new state is written there and returned.
        """
        check_options(Options(backend=backend))
        bound = self.signature.bind(args, named, NAMES, time=False)
        params, batch = self._params(bound), bound.sizes.batch
        taken = batch and self._chosen(backend, "recurrent", bound)
        places = None
        if out_state is not None:
            places = self.carry.unpack(out_state, batch, bound.sizes, bound.dtype, bound.device, "out_state")
        states = self._initial(bound, params, state, batch, "state", zeros=not taken)
        if self.kernels and taken:
            outputs, final = self.kernels.step(bound, params, states, places, self._precise(bound))
        else:
            outputs, final = self._step(bound, params, states)
            if places is not None:
                for place, value in zip(places, final, strict=True):
                    place.copy_(value)
        return single(outputs), self.carry.pack(final) if out_state is None else out_state

    def _run(
        self,
        bound: Bound,
        params: Tensors,
        states: Tensors,
        options: Options,
        offsets: tuple[int, ...] | None,
    ) -> tuple[Tensors, Tensors]:
        """The outputs and the final states, by the module's passes; `offsets`: limits of packed sequences."""
        sizes = bound.sizes
        count = sizes.batch if offsets is None else len(offsets) - 1
        steps = math.prod(sizes.axes[axis] for axis in self.recurrence.loops)
        most, default = longest(sizes.length, offsets), self._chunk(bound, count)
        name, width = passes(options.form, options.chunk_size, most, default, steps)
        reverse = bool(options.reverse)
        tensors, keep = (*bound.inputs, *params, *states), options.save != "inputs"

        def plan(gradients: bool) -> Plan:
            layout = arrange(sizes.batch, sizes.length, offsets, width, reverse, bound.device)
            return self._plan(bound, layout, name, keep, gradients)

        output = self._output_dtype(bound)
        if self.walks and (kind := self.walks.take(bound, tensors, options, offsets, output)):
            again = partial(differentiated, lambda: plan(True))
            return self.walks.run(kind, bound, tensors, options, offsets, output, again)
        return apply(plan(recorded(tensors)), *tensors)

    def _step(self, bound: Bound, params: Tensors, states: Tensors) -> tuple[Tensors, Tensors]:
        """The outputs of one token and the new states, by the module's recurrent pass."""
        heads, batch = bound.sizes.heads, bound.sizes.batch
        inputs = (x.to(bound.dtype).repeat_interleave(heads // x.shape[1], 1) for x in bound.inputs)
        learned = (
            p.to(bound.dtype)[None, None] if shared else p.to(bound.dtype)[None]
            for p, shared in zip(params, self.shared, strict=True)
        )
        with torch.autocast(bound.device.type, enabled=False):
            outputs, final, _ = self.module.recurrent_forward(
                (*inputs, *learned), None, states, [(0, batch)], False
            )
        shapes = ((batch, *bound.sizes.shape(output.axes)) for output in self.recurrence.outputs)
        return tuple(
            x.to(self._output_dtype(bound)).expand(s) for x, s in zip(outputs, shapes, strict=True)
        ), final

    def _bind(self, args: Sequence[Any], named: dict[str, Any], check: bool) -> Bound:
        """The checked inputs and parameters."""
        bound = self.signature.bind(args, named, NAMES, time=True)
        if check:
            self.signature.check_ranges(bound)
        return bound

    def _chosen(self, backend: str, form: str, bound: Bound) -> str | None:
        """The form in which the kernels take the call, if they do. Raises UnavailableError."""
        if self.kernels is None and backend == "triton":
            raise UnavailableError("there are no triton kernels here: use backend='torch'")
        if self.walks is None and backend == "c":
            raise UnavailableError("c: a file that rnnc compile made has none: use backend='torch'")
        return self.kernels.take(backend, form, bound) if self.kernels else None

    def _sequences(self, bound: Bound, cu_seqlens: Any, values: bool) -> tuple[int, tuple[int, ...] | None]:
        """The number of sequences, and the limits of packed ones, read if `values` or on a CPU.

        (To read what is on a GPU is to wait for it.)
        """
        sizes = bound.sizes
        if cu_seqlens is None:
            return sizes.batch, None
        check_bounds(cu_seqlens, sizes.batch, bound.device)
        count = cu_seqlens.shape[0] - 1
        if not values and bound.device.type != "cpu":
            return count, None
        return count, offsets_of(cu_seqlens, sizes.length)

    def _params(self, bound: Bound) -> Tensors:
        """The parameters, those left out at their default."""
        return tuple(
            self.default(item.name, bound.sizes, bound.dtype, bound.device)
            if value is None and self.default
            else cast(Tensor, value)
            for item, value in zip(self.recurrence.params, bound.params, strict=True)
        )

    def _initial(
        self, bound: Bound, params: Tensors, given: Any, count: int, what: str, zeros: bool = True
    ) -> Tensors:
        """What is carried into the first token of `count` sequences: as given, else learned, else zero.

        Without `zeros` nothing is returned where all of it is zero.
        """
        if given is not None:
            return self.carry.unpack(given, count, bound.sizes, bound.dtype, bound.device, what)
        learned = {state.name: state.initial for state in self.recurrence.states if state.initial}
        if not learned and not zeros:
            return ()
        where = {item.name: value for item, value in zip(self.recurrence.params, params, strict=True)}
        states = []
        for array in self.carry.arrays:
            shape = (count, *bound.sizes.shape(array.axes))
            if array.name in learned:
                states.append(where[learned[array.name]].to(bound.dtype).expand(shape))
            else:
                states.append(torch.zeros(shape, dtype=bound.dtype, device=bound.device))
        return tuple(states)

    def _chunk(self, bound: Bound, count: int) -> int:
        """The chunk size where none is asked for."""
        shapes = [bound.sizes.shape(array.axes)[1:] for array in self.carry.arrays]  # of one head
        if bound.device.type != "cpu" or not all(map(math.prod, shapes)):
            return CHUNK
        largest = max(shapes, key=math.prod)
        return best_chunk(count * bound.sizes.heads, math.prod(largest), sum(largest))

    def _plan(self, bound: Bound, layout: Layout, name: str, keep: bool, gradients: bool) -> Plan:
        outputs = self._output_shapes(bound)
        elements = sum(x.numel() for x in bound.inputs) + sum(map(math.prod, outputs))
        elements *= 2 if gradients else 1
        row_bytes = elements * bound.dtype.itemsize // layout.steps[-1][1]
        return Plan(
            forward=getattr(self.module, f"{name}_forward"),
            states=getattr(self.module, f"{name}_states"),
            backward=getattr(self.module, f"{name}_backward"),
            layout=layout,
            inputs=len(bound.inputs),
            shared=self.shared,
            heads=bound.sizes.heads,
            outputs=outputs,
            output_dtype=self._output_dtype(bound),
            dtype=bound.dtype,
            keep=keep,
            spans=spans(layout, row_bytes, gradients),
        )

    def _output_dtype(self, bound: Bound) -> torch.dtype:
        return bound.dtype if self._precise(bound) else bound.output_dtype

    def _precise(self, bound: Bound) -> bool:
        """Whether outputs are float32: what float16 holds no range for is handed on so."""
        return self.precise or (self.feeds and bound.output_dtype == torch.float16)

    def _output_shapes(self, bound: Bound) -> tuple[tuple[int, ...], ...]:
        sizes = bound.sizes
        lead = (sizes.batch, sizes.length)
        return tuple(lead + sizes.shape(output.axes) for output in self.recurrence.outputs)

    def _empty(
        self, bound: Bound, params: Tensors, states: Tensors, dtype: torch.dtype
    ) -> tuple[Tensors, Tensors]:
        """No tokens: empty outputs, and the initial state, both in the graph of what requires a gradient."""
        nothing = torch.stack([x.reshape(-1)[:0].sum().to(dtype) for x in (*bound.inputs, *params)]).sum()
        outputs = tuple(
            torch.zeros(shape, dtype=dtype, device=bound.device) + nothing
            for shape in self._output_shapes(bound)
        )
        return outputs, tuple(state + nothing.to(state.dtype) for state in states)


def single(outputs: Tensors) -> Outputs:
    """One tensor where there is one output, else the tuple."""
    return outputs[0] if len(outputs) == 1 else outputs
