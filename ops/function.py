"""The passes of a generated module as a function on tensors: checks, layout, gradients, one step.

It needs of a recurrence only what it declares, so it also stands, as text, in a compiled file of one's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rnnc.dsl.interpreter import Carried
from rnnc.dsl.recurrence import Recurrence
from rnnc.ops.arguments import Bound, Signature, Sizes, offsets_of
from rnnc.ops.autograd import Plan, Tensors, apply, spans
from rnnc.ops.layout import Layout, arrange
from rnnc.ops.options import NAMES, check_options, longest, passes
from rnnc.ops.state import Carry, State

Outputs = Tensor | tuple[Tensor, ...]
Default = Callable[[str, Sizes, torch.dtype, torch.device], Tensor]


class Function:
    """A recurrence on tensors, by the passes of `module`.

    `arrays` is what it carries, `gates` gives the names that the decay is made of, and `default` the value
    of a parameter that is left out (None where every parameter must be given).
    """

    def __init__(
        self,
        recurrence: Recurrence,
        module: Any,
        arrays: tuple[Carried, ...],
        gates: Callable[[], frozenset[str]],
        default: Default | None,
    ) -> None:
        self.recurrence, self.module, self.default = recurrence, module, default
        self.signature = Signature(recurrence, gates)
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

        `save="inputs"` keeps nothing for the backward pass and recomputes; `check` also checks the ranges
        that inputs promise. Raises ArgumentError and ArgumentTypeError, which name the argument;
        UnavailableError for a back end this version does not have.
        """
        check_options(backend, form, chunk_size, save)
        bound, params, states, offsets = self._bind(args, named, initial_state, cu_seqlens, check)
        if bound.sizes.length == 0:
            outputs, final = self._empty(bound, params, states, bound.output_dtype)
        else:
            name, chunk = passes(form, chunk_size, longest(bound.sizes.length, offsets))
            sizes = bound.sizes
            layout = arrange(sizes.batch, sizes.length, offsets, chunk, bool(reverse), bound.device)
            plan = self._plan(bound, layout, name, save != "inputs")
            outputs, final = apply(plan, *bound.inputs, *params, *states)
        return single(outputs), self.carry.pack(final) if output_final_state else None

    @torch.no_grad()
    def step(
        self,
        *args: Tensor | None,
        state: State | None = None,
        out_state: State | None = None,
        **named: Tensor | None,
    ) -> tuple[Outputs, State]:
        """(outputs, state) of one token, [B, H, axes]; forward only.

        With `out_state` (which may be `state` itself) the new state is written there and returned.
        """
        bound = self.signature.bind(args, named, NAMES, time=False)
        params = self._params(bound)
        heads, batch = bound.sizes.heads, bound.sizes.batch
        states = self._initial(bound, params, state, batch, "state")
        inputs = (x.to(bound.dtype).repeat_interleave(heads // x.shape[1], 1) for x in bound.inputs)
        learned = (
            p.to(bound.dtype)[None, None] if shared else p.to(bound.dtype)[None]
            for p, shared in zip(params, self.shared, strict=True)
        )
        with torch.autocast(bound.device.type, enabled=False):
            outputs, final, _ = self.module.recurrent_forward(
                (*inputs, *learned), None, states, [(0, batch)], False
            )
        outputs = tuple(output.to(bound.output_dtype) for output in outputs)
        if out_state is None:
            return single(outputs), self.carry.pack(final)
        places = self.carry.unpack(out_state, batch, bound.sizes, bound.dtype, bound.device, "out_state")
        for place, value in zip(places, final, strict=True):
            place.copy_(value)
        return single(outputs), out_state

    def _bind(
        self, args: Sequence[Any], named: dict[str, Any], initial: Any, cu_seqlens: Any, check: bool
    ) -> tuple[Bound, Tensors, Tensors, tuple[int, ...] | None]:
        """The checked arguments: inputs and sizes, parameters, states, the bounds of packed sequences."""
        bound = self.signature.bind(args, named, NAMES, time=True)
        if check:
            self.signature.check_ranges(bound)
        sizes, offsets = bound.sizes, None
        if cu_seqlens is not None:
            offsets = offsets_of(cu_seqlens, sizes.batch, sizes.length, bound.device)
        params = self._params(bound)
        count = sizes.batch if offsets is None else len(offsets) - 1
        return bound, params, self._initial(bound, params, initial, count, "initial_state"), offsets

    def _params(self, bound: Bound) -> Tensors:
        """The parameters, those left out at their default."""
        return tuple(
            self.default(item.name, bound.sizes, bound.dtype, bound.device)
            if value is None and self.default
            else cast(Tensor, value)
            for item, value in zip(self.recurrence.params, bound.params, strict=True)
        )

    def _initial(self, bound: Bound, params: Tensors, given: Any, count: int, what: str) -> Tensors:
        """What is carried into the first token of `count` sequences: as given, else learned, else zero."""
        if given is not None:
            return self.carry.unpack(given, count, bound.sizes, bound.dtype, bound.device, what)
        learned = {state.name: state.initial for state in self.recurrence.states if state.initial}
        where = {item.name: value for item, value in zip(self.recurrence.params, params, strict=True)}
        states = []
        for array in self.carry.arrays:
            shape = (count, *bound.sizes.shape(array.axes))
            if array.name in learned:
                states.append(where[learned[array.name]].to(bound.dtype).expand(shape))
            else:
                states.append(torch.zeros(shape, dtype=bound.dtype, device=bound.device))
        return tuple(states)

    def _plan(self, bound: Bound, layout: Layout, name: str, keep: bool) -> Plan:
        outputs = self._output_shapes(bound)
        elements = sum(x.numel() for x in bound.inputs) + sum(map(math.prod, outputs))
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
            output_dtype=bound.output_dtype,
            dtype=bound.dtype,
            keep=keep,
            spans=spans(layout, row_bytes),
        )

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
