"""Gradients in the text of walks in C: what is formed, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest

import rnnc.ops
from rnnc.codegen.c_program import walk_source
from rnnc.codegen.c_target import Target
from rnnc.codegen.compiler import Compiled, analyse


def body(name: str, which: str) -> str:
    """The walk of a built-in, without the functions that it includes."""
    file = Path(rnnc.ops.__file__).parent / f"{name}.rnn"
    compiled = analyse(file.read_text("utf-8"), str(file))
    assert isinstance(compiled, Compiled)
    sizes = tuple((axis, 32) for axis in sorted(compiled.recurrence.axes))
    text = walk_source(compiled, which, Target(16, sizes, "float"))
    return text[text.index("static void walk(") :]


@pytest.mark.parametrize(("name", "calls"), [("gla", 1), ("kda", 2)])
def test_gradients_of_a_product_under_decays_are_formed_together(name: str, calls: int) -> None:
    text = body(name, "backward")
    assert text.count("decay_dot_grads(") == calls
    assert not any(f"decay_dot_{each}(" in text for each in ("rows", "columns", "decay"))


def test_no_product_of_which_another_gives_the_contraction() -> None:
    """Of sum_v do (q S), do S^T gives the sum over k; of sum_v do (A U), do U^T the sum over tokens."""
    text = body("gated_delta_net", "backward")
    assert "gemm(b_do_S," in text
    assert "gemm(b_do_U," in text
    assert "gemm(b_qS," not in text
    assert "gemm(b_A_scaled_U," not in text
