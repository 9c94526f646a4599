"""The tensors of a call, the operator on them, and the same in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import rnnc.ops
from benchmarks.entries import Call
from rnnc import measurement
from rnnc.ops.arguments import Sizes
from rnnc.ops.delays import WithDelays
from rnnc.ops.function import Function
from rnnc.ops.stages import Pipeline

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class Tensors:
    """Inputs and parameters in order of declaration, initial states, the limits of packed sequences."""

    arguments: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    cu_seqlens: Tensor | None

    def exact(self) -> Tensors:
        """The same in float64."""
        arguments, states = (tuple(x.double() for x in xs) for xs in (self.arguments, self.states))
        return Tensors(arguments, states, self.cu_seqlens)

    def to(self, device: str) -> Tensors:
        """The same on another device."""
        arguments, states = (tuple(x.to(device) for x in xs) for xs in (self.arguments, self.states))
        return Tensors(arguments, states, None if self.cu_seqlens is None else self.cu_seqlens.to(device))

    def heads(self, batch: int, count: int, inputs: int) -> Tensors:
        """The first sequences and heads, which do not depend on the others. No groups, no states."""
        some = [x[:batch, :, :count] for x in self.arguments[:inputs]]
        return replace(self, arguments=(*some, *(x[:count] for x in self.arguments[inputs:])))


def operator(model: str) -> Any:
    """A built-in operator."""
    return getattr(rnnc.ops, model)


def parts(function: Function) -> tuple[Function, ...]:
    """What runs kernels of its own: the function, or its stages."""
    if isinstance(function, WithDelays):
        return parts(function.inner)
    return function.stages if isinstance(function, Pipeline) else (function,)


def form(model: str, call: Call) -> str:
    """That of a call; where chunks are asked for and not all stages have them, each takes what it has."""
    kernels: list[Any] = [part.kernels for part in parts(operator(model))]
    return "auto" if call.form == "chunked" and any(each.no_chunks for each in kernels) else call.form


def draw(model: str, call: Call, dtype: str, device: str) -> Tensors:
    """As `rnnc.measurement.draw`; the states are normal."""
    recurrence, gates = operator(model).recurrence, operator(model).signature.gates()
    axes = call.axes(recurrence)
    sizes = Sizes(call.B, call.T, call.H, axes)
    arguments = measurement.draw(recurrence, sizes, TYPES[dtype], device, gates)
    if call.G:
        step = call.H // call.G
        arguments = [
            x[:, :, ::step].contiguous() if getattr(item, "per_group", False) else x
            for item, x in zip((*recurrence.inputs, *recurrence.params), arguments, strict=True)
        ]
    source = torch.Generator(device).manual_seed(3)
    count = len(call.lengths) or call.B
    states = tuple(
        torch.randn((count, call.H, *(axes[axis] for axis in state.axes)), generator=source, device=device)
        for state in recurrence.states
        if call.states
    )
    bounds = torch.tensor((0, *call.lengths)).cumsum(0).to(device, torch.int32) if call.lengths else None
    return Tensors(tuple(arguments), states, bounds)
