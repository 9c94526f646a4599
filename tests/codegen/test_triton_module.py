"""The printed kernels, whole: what a person reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import rnnc
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.triton_module import triton_source

OPS = Path(rnnc.__file__).parents[1] / "ops"
GOLDENS = Path(__file__).parent / "goldens"


@pytest.mark.parametrize("name", ["gated_delta_net", "mamba2"])
def test_golden(name: str, golden: Callable[[Path, str], None]) -> None:
    text = triton_source(compile_text((OPS / f"{name}.rnn").read_text("utf-8")))
    compile(text, name, "exec")
    golden(GOLDENS / f"{name}_triton.txt", text)
