"""Every token goes to one place and comes back; padding is zero; gather and scatter are adjoint."""

from __future__ import annotations

import itertools

import pytest
import torch

from rnnc.ops.layout import Packed, Regular, arrange, ungroup

CPU = torch.device("cpu")
CASES = [
    (1, 7, None),
    (3, 16, None),
    (2, 5, None),
    (1, 21, (0, 5, 5, 18, 21)),
    (1, 12, (0, 4, 8, 12)),
    (1, 9, (0, 0, 9, 9)),
    (1, 13, (0, 1, 13)),
]


LAYOUTS = [(*case, chunk, turn) for case in CASES for chunk in (None, 1, 4, 16) for turn in (False, True)]


def expected_rows(batch, length, offsets, chunk, reverse):
    """(sequence, step) -> the tokens of that chunk, as (batch, token)."""
    sequences = [[(b, t) for t in range(length)] for b in range(batch)]
    if offsets is not None:
        sequences = [[(0, t) for t in range(a, b)] for a, b in itertools.pairwise(offsets)]
    if reverse:
        sequences = [tokens[::-1] for tokens in sequences]
    sequences.sort(key=len, reverse=True)
    size = chunk or 1
    rows, steps = [], []
    for step in range(-(-len(sequences[0]) // size)):
        parts = [s[step * size : (step + 1) * size] for s in sequences if len(s) > step * size]
        steps.append((len(rows), len(rows) + len(parts)))
        rows += parts
    return rows, steps


@pytest.mark.parametrize(("batch", "length", "offsets", "chunk", "reverse"), LAYOUTS)
def test_every_token_has_its_place(batch, length, offsets, chunk, reverse):
    layout = arrange(batch, length, offsets, chunk, reverse, CPU)
    rows, steps = expected_rows(batch, length, offsets, chunk, reverse)
    assert list(layout.steps) == steps
    x = torch.randn(batch, length, 2, 3)
    y = layout.gather(x, 4, torch.float64, 0, len(steps))
    assert y.dtype == torch.float64
    size = chunk or 1
    wanted = torch.zeros(len(rows), 4, size, 3, dtype=torch.float64)
    for m, tokens in enumerate(rows):
        for c, (b, t) in enumerate(tokens):
            wanted[m, :, c] = x[b, t].repeat_interleave(2, 0)
    assert torch.equal(y, wanted if chunk else wanted.squeeze(2))
    valid = layout.valid(torch.float32, 0, len(steps))
    if chunk is None:
        assert valid is None
    else:
        assert torch.equal(valid[:, 0].sum(1), torch.tensor([float(len(tokens)) for tokens in rows]))
        assert not wanted[(valid == 0).expand(-1, 4, -1)].any()
    back = torch.full((batch, length, 4, 3), torch.nan)
    layout.scatter(y, back, 0, len(steps))
    assert torch.equal(back, x.repeat_interleave(2, 2))


@pytest.mark.parametrize(("batch", "length", "offsets", "chunk", "reverse"), LAYOUTS)
def test_segments_are_slices_of_the_whole(batch, length, offsets, chunk, reverse):
    layout = arrange(batch, length, offsets, chunk, reverse, CPU)
    x = torch.randn(batch, length, 2)
    whole = layout.gather(x, 2, x.dtype, 0, len(layout.steps))
    cut = (len(layout.steps) + 1) // 2
    back = torch.full_like(x, torch.nan)
    for first, last in ((0, cut), (cut, len(layout.steps))):
        if first < last:
            part = layout.gather(x, 2, x.dtype, first, last)
            assert torch.equal(part, whole[layout.steps[first][0] : layout.steps[last - 1][1]])
            layout.scatter(part, back, first, last)
    assert torch.equal(back, x)


@pytest.mark.parametrize("case", [(2, 6, None), (1, 9, (0, 2, 2, 9))])
@pytest.mark.parametrize("reverse", [False, True])
def test_gather_and_scatter_are_differentiable_adjoints(case, reverse):
    layout = arrange(*case, 4, reverse, CPU)
    batch, length, _ = case
    x = torch.randn(batch, length, 1, 2, dtype=torch.float64, requires_grad=True)
    y = layout.gather(x, 3, x.dtype, 0, len(layout.steps))
    cotangent = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    out = torch.empty_like(x)
    layout.scatter(ungroup(cotangent, 1), out, 0, len(layout.steps))
    torch.testing.assert_close(gradient, out.detach())

    def scattered(z):
        out = z.new_empty(batch, length, 3, 2)
        layout.scatter(z, out, 0, len(layout.steps))
        return out

    assert torch.autograd.gradcheck(scattered, y.detach().requires_grad_())


def test_states_follow_their_sequences():
    layout = arrange(1, 10, (0, 2, 2, 8, 10), 4, False, CPU)
    assert isinstance(layout, Packed)
    state = torch.arange(4.0)[:, None]
    assert layout.sort(state)[:, 0].tolist() == [2, 0, 3, 1]
    assert torch.equal(layout.unsort(layout.sort(state)), state)


def test_packed_sequences_of_one_length_take_the_regular_path():
    assert isinstance(arrange(1, 12, (0, 4, 8, 12), 4, False, CPU), Regular)
