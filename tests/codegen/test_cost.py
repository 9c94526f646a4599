"""The cost that is told is the cost of the launches that are made."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import rnnc
from rnnc.codegen.compiler import Compiled, compile_text
from rnnc.codegen.cost import Cost, cost
from rnnc.codegen.kernels import UnsupportedOnGpu
from rnnc.codegen.triton_module import chunk_kernels, triton_source

SPECS = {path.stem: path for path in sorted(Path(rnnc.__file__).parents[1].glob("ops/*.rnn"))}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@pytest.fixture(scope="module", params=SPECS)
def compiled(request: pytest.FixtureRequest) -> Compiled:
    found = compile_text(SPECS[request.param].read_text("utf-8"))
    try:
        chunk_kernels(found)
    except (UnsupportedOnGpu, NotImplementedError) as reason:
        pytest.skip(str(reason))
    return found


@pytest.fixture(scope="module")
def module(compiled: Compiled, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The generated module of the kernels."""
    pytest.importorskip("triton")
    name = f"cost_{compiled.recurrence.name}"
    path = tmp_path_factory.mktemp("kernels") / f"{name}.py"
    path.write_text(triton_source(compiled), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def of(
    compiled: Compiled, dtype: str = "bf16", states: bool = False, save: str = "states", **sizes: int
) -> Cost:
    axes = dict(zip(compiled.recurrence.axes, (48, 80), strict=False))
    return cost(compiled, dtype, 64, states, save, **({"B": 2, "T": 200, "H": 4} | axes | sizes))


@pytest.mark.parametrize(
    ("dtype", "states", "save"),
    [
        ("bf16", False, "states"),
        ("fp16", True, "states"),
        ("fp32", True, "inputs"),
        ("bf16", False, "inputs"),
    ],
)
def test_bytes_and_grids_are_those_of_the_launches(
    compiled: Compiled, module: ModuleType, dtype: str, states: bool, save: str
) -> None:
    from rnnc.ops.triton_recording import Shapes, record

    found = of(compiled, dtype, states, save, G=2)
    axes = {axis: found.sizes[axis] for axis in compiled.recurrence.axes}
    shapes = Shapes(2, 200, 4, 2, axes)
    recorded = record(module, compiled.recurrence, shapes, DTYPES[dtype], 64, states, keep=save == "states")
    for part, launches in zip((found.forward, found.backward), recorded, strict=True):
        assert [(k.name, k.grid, k.bytes) for k in part.kernels] == [
            (r.kernel, r.grid, r.bytes) for r in launches
        ]


def test_what_keeping_nothing_costs(compiled: Compiled) -> None:
    """At most 1.6 times the bytes, and nothing is held from forward to backward."""
    sizes = {"B": 1, "T": 8192, "H": 96} | dict.fromkeys(compiled.recurrence.axes, 128)
    states, inputs = (of(compiled, save=save, **sizes) for save in ("states", "inputs"))
    assert inputs.forward.saved_bytes == 0 < states.forward.saved_bytes
    assert inputs.forward.bytes < states.forward.bytes
    ratio = (inputs.forward.bytes + inputs.backward.bytes) / (states.forward.bytes + states.backward.bytes)
    assert 1 < ratio <= 1.6


def test_growth(compiled: Compiled) -> None:
    """Bytes and operations grow with the length as it does, launches do not."""
    once, twice = (of(compiled, T=64 * n) for n in (100, 200))
    for a, b in ((once.forward, twice.forward), (once.backward, twice.backward)):
        assert b.flops == 2 * a.flops
        assert abs(b.bytes / a.bytes - 2) < 1e-3
        assert a.launches == b.launches
        assert a.bytes > a.minimum_bytes


def test_record_and_text(compiled: Compiled) -> None:
    found = of(compiled)
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
def test_sizes_are_checked(compiled: Compiled, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^sizes: "):
        of(compiled, **wrong)


def test_dtype_is_checked(compiled: Compiled) -> None:
    with pytest.raises(ValueError, match=r"^dtype: expected bf16, fp16, fp32, got 'fp8'$"):
        of(compiled, "fp8")
