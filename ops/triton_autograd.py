"""The autograd node around the Triton kernels of a generated module."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from rnnc.dsl.recurrence import Input, Param, Recurrence
from rnnc.ops.errors import UnavailableError
from rnnc.ops.triton_launch import Call, Runner, Sum

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class TritonPlan:
    """One call: the module's kernels, the shapes, what is declared.

    `keep`: arrays are kept for the backward pass; `final`: the final state is returned. The tensors of a call
    are inputs, parameters and, unless it starts at zero, the initial state.
    """

    module: ModuleType
    call: Call
    recurrence: Recurrence
    keep: bool
    final: bool = True

    @property
    def declared(self) -> tuple[Input | Param, ...]:
        return (*self.recurrence.inputs, *self.recurrence.params)

    def arrays(self, tensors: Tensors) -> tuple[dict[str, Tensor], Tensor | None]:
        """Inputs and parameters by name, and the initial state if there is one."""
        declared = self.declared
        named = {d.name: x.contiguous() for d, x in zip(declared, tensors, strict=False)}
        return named, tensors[-1].contiguous() if len(tensors) > len(declared) else None

    def state(self) -> Tensor:
        """Room for a state of every sequence."""
        (state,) = self.recurrence.states
        shape = (self.call.sequences, self.call.heads, *(self.call.sizes[axis] for axis in state.axes))
        return torch.empty(shape, dtype=torch.float32, device=self.call.device)


def apply(plan: TritonPlan, *tensors: Tensor) -> tuple[Tensors, Tensors]:
    """The outputs [B, T, H, axes] and, if the plan asks for it, the final state [N, H, axes]."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        results = cast(Tensors, _Recurrence.apply(plan, *tensors))  # type: ignore[no-untyped-call]
    else:
        results = _forward(plan, tensors)[0]
    count = len(plan.recurrence.outputs)
    return results[:count], results[count:]


class _Recurrence(torch.autograd.Function):
    """A plan as a function of its tensors that can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, plan: TritonPlan, *tensors: Tensor) -> Tensors:
        results, arrays = _forward(plan, tensors)
        kept = _kept(plan) if plan.keep else []
        ctx.plan, ctx.kept = plan, kept
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *(arrays[key] for key in kept))
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        saved: Tensors = ctx.saved_tensors
        count = len(saved) - len(ctx.kept)
        tensors, kept = saved[:count], dict(zip(ctx.kept, saved[count:], strict=True))
        with torch.no_grad():
            found = _backward(ctx.plan, tensors, kept, gradients, ctx.needs_input_grad[1:])
        if not torch.is_grad_enabled():
            return None, *found
        places = [i for i, gradient in enumerate(found) if gradient is not None]
        given = [gradient for gradient in found if gradient is not None]
        sources = [x for x in (*tensors, *gradients) if x is not None and x.requires_grad]
        name = ctx.plan.recurrence.name
        guarded = _Once.apply(name, len(given), *given, *sources)  # type: ignore[no-untyped-call]
        for place, gradient in zip(places, guarded, strict=True):
            found[place] = gradient
        return None, *found


class _Once(torch.autograd.Function):
    """The first `count` tensors as they are; they depend on all tensors, in a way that is not known."""

    @staticmethod
    def forward(ctx: Any, name: str, count: int, *tensors: Tensor) -> Tensors:
        ctx.name = name
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise UnavailableError(
            f"triton has no second derivative of {ctx.name} in this version: use backend='torch'"
        )


def _forward(plan: TritonPlan, tensors: Tensors) -> tuple[Tensors, dict[str, Tensor]]:
    """Outputs and final state, and all arrays by key."""
    arrays, start = plan.arrays(tensors)
    final = plan.state() if plan.final else None
    with _on(plan.call.device):
        _run_forward(Runner(plan.module, plan.call, arrays), start, final)
    outputs = tuple(arrays[output.name] for output in plan.recurrence.outputs)
    return outputs if final is None else (*outputs, final), arrays


def _run_forward(runner: Runner, start: Tensor | None, final: Tensor | None) -> None:
    for launch in runner.module.FORWARD:
        serial = launch.role == "scan"
        runner.run(launch, start if serial else None, final if serial else None)


def _backward(
    plan: TritonPlan,
    tensors: Tensors,
    kept: dict[str, Tensor],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The gradient of every wanted tensor, None for the others."""
    arrays, start = plan.arrays(tensors)
    arrays |= kept
    runner = Runner(plan.module, plan.call, arrays)
    outputs = plan.recurrence.outputs
    dend = gradients[-1] if plan.final else None
    dstart = None if start is None or not wanted[-1] else plan.state()
    with _on(plan.call.device):
        if not kept:
            _run_forward(runner, start, None)
        for output, gradient in zip(outputs, gradients, strict=False):
            shape = plan.call.shape("token", output.axes)
            if gradient is None:
                gradient = torch.zeros(shape, dtype=plan.call.dtype, device=plan.call.device)
            arrays[f"d'{output.name}"] = gradient.contiguous()
        for launch in plan.module.BACKWARD:
            if launch.role == "reverse":
                runner.run(launch, None if dend is None else dend.contiguous(), dstart)
            else:
                runner.run(launch)
        found = _collect(runner, len(plan.recurrence.inputs), tensors, plan.declared, wanted)
    return found if start is None else [*found, dstart]


def _kept(plan: TritonPlan) -> list[str]:
    """What the backward kernels read that the forward kernels wrote."""
    written = {key for launch in plan.module.FORWARD for key, *_ in launch.writes}
    read = [key for launch in plan.module.BACKWARD for key, *_ in launch.reads]
    return [key for key in dict.fromkeys(read) if key in written]


def _collect(
    runner: Runner, inputs: int, tensors: Tensors, declared: Sequence[Input | Param], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of inputs and parameters: the heads of a group summed, and the chunks of a parameter."""
    found: list[Tensor | None] = []
    sums: list[Sum] = []
    for item, tensor, want in zip(declared, tensors, wanted, strict=False):
        gradient = runner.arrays.get(f"d'{item.name}") if want else None
        if gradient is None or (len(found) < inputs and gradient.shape == tensor.shape):
            found.append(gradient)
            continue
        target = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        found.append(target)
        if len(found) <= inputs:  # [B, T, H, axes] to [B, T, G, axes]
            rows, width = gradient.shape[2] // tensor.shape[2], math.prod(tensor.shape[3:])
        else:  # [chunks, H, axes] to [H, axes], or to [axes] where all heads share it
            rows, width = gradient.numel() // tensor.numel(), tensor.numel()
        sums.append(Sum(gradient, target, rows, width))
    runner.sum(sums)
    return found


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
