"""What the tests of this folder share: specs that are analysed once, kernels and their costs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from rnnc.codegen.compiler import Compiled, Spec, compile_text
from rnnc.codegen.cost import cost
from rnnc.codegen.cost_record import Cost
from rnnc.codegen.triton_module import triton_source

CostOf = Callable[..., Cost]
Analysed = Callable[[Path], Spec]
Printed = Callable[[Path], tuple[str, ...]]


@pytest.fixture(scope="session")
def analysed() -> Analysed:
    """The spec of a file; what is derived from it is derived once for all tests that only read it: the module
    first, as `rnnc.compile` does, because kernels add values to the forms.
    """
    return cache(lambda path: compile_text(path.read_text("utf-8"), path.name))


@pytest.fixture(scope="session")
def printed(analysed: Analysed) -> Printed:
    """The texts of the kernels of a file's spec, stage by stage, printed once."""
    return cache(lambda path: tuple(map(triton_source, analysed(path).stages)))


@pytest.fixture(scope="module")
def module(compiled: Compiled, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The generated module of the kernels of `compiled`, which a test module gives."""
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


@pytest.fixture(scope="module")
def cost_of(compiled: Compiled) -> CostOf:
    """The cost of `compiled` at small sizes; `sizes` are others."""

    def of(
        dtype: str = "bf16",
        states: bool = False,
        save: str = "states",
        form: str = "chunked",
        stretches: int | None = None,
        **sizes: int,
    ) -> Cost:
        recurrence = compiled.recurrence
        features = (axis for axis in recurrence.axes if axis not in recurrence.loops)
        axes = dict(zip(features, (48, 80), strict=False)) | dict.fromkeys(recurrence.loops, 3)
        chunk = 16 if recurrence.loops else 32 if dtype == "fp32" else 64
        known = {"B": 2, "T": 200, "H": 4} | axes | sizes
        return cost(compiled, dtype, chunk, states, save, form, stretches=stretches, **known)

    return of
