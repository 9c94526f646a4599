"""The loop over steps: what it hands out, with sequences that end, in place and recorded alike."""

from __future__ import annotations

import pytest
import torch

from rnnc.ops import scan

pytestmark = pytest.mark.smoke
STEPS, H = [(0, 3), (3, 5), (5, 6)], 2


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("computed_in_place", [False, True])
def test_rows(recorded: bool, backwards: bool, computed_in_place: bool) -> None:
    values = torch.arange(24.0).reshape(6, H, 2)
    with torch.set_grad_enabled(recorded):
        rows = scan.Rows(STEPS, H, backwards)
        for _, (x,) in scan.each(STEPS, H, (values,), backwards):
            room = rows.room(x.shape[0])
            rows.put(torch.mul(x, 2, out=room) if computed_in_place and room is not None else x * 2)
        assert torch.equal(rows.joined(), 2 * values)


def test_each_repeats_what_chunks_or_heads_share() -> None:
    per_head, per_chunk = torch.randn(1, H, 4), torch.randn(6, 1, 4)
    found = list(scan.each(STEPS, H, (per_head, per_chunk)))
    assert [n for n, _ in found] == [6, 4, 2]
    for (a, b), (_, (first, second)) in zip(STEPS, found, strict=True):
        assert torch.equal(first, per_head.expand(b - a, H, 4).flatten(0, 1))
        assert torch.equal(second, per_chunk[a:b].expand(b - a, H, 4).flatten(0, 1))


def test_a_state_is_overwritten_only_where_it_may_be() -> None:
    state, factor = torch.ones(2, 3, 3), torch.full((2, 1, 1), 0.5)
    with torch.no_grad():
        assert scan.scale(state, factor, own=False) is not state
        assert state.eq(1).all()
        assert scan.scale(state, factor, own=True) is state
        rows = scan.Rows([(0, 1), (1, 2)], 2)
        rows.put(state)
        kept = scan.scale(state, factor, True, rows)
        rows.put(kept)
        assert kept.untyped_storage().data_ptr() == rows.joined().untyped_storage().data_ptr()
        assert state.eq(0.5).all()
        assert torch.equal(rows.joined()[1], kept)
        assert (
            scan.scale(kept, factor, True, rows).untyped_storage().data_ptr()
            != kept.untyped_storage().data_ptr()
        )
    leaf = torch.ones(2, 3, 3, requires_grad=True)
    assert scan.scale(leaf, factor, own=True) is not leaf
