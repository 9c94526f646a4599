"""The form that kernels are planned from has the values of the form it is made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnnc.codegen import operations as ir
from rnnc.codegen.compiler import analyse
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.kernel_form import kernel_form, masks_inside
from rnnc.codegen.operations import ROW
from rnnc.codegen.unstacking import is_stacked
from rnnc.codegen.value_operands import scale_values

pytestmark = pytest.mark.smoke

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_read_delta.rnn"
SPECS = {
    "two_reads": EXAMPLE.read_text("utf-8"),
    "softmax": """recurrence softmaxes[K, V]:
    input q[K], k[K], v[V]
    state S[K, V]
    output o[V]
    S <- S - 0.3 * q @ (k.T @ S) + 0.2 * k @ (q.T @ S) + softmax(k, K) @ softmax(v, V).T
    o <- softmax(S.T @ q, V)
""",
}

PLAIN = """recurrence plain[K, V]:
    input q[K], k[K], v[V]
    state S[K, V]
    output o[V]
    S <- S + k @ v.T
    o <- S.T @ q
"""


@pytest.mark.parametrize("name", SPECS)
def test_values(name: str) -> None:
    found = analyse(SPECS[name])
    form = next(form for form in found.forms if form.name == "chunked")
    made = kernel_form(form, "V")
    sizes = dict.fromkeys(found.recurrence.axes, 3) | {ROW: 4}
    source = np.random.default_rng(0)
    for old, new in ((form.forward, made.forward), (form.backward, made.backward)):
        loads = {}
        for node in old.program.nodes():
            if isinstance(node.op, ir.Load):
                shape = [4 if axis in ir.TIME_AXES else sizes[axis] for axis in node.axes]
                valid = node.op.kind == "valid"
                loads[node.op.name] = np.ones(shape) if valid else source.uniform(0.1, 0.9, shape)
        expected = evaluate(old.program, loads, sizes, FLOAT64)
        for what, value in evaluate(new.program, loads, sizes, FLOAT64).items():
            np.testing.assert_allclose(
                value.astype(float), expected[what].astype(float), rtol=1e-9, atol=1e-12
            )


def test_what_is_left_stacked() -> None:
    """The inverse and what it is the inverse of."""
    form = next(form for form in analyse(SPECS["two_reads"]).forms if form.name == "chunked")
    for plan in (kernel_form(form, "V").forward, kernel_form(form, "V").backward):
        stacked = {type(node.op) for node in plan.program.nodes() if is_stacked(node)}
        assert stacked == {ir.Assemble, ir.Inverse}
    plain = next(form for form in analyse(PLAIN).forms if form.name == "chunked")
    same = kernel_form(plain, "V")
    programs = [masks_inside(plain.forward.program, plain.builder), plain.backward.program]
    programs = [scale_values(program, plain.builder, "V") for program in programs]
    assert [x.program for x in (same.forward, same.backward)] == programs
