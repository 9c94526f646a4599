"""What an operator refuses, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rnnc
from rnnc.ops.errors import ArgumentError, ArgumentTypeError, RnncError, UnavailableError

SHAPES = {"q": (2, 8, 4, 3), "k": (2, 8, 2, 3), "v": (2, 8, 4, 2), "g": (2, 8, 4), "w": (4,), "z": (2,)}
INT32 = torch.int32


def zeros(**changed):
    """The arguments by name, all zero, some of another shape or something else."""
    return {
        name: changed[name]
        if name in changed and not isinstance(changed[name], tuple)
        else torch.zeros(changed.get(name, shape))
        for name, shape in SHAPES.items()
    }


SHAPE_ERRORS = [
    ({"k": (2, 8, 2, 5)}, "k: expected [B, T, G, K] = [2, 8, G, 3], got [2, 8, 2, 5]"),
    ({"v": (2, 9, 4, 2)}, "v: expected [B, T, H, V] = [2, 8, 4, V], got [2, 9, 4, 2]"),
    ({"g": (2, 8)}, "g: expected [B, T, H] = [2, 8, 4], got [2, 8]"),
    ({"q": (2, 8, 12)}, "q: expected [B, T, H, K], got [2, 8, 12]"),
    ({"w": (5,)}, "w: expected [H] = [4], got [5]"),
    ({"z": (4, 2)}, "z: expected [V] = [2], got [4, 2]"),
    ({"k": (2, 8, 3, 3)}, "k: expected groups G that divide H = 4, got G = 3"),
    ({"k": (2, 8, 0, 3)}, "k: expected groups G that divide H = 4, got G = 0"),
    ({"q": (2, 8, 4, 0), "k": (2, 8, 2, 0)}, "K: expected a size of at least 1, got 0"),
    (
        {"q": (2, 8, 0, 3), "k": (2, 8, 2, 3), "v": (2, 8, 0, 2), "g": (2, 8, 0), "w": (0,)},
        "H: expected a size of at least 1, got 0",
    ),
]


@pytest.mark.parametrize(("changed", "message"), SHAPE_ERRORS)
def test_shapes(stand_in, changed, message):
    with pytest.raises(ArgumentError) as caught:
        stand_in.operator()(**zeros(**changed))
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


DTYPE_ERRORS = [
    ({"v": torch.bfloat16}, "v: expected float32 (as 'q'), got bfloat16"),
    ({"q": torch.float64}, "k: expected float64 (as 'q'), got float32"),
    ({"g": torch.float64}, "g: expected float32 (as 'q'), got float64"),
    ({"w": torch.bfloat16}, "w: expected float32 (as 'q'), got bfloat16"),
    ({"v": torch.int64}, "v: expected float32, float64, bfloat16 or float16, got int64"),
    ({"q": torch.complex64}, "q: expected float32, float64, bfloat16 or float16, got complex64"),
    (
        {"q": torch.bfloat16, "k": torch.bfloat16, "v": torch.float16},
        "v: expected bfloat16 (as 'q'), got float16",
    ),
    ({"q": torch.bfloat16, "k": torch.bfloat16}, "v: expected bfloat16 (as 'q'), got float32"),
]


@pytest.mark.parametrize(("changed", "message"), DTYPE_ERRORS)
def test_dtypes(stand_in, changed, message, monkeypatch):
    operator = stand_in.operator()
    operator.__dict__["_gates"] = frozenset({"g"})
    tensors = {name: x.to(changed.get(name, x.dtype)) for name, x in zeros().items()}
    with pytest.raises(ArgumentError) as caught:
        operator(**tensors)
    assert str(caught.value) == message


def test_gates_may_stay_in_float32(stand_in):
    operator = stand_in.operator()
    operator.__dict__["_gates"] = frozenset({"k"})  # as if the decay were made of k
    tensors = zeros()
    tensors |= {name: tensors[name].bfloat16() for name in ("q", "v")}
    (o, _), _ = operator(**tensors)
    assert o.dtype == torch.bfloat16


def test_devices(stand_in):
    with pytest.raises(ArgumentError, match=r"^v: expected on cpu \(as 'q'\), got meta$"):
        stand_in.operator()(**zeros(v=torch.zeros(2, 8, 4, 2, device="meta")))


NAME_ERRORS = [
    ((), {"key": None}, "key: unknown argument; the arguments are q, k, v, g, w, z, initial_state, "),
    ((), {"initial_sate": None}, "initial_sate: unknown argument; did you mean 'initial_state'?"),
    ((), {}, "missing: 'q', 'k', 'v', 'g'"),
    (("q",), {"q": "q"}, "q: given twice, by position and by name"),
    (("q",) * 7, {}, "expected at most 6 positional arguments (q, k, v, g, w, z), got 7"),
    (([1.0],), {"k": "q", "v": "q", "g": "q"}, "q: expected a tensor, got list"),
    ((None,), {"k": "q", "v": "q", "g": "q"}, "q: expected a tensor, got NoneType"),
]


@pytest.mark.parametrize(("args", "named", "message"), NAME_ERRORS)
def test_names(stand_in, args, named, message):
    q = torch.zeros(1)
    args = [q if x == "q" else x for x in args]
    named = {name: q if x == "q" else x for name, x in named.items()}
    with pytest.raises(ArgumentTypeError) as caught:
        stand_in.operator()(*args, **named)
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, TypeError)


PACKING_ERRORS = [
    ([0, 8], torch.int64, 2, "cu_seqlens: packed sequences need B = 1, got B = 2"),
    ([1, 8], torch.int64, 1, "cu_seqlens: expected to start at 0, got 1"),
    ([0, 5, 4, 8], torch.int32, 1, "cu_seqlens: expected not to decrease, got 4 after 5 at 2"),
    ([0, 5], torch.int32, 1, "cu_seqlens: expected to end at T = 8, got 5"),
    ([0], torch.int32, 1, "cu_seqlens: expected [N + 1] with N >= 1, got [1]"),
    ([[0, 8]], torch.int32, 1, "cu_seqlens: expected [N + 1] with N >= 1, got [1, 2]"),
    ([0, 8], torch.float32, 1, "cu_seqlens: expected int32 or int64, got float32"),
]


@pytest.mark.parametrize(("values", "dtype", "batch", "message"), PACKING_ERRORS)
@pytest.mark.parametrize("call", ["__call__", "reference"])
def test_cu_seqlens(stand_in, values, dtype, batch, message, call):
    tensors = {name: x[:batch] if x.dim() > 2 else x for name, x in zeros().items()}
    with pytest.raises(ArgumentError) as caught:
        getattr(stand_in.operator(), call)(**tensors, cu_seqlens=torch.tensor(values, dtype=dtype))
    assert str(caught.value) == message


def test_cu_seqlens_is_a_tensor(stand_in):
    with pytest.raises(ArgumentTypeError, match=r"^cu_seqlens: expected a tensor, got list$"):
        stand_in.operator()(**zeros(), cu_seqlens=[0, 8])


OPTION_ERRORS = [
    ({"chunk_size": 48}, "chunk_size: expected a power of two from 16 to 256, got 48"),
    ({"chunk_size": 8}, "chunk_size: expected a power of two from 16 to 256, got 8"),
    ({"form": "fast"}, "form: expected one of 'auto', 'recurrent', 'chunked', 'parallel', got 'fast'"),
    ({"backend": "jax"}, "backend: expected one of 'auto', 'triton', 'torch', 'c', got 'jax'"),
    ({"save": 1}, "save: expected one of 'auto', 'states', 'inputs', got 1"),
    ({"initial_state": torch.zeros(2, 4, 2, 3)}, "initial_state: expected [N, H, K, V] = [2, 4, 3, 2], got"),
    ({"initial_state": torch.zeros(2, 4, 3, 2).half()}, "initial_state: expected float32, got float16"),
]


@pytest.mark.parametrize(("options", "message"), OPTION_ERRORS)
def test_options(stand_in, options, message):
    with pytest.raises(ArgumentError) as caught:
        stand_in.operator()(**zeros(), **options)
    assert str(caught.value).startswith(message)


def test_what_this_version_lacks():
    text = Path(rnnc.__file__).parents[1].joinpath("ops/gated_delta_net.rnn").read_text("utf-8")
    with pytest.raises(ArgumentError, match=r"^cost: sizes: missing: H, K, V; give B, T, H, K, V$"):
        rnnc.compile(text).cost(B=1, T=8)
    assert issubclass(UnavailableError, RnncError)


def test_states(stand_in):
    operator = stand_in.operator()
    with pytest.raises(ArgumentTypeError, match=r"^initial_state: expected 1 arrays \(S\), got 2$"):
        operator(**zeros(), initial_state=(torch.zeros(1), torch.zeros(1)))
    with pytest.raises(ArgumentTypeError, match=r"^initial_state: expected a tensor, got int$"):
        operator(**zeros(), initial_state=1)
    one = {name: x[:, 0] if x.dim() > 2 else x for name, x in zeros().items()}
    with pytest.raises(ArgumentError, match=r"^state: expected \[N, H, K, V\] = \[2, 4, 3, 2\], got \[1\]$"):
        operator.step(**one, state=torch.zeros(1))


def test_promised_ranges(stand_in):
    from dataclasses import replace

    from rnnc.dsl.interval import Interval

    operator = stand_in.operator()
    first = (
        *operator.recurrence.inputs[:3],
        replace(operator.recurrence.inputs[3], range=Interval(-1.0, 0.0)),
    )
    recurrence = replace(operator.recurrence, inputs=first)
    operator = type(operator)("", recurrence, operator.module, "")
    tensors = zeros(g=torch.full((2, 8, 4), 0.5))
    operator(**tensors)
    for call in (lambda: operator(**tensors, check=True), lambda: operator.reference(**tensors)):
        with pytest.raises(ArgumentError, match=r"^g: promised to be in \[-1, 0\], found 0.5$"):
            call()
    operator(**zeros(g=torch.full((2, 8, 4), torch.nan)), check=True)
