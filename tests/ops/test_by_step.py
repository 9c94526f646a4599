"""Inputs that a pass reads chunk by chunk are views, those that it does not read are not copied."""

from __future__ import annotations

import pytest
import torch

import rnnc.ops
from rnnc import measurement
from rnnc.ops.arguments import Sizes
from rnnc.ops.layout import Regular

pytestmark = pytest.mark.smoke
CPU = torch.device("cpu")
MODELS = ("gated_delta_net", "mamba2", "gla", "kda", "linear_attention")
PASSES = [f"chunked_{what}" for what in ("forward", "states", "backward")]


@pytest.mark.parametrize(("count", "first", "last"), [(1, 0, 2), (1, 1, 3), (2, 1, 2)])
def test_a_view_is_what_gather_gives(count: int, first: int, last: int) -> None:
    layout, x = Regular(count, 12, 4, False, CPU), torch.randn(count, 12, 2, 3)
    found = layout.view(x, 2, x.dtype, first, last)
    assert found is not None
    assert found.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert torch.equal(found, layout.gather(x, 2, x.dtype, first, last))


@pytest.mark.parametrize(
    ("layout", "heads", "dtype"),
    [
        (Regular(2, 12, 4, False, CPU), 2, torch.float32),  # the chunks of two sequences take turns
        (Regular(1, 24, 4, True, CPU), 2, torch.float32),
        (Regular(1, 24, 9, False, CPU), 2, torch.float32),
        (Regular(1, 24, None, False, CPU), 2, torch.float32),
        (Regular(1, 24, 4, False, CPU), 4, torch.float32),
        (Regular(1, 24, 4, False, CPU), 2, torch.float64),
    ],
)
def test_where_there_is_no_view(layout: Regular, heads: int, dtype: torch.dtype) -> None:
    x = torch.randn(layout.count, layout.length, 2, 3)
    assert layout.view(x, heads, dtype, 0, len(layout.steps)) is None


@pytest.mark.parametrize("save", ["auto", "inputs"])
@pytest.mark.parametrize("model", MODELS)
def test_nothing_else_changes(model: str, save: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = getattr(rnnc.ops, model)
    axes = dict.fromkeys(op.recurrence.axes, 4)
    arguments = measurement.draw(op.recurrence, Sizes(1, 48, 2, axes), torch.float32, "cpu")
    leaves = [x.double().requires_grad_() for x in arguments]

    def run() -> list[torch.Tensor]:
        o = op(*leaves, form="chunked", chunk_size=16, save=save)[0]
        weights = torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view(o.shape)
        return [o, *torch.autograd.grad((o * weights).sum(), leaves)]

    found = run()
    read = [getattr(op.module, name) for name in PASSES]
    assert any(getattr(each, "by_step", ()) for each in read)
    for each in read:
        for attribute in ("by_step", "unread"):
            monkeypatch.setattr(each, attribute, (), raising=False)
    for first, second in zip(found, run(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
