"""A call of a recurrence in stages: one stage after the other, each on what the earlier ones hand on.

Every stage is a function of its own, with its own forms and kernels; gradients go back through them in the
reverse order. What is handed on lies in memory in float32: what a softmax weighs, a sum of small squares or
a gate lose too much in less. Products that go into matrix products alone are in the dtype of the vectors, but
for float16, whose range is too small for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.recurrence import Input, Recurrence
from rnnc.ops.arguments import Bound
from rnnc.ops.function import Function, Outputs, single
from rnnc.ops.options import NAMES, Options, check_options
from rnnc.ops.state import State

Values = dict[str, Tensor]


class Pipeline(Function):
    """A recurrence on tensors by its `stages`, in order."""

    stages: tuple[Function, ...] = ()

    def call(
        self, args: Sequence[Any], named: dict[str, Any], options: Options
    ) -> tuple[Outputs, State | None]:
        """As `Function` has it; the options hold for every stage."""
        check_options(options)
        bound = self._bind(args, named, options.check)
        count, _ = self._sequences(bound, options.cu_seqlens, options.check)

        def call(stage: Function, arguments: list[Tensor], given: Any) -> tuple[Outputs, State | None]:
            return stage.call(arguments, {}, options._replace(initial_state=given, check=False))

        start = self._named(bound, options.initial_state, count, "initial_state")
        outputs, final = self._through(bound, start, call)
        return outputs, self._packed(self, final) if options.output_final_state else None

    @torch.no_grad()
    def step(
        self,
        *args: Tensor | None,
        state: State | None = None,
        out_state: State | None = None,
        backend: str = "auto",
        **named: Tensor | None,
    ) -> tuple[Outputs, State]:
        """As `Function` has it; every stage writes its own part of `out_state`."""
        check_options(Options(backend=backend))
        bound = self.signature.bind(args, named, NAMES, time=False)
        batch = bound.sizes.batch
        places = self._named(bound, out_state, batch, "out_state")

        def call(stage: Function, arguments: list[Tensor], given: Any) -> tuple[Outputs, State]:
            place = None if places is None else self._packed(stage, places)
            return stage.step(*arguments, state=given, out_state=place, backend=backend)

        outputs, final = self._through(bound, self._named(bound, state, batch, "state"), call)
        return outputs, self._packed(self, final) if out_state is None else out_state

    def _through(
        self,
        bound: Bound,
        states: Values | None,
        call: Callable[[Function, list[Tensor], Any], tuple[Outputs, State | None]],
    ) -> tuple[Outputs, Values]:
        """The outputs and what is carried; `call` runs one stage on its arguments and its initial state.

        No `states`: zeros, or what is learned. What is handed on is float32, float64 in float64.
        """
        given = (*bound.inputs, *self._params(bound))
        names = (item.name for item in self.recurrence.arguments)
        known, final = dict(zip(names, given, strict=True)), Values()
        for stage in self.stages:
            recurrence = stage.recurrence
            arguments = _arguments(recurrence, known, bound.sizes.heads)
            outputs, carried = call(stage, arguments, None if states is None else self._packed(stage, states))
            for output, value in zip(recurrence.outputs, _tuple(outputs), strict=True):
                known[output.name] = value
            if carried is not None:
                arrays = (array.name for array in stage.carry.arrays)
                final |= zip(arrays, _tuple(carried), strict=True)
        results = (known[output.name].to(bound.output_dtype) for output in self.recurrence.outputs)
        return single(tuple(results)), final

    def _named(self, bound: Bound, given: Any, count: int, what: str) -> Values | None:
        """What is carried, by name, if it is given."""
        if given is None:
            return None
        states = self.carry.unpack(given, count, bound.sizes, bound.dtype, bound.device, what)
        return {array.name: state for array, state in zip(self.carry.arrays, states, strict=True)}

    @staticmethod
    def _packed(function: Function, states: Values) -> State:
        """What the function carries of the states, as it takes and returns them."""
        return function.carry.pack(tuple(states[array.name] for array in function.carry.arrays))


def _arguments(recurrence: Recurrence, known: Mapping[str, Tensor], heads: int) -> list[Tensor]:
    """The arguments of a stage; where none shows the number of heads, the first as one per head."""
    values = [known[item.name] for item in recurrence.arguments]
    if all(item.per_group if isinstance(item, Input) else item.shared for item in recurrence.arguments):
        axis = -1 - len(recurrence.arguments[0].axes)
        values[0] = values[0].repeat_interleave(heads // values[0].shape[axis], axis)
    return values


def stage_module(module: ModuleType, number: int) -> SimpleNamespace:
    """The passes of one stage in the generated module of all; stages are counted from 1."""
    prefix = f"stage{number}_"
    found = {name.removeprefix(prefix): f for name, f in vars(module).items() if name.startswith(prefix)}
    return SimpleNamespace(**found)


def _tuple(values: Any) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)
