"""What is launched: no more kernels, and no more stores, than a call asks for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import rnnc.ops
from rnnc.ops import triton_recording
from rnnc.ops.function import Function
from rnnc.ops.operator import Operator
from rnnc.ops.stages import Pipeline
from rnnc.ops.triton_recording import Recorded, Shapes, record

pytest.importorskip("triton")


def parts(name: str) -> tuple[Function, ...]:
    """What runs kernels of its own: the operator, or its stages."""
    operator: Function = getattr(rnnc.ops, name)
    return operator.stages if isinstance(operator, Pipeline) else (operator,)


BY_NAME = {part.recurrence.name: part for name in rnnc.ops.builtin_names() for part in parts(name)}


def launches(name: str, T: int = 40, **options: Any) -> tuple[tuple[Recorded, ...], tuple[Recorded, ...]]:
    part = BY_NAME[name]
    axes = {axis: 2 if axis in part.recurrence.loops else 16 for axis in part.recurrence.axes}
    module = part.kernels.available[0]
    return record(module, part.recurrence, Shapes(2, T, 4, 2, axes), torch.float32, **options)


def stored(group: tuple[Recorded, ...], array: str) -> bool:
    """Whether a kernel is given memory for the array to write."""
    roles = "_scan", "_post", "_undivided"
    writers = [each for each in group if array in each.options and each.kernel.endswith(roles)]
    return any(each.options[array] is not None for each in writers)


@pytest.mark.parametrize("name", BY_NAME)
def test_without_gradients_no_states_are_stored(name: str) -> None:
    trained, _ = launches(name)
    forward, backward = launches(name, wanted=())
    assert not backward
    read = {key for launch in BY_NAME[name].kernels.available[0].BACKWARD for key, *_ in launch.reads}
    kept = [array for state in BY_NAME[name].recurrence.states if (array := f"{state.name}s") in read]
    assert all(stored(trained, array) for array in kept)
    after = [each.options for each in forward if each.kernel.endswith(("_post", "_undivided"))]
    spare = [array for array in kept if not any(array in options for options in after)]
    assert not any(stored(forward, array) for array in spare)
    saved = sum(each.bytes for each in trained) - sum(each.bytes for each in forward)
    assert saved > 0 or not spare


@pytest.mark.parametrize("form", ["chunked", "recurrent"])
def test_the_limits_of_packed_sequences_stay_on_the_device(form: str) -> None:
    """Their values are not read (these have none), so that a call can be part of a CUDA graph."""
    op = BY_NAME["kda"]
    shapes = Shapes(1, 40, 4, 4, dict.fromkeys(op.recurrence.axes, 16), packed=3)
    module = op.kernels.available[0]
    forward, backward = record(module, op.recurrence, shapes, torch.float32, states=True, form=form)
    assert all(each.options["cu_seqlens"].is_meta for each in (*forward, *backward[:-1]))


class Noted(TorchDispatchMode):
    """Notes what torch does beside kernels, and the launches."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("packed", "keep", "form"), [(0, True, "chunked"), (3, False, "chunked"), (3, True, "recurrent")]
)
@pytest.mark.parametrize("name", BY_NAME)
def test_beside_launches_memory_is_only_asked_for(
    name: str, packed: int, keep: bool, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not filled, copied or read on the host, which a CUDA graph does not allow, from the first launch to the
    last; forward and backward, with states at both ends.
    """
    part, noted = BY_NAME[name], Noted()

    def launched(*arguments: Any) -> Recorded:
        noted.names.append("launch")
        return Recorded(*arguments)

    monkeypatch.setattr(triton_recording, "Recorded", launched)
    axes = {axis: 2 if axis in part.recurrence.loops else 16 for axis in part.recurrence.axes}
    shapes = Shapes(1 if packed else 2, 40, 4, 2, axes, packed)
    module = part.kernels.available[0]
    with noted:
        record(module, part.recurrence, shapes, torch.bfloat16, states=True, form=form, keep=keep)
    last = len(noted.names) - noted.names[::-1].index("launch")
    between = set(noted.names[noted.names.index("launch") : last]) - {"launch"}
    assert between <= {"aten.empty.memory_format", "aten.empty_like.default", "aten.detach.default"}


@pytest.mark.parametrize("name", BY_NAME)
def test_between_kernels_goes_nothing_per_channel_in_float32(name: str) -> None:
    """Of calls in 16 bits: what one kernel writes for every token and channel and another reads."""
    part = BY_NAME[name]
    axes = {axis: 2 if axis in part.recurrence.loops else 16 for axis in part.recurrence.axes}
    module = part.kernels.available[0]
    forward, backward = record(module, part.recurrence, Shapes(2, 40, 4, 4, axes), torch.bfloat16)
    given = {launch.kernel: launch.options for launch in (*forward, *backward)}
    launches = [launch for launch in (*module.FORWARD, *module.BACKWARD) if launch.kernel in given]
    read = {key for launch in launches for key, *_ in launch.reads}
    rows = 2 * 40 * 4 * math.prod(axes[axis] for axis in part.recurrence.loops)
    handed = 0
    for launch in launches:
        for key, argument, *_ in launch.writes:
            array = given[launch.kernel][argument] if key in read else None
            handed += array is not None
            if array is not None and array.dtype == torch.float32:
                assert array.numel() <= rows, (launch.kernel, argument, array.shape)
    assert handed


def test_kernels_for_gradients_that_nobody_wants_are_left_out() -> None:
    everything, values = launches("gla")[1], launches("gla", wanted=("v",))[1]
    assert everything[-1].kernel == "gla_chunked_grads_channels"
    assert [each.kernel for each in values] == ["gla_chunked_reverse", "gla_chunked_grads"]
    stored = [x for each in values for name, x in each.options.items() if name in ("dq", "dk", "dgk")]
    assert all(x is None for x in stored)
    _, one = launches("gated_delta_net", wanted=("A_log",))
    assert len(one[-1].options["targets"]) == 1


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_computed_again_is_not_stored_again(name: str) -> None:
    _, backward = launches(name, keep=False)
    assert not any(stored(backward, output.name) for output in BY_NAME[name].recurrence.outputs)


@pytest.mark.parametrize("name", BY_NAME)
def test_few_launches(name: str) -> None:
    """Two forward; four backward, whether the states are kept or not. One more each, where sums over values
    stand between one walk and the other.
    """
    kept, anew = launches(name), launches(name, keep=False)
    more = any(each.kernel.endswith("_post") for each in kept[0])
    assert max(len(kept[0]), len(anew[0])) <= 2 + more
    assert max(len(kept[1]), len(anew[1])) <= 4 + more


@pytest.mark.parametrize("name", BY_NAME)
def test_two_launches_forward_and_four_backward(name: str) -> None:
    """At the sizes of models, where nothing is kept; what the backward pass begins with counts as its own."""
    part = BY_NAME[name]
    axes = {axis: 2 if axis in part.recurrence.loops else 128 for axis in part.recurrence.axes}
    shapes = Shapes(1, 8192, 96, 96, axes)
    how = part.kernels.choices.tiled(axes, 2, torch.device("cpu"), shapes.length)
    module = part.kernels.available[0]
    forward, backward = record(module, part.recurrence, shapes, torch.bfloat16, keep=False, how=how)
    assert len(forward) <= 2
    assert len(backward) <= 4


def test_a_longer_sequence_takes_no_more_launches() -> None:
    short, long = (
        [[each.kernel for each in group] for group in launches("momentum_delta", T)] for T in (40, 8192)
    )
    assert short == long


@pytest.mark.parametrize("name", ["mamba2", "rwkv7"])
def test_gradients_are_summed_in_one_launch(name: str) -> None:
    """Of all parameters, and of the inputs per group."""
    op, (_, backward) = BY_NAME[name], launches(name)
    (last,) = (launch for launch in backward if launch.kernel == "sums")
    assert last is backward[-1]
    grouped = sum(item.per_group for item in op.recurrence.inputs)
    assert len(last.options["targets"]) == len(op.recurrence.params) + grouped


def test_launches_are_prepared_once_for_calls_of_equal_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    from rnnc.ops.triton_launch import Runner

    op = Operator(
        *(getattr(rnnc.ops.linear_attention, name) for name in ("spec", "recurrence", "module", "source"))
    )
    prepared = []
    prepare = Runner._prepare

    def counted(runner: Runner, *args: Any) -> Any:
        prepared.append(args[0].kernel)
        return prepare(runner, *args)

    monkeypatch.setattr(Runner, "_prepare", counted)
    vectors = [torch.randn(2, 20, 1, 5) for _ in range(6)]

    def call(*given: torch.Tensor, **options: Any) -> torch.Tensor:
        output: torch.Tensor = op(*given, backend="triton", form="chunked", **options)[0]
        return output

    for number, given in enumerate((vectors[:3], vectors[3:])):
        torch.testing.assert_close(call(*given), op(*given, backend="torch")[0], atol=1e-5, rtol=1e-4)
        if number == 0:
            first = len(prepared)
    assert len(prepared) == first > 0
    torch.testing.assert_close(call(*vectors[:3], reverse=True), op(*vectors[:3], reverse=True)[0])
    assert len(prepared) == 2 * first
    leaves = [x.requires_grad_() for x in vectors[:3]]
    call(*leaves).sum().backward()
    assert len(prepared) > 3 * first
