"""Values and gradients through layout, segments and the autograd node, against the naive loop."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from rnnc.ops import autograd
from rnnc.ops.layout import arrange

OFFSETS = {"whole": None, "packed": (0, 3, 3, 20, 21, 37), "even": (0, 12, 24, 36)}
FORMS = [("recurrent", None), ("chunked", 16), ("parallel", None), ("auto", None)]


def gradients(call, tensors, state, weights=None, **options):
    """Outputs, final state and the gradients of everything."""
    leaves = [x.clone().requires_grad_() for x in tensors]
    state = state.clone().requires_grad_()
    (o, norm), final = call(*leaves, initial_state=state, output_final_state=True, **options)
    torch.manual_seed(1)
    loss = sum((x * torch.randn_like(x)).sum() for x in (o, norm, final))
    return [o, norm, final, *torch.autograd.grad(loss, [*leaves, state])]


@pytest.mark.parametrize("segment", [1, 8 << 20])
@pytest.mark.parametrize("save", ["auto", "inputs"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packing", OFFSETS)
@pytest.mark.parametrize(("form", "chunk_size"), FORMS)
def test_agrees_with_the_naive_loop(stand_in, monkeypatch, form, chunk_size, packing, reverse, save, segment):
    monkeypatch.setattr(autograd, "SEGMENT_BYTES", segment)
    operator, offsets = stand_in.operator(), OFFSETS[packing]
    B, T = (2, 37) if offsets is None else (1, offsets[-1])
    tensors = stand_in.arguments(B, T)
    state = torch.randn(B if offsets is None else len(offsets) - 1, 4, 3, 2, dtype=torch.float64)
    options = {"cu_seqlens": None if offsets is None else torch.tensor(offsets), "reverse": reverse}
    expected = gradients(operator.reference, tensors, state, **options)
    found = gradients(operator, tensors, state, form=form, chunk_size=chunk_size, save=save, **options)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("form", "chunk_size"), FORMS[:2])
def test_first_and_second_derivatives(stand_in, form, chunk_size):
    operator = stand_in.operator()
    tensors = [x.requires_grad_() for x in stand_in.arguments(1, 5, H=2, G=1, K=2, V=2)]
    state = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    cu_seqlens = torch.tensor([0, 3, 5])

    def call(*inputs: Tensor):
        options = {
            "output_final_state": True,
            "cu_seqlens": cu_seqlens,
            "form": form,
            "chunk_size": chunk_size,
        }
        (o, norm), final = operator(*inputs[:-1], initial_state=inputs[-1], **options)
        return o, norm, final

    assert torch.autograd.gradcheck(call, (*tensors, state))
    assert torch.autograd.gradgradcheck(call, (*tensors, state))


def test_gradients_only_for_what_requires_them(stand_in):
    operator = stand_in.operator()
    q, k, v, g, w, z = stand_in.arguments(1, 20)
    k.requires_grad_()
    (o, _), _ = operator(q, k, v, g, w, z)
    o.sum().backward()
    assert k.grad is not None
    assert all(x.grad is None for x in (q, v, g, w, z))
    (o, _), _ = operator(q, k.detach(), v, g, w, z)
    assert not o.requires_grad


def test_no_tokens(stand_in):
    operator = stand_in.operator()
    tensors = [x.requires_grad_() for x in stand_in.arguments(2, 0)]
    state = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    for call in (operator, operator.reference):
        (o, norm), final = call(*tensors, initial_state=state, output_final_state=True)
        assert o.shape == (2, 0, 4, 2)
        assert norm.shape == (2, 0, 4)
        assert torch.equal(final, state)
        (gradient,) = torch.autograd.grad(final.sum() + o.sum(), state)
        assert torch.equal(gradient, torch.ones_like(state))
    cu_seqlens = torch.tensor([0, 0, 0])
    packed = [x[:1] if x.dim() > 2 else x for x in tensors]
    _, final = operator(*packed, initial_state=state, output_final_state=True, cu_seqlens=cu_seqlens)
    assert torch.equal(final, state)


def test_steps_continue_a_call_exactly(stand_in):
    operator = stand_in.operator()
    q, k, v, g, w, z = stand_in.arguments(2, 20)
    (whole, _), last = operator(q, k, v, g, w, z, output_final_state=True)
    _, state = operator(q[:, :17], k[:, :17], v[:, :17], g[:, :17], w, z, output_final_state=True)
    kept = state.clone()
    for t in range(17, 20):
        (o, _), new = operator.step(q[:, t], k[:, t], v[:, t], g[:, t], w, z, state=state, out_state=kept)
        assert new is kept
        state = kept
        torch.testing.assert_close(o, whole[:, t])
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_low_precision_inputs(stand_in, low):
    operator = stand_in.operator()
    q, k, v, g, w, z = (x.float() for x in stand_in.arguments(2, 40))
    q, k, v = (x.to(low).requires_grad_() for x in (q, k, v))
    (o, _), state = operator(q, k, v, g, w, z, output_final_state=True)
    (expected, _), _ = operator.reference(q, k, v, g, w, z)
    assert o.dtype == low
    assert state.dtype == torch.float32
    assert expected.dtype == torch.float32
    assert (
        torch.equal(o, expected.to(low)) or (o.float() - expected).abs().max() < 0.02 * expected.abs().max()
    )
    o.float().sum().backward()
    assert q.grad is not None
    assert q.grad.dtype == low


def test_autocast_casts_vectors_only(stand_in):
    operator = stand_in.operator()
    tensors = [x.float().requires_grad_() for x in stand_in.arguments(1, 20)]
    with torch.autocast("cpu", torch.bfloat16):
        (o, _), state = operator(*tensors, output_final_state=True)
        o.float().sum().backward()
    assert o.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert tensors[0].grad.dtype == torch.float32


def test_layout_of_memory_does_not_matter(stand_in):
    operator = stand_in.operator()
    tensors = stand_in.arguments(2, 20)
    strided = [torch.empty(*x.shape, 2, dtype=x.dtype)[..., 0].copy_(x) for x in tensors]
    strided[0] = tensors[0].permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    for a, b in zip(operator(*strided)[0], operator(*tensors)[0], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("form", ["recurrent", "chunked"])
def test_nan_stays_in_its_sequence(stand_in, form):
    operator = stand_in.operator()
    tensors = [x.requires_grad_() for x in stand_in.arguments(1, 40)]
    cu_seqlens = torch.tensor([0, 18, 40])
    (clean, _), _ = operator(*tensors, cu_seqlens=cu_seqlens, form=form)
    clean_grads = torch.autograd.grad(clean.sum(), tensors[:4])
    poisoned = [x.detach().clone() for x in tensors]
    poisoned[2][:, 20] = torch.nan
    poisoned = [x.requires_grad_() for x in poisoned]
    (o, _), _ = operator(*poisoned, cu_seqlens=cu_seqlens, form=form)
    assert torch.equal(o[:, :18], clean[:, :18])
    assert o[:, 20:].isnan().all()
    for a, b in zip(torch.autograd.grad(o.sum(), poisoned[:4]), clean_grads, strict=True):
        assert torch.equal(a[:, :18], b[:, :18])


def test_defaults_of_parameters(stand_in):
    operator = stand_in.operator()
    q, k, v, g, _, _ = stand_in.arguments(1, 20)
    (left_out, _), _ = operator(q, k, v, g)
    (given, _), _ = operator(q, k, v, g, z=torch.zeros(2).double(), w=torch.full((4,), 3**-0.5).double())
    torch.testing.assert_close(left_out, given)


def test_is_deterministic(stand_in):
    operator = stand_in.operator()
    state = torch.randn(2, 4, 3, 2)
    runs = [gradients(operator, [x.float() for x in stand_in.arguments(2, 50)], state) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("packing", OFFSETS)
@pytest.mark.parametrize(("form", "chunk_size"), FORMS[:2])
def test_states_of_unrecorded_calls_can_be_trained_on(stand_in, form, chunk_size, packing):
    operator, offsets = stand_in.operator(), OFFSETS[packing]
    tensors = stand_in.arguments(1, 38 if offsets is None else offsets[-1])
    packed = None if offsets is None else torch.tensor(offsets)
    options = {"cu_seqlens": packed, "form": form, "chunk_size": chunk_size}
    with torch.inference_mode():  # what is kept of a layout serves all calls
        operator(*tensors, **options)
    with torch.no_grad():
        (o, norm), state = operator(*tensors, output_final_state=True, **options)
    assert not any(x.is_inference() for x in (o, norm, state))
    expected, found = (gradients(call, tensors, state, **options) for call in (operator.reference, operator))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    leaves = [x.clone().requires_grad_() for x in tensors]
    (o, _), _ = operator(*leaves, initial_state=state, **options)
    first = torch.autograd.grad(o.sum(), leaves[:4], create_graph=True)
    sum(x.square().sum() for x in first).backward()
    assert all(x.grad is not None for x in leaves[:4])


def test_forward_mode_derivatives_pass_through(stand_in):
    operator = stand_in.operator()
    tensors = stand_in.arguments(1, 20)
    given = [torch.randn_like(x) for x in tensors]
    _, found = torch.func.jvp(
        lambda *x: operator(*x, form="chunked", chunk_size=16)[0][0], (*tensors,), (*given,)
    )
    leaves = [x.clone().requires_grad_() for x in tensors]
    o = operator(*leaves)[0][0]
    weights = torch.randn_like(o)
    backward = torch.autograd.grad(o, leaves, weights)
    expected = sum((x * y).sum() for x, y in zip(backward, given, strict=True))
    torch.testing.assert_close((weights * found).sum(), expected)


@pytest.mark.parametrize(("row_bytes", "kept"), [(1 << 10, 0), (1 << 18, 1), (1 << 22, 1)])
def test_freed_memory_is_kept_of_large_calls_alone(monkeypatch, row_bytes, kept):
    calls = []
    monkeypatch.setattr(autograd, "_keep_freed_memory", lambda: calls.append(1))
    layout = arrange(1, 1024, None, 32, False, torch.device("cpu"))
    autograd.spans(layout, row_bytes)
    assert len(calls) == kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_is_freed_stays_in_the_process():
    program = """
import resource
from rnnc.ops import autograd
autograd._keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (28 << 20) for _ in range(3)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # of 21504 pages


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("tokens", [1, 33, 320, 2048])
@pytest.mark.parametrize("row_bytes", [1, 1 << 20, 5 << 20, 100 << 20])
def test_segments_are_of_equal_length(tokens, row_bytes, recorded):
    layout = arrange(1, tokens, None, 32, False, torch.device("cpu"))
    found = autograd.spans(layout, row_bytes, recorded)
    lengths = [last - first for first, last in found]
    assert [0, *(last for _, last in found)] == [*(first for first, _ in found), len(layout.steps)]
    assert max(lengths) - min(lengths) <= 1
    limit = autograd.SEGMENT_BYTES if recorded else autograd.FORWARD_BYTES
    assert max(lengths) * row_bytes < limit + row_bytes or max(lengths) == 1
