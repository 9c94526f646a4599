"""Scales and sums of products with matrices of pairs of tokens are done on the matrices."""

from __future__ import annotations

import numpy as np
import pytest

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.operations import COLUMN, ROW
from rnnc.codegen.pair_products import gather_pair_products
from rnnc.codegen.program import Node, Program

pytestmark = pytest.mark.smoke
SIZES = {"K": 3, ROW: 4, COLUMN: 4}


def load(build: Builder, name: str, *axes: str) -> Node:
    return build.load(ir.Load(name, "input"), axes)


def program(build: Builder, shared: bool = False) -> Program:
    """s[i] sum_j l[i,j] k[j] + 2 s[i] sum_j m[j,i] k[j] - q[i]; `shared`: the first is needed again."""
    k, q, s = load(build, "k", ROW, "K"), load(build, "q", ROW, "K"), load(build, "s", ROW)
    left, other = load(build, "l", ROW, COLUMN), load(build, "m", ROW, COLUMN)
    columns = build.node(ir.Rename(ROW, COLUMN), [k], (COLUMN, "K"))
    first = build.node(ir.Dot(COLUMN), [left, columns], (ROW, "K"))
    second = build.node(ir.Dot(ROW), [other, k], (COLUMN, "K"))
    second = build.node(ir.Rename(COLUMN, ROW), [second], (ROW, "K"))
    scaled = [build.node(ir.Multiply(1), [x, s], (ROW, "K")) for x in (first, second)]
    total = build.node(ir.Add((1, 2, -1)), [*scaled, q], (ROW, "K"))
    return Program("p", {"total": total, **({"again": first} if shared else {})}, ())


def dots(program: Program) -> list[Node]:
    return [node for node in program.nodes() if isinstance(node.op, ir.Dot)]


@pytest.mark.parametrize(("shared", "count"), [(False, 1), (True, 2)])
def test_equal_rows_are_multiplied_once(shared: bool, count: int) -> None:
    build = Builder(("K",))
    before = program(build, shared)
    after = gather_pair_products(before, (), build)
    assert (len(dots(before)), len(dots(after))) == (2, count)
    draw = np.random.default_rng(1)
    shapes = {"k": (4, 3), "q": (4, 3), "s": (4,), "l": (4, 4), "m": (4, 4)}
    arrays = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    expected, found = (evaluate(p, arrays, SIZES, FLOAT64) for p in (before, after))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_scales_are_on_the_matrix() -> None:
    build = Builder(("K",))
    after = gather_pair_products(program(build), (), build)
    scaled = [node for node in after.nodes() if isinstance(node.op, ir.Multiply)]
    assert scaled
    assert all("K" not in node.axes for node in scaled)


def test_what_is_given_stays() -> None:
    build = Builder(("K",))
    before = program(build)
    given = [node for node in before.nodes() if isinstance(node.op, ir.Multiply)]
    assert gather_pair_products(before, given, build) == before
