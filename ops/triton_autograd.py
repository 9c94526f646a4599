"""The autograd node around the Triton kernels of a generated module."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from rnnc.dsl.recurrence import Recurrence
from rnnc.ops.triton_launch import Call, Runner

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class TritonPlan:
    """One call: the module's kernels, the shapes, what is declared, and whether states are kept."""

    module: ModuleType
    call: Call
    recurrence: Recurrence
    keep: bool

    def arrays(self, tensors: Tensors) -> tuple[dict[str, Tensor], Tensors]:
        """Inputs and parameters by name, and the states."""
        declared = [*self.recurrence.inputs, *self.recurrence.params]
        named = {d.name: x.contiguous() for d, x in zip(declared, tensors[: len(declared)], strict=True)}
        return named, tensors[len(declared) :]


def apply(plan: TritonPlan, *tensors: Tensor) -> tuple[Tensors, Tensors]:
    """The outputs [B, T, H, axes] and the final states [N, H, axes]."""
    results = cast(Tensors, _Recurrence.apply(plan, *tensors))  # type: ignore[no-untyped-call]
    count = len(plan.recurrence.outputs)
    return results[:count], results[count:]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: TritonPlan, *tensors: Tensor) -> Tensors:
        arrays, (start,) = plan.arrays(tensors)
        final = torch.empty_like(start, memory_format=torch.contiguous_format)
        runner = Runner(plan.module, plan.call, arrays)
        for launch in plan.module.FORWARD:
            serial = launch.role == "scan"
            runner.run(launch, start.contiguous() if serial else None, final if serial else None)
        kept = [key for key in _kept(plan) if plan.keep]
        ctx.plan, ctx.kept = plan, kept
        ctx.save_for_backward(*tensors, *(arrays[key] for key in kept))
        return (*(arrays[output.name] for output in plan.recurrence.outputs), final)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: TritonPlan = ctx.plan
        saved = ctx.saved_tensors
        tensors = saved[: len(saved) - len(ctx.kept)]
        arrays, (start,) = plan.arrays(tensors)
        arrays |= dict(zip(ctx.kept, saved[len(tensors) :], strict=True))
        runner = Runner(plan.module, plan.call, arrays)
        if not ctx.kept:
            for launch in plan.module.FORWARD:
                runner.run(launch, start.contiguous() if launch.role == "scan" else None)
        outputs = plan.recurrence.outputs
        for output, gradient in zip(outputs, gradients, strict=False):
            shape = arrays_shape(plan, output.axes)
            given = torch.zeros(shape, dtype=plan.call.dtype, device=start.device) if gradient is None else gradient
            arrays[f"d'{output.name}"] = given.contiguous()
        dend = gradients[len(outputs)]
        dstart = torch.empty_like(start, memory_format=torch.contiguous_format)
        for launch in plan.module.BACKWARD:
            if launch.role == "reverse":
                runner.run(launch, None if dend is None else dend.contiguous(), dstart)
            else:
                runner.run(launch)
        return (None, *_collect(plan, arrays, ctx.needs_input_grad[1:], dstart, tensors))


def arrays_shape(plan: TritonPlan, axes: tuple[str, ...]) -> tuple[int, ...]:
    return plan.call.shape("token", axes)


def _kept(plan: TritonPlan) -> list[str]:
    """What the backward kernels read that the forward kernels wrote."""
    written = {key for launch in plan.module.FORWARD for key, *_ in launch.writes}
    read = [key for launch in plan.module.BACKWARD for key, *_ in launch.reads]
    return [key for key in dict.fromkeys(read) if key in written]


def _collect(
    plan: TritonPlan, arrays: dict[str, Tensor], wanted: tuple[bool, ...], dstart: Tensor, tensors: Tensors
) -> list[Tensor | None]:
    """The gradients in the order of the tensors: heads of a group and chunks summed."""
    found: list[Tensor | None] = []
    for item, tensor, want in zip(plan.recurrence.inputs, tensors, wanted, strict=False):
        gradient = arrays.get(f"d'{item.name}")
        if gradient is None or not want:
            found.append(None)
            continue
        groups = tensor.shape[2]
        if gradient.shape[2] != groups:
            gradient = gradient.unflatten(2, (groups, -1)).sum(3)
        found.append(gradient.to(tensor.dtype))
    count = len(found)
    for param, tensor, want in zip(plan.recurrence.params, tensors[count:], wanted[count:], strict=False):
        gradient = arrays.get(f"d'{param.name}")
        if gradient is None or not want:
            found.append(None)
            continue
        total = gradient.sum(0)
        found.append((total.sum(0) if param.shared else total).to(tensor.dtype))
    return [*found, dstart if wanted[-1] else None]
