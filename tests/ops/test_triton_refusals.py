"""When Triton kernels are taken, and what is said where they cannot be."""

from __future__ import annotations

import pytest
import torch

import rnnc.ops
from rnnc.ops.arguments import Bound, Sizes
from rnnc.ops.errors import UnavailableError
from rnnc.ops.operator import Operator
from rnnc.ops.triton_backend import TritonKernels

pytest.importorskip("triton")


def operator(name: str) -> Operator:
    found: Operator = getattr(rnnc.ops, name)
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "parallel"}, "triton has no parallel form of gla in this version: use backend='torch'"),
    ],
)
def test_forms_that_are_not_there(options: dict[str, str], message: str) -> None:
    q = torch.randn(1, 3, 2, 4)
    with pytest.raises(UnavailableError) as caught:
        operator("gla")(q, q, q, q, backend="triton", **options)
    assert str(caught.value) == message


def test_float64() -> None:
    q = torch.randn(1, 3, 2, 4, dtype=torch.float64)
    with pytest.raises(UnavailableError, match=r"^triton has no float64: use backend='torch'$"):
        operator("gla")(q, q, q, q, backend="triton")


def test_without_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    q = torch.randn(1, 3, 2, 4)
    with pytest.raises(UnavailableError, match=r"^triton runs on a CPU only in its interpreter \(TRITON_IN"):
        operator("gla")(q, q, q, q, backend="triton")


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnc.ops.triton_backend.find_spec", lambda name: None)
    q = torch.randn(1, 3, 2, 4)
    with pytest.raises(UnavailableError, match=r"^triton is not installed: use backend='torch'$"):
        operator("gla")(q, q, q, q, backend="triton")


def test_second_derivative() -> None:
    arguments = [torch.randn(1, 3, 2, 4, requires_grad=True) for _ in range(4)]
    outputs, _ = operator("gla")(*arguments, backend="triton")
    (first,) = torch.autograd.grad(outputs.sum(), arguments[0], create_graph=True)
    with pytest.raises(UnavailableError, match=r"^triton has no second derivative of gla in this version"):
        first.sum().backward()


def kernels(reason: str = "") -> TritonKernels:
    """Those of gla, or, with a reason, none."""

    op = operator("gla")
    return TritonKernels(op.recurrence, lambda: reason) if reason else op.kernels


def call_on(device: str, dtype: torch.dtype = torch.float32) -> Bound:
    """What is known of a call on a device that need not be there."""
    return Bound((), (), Sizes(1, 5, 2, {"K": 4, "V": 4}), dtype, dtype, torch.device(device))


def test_auto() -> None:
    assert not kernels().take("auto", "auto", call_on("cpu"))
    with pytest.warns(RuntimeWarning, match="not validated on this GPU"):
        assert not kernels().take("auto", "auto", call_on("cuda"))
    assert kernels().take("triton", "auto", call_on("cuda"))
    assert not kernels().take("torch", "auto", call_on("cuda"))


def test_auto_says_once_why_it_takes_torch() -> None:
    none = kernels("a softmax")
    with pytest.warns(RuntimeWarning) as caught:
        taken = [none.take("auto", "auto", call_on("cuda")) for _ in range(2)]
    assert taken == [None, None]
    reason = "triton has no kernels for gla in this version: a softmax"
    assert [str(warning.message) for warning in caught] == [f"{reason}: torch is used"]
    with pytest.raises(UnavailableError) as refused:
        none.take("triton", "auto", call_on("cuda"))
    assert str(refused.value) == f"{reason}: use backend='torch'"


def test_other_devices() -> None:
    with pytest.raises(UnavailableError, match="does not run on a device of type 'mps'"):
        kernels().take("triton", "auto", call_on("mps"))


def test_values_of_cu_seqlens_are_not_read_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    op = operator("gla")
    bound = call_on("cpu")._replace(device=torch.device("meta"))
    unknown = torch.zeros(3, dtype=torch.int32, device="meta")  # its values cannot be read
    assert op._sequences(bound, unknown, values=False) == (2, None)
    with pytest.raises(NotImplementedError):
        op._sequences(bound, unknown, values=True)
