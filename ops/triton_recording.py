"""What a call launches, found without a GPU: the real runner on tensors without data, kernels replaced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rnnc.codegen.hardware import SM_90
from rnnc.dsl.recurrence import Input, Recurrence
from rnnc.ops.arguments import base
from rnnc.ops.triton_autograd import TritonPlan, apply
from rnnc.ops.triton_call import UNTILED, Call, Tiled
from rnnc.ops.triton_stretches import WHOLE, Split
from rnnc.ops.triton_tiling import tiled, tiling

READ_IF = {"h0": "HAS_START", "ht": "HAS_END"}
TABLES = ("cu_seqlens", "chunk_offsets", "chunk_table")  # read where sequences are packed, or in stretches


@dataclass(frozen=True)
class Recorded:
    """One launch: the kernel's name, the grid and all arguments and options."""

    kernel: str
    grid: tuple[int, ...]
    options: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """The size of the tensors that the kernel reads or writes, each counted once."""
        tensors = {
            id(tensor): tensor.numel() * tensor.element_size()
            for name, value in self.options.items()
            for tensor in (value if isinstance(value, tuple) else (value,))
            if isinstance(tensor, Tensor) and self.options.get(READ_IF.get(name.partition("_")[0], ""), True)
            if name not in TABLES or self.options.get("PACKED", True)
        }
        return sum(tensors.values())


@dataclass(frozen=True)
class _Kernel:
    """Takes the place of a kernel of the module."""

    name: str
    launches: list[Recorded]

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda **options: self.launches.append(Recorded(self.name, grid, options))


@dataclass(frozen=True)
class Shapes:
    """The sizes of a call: B, T, H, G (heads of inputs per group) and the axes; packed sequences, if any."""

    batch: int
    length: int
    heads: int
    groups: int
    axes: Mapping[str, int]
    packed: int = 0


def record(
    module: ModuleType,
    recurrence: Recurrence,
    shapes: Shapes,
    dtype: torch.dtype,
    chunk: int | None = None,
    states: bool = False,
    reverse: bool = False,
    form: str = "chunked",
    keep: bool = True,
    wanted: Collection[str] | None = None,
    how: Tiled | None = None,
    split: Split = WHOLE,
    wide: Collection[str] = (),
) -> tuple[tuple[Recorded, ...], tuple[Recorded, ...]]:
    """The launches forward and backward, the latter for the gradients of the `wanted` arguments (None: all).

    Scalars per token and parameters are float32, and the inputs and outputs in `wide`; with `states`, there
    is an initial and a final state. Without `keep`, the backward pass begins with what it needs of the
    forward pass. `how`: how the chunked kernels run, if not as the choice for sm_90 has it, with chunks of
    `chunk` tokens if given; `split`: in stretches. Raises TooLarge.
    """
    launches: list[Recorded] = []
    groups = (module.FORWARD, module.BACKWARD, module.FORWARD_STEPS, module.BACKWARD_STEPS)
    cuts = tuple(module.CUTS.values())
    names = [launch.kernel for group in (*groups, module.TRANSITION, *cuts) for launch in group]
    names += ["sums", "combine", "chunk_tables", "add_earlier"]
    names += [pair.kernel for pair in module.JOINED]
    kernels = {name: _Kernel(name, launches) for name in names}
    stand_in: Any = SimpleNamespace(**(vars(module) | kernels))
    device, sizes = torch.device("meta"), shapes.axes
    if form == "recurrent":
        how = UNTILED
    elif how is None:
        how = tiled(tiling(module, sizes, dtype.itemsize, SM_90, chunk), SM_90)
    call = Call(
        batch=shapes.batch,
        length=shapes.length,
        heads=shapes.heads,
        sizes=sizes,
        value_axis=module.VALUE_AXIS,
        dtype=dtype,
        device=device,
        bounds=torch.empty(shapes.packed + 1, dtype=torch.int32, device=device) if shapes.packed else None,
        reverse=reverse,
        tiled=how,
        micro=module.MICRO_AXIS,
        split=split,
        starts=states and bool(recurrence.earlier),
    )
    precise = any(output.name in wide for output in recurrence.outputs)
    plan = TritonPlan(stand_in, call, recurrence, keep, states, form, precise)
    starts = {each.name for each in recurrence.earlier if each.kind == "start"}
    tensors = []
    for item in plan.declared:
        own = tuple(sizes[base(axis)] for axis in item.axes)
        if isinstance(item, Input):
            lead = (shapes.batch, shapes.length, shapes.groups if item.per_group else shapes.heads)
            kind = dtype if item.axes and item.name not in wide else torch.float32
            tensors.append(torch.empty(*lead, *own, dtype=kind, device=device))
        else:
            heads = () if item.shared else (shapes.heads,)
            each = (call.sequences, *heads) if item.name in starts else heads
            tensors.append(torch.empty(*each, *own, device=device))
    for declared, tensor in zip(plan.declared, tensors, strict=True):
        tensor.requires_grad_(wanted is None or declared.name in wanted)
    if states:
        tensors += [state.requires_grad_(wanted is None) for state in plan.states()]
    with torch.enable_grad():
        outputs, final = apply(plan, *tensors)
        forward = tuple(launches)
        results = [result for result in (*outputs, *final) if result.requires_grad]
        if results:
            torch.autograd.backward(results, tuple(map(torch.empty_like, results)))
    return forward, tuple(launches[len(forward) :])
