"""Sequences in stretches that are walked beside each other: the same values and gradients as in one walk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import rnnc.ops
from rnnc.codegen.hardware import SM_90
from rnnc.codegen.stretches import Load
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance
from rnnc.ops.trial import draw_trial
from rnnc.ops.triton_launch import Runner
from rnnc.ops.triton_stretches import WHOLE, split_tables

pytest.importorskip("triton")

NAMES = ("linear_attention", "mamba2", "gla", "gated_delta_net", "kda", "rwkv7", "delta_product", "gated_oja")
LENGTH = 2 * 16 + 5  # three chunks: a stretch of two and one of one


@pytest.fixture
def operator(request: pytest.FixtureRequest) -> Iterator[Operator]:
    found: Operator = getattr(rnnc.ops, request.param)
    yield found
    found.kernels.choices.stretches = None


def check(op: Operator, stretches: int | None, lengths: tuple[int, ...], **options: bool) -> None:
    """A call in float32 against the loop in float64: values, all gradients, initial and final states."""
    flags = {"packed": False, "initial": True, "reverse": False} | options
    recurrence = op.recurrence
    axes = dict(zip(recurrence.states[0].axes, (5, 4), strict=True)) | dict.fromkeys(recurrence.loops, 2)
    grouped = {item.name: 1 for item in recurrence.inputs if item.per_group}
    op.kernels.choices.stretches = stretches
    packed, initial, reverse = (flags[name] for name in ("packed", "initial", "reverse"))
    drawn = draw_trial(op, Case(7, lengths, packed, 1, axes, grouped, initial, reverse, 16))
    found = drawn.to(torch.float32).evaluate("chunked", backend="triton")
    for what, value in found.items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, (what, str(drawn.case))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("operator", NAMES, indirect=True)
def test_values_and_gradients(operator: Operator) -> None:
    check(operator, 2, (LENGTH,))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("operator", ["gated_delta_net", "mamba2"], indirect=True)
def test_backwards_from_zero_and_several_sequences(operator: Operator) -> None:
    check(operator, 9, (35, 35), initial=False, reverse=True)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("operator", ["gated_delta_net", "gla"], indirect=True)
def test_packed_sequences_with_empty_ones(operator: Operator, reverse: bool) -> None:
    check(operator, 3, (0, 20, 0, 35, 3), packed=True, reverse=reverse)


@pytest.mark.parametrize("operator", ["gated_delta_net"], indirect=True)
def test_what_is_kept_changes_nothing(operator: Operator) -> None:
    operator.kernels.choices.stretches = 2
    case = Case(7, (LENGTH,), False, 1, {"K": 5, "V": 4}, {}, False, False, 16)
    drawn = draw_trial(operator, case)
    gradients = []
    for save in ("states", "inputs"):
        leaves = [x.float().requires_grad_() for x in drawn.arguments]
        output, _ = operator(*leaves, backend="triton", chunk_size=16, save=save)
        gradients.append(torch.autograd.grad(output.sin().sum(), leaves))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("operator", ["gated_delta_net"], indirect=True)
def test_stretches_are_walked_from_zero_and_again(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    launch = Runner._launch

    def noted(runner: Runner, prepared: Any, *states: Any) -> None:
        names.append(prepared.kernel.removeprefix("gated_delta_net_chunked_"))
        launch(runner, prepared, *states)

    monkeypatch.setattr(Runner, "_launch", noted)
    operator.kernels.choices.stretches = 2
    given = [torch.randn(1, 40, 1, 4) for _ in range(3)] + [torch.randn(1, 40, 1) for _ in range(2)]
    operator(*given, *torch.rand(2, 1), backend="triton", chunk_size=16)
    assert names == ["pre", "transition", "scan", "scan"]


@pytest.mark.parametrize("operator", ["titans_linear"], indirect=True)
def test_states_that_mix_are_not_split(operator: Operator) -> None:
    from rnnc.ops.errors import UnavailableError

    with pytest.raises(UnavailableError, match=r"does not split sequences of titans_linear: several states$"):
        check(operator, 2, (40,))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("count", [2, 3, 5, 40])
def test_stretches_cover_every_chunk_once(count: int, reverse: bool, packed: bool) -> None:
    """Their chunks are those of the sequences, in both."""
    chunk, lengths = 16, (0, 40, 0, 83, 16) if packed else (71, 71)
    limits = torch.tensor([0, *lengths]).cumsum(0)
    batch, length = (1, int(limits[-1])) if packed else (2, 71)
    found = split_tables(
        limits if packed else None, batch, length, chunk, count, reverse, torch.device("cpu")
    )
    assert found.bounds.shape == (found.stretches + 1,)
    assert int(found.bounds[0]) == 0
    assert found.bounds.diff().min() >= 0
    expected = {}
    number = 0
    for bos, eos in zip(limits[:-1].tolist(), limits[1:].tolist(), strict=True):
        for begin in range(0, eos - bos, chunk):
            span = (bos + begin, min(bos + begin + chunk, eos))
            expected[number] = tuple(bos + eos - x for x in reversed(span)) if reverse else span
            number += 1
    chunks = {}
    for stretch in range(found.stretches):
        bos, eos = found.bounds[stretch : stretch + 2].tolist()
        for i_t, begin in enumerate(range(0, eos - bos, chunk)):
            span = (bos + begin, min(bos + begin + chunk, eos))
            span = tuple(bos + eos - x for x in reversed(span)) if reverse else span
            assert int(found.chunks[stretch]) + i_t not in chunks
            chunks[int(found.chunks[stretch]) + i_t] = span
    assert chunks == expected
    counts = found.offsets.diff()
    assert ((counts == 0) == (limits.diff() == 0)).all()


@pytest.mark.parametrize("operator", ["gated_delta_net", "mamba2"], indirect=True)
def test_few_long_sequences_are_split_and_no_others(operator: Operator) -> None:
    from rnnc.ops.triton_tiling import in_stretches, tiling

    module, sizes = operator.kernels.available[0], dict.fromkeys(operator.recurrence.axes, 128)
    found = tiling(module, sizes, 2, SM_90, spacing=1)

    def count(heads: int, length: int) -> int:
        return in_stretches(module, found, sizes, 2, SM_90, Load(heads, length)).parts

    assert count(96, 8192) == WHOLE.parts == 1
    assert count(8, 200) == 1
    assert 1 < count(8, 8192) <= count(8, 65536) <= 16
