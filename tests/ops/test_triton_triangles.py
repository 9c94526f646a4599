"""Lower triangular matrices in the memory between kernels, in Triton's interpreter: what is kept of them lies
in arrays of no more entries, and nothing beside these is written.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import rnnc.ops
from rnnc.codegen.triangles import TRIANGLES, triangle_entries
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance
from rnnc.ops.trial import draw_trial
from rnnc.ops.triton_call import Call

pytest.importorskip("triton")

BESIDE = 512  # entries before and after an array
Held = list[tuple[Tensor, Tensor]]  # arrays of triangles in the memory around them


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Triangles are allocated inside larger arrays; all new arrays are full of NaN."""
    found, shapes = [], set[tuple[int, ...]]()
    empty, shape_of = torch.empty, Call.shape

    def noted(call: Call, place: str, axes: tuple[str, ...], sizes: Any = None) -> tuple[int, ...]:
        shape = shape_of(call, place, axes, sizes)
        if place in TRIANGLES:
            shapes.add(shape)
        return shape

    def made(*args: Any, **options: Any) -> Tensor:
        x = empty(*args, **options)
        if not x.is_floating_point():
            return x
        if tuple(x.shape) not in shapes:
            return x.fill_(torch.nan)
        around = torch.full((x.numel() + 2 * BESIDE,), torch.nan, dtype=x.dtype)
        found.append((around[BESIDE:-BESIDE].view(x.shape), around))
        return found[-1][0]

    monkeypatch.setattr(Call, "shape", noted)
    monkeypatch.setattr(torch, "empty", made)
    return found


@pytest.mark.parametrize(
    ("name", "steps", "lengths", "packed", "chunk"),
    [
        ("gated_delta_net", 1, (37,), False, 16),
        ("gated_delta_net", 1, (0, 33, 5), True, 32),
        ("rwkv7", 1, (21, 21), False, 16),
        ("gated_delta_product", 2, (19,), False, 16),
        ("gated_delta_product", 3, (5, 0, 18), True, 16),
        ("kimi_delta_product", 3, (17,), False, 16),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_nothing_beside_the_triangles_is_written(
    held: Held, name: str, steps: int, lengths: tuple[int, ...], packed: bool, chunk: int, dtype: torch.dtype
) -> None:
    op: Operator = getattr(rnnc.ops, name)
    half = dtype == torch.float16
    axes = {axis: steps if axis in op.recurrence.loops else 8 for axis in op.recurrence.axes}
    drawn = draw_trial(op, Case(7, lengths, packed, 1, axes, {}, not half, half, chunk))
    found = drawn.to(dtype).evaluate("chunked", backend="triton")
    for what, value in found.items():
        limits = (1e-3, 2e-3) if half else (1e-5, 1e-4)
        limit = limits[what.startswith("gradient")]
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, what
    rows = chunk * (1, 1, 2, 4)[steps]
    sizes = {triangle_entries(chunk, chunk), triangle_entries(rows, rows), triangle_entries(chunk, rows)}
    assert held
    assert {array.shape[-1] for array, _ in held} <= sizes
    for array, around in held:
        assert around[:BESIDE].isnan().all()
        assert around[-BESIDE:].isnan().all()
        assert not array[0, 0].isnan().all()
