"""The built-in operators from their specs: every form against the naive loop, and what a user calls."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch

import rnnc
from rnnc.dsl.diagnostics import SpecError
from rnnc.ops.errors import SpecFileError, SpecWarning
from rnnc.ops.operator import Operator

SPECS = {path.stem: path for path in sorted(Path(rnnc.__file__).parents[1].glob("ops/*.rnn"))}
FORMS = [("recurrent", None), ("chunked", 16), ("parallel", None)]
SIZES = {"K": 8, "V": 6, "N": 8, "P": 6, "n": 3, "M": 3}


@pytest.fixture(scope="module", params=SPECS)
def operator(request) -> Operator:
    return rnnc.compile(SPECS[request.param])


def arguments(
    operator: Operator, B: int, T: int, H: int = 2, dtype: torch.dtype = torch.float64, sizes=SIZES
):
    """Random inputs (groups of two heads) and parameters, parameters in (0, 1) as promised."""
    torch.manual_seed(0)
    inputs = []
    for item in operator.recurrence.inputs:
        heads = H // 2 if item.per_group else H
        x = torch.randn(B, T, heads, *(sizes[axis] for axis in item.axes), dtype=dtype)
        inputs.append(-x.abs() if item.range is not None and item.range.high <= 0 else x)
    params = [
        torch.rand(*([] if item.shared else [H]), *(sizes[axis] for axis in item.axes), dtype=dtype)
        for item in operator.recurrence.params
    ]
    return [*inputs, *params]


def everything(call, tensors, state, **options):
    """Outputs, final state, all gradients."""
    leaves = [x.detach().clone().requires_grad_() for x in (*tensors, *state)]
    given, start = leaves[: len(tensors)], tuple(leaves[len(tensors) :])
    start = start[0] if len(start) == 1 else start
    outputs, final = call(*given, initial_state=start, output_final_state=True, **options)
    results = [*_tuple(outputs), *_tuple(final)]
    torch.manual_seed(1)
    loss = torch.stack([(x * torch.randn(x.shape).to(x)).sum() for x in results]).sum()
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return [*(x.detach() for x in results), *gradients]


def test_shapes_without_values(operator):
    shapes = [x.to("meta").requires_grad_() for x in arguments(operator, 2, 37, dtype=torch.float32)]
    real = operator(*arguments(operator, 2, 37, dtype=torch.float32), output_final_state=True)
    outputs, final = operator(*shapes, output_final_state=True)
    pairs = zip((*_tuple(outputs), *_tuple(final)), (*_tuple(real[0]), *_tuple(real[1])), strict=True)
    for found, expected in pairs:
        assert (found.shape, found.dtype, found.device.type) == (expected.shape, expected.dtype, "meta")
    _tuple(outputs)[0].sum().backward()
    assert shapes[0].grad is not None


@pytest.mark.parametrize("offsets", [None, (0, 5, 5, 29, 41)])
@pytest.mark.parametrize("reverse", [False, True])
def test_forms_agree_with_the_naive_loop(operator, offsets, reverse):
    B, T = (2, 37) if offsets is None else (1, offsets[-1])
    tensors = arguments(operator, B, T)
    N = B if offsets is None else len(offsets) - 1
    arrays = [[SIZES[axis] for axis in array.axes] for array in operator.carry.arrays]
    state = [torch.randn(N, 2, *sizes, dtype=torch.float64) for sizes in arrays]
    options = {"cu_seqlens": None if offsets is None else torch.tensor(offsets), "reverse": reverse}
    expected = everything(operator.reference, tensors, state, **options)
    for form, chunk_size in FORMS:
        found = everything(operator, tensors, state, form=form, chunk_size=chunk_size, **options)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_second_derivatives(operator):
    tensors = arguments(operator, 1, 2, sizes=dict.fromkeys(SIZES, 2))
    tensors = [x.requires_grad_() for x in tensors]

    def call(*leaves):
        outputs, _ = operator(*leaves, form="chunked", chunk_size=16)
        return outputs

    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


def test_prefill_then_steps(operator):
    tensors = arguments(operator, 2, 20, dtype=torch.float32)
    count = len(operator.recurrence.inputs)
    inputs, params = tensors[:count], tensors[count:]
    whole, last = operator(*tensors, output_final_state=True)
    _, state = operator(*(x[:, :18] for x in inputs), *params, output_final_state=True)
    assert all(x.dtype == torch.float32 for x in _tuple(state))
    for t in (18, 19):
        outputs, state = operator.step(*(x[:, t] for x in inputs), *params, state=state)
        for a, b in zip(_tuple(outputs), _tuple(whole), strict=True):
            torch.testing.assert_close(a, b[:, t], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-4)


def test_has_a_layer(operator):
    torch.manual_seed(0)
    layer = operator.Layer(d_model=16, num_heads=2)
    assert layer.operator is operator
    x = torch.randn(2, 9, 16)
    whole = layer(x)
    first, state = layer(x[:, :5], return_state=True)
    second = layer(x[:, 5:], state=state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)


def _tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def test_built_in_names():
    from rnnc.ops import delta_net

    assert delta_net.name == "delta_net"
    assert delta_net.recurrence.inputs[0].name == "q"
    with pytest.raises(ImportError, match="cannot import name 'no_such_model'"):
        from rnnc.ops import no_such_model  # noqa: F401


def test_compile_takes_text_or_a_path(tmp_path):
    text = SPECS["delta_net"].read_text()
    assert rnnc.compile(text).source == rnnc.compile(SPECS["delta_net"]).source
    with pytest.raises(SpecFileError, match=r"missing.rnn: cannot be read: no such file or directory"):
        rnnc.compile(tmp_path / "missing.rnn")
    with pytest.raises(SpecFileError, match=r"is a directory"):
        rnnc.compile(str(tmp_path))
    (tmp_path / "binary.rnn").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        SpecError, match=r"binary.rnn:1:1: error\[not-text\]: not a text file: byte 0 is not UTF-8"
    ):
        rnnc.compile(tmp_path / "binary.rnn")
    (tmp_path / "large.rnn").write_bytes(b"#" * 10_000_000)
    with pytest.raises(SpecError, match=r"a spec has at most 1 MiB"):
        rnnc.compile(tmp_path / "large.rnn")


ADDS_ONLY = """recurrence w[K, V]:
    input q[K], k[K], v[V]
    state S[K, V]
    S <- S + k @ v.T
    output o[V]
    o <- S.T @ q
"""


def test_what_is_doubtful_in_a_spec_is_warned_of_every_time() -> None:
    spec = ADDS_ONLY.replace("v[V]", "v[V], spare")
    for _ in range(2):  # the second time the module comes from the cache
        with pytest.warns(SpecWarning, match=r"<spec>:2:29: warning\[unused-name\]"):
            rnnc.compile(spec)


def test_states_are_copied_and_pickled() -> None:
    """A prefix's state can be kept in a file, and goes to other processes."""
    op = rnnc.ops.titans_linear
    given = [torch.randn(1, 5, 2, *(3 for _ in item.axes)) for item in op.recurrence.inputs]
    _, state = op(*given, output_final_state=True)
    for again in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        assert type(again) is type(state)
        assert again.M is not state.M
        assert torch.equal(op(*given, initial_state=again)[0], op(*given, initial_state=state)[0])


def test_copies_and_pickles() -> None:
    """As a part of a user's own module it is copied with it, and goes to other processes."""
    op = rnnc.ops.gla
    assert copy.deepcopy(op) is op
    again = pickle.loads(pickle.dumps(op))
    given = [torch.randn(1, 5, 2, 3) for _ in range(3)] + [-torch.rand(1, 5, 2, 3)]
    assert again.spec == op.spec
    assert torch.equal(again(*given)[0], op(*given)[0])
