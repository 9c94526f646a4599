"""The cases that break recurrent kernels, by name: every class is held to all of them.

float32 against the float64 token loop (or, over long sequences, another form in float64), outputs, states
and all gradients.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from named_cases import (
    GRADIENTS,
    NAMES,
    OUTPUTS,
    calm,
    compare,
    gates,
    make,
    over_all_gates,
    packed,
    set_inputs,
    with_decay,
)
from torch import Tensor

from rnnc.dsl.recurrence import Input

every = pytest.mark.parametrize("name", NAMES)


@every
@pytest.mark.parametrize("T", [1, 63, 64, 65])
def test_lengths(name: str, T: int) -> None:
    compare(make(name, T, size=8, H=1))


@every
def test_a_thousand_tokens(name: str) -> None:
    compare(make(name, 1000, size=8, H=1), reference="chunked")


@every
def test_one_strong_decay_among_weak(name: str) -> None:
    trial = with_decay(with_decay(make(name, 130), 1), 0, slice(20, None, 64))
    compare(trial)


@every
def test_all_decays_one_over_8192_tokens(name: str) -> None:
    compare(with_decay(make(name, 8192, size=4, H=1), 1), reference="chunked")


@every
def test_resets(name: str) -> None:
    compare(with_decay(make(name, 70, size=8), 0, slice(5, None, 9)))


@every
def test_nothing_but_resets(name: str) -> None:
    compare(with_decay(make(name, 40, size=8), 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@every
def test_gates_over_their_whole_range(name: str, dtype: torch.dtype) -> None:
    if not gates(make(name, 1, size=4, H=1)):
        pytest.skip("its decays are constant: they depend on no input")
    rounded = {torch.float32: (OUTPUTS, GRADIENTS), torch.float16: (1e-3, 1e-3)}[dtype]
    params = dtype == torch.float32
    trial = over_all_gates(name, dtype)
    compare(trial, reference="chunked", outputs=rounded[0], gradients=rounded[1], params=params)


# One recurrence for each way of computing decays, with chunks as long as its kernels take them; where the
# interpreter is slow, in one precision.
HALF, SINGLE, BOTH = (torch.float16,), (torch.float32,), (torch.float32, torch.float16)
SWEPT = {
    "log_decay": (128, BOTH),  # base-2 logarithms, one per token
    "log_decays": (128, BOTH),  # per channel
    "log_delta": (64, BOTH),  # under a read of the state
    "mamba2_signed": (128, BOTH),  # products
    "channel_signed": (128, BOTH),  # products per channel
    "decays_of_both": (128, HALF),  # over both axes of the state
    "value_resets": (64, SINGLE),  # the value side, by products
    "resetting_momentum": (64, SINGLE),  # coupled states
    "mean_gate": (128, HALF),  # a state of one number, which is the gate of another
    "gated_delta_product": (32, SINGLE),  # micro-steps
    "preconditioned_delta": (64, HALF),  # a state of one axis, whose readout is another's key
}
# A delta rule that forgets nothing: where keys of a chunk are in few dimensions, what tokens write cancels,
# but not its rounding as an operand (1e-3 in float16, as of `delta_net`).
WIDE = {"preconditioned_delta": 16}


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, (_, dtypes) in SWEPT.items() for dtype in dtypes]
)
def test_kernels_over_the_whole_range_of_gates(name: str, dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    rounded = {torch.float32: (OUTPUTS, GRADIENTS), torch.float16: (1e-3, 2e-3)}[dtype]
    chunk, _ = SWEPT[name]
    trial = over_all_gates(name, dtype, chunk, size=WIDE.get(name, 4))
    params = dtype == torch.float32
    compare(trial, "chunked", "chunked", *rounded, params, "triton")


@pytest.mark.parametrize(
    "name",
    ["resets", "signed", "channel_resets", "channel_signed", "value_resets", "resetting_momentum", "turning"],
)
def test_a_reset_cuts_the_sequence(name: str) -> None:
    """A decay of zero: the same as two packed sequences, values and gradients."""
    count, cut = 150, 70
    trial = with_decay(make(name, count, size=8), 0, slice(cut, cut + 1))
    bounds = torch.tensor([0, cut, count])
    found = []
    for cu_seqlens in (None, bounds):
        leaves = [x.clone().requires_grad_() for x in trial.arguments]
        options = {"chunk_size": 64, "output_final_state": True, "cu_seqlens": cu_seqlens}
        out, state = trial.operator(*leaves, **options)
        final = [x[-1:] for x in ((state,) if isinstance(state, Tensor) else state)]
        loss = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
        loss = loss + torch.stack([x.square().sum() for x in final]).sum()
        found.append([out, torch.stack(final), *torch.autograd.grad(loss, leaves)])
    for whole, cut_up, declared in zip(*found, (None, None, *trial.operator.recurrence.inputs), strict=True):
        if (
            declared is not None and declared.name == "d"
        ):  # what the first sequence would have added at the cut
            whole, cut_up = (torch.cat([x[:, :cut], x[:, cut + 1 :]], 1) for x in (whole, cut_up))
        torch.testing.assert_close(whole, cut_up, rtol=1e-5, atol=1e-5)


@every
def test_strong_writes_of_correlated_keys(name: str) -> None:
    """Gates that are not decays at their upper end, keys alike, nothing forgotten."""
    trial = with_decay(make(name, 200), 1)
    kept = {x.name for x in gates(trial, momentum=True)}
    generator = torch.Generator().manual_seed(3)

    def change(x: Input, value: Tensor) -> Tensor:
        if x.name in kept:
            return value
        if not x.axes:
            return torch.full_like(value, 8.0 if x.range is None else min(x.range.high, 8.0))
        return value[:, :1] + 1e-3 * torch.randn(value.shape, generator=generator) * value[:, :1].abs().mean()

    compare(set_inputs(trial, change), reference="recurrent")


@every
def test_small_operands_under_strong_decay(name: str) -> None:
    compare(with_decay(make(name, 70, scale=1e-6), 0.0067))


@every
def test_packed_with_empty_sequences(name: str) -> None:
    compare(make(name, 0, 65, 0, 1, 17, 0, size=8))


@every
def test_nan_stays_in_its_sequence(name: str) -> None:
    trial = make(name, 20, 0, 70, 3, size=8)

    def change(x: Input, value: Tensor) -> Tensor:
        value[:, 25] = float("nan")
        return value

    clean, spoilt = trial.evaluate("chunked"), set_inputs(trial, change).evaluate("chunked")
    count = sum(trial.case.lengths)
    for what, value in spoilt.items():
        if value.shape[:2] == (1, count):
            assert torch.equal(value[:, :20], clean[what][:, :20]), what
            assert torch.equal(value[:, 90:], clean[what][:, 90:]), what
        elif value.shape[0] == 4 and what.startswith(("final", "gradient of initial")):
            assert torch.equal(value[[0, 1, 3]], clean[what][[0, 1, 3]]), what
    assert spoilt[next(iter(spoilt))][:, 25:90].isnan().any()


@every
def test_two_calls_are_one(name: str) -> None:
    trial = make(name, 100, size=8).to(torch.float64)
    count = len(trial.operator.recurrence.inputs)

    def run(*cuts: int) -> list[Tensor]:
        leaves = [x.clone().requires_grad_() for x in (*trial.arguments, *trial.states)]
        first = count + len(trial.operator.recurrence.params)
        inputs, params, state = leaves[:count], leaves[count:first], packed(leaves[first:])
        parts = []
        for start, stop in itertools.pairwise((0, *cuts, 100)):
            given = (x[:, start:stop] for x in inputs)
            out, state = trial.operator(*given, *params, initial_state=state, output_final_state=True)
            parts.append(out if isinstance(out, Tensor) else torch.cat(out, -1))
        whole = torch.cat(parts, 1)
        weight = torch.linspace(-1, 1, whole.numel(), dtype=torch.float64).view_as(whole)
        final = [state] if isinstance(state, Tensor) else list(state)
        loss = (whole * weight).sum() + torch.stack([x.square().sum() for x in final]).sum()
        return [whole, *final, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)]

    for once, twice in zip(run(), run(37), strict=True):
        torch.testing.assert_close(once, twice, rtol=1e-9, atol=1e-9)


@every
def test_the_future_leaves_no_trace(name: str) -> None:
    """Outputs of a prefix, and their gradients, are the same bit for bit whatever follows."""
    trial, cut = make(name, 150), 70
    other = make(name, 150, scale=30.0 if calm(name, 150) == 1 else 3.0)

    def change(x: Input, value: Tensor) -> Tensor:
        index = trial.operator.recurrence.inputs.index(x)
        value[:, cut:] = other.arguments[index][:, cut:]
        return value

    found = []
    for each in (trial, with_decay(set_inputs(trial, change), 0, slice(cut, None, 3))):
        leaves = [x.clone().requires_grad_() for x in each.arguments]
        out, _ = each.operator(*leaves, initial_state=packed(each.states), chunk_size=64)
        prefix = [x[:, :cut] for x in ((out,) if isinstance(out, Tensor) else out)]
        loss = torch.stack([x.square().sum() for x in prefix]).sum()
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        count = len(each.operator.recurrence.inputs)
        found.append([*prefix, *(g[:, :cut] for g in gradients[:count]), *gradients[count:]])
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)
