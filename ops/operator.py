"""A compiled recurrence as a function on tensors: forward, gradients, one step, the layer, the evidence."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.expression import names
from rnnc.dsl.interpreter import carried
from rnnc.dsl.recurrence import Recurrence
from rnnc.ops import cache
from rnnc.ops.arguments import Bound, Signature, offsets_of
from rnnc.ops.autograd import Plan, Tensors, apply, spans
from rnnc.ops.errors import UnavailableError
from rnnc.ops.layout import arrange
from rnnc.ops.options import NAMES, check_options, longest, passes
from rnnc.ops.reference import default, token_loop
from rnnc.ops.spec_file import read_spec
from rnnc.ops.state import Carry, State

Outputs = Tensor | tuple[Tensor, ...]


class Operator:
    """A recurrence on tensors; see `rnnc.compile`.

    Inputs are [B, T, H, axes] ([B, T, G, axes] `per group`), parameters [H, axes] ([axes] `shared`), in the
    order of declaration or by name. Packed sequences: B = 1 and `cu_seqlens` [N + 1]. States are
    [N, H, axes], N the number of sequences.
    """

    def __init__(self, spec: str, recurrence: Recurrence, module: ModuleType, source: str) -> None:
        self.spec, self.recurrence, self.module, self.source = spec, recurrence, module, source
        self.name = recurrence.name
        self.signature = Signature(recurrence, lambda: self._gates)
        self.carry = Carry(carried(recurrence))
        self.shared = tuple(param.shared for param in recurrence.params)
        self.__doc__ = recurrence.doc

    def __repr__(self) -> str:
        return f"<rnnc.Operator {self.name}({', '.join(self.signature.names)})>"

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
        bound, offsets = self._bind(args, named, cu_seqlens)
        params = self._params(bound)
        if check:
            self.signature.check_ranges(bound)
        states = self._initial(bound, params, initial_state, offsets, "initial_state")
        outputs, final = self._execute(bound, params, states, offsets, reverse, form, chunk_size, save)
        return _single(outputs), self.carry.pack(final) if output_final_state else None

    def reference(
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
        check: bool = True,
        **named: Tensor | None,
    ) -> tuple[Outputs, State | None]:
        """The same by the naive token loop; outputs are float64 for float64 inputs, else float32.

        Ranges are checked unless told otherwise; back end, form, chunk size and `save` change nothing.
        """
        check_options(backend, form, chunk_size, save)
        bound, offsets = self._bind(args, named, cu_seqlens)
        params = self._params(bound)
        if check:
            self.signature.check_ranges(bound)
        states = self._initial(bound, params, initial_state, offsets, "initial_state")
        if bound.sizes.length == 0:
            outputs, final = self._empty(bound, params, states, bound.dtype)
        else:
            outputs, final = token_loop(
                self.recurrence, bound.inputs, params, states, bound.sizes, offsets, reverse
            )
        return _single(outputs), self.carry.pack(final) if output_final_state else None

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
        states = self._initial(bound, params, state, None, "state")
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
        outputs = tuple(output.to(bound.output_dtype) for output in outputs)
        if out_state is None:
            return _single(outputs), self.carry.pack(final)
        places = self.carry.unpack(out_state, batch, bound.sizes, bound.dtype, bound.device, "out_state")
        for place, value in zip(places, final, strict=True):
            place.copy_(value)
        return _single(outputs), out_state

    @cached_property
    def Layer(self) -> type[torch.nn.Module]:
        """The `nn.Module` of the spec's layer block. Raises SpecError where the spec has none."""
        from rnnc.ops.layer_class import layer_class

        return layer_class(self)

    def explain(self) -> str:
        """The normal form, the derived forms and the numerics, as equations."""
        return str(self._compiled.explain())

    def prove(self) -> Any:
        """The exact checks: true when proven; prints what was proven, and what that does not cover."""
        from rnnc.codegen.proof import prove

        return prove(self._compiled)

    def cost(self, **sizes: Any) -> Any:  # noqa: ARG002 (the arguments of the contract)
        """Not in this version: raises UnavailableError."""
        raise UnavailableError("cost is not in this version: it comes with the triton back end")

    @cached_property
    def _compiled(self) -> Any:
        from rnnc.codegen.compiler import compile_text

        return compile_text(self.spec, self.recurrence.path)

    @cached_property
    def _gates(self) -> frozenset[str]:
        """The inputs and parameters that the decay is made of."""
        from rnnc.dsl.normaliser import normalise

        decay = normalise(self.recurrence).decay
        return frozenset() if decay is None else names(decay)

    def _bind(
        self, args: Sequence[Any], named: dict[str, Any], cu_seqlens: Tensor | None
    ) -> tuple[Bound, tuple[int, ...] | None]:
        bound = self.signature.bind(args, named, NAMES, time=True)
        if cu_seqlens is None:
            return bound, None
        return bound, offsets_of(cu_seqlens, bound.sizes.batch, bound.sizes.length, bound.device)

    def _params(self, bound: Bound) -> Tensors:
        """The parameters, those left out at their default."""
        return tuple(
            default(self.recurrence, item.name, bound.sizes, bound.dtype, bound.device)
            if value is None
            else value
            for item, value in zip(self.recurrence.params, bound.params, strict=True)
        )

    def _initial(
        self, bound: Bound, params: Tensors, given: Any, offsets: tuple[int, ...] | None, what: str
    ) -> Tensors:
        """What is carried into the first token: as given, else learned, else zero."""
        count = bound.sizes.batch if offsets is None else len(offsets) - 1
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

    def _execute(
        self,
        bound: Bound,
        params: Tensors,
        states: Tensors,
        offsets: tuple[int, ...] | None,
        reverse: bool,
        form: str,
        chunk_size: int | None,
        save: str,
    ) -> tuple[Tensors, Tensors]:
        sizes = bound.sizes
        if sizes.length == 0:
            return self._empty(bound, params, states, bound.output_dtype)
        name, chunk = passes(form, chunk_size, longest(sizes.length, offsets))
        layout = arrange(sizes.batch, sizes.length, offsets, chunk, bool(reverse), bound.device)
        outputs = self._output_shapes(bound)
        elements = sum(x.numel() for x in bound.inputs) + sum(map(math.prod, outputs))
        row_bytes = elements * bound.dtype.itemsize // max(1, layout.steps[-1][1])
        plan = Plan(
            forward=getattr(self.module, f"{name}_forward"),
            backward=getattr(self.module, f"{name}_backward"),
            layout=layout,
            inputs=len(bound.inputs),
            shared=self.shared,
            heads=sizes.heads,
            outputs=outputs,
            output_dtype=bound.output_dtype,
            dtype=bound.dtype,
            keep=save != "inputs",
            spans=spans(layout, row_bytes),
        )
        return apply(plan, *bound.inputs, *params, *states)

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


def compile(spec: str | os.PathLike[str]) -> Operator:  # noqa: A001
    """The operator of a spec: a path, or, if there is a line break in it, the text itself.

    Raises SpecError with everything that is wrong with the spec; SpecFileError if it cannot be read.
    """
    from rnnc.dsl.checker import check
    from rnnc.dsl.parser import parse

    text, path = (
        (spec, "<spec>") if isinstance(spec, str) and "\n" in spec else (read_spec(Path(spec)), str(spec))
    )
    recurrence = check(parse(text, path))

    def produce() -> str:
        from rnnc.codegen.compiler import compile_text

        return compile_text(text, path).source

    module, source = cache.load(recurrence.name, text, produce)
    return Operator(text, recurrence, module, source)


def _single(outputs: Tensors) -> Outputs:
    return outputs[0] if len(outputs) == 1 else outputs
