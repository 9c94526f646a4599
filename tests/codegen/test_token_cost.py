"""The cost that is told of the recurrent form is the cost of the launches that are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import rnnc
from rnnc.codegen.compiler import Compiled, compile_text
from rnnc.codegen.cost_record import Cost

ROOT = Path(rnnc.__file__).parents[1]
SPECS = [
    ROOT / "ops" / f"{name}.rnn" for name in ("gated_delta_net", "kda", "mamba2", "retention", "rwkv7", "gsa")
]
SPECS.append(ROOT / "examples" / "two_read_delta.rnn")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@pytest.fixture(scope="module", params=SPECS, ids=lambda path: path.stem)
def compiled(request: pytest.FixtureRequest) -> Compiled:
    return compile_text(request.param.read_text("utf-8")).stages[0]


@pytest.mark.parametrize(
    ("dtype", "states", "save"),
    [("bf16", False, "states"), ("fp16", True, "states"), ("fp32", True, "inputs")],
)
def test_bytes_and_grids_are_those_of_the_launches(
    compiled: Compiled, cost_of: Callable[..., Cost], module: ModuleType, dtype: str, states: bool, save: str
) -> None:
    from rnnc.ops.triton_recording import Recorded, Shapes, record

    def size(launch: Recorded) -> int:
        """The room for the states that are formed anew counts as often as it is used."""
        room = next((x for name, x in launch.options.items() if name.endswith("_formed")), None)
        if room is None:
            return launch.bytes
        return launch.bytes + (2 * 2 * 200 - room.shape[0]) * room[0].numel() * 4

    found = cost_of(dtype, states, save, form="recurrent", G=2)
    axes = {axis: found.sizes[axis] for axis in compiled.recurrence.axes}
    options = {"keep": save == "states", "form": "recurrent", "wide": compiled.in_float32}
    recorded = record(
        module, compiled.recurrence, Shapes(2, 200, 4, 2, axes), DTYPES[dtype], 64, states, **options
    )
    for part, launches in zip((found.forward, found.backward), recorded, strict=True):
        assert [(k.name, k.grid, k.bytes) for k in part.kernels] == [
            (r.kernel, r.grid, size(r)) for r in launches
        ]


def test_growth(cost_of: Callable[..., Cost]) -> None:
    """Operations grow with the length as it does, bytes hardly less, launches do not."""
    once, twice = (cost_of(form="recurrent", T=64 * n) for n in (100, 200))
    for a, b in ((once.forward, twice.forward), (once.backward, twice.backward)):
        assert b.flops == 2 * a.flops
        assert 1.4 < b.bytes / a.bytes <= 2.001
        assert a.launches == b.launches <= 2
        assert a.bytes > a.minimum_bytes


def test_text(cost_of: Callable[..., Cost]) -> None:
    found = cost_of(form="recurrent")
    assert found.as_dict()["form"] == "recurrent"
    assert "a state kept every 16 tokens" in str(found)
