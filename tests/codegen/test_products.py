"""Sharing factors of products changes no value and saves work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.compiler import Compiled, Spec
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.factors import typical_size
from rnnc.codegen.forms import chunked_form
from rnnc.codegen.gradients import differentiate
from rnnc.codegen.numerics import stabilise
from rnnc.codegen.operations import ROW
from rnnc.codegen.products import share_products
from rnnc.codegen.program import Program, reachable
from rnnc.codegen.schedule import on_rows, with_inverses

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[2]
SPECS = sorted([*ROOT.glob("ops/*.rnn"), *ROOT.glob("examples/*.rnn")])


def work(programs: Sequence[Program]) -> int:
    """Multiplications of elementwise products at common sizes, one pass for factors over the same axes."""
    roots = [r for p in programs for r in (*p.results.values(), *(carry.end for carry in p.carries))]
    total = 0
    for node in reachable(roots):
        if isinstance(node.op, ir.Multiply):
            total += (len({a.axes for a in node.args}) - 1) * typical_size(node.axes)
            total += sum(typical_size(a.axes) for a in node.args)
            total -= sum(map(typical_size, {a.axes for a in node.args}))
    return total


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_sharing(path: Path, analysed: Callable[[Path], Spec]) -> None:
    for found in analysed(path).stages:
        check_sharing(found)


def check_sharing(found: Compiled) -> None:
    builder = Builder(found.recurrence.axes)
    program = stabilise(chunked_form(found.normal, builder), builder, found.normal, found.decay_ranges)
    before = [on_rows(with_inverses(p, builder), builder) for p in (program, differentiate(program, builder))]
    after = share_products(before, builder)
    assert work(after) <= work(before)
    assert share_products(before, builder)[1].results == after[1].results

    sizes = dict.fromkeys(found.recurrence.axes, 2) | dict(zip(found.normal.axes, (3, 2), strict=False))
    source = np.random.default_rng(0)
    loads = {}
    for node in {n for p in before for n in p.nodes() if isinstance(n.op, ir.Load)}:
        assert isinstance(node.op, ir.Load)
        shape = [4 if axis in ir.TIME_AXES else sizes[axis] for axis in node.axes]
        loads[node.op.name] = np.ones(shape) if node.op.kind == "valid" else source.uniform(0.1, 0.9, shape)
    for old, new in zip(before, after, strict=True):
        expected = evaluate(old, loads, {**sizes, ROW: 4}, FLOAT64)
        for name, found_value in evaluate(new, loads, {**sizes, ROW: 4}, FLOAT64).items():
            np.testing.assert_allclose(found_value, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_pair_in_two_products_is_multiplied_once() -> None:
    builder = Builder(("K",))
    a, b, c, d = (builder.load(ir.Load(name, "input"), (ROW, "K")) for name in "abcd")
    products = [builder.multiply([a, b, c]), builder.multiply([a, b, d])]
    program = Program("two", {"x": products[0], "y": products[1]}, ())
    (shared,) = share_products([program], builder)
    parts = [set(node.args) for node in shared.results.values()]
    (common,) = parts[0] & parts[1]
    assert set(common.args) == {a, b}
