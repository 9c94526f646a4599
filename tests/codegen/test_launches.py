"""How many kernels a call launches: two forward, four backward at most, for every recurrence with chunks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rnnc.codegen.compiler import Spec
from rnnc.codegen.cost import cost
from rnnc.ops.tuned import of_spec

OPS = Path(__file__).parents[2] / "ops"
SIZE = 128


@pytest.mark.parametrize("name", sorted(path.stem for path in OPS.glob("*.rnn")))
def test_launches(name: str, analysed: Callable[[Path], Spec]) -> None:
    """Of each stage, where nothing is kept: what the backward pass then begins with counts as its own."""
    for stage in analysed(OPS / f"{name}.rnn").stages:
        axes = dict.fromkeys(stage.recurrence.axes, SIZE) | dict.fromkeys(stage.recurrence.loops, 2)
        found = cost(stage, save="inputs", findings=of_spec, B=1, T=8192, H=96, **axes)
        assert found.forward.launches <= 2
        assert found.backward.launches <= 4
