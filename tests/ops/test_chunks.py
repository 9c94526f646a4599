"""The chunk size a call takes on its own."""

from __future__ import annotations

import pytest
import torch

from rnnc.ops import chunks, delta_net
from rnnc.ops.chunks import best_chunk

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize("size", [16, 64, 128, 256])
def test_more_in_parallel_makes_shorter_chunks(size: int) -> None:
    found = [best_chunk(parallel, size * size, 2 * size) for parallel in (1, 4, 16, 64, 256)]
    assert found == sorted(found, reverse=True)
    assert set(found) <= set(chunks.SIZES)


def test_common_sizes() -> None:
    assert best_chunk(8, 128 * 128, 256) == 32
    assert best_chunk(1, 128 * 128, 256) == 64


def test_a_call_asks_for_its_own_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("rnnc.ops.function.best_chunk", lambda *sizes: asked.append(sizes) or 16)
    vector = torch.randn(3, 20, 5, 4)
    delta_net(vector, vector, torch.randn(3, 20, 5, 6), torch.rand(3, 20, 5))
    assert asked == [(15, 4 * 6, 4 + 6)]


def test_the_choice_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (torch.randn(1, 70, 2, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    beta = torch.rand(1, 70, 2)
    automatic = delta_net(q, k, v, beta)[0]
    chosen = best_chunk(2, 16, 8)
    assert torch.equal(automatic, delta_net(q, k, v, beta, chunk_size=chosen)[0])
    monkeypatch.setattr("rnnc.ops.function.best_chunk", lambda *sizes: 16)
    assert torch.equal(delta_net(q, k, v, beta)[0], delta_net(q, k, v, beta, chunk_size=16)[0])
