"""The cost that is told is the cost of the launches that are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import rnnc
from rnnc.codegen.compiler import Compiled, Spec, analyse
from rnnc.codegen.cost_record import Cost
from rnnc.codegen.hardware import SM_90
from rnnc.codegen.kernel_record import UnsupportedOnGpu
from rnnc.codegen.stretches import Load
from rnnc.codegen.tiling import choose
from rnnc.codegen.tiling_record import Tiling
from rnnc.codegen.triton_module import chunk_kernels

SPECS = {path.stem: path for path in sorted(Path(rnnc.__file__).parents[1].glob("ops/*.rnn"))}
ONE_NUMBER = """recurrence one_number[K]:
    input x[K], y[K], a, f
    param w
    state m
    output o[K]
    m <- sigmoid(f) * m + sigmoid(w) * sum(x * y, K) + a
    o <- sigmoid(m) * x
"""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@pytest.fixture(scope="module", params=[*SPECS, "one_number"])
def compiled(request: pytest.FixtureRequest, analysed: Callable[[Path], Spec]) -> Compiled:
    """A built-in model, or its last stage; a state without an axis."""
    name = request.param
    found = (analysed(SPECS[name]) if name in SPECS else analyse(ONE_NUMBER)).stages[-1]
    try:
        chunk_kernels(found)
    except (UnsupportedOnGpu, NotImplementedError) as reason:
        pytest.skip(str(reason))
    return found


@pytest.fixture(scope="module", autouse=True)
def equal_choices_once() -> Iterator[None]:
    """A choice depends on what it is given alone: it is made once for all costs that give the same."""
    known: dict[Any, Tiling] = {}

    def frozen(given: Any) -> Any:
        pairs = given.items() if isinstance(given, Mapping) else ()
        return tuple((key, frozen(value)) for key, value in pairs) if pairs else given or None

    def remembered(*given: Any) -> Tiling:
        key = tuple(map(frozen, given))
        if key not in known:
            known[key] = choose(*given)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnnc.codegen.cost.choose", remembered)
        yield


@pytest.mark.parametrize(
    ("dtype", "states", "save"),
    [
        ("bf16", False, "states"),
        ("fp16", True, "inputs"),
        ("fp32", True, "states"),
    ],
)
def test_bytes_and_grids_are_those_of_the_launches(
    compiled: Compiled, cost_of: Callable[..., Cost], module: ModuleType, dtype: str, states: bool, save: str
) -> None:
    from rnnc.ops.triton_recording import Shapes, record

    found = cost_of(dtype, states, save, G=2)
    axes = {axis: found.sizes[axis] for axis in compiled.recurrence.axes}
    shapes = Shapes(2, 200, 4, 2, axes)
    options = {"keep": save == "states", "wide": compiled.in_float32}
    recorded = record(module, compiled.recurrence, shapes, DTYPES[dtype], found.chunk, states, **options)
    for part, launches in zip((found.forward, found.backward), recorded, strict=True):
        assert [(k.name, k.grid, k.bytes) for k in part.kernels] == [
            (r.kernel, r.grid, r.bytes) for r in launches
        ]


@pytest.mark.parametrize(("dtype", "states", "save"), [("bf16", True, "states"), ("fp32", False, "inputs")])
def test_stretches_cost_what_they_launch(
    compiled: Compiled, cost_of: Callable[..., Cost], module: ModuleType, dtype: str, states: bool, save: str
) -> None:
    from rnnc.ops.triton_recording import Shapes, record
    from rnnc.ops.triton_tiling import in_stretches, tiled, tiling

    if module.NO_STRETCHES:
        with pytest.raises(ValueError, match=f"is not split: {module.NO_STRETCHES}$"):
            cost_of(dtype, states, save, stretches=3, G=2)
        return
    found = cost_of(dtype, states, save, stretches=3, G=2)
    axes = {axis: found.sizes[axis] for axis in compiled.recurrence.axes}
    size = DTYPES[dtype].itemsize
    how = tiling(module, axes, size, SM_90, found.chunk, spacing=1)
    split = in_stretches(module, how, axes, size, SM_90, Load(8, 200), 3)
    recorded = record(
        module,
        compiled.recurrence,
        Shapes(2, 200, 4, 2, axes),
        DTYPES[dtype],
        states=states,
        keep=save == "states",
        how=tiled(how, SM_90),
        split=split,
        wide=compiled.in_float32,
    )
    for part, launches in zip((found.forward, found.backward), recorded, strict=True):
        assert [(k.name, k.grid, k.bytes) for k in part.kernels] == [
            (r.kernel, r.grid, r.bytes) for r in launches
        ]
    assert found.stretches == 3
    assert found.forward.saved_bytes >= cost_of(dtype, states, save, stretches=1, G=2).forward.saved_bytes


def test_what_keeping_nothing_costs(compiled: Compiled, cost_of: Callable[..., Cost]) -> None:
    """At most 1.6 times the bytes, and nothing is held from forward to backward."""
    axes = [axis for axis in compiled.recurrence.axes if axis not in compiled.recurrence.loops]
    sizes = {"B": 1, "T": 8192, "H": 96} | dict.fromkeys(axes, 128)
    states, inputs = (cost_of(save=save, **sizes) for save in ("states", "inputs"))
    assert inputs.forward.saved_bytes == 0 < states.forward.saved_bytes
    states_are_read = any(kernel.role == "post" for kernel in states.forward.kernels)
    assert inputs.forward.bytes < states.forward.bytes or states_are_read
    ratio = (inputs.forward.bytes + inputs.backward.bytes) / (states.forward.bytes + states.backward.bytes)
    assert 1 < ratio <= 1.6


def test_growth(cost_of: Callable[..., Cost]) -> None:
    """Bytes and operations grow with the length as it does, launches do not: where heads fill the machine, so
    that no sequence is split.
    """
    once, twice = (cost_of(T=64 * n, H=512) for n in (100, 200))
    for a, b in ((once.forward, twice.forward), (once.backward, twice.backward)):
        assert b.flops == 2 * a.flops
        assert abs(b.bytes / a.bytes - 2) < 1e-3
        assert a.launches == b.launches
        assert [kernel.how for kernel in a.kernels] == [kernel.how for kernel in b.kernels]
        assert a.bytes > a.minimum_bytes


def test_record_and_text(cost_of: Callable[..., Cost]) -> None:
    found = cost_of()
    record = found.as_dict()
    assert record["forward"]["bytes"] == sum(kernel["bytes"] for kernel in record["forward"]["kernels"])
    assert set(record["backward"]) == {
        "bytes",
        "flops",
        "launches",
        "kernels",
        "minimum_bytes",
        "saved_bytes",
    }
    assert found.forward.saved_bytes > 0
    assert all(kernel.name in str(found) for kernel in found.forward.kernels)


@pytest.mark.parametrize("wrong", [{"T": 0}, {"X": 3}, {"H": True, "T": -1}])
def test_sizes_are_checked(cost_of: Callable[..., Cost], wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^sizes: "):
        cost_of(**wrong)


def test_dtype_is_checked(cost_of: Callable[..., Cost]) -> None:
    with pytest.raises(ValueError, match=r"^dtype: expected bf16, fp16, fp32, got 'fp8'$"):
        cost_of("fp8")
