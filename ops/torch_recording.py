"""What torch itself does in a call around the kernels, found without data: delayed values are formed, what is
handed on is cast, gradients of a value with several uses are added up.

The call is the real one, on tensors without data, with kernels that compute nothing; every operation of torch
that moves data is counted, and what is held for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from rnnc.dsl.recurrence import Recurrence
from rnnc.ops.arguments import Bound, base
from rnnc.ops.delays import WithDelays
from rnnc.ops.function import Function
from rnnc.ops.options import Options
from rnnc.ops.stages import Pipeline

Tensors = tuple[Tensor, ...]
Moved = tuple[str, int]  # an operation, and the bytes that it reads and writes
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
FRESH = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


@dataclass(frozen=True, slots=True)
class Around:
    """The operations forward and backward; `saved`: the bytes that are held for the backward pass, beside the
    caller's own tensors and what the kernels keep.
    """

    forward: tuple[Moved, ...]
    backward: tuple[Moved, ...]
    saved: int


class Operations(TorchDispatchMode):
    """Counts what operations read and write: an array that is broadcast once, a view nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Moved] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = _tensors((*args, *(kwargs or {}).values()))
        places = {x.untyped_storage()._cdata for x in given}
        made = [x for x in _tensors((result,)) if x.untyped_storage()._cdata not in places]
        written = _written(func, args)
        name = func.overloadpacket.__name__
        if name not in FRESH and (made or written):
            filled = {id(x) for x in written} if name in ("copy_", "zero_", "fill_") else set()
            read = {id(x): x for x in given if id(x) not in filled}
            self.found.append((name, sum(map(_bytes, (*read.values(), *made, *written)))))
        return result


def around(
    function: Function,
    sizes: Mapping[str, int],
    dtype: torch.dtype,
    states: bool,
    form: str = "chunked",
    inside: bool = False,
) -> Around:
    """What torch does in a call; `sizes` gives B, T, H, G where there are groups, and the axes.

    Scalars per token and parameters are float32; with `states` there is an initial and a final state.
    `inside`: the kernels form what is delayed.
    """
    with FakeTensorMode():
        return _around(bare(function, inside), sizes, dtype, states, form)


def _around(
    function: Function, sizes: Mapping[str, int], dtype: torch.dtype, states: bool, form: str
) -> Around:
    given, start = _arguments(function, sizes, dtype, states)
    own = {x.untyped_storage()._cdata for x in (*given, *start)}
    held: dict[int, int] = {}

    def hold(x: Tensor) -> Tensor:
        place = x.untyped_storage()._cdata
        if place not in own:
            held[place] = x.untyped_storage().nbytes()
        return x

    state = None if not start else start[0] if len(start) == 1 else start
    with Operations() as forward, torch.autograd.graph.saved_tensors_hooks(hold, lambda x: x):
        outputs, final = function(*given, initial_state=state, output_final_state=states, form=form)
    results = [x for part in (outputs, final) for x in _tensors((part,))]
    cotangents = [torch.empty_like(x) for x in results]
    with Operations() as backward:
        torch.autograd.grad(results, [*given, *start], cotangents, allow_unused=True)
    return Around(tuple(forward.found), tuple(backward.found), sum(held.values()))


def _arguments(
    function: Function, sizes: Mapping[str, int], dtype: torch.dtype, states: bool
) -> tuple[Tensors, Tensors]:
    """Inputs and parameters, and the states of a call, without data; all ask for a gradient."""
    tensors = []
    for item in function.recurrence.inputs:
        lead = (sizes["B"], sizes["T"], sizes["G" if item.per_group else "H"])
        kind = dtype if item.axes else torch.float32
        tensors.append(torch.empty(*lead, *(sizes[axis] for axis in item.axes), dtype=kind))
    for param in function.recurrence.params:
        each = () if param.shared else (sizes["H"],)
        tensors.append(torch.empty(*each, *(sizes[base(axis)] for axis in param.axes)))
    start = [
        torch.empty(sizes["B"], sizes["H"], *(sizes[axis] for axis in array.axes))
        for array in function.carry.arrays
        if states
    ]
    return tuple(x.requires_grad_() for x in tensors), tuple(x.requires_grad_() for x in start)


def bare(function: Function, inside: bool = False) -> Function:
    """The function with kernels that compute nothing; `inside`: those that form what is delayed, if any."""
    made = object.__new__(type(function))
    vars(made).update(vars(function))
    if isinstance(made, WithDelays):
        made.inner = bare(made.inner)
        made.inside = _Idle(made.inside.recurrence) if made.inside and inside else None
    elif isinstance(made, Pipeline):
        made.stages = tuple(map(bare, made.stages))
    else:
        made.kernels = _Idle(made.recurrence)
    return made


@dataclass(frozen=True)
class _Idle:
    """In the place of kernels: results without data, which depend on all that a call is given."""

    recurrence: Recurrence

    def take(self, backend: str, form: str, bound: Bound) -> str | None:
        return form

    def replaces(self, bound: Bound, options: Options) -> bool:
        return options.form == "chunked"

    def stretched(self, bound: Bound, options: Options) -> bool:
        return False

    def run(
        self,
        bound: Bound,
        params: Tensors,
        states: Tensors,
        form: str,
        options: Options,
        precise: bool,
        starts: Tensors = (),
    ) -> tuple[Tensors, Tensors]:
        sizes, kind = bound.sizes, torch.float32 if precise else bound.output_dtype
        lead = (sizes.batch, sizes.length)
        shapes = [((*lead, *sizes.shape(output.axes)), kind) for output in self.recurrence.outputs]
        count = len(shapes)
        if options.output_final_state:
            shapes += [((sizes.batch, *sizes.shape(s.axes)), torch.float32) for s in self.recurrence.states]
        results: Tensors = _Nothing.apply(shapes, *bound.inputs, *params, *starts, *states)  # type: ignore[no-untyped-call]
        return results[:count], results[count:]

    def step(
        self, bound: Bound, params: Tensors, states: Tensors, places: Tensors | None, precise: bool
    ) -> tuple[Tensors, Tensors]:
        raise NotImplementedError("one token is not recorded")


class _Nothing(torch.autograd.Function):
    """Results of given shapes and dtypes, without data."""

    @staticmethod
    def forward(ctx: Any, shapes: Sequence[tuple[tuple[int, ...], torch.dtype]], *tensors: Tensor) -> Tensors:
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return tuple(torch.empty(shape, dtype=dtype) for shape, dtype in shapes)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        return None, *(torch.empty_like(x) if wanted else None for x, wanted in pairs)


def _written(func: Any, args: Sequence[Any]) -> list[Tensor]:
    """The arguments that the operation writes."""
    places = [i for i, a in enumerate(func._schema.arguments) if a.alias_info and a.alias_info.is_write]
    return [args[i] for i in places if i < len(args)]


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    """All tensors among the values and in the lists among them."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _bytes(x: Tensor) -> int:
    """Of the entries that are there, each once where the tensor repeats them."""
    there = math.prod(size for size, stride in zip(x.shape, x.stride(), strict=True) if stride or size == 0)
    return there * x.element_size()
