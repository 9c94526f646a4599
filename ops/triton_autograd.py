"""The autograd node around the Triton kernels of a generated module."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from rnnc.dsl.recurrence import Earlier, Input, Param, Recurrence
from rnnc.ops.errors import UnavailableError
from rnnc.ops.triton_call import Call, Sum
from rnnc.ops.triton_launch import Runner, run_before, run_sums
from rnnc.ops.triton_steps import StepRunner

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class TritonPlan:
    """One call: the module's kernels, the shapes, what is declared.

    `keep`: arrays are kept for the backward pass; `final`: the final state is returned. The tensors of a call
    are inputs, parameters and, unless they start at zero, the initial states. `precise`: outputs are float32.
    """

    module: ModuleType
    call: Call
    recurrence: Recurrence
    keep: bool
    final: bool = True
    form: str = "chunked"
    precise: bool = False

    @cached_property
    def declared(self) -> tuple[Input | Param, ...]:
        """What the tensors are: without rows of the tokens before, with what is carried beside the states."""
        given = self.call.starts
        left = {each.name for each in self.recurrence.earlier if each.kind != "start" or not given}
        return tuple(item for item in self.recurrence.arguments if item.name not in left)

    @cached_property
    def before(self) -> tuple[Earlier, ...]:
        """The inputs that are others, of the tokens before."""
        return tuple(each for each in self.recurrence.earlier if each.kind == "row")

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.recurrence.outputs)

    def packed(self, bounds: Tensor) -> TritonPlan:
        """The same for other limits of as many sequences; what was found out of it stays."""
        again = object.__new__(TritonPlan)
        again.__dict__.update(self.__dict__, call=self.call.packed(bounds))
        return again

    def arrays(self, tensors: Tensors) -> tuple[dict[str, Tensor], Tensors]:
        """Inputs and parameters by name, and the initial states if there are any."""
        declared = self.declared
        named = {d.name: x.contiguous() for d, x in zip(declared, tensors, strict=False)}
        named |= {each.name: named[each.source] for each in self.before}
        return named, tuple(x.contiguous() for x in tensors[len(declared) :])

    def states(self) -> Tensors:
        """Room for the states of every sequence."""
        lead = (self.call.sequences, self.call.heads)
        return tuple(
            torch.empty(
                (*lead, *(self.call.sizes[axis] for axis in state.axes)),
                dtype=torch.float32,
                device=self.call.device,
            )
            for state in self.recurrence.states
        )

    def first_gradients(self, names: Collection[str]) -> dict[str, Tensor]:
        """Room for the gradients of what was carried into each sequence: zeros, for those without tokens."""
        starts = (each.name for each in self.recurrence.earlier if each.kind == "start")
        axes = {param.name: param.axes for param in self.recurrence.params}
        return {
            f"d'{name}": torch.zeros(
                self.call.shape("start", axes[name]), dtype=torch.float32, device=self.call.device
            )
            for name in starts
            if f"d'{name}" in names
        }

    def wide_outputs(self) -> dict[str, Tensor]:
        """Room for the outputs in float32."""
        return {
            output.name: torch.empty(
                self.call.shape("token", output.axes), dtype=torch.float32, device=self.call.device
            )
            for output in self.recurrence.outputs
        }

    def runner(self, arrays: dict[str, Tensor]) -> Runner | StepRunner:
        """What launches the kernels of the form."""
        kind = StepRunner if self.form == "recurrent" else Runner
        return kind(self.module, self.call, arrays)


def apply(plan: TritonPlan, *tensors: Tensor) -> tuple[Tensors, Tensors]:
    """The outputs [B, T, H, axes] and, if the plan asks for it, the final state [N, H, axes]."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        results = cast(Tensors, _Recurrence.apply(plan, *tensors))  # type: ignore[no-untyped-call]
    else:
        results = _forward(plan, tensors, False)[0]
    count = len(plan.recurrence.outputs)
    return results[:count], results[count:]


class _Recurrence(torch.autograd.Function):
    """A plan as a function of its tensors that can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, plan: TritonPlan, *tensors: Tensor) -> Tensors:
        results, arrays, kept = _forward(plan, tensors, plan.keep)
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


def _forward(plan: TritonPlan, tensors: Tensors, keep: bool) -> tuple[Tensors, dict[str, Tensor], list[str]]:
    """Outputs and final states, all arrays by key, and the keys of those that are kept."""
    arrays, start = plan.arrays(tensors)
    if plan.precise:
        arrays |= plan.wide_outputs()
    final = plan.states() if plan.final else ()
    runner = plan.runner(arrays)
    with on(plan.call.device):
        runner.forward(start, final, keep, plan.outputs)
    return (*(arrays[name] for name in plan.outputs), *final), arrays, runner.kept if keep else []


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
    runner = plan.runner(arrays)
    outputs = plan.recurrence.outputs
    count = len(plan.declared)
    dstart = plan.states() if start and any(wanted[count:]) else ()
    with on(plan.call.device):
        for output, gradient in zip(outputs, gradients, strict=False):
            shape = plan.call.shape("token", output.axes)
            if gradient is None:
                dtype = torch.float32 if plan.precise else plan.call.dtype
                gradient = torch.zeros(shape, dtype=dtype, device=plan.call.device)
            arrays[f"d'{output.name}"] = gradient.contiguous()
        names = {f"d'{d.name}" for d, want in zip(plan.declared, wanted, strict=False) if want}
        names |= {f"d'{each.name}" for each in plan.before if f"d'{each.source}" in names}
        arrays |= plan.first_gradients(names)
        last = _cotangents(plan, gradients[len(outputs) :])
        if kept:
            runner.backward(last, dstart, names)
        else:
            runner.again(start, last, dstart, names)
        run_before(runner, [(f"d'{e.name}", f"d'{e.source}", e.lag) for e in plan.before])
        found = _collect(plan, arrays, tensors, wanted)
    return [*found, *(dstart or [None] * len(start))]


def _cotangents(plan: TritonPlan, gradients: Sequence[Tensor | None]) -> Tensors:
    """The cotangents of the final states; none where all are zero."""
    if all(gradient is None for gradient in gradients):
        return ()
    pairs = zip(gradients, plan.states(), strict=True)
    return tuple(torch.zeros_like(room) if g is None else g.contiguous() for g, room in pairs)


def _collect(
    plan: TritonPlan, arrays: dict[str, Tensor], tensors: Tensors, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of inputs and parameters: summed over the heads of a group and the tiles of a state, and
    for a parameter over chunks or sequences.
    """
    found: list[Tensor | None] = []
    sums: list[Sum] = []
    inputs = sum(isinstance(item, Input) for item in plan.declared)
    starts = {each.name for each in plan.recurrence.earlier if each.kind == "start"}
    for item, tensor, want in zip(plan.declared, tensors, wanted, strict=False):
        gradient = arrays.get(f"d'{item.name}") if want else None
        whole = len(found) < inputs or item.name in starts
        if gradient is None or (whole and gradient.shape == tensor.shape):
            found.append(gradient)
            continue
        target = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        # [B, T, H, tiles, axes] to [B, T, G, axes]; [chunks, H, axes] to [H, axes], or, where all heads share
        # it, to [axes].
        width = math.prod(tensor.shape[3:]) if len(found) < inputs else tensor.numel()
        found.append(target)
        sums.append(Sum(gradient, target, gradient.numel() // tensor.numel(), width))
    run_sums(plan.module, sums, plan.call.prepared)
    return found


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
