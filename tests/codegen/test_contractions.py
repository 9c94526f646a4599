"""A product that is only contracted again is not formed where another gives the same sum."""

from __future__ import annotations

import numpy as np
import pytest

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.contractions import share_contractions
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.operations import ROW
from rnnc.codegen.program import Node, Program

pytestmark = pytest.mark.smoke
SIZES = {"K": 3, "V": 2, ROW: 4}


def load(build: Builder, name: str, *axes: str) -> Node:
    return build.load(ir.Load(name, "input"), axes)


def products(program: Program) -> int:
    return sum(isinstance(node.op, ir.Dot) for node in program.nodes())


def program(build: Builder, shared: bool) -> Program:
    """sum_v d (q @ S), with or without d @ S^T as another result."""
    q, d, state = load(build, "q", ROW, "K"), load(build, "d", ROW, "V"), load(build, "S", "K", "V")
    read = build.node(ir.Dot("K"), [q, state], (ROW, "V"))
    total = build.node(ir.Sum("V"), [build.multiply([read, d], 3)], (ROW,))
    back = build.node(ir.Dot("V"), [d, state], (ROW, "K"))
    return Program("p", {"total": total, **({"back": back} if shared else {})}, ())


def test_the_product_goes() -> None:
    build = Builder(("K", "V"))
    before = program(build, shared=True)
    after = share_contractions(before, (), build)
    assert (products(before), products(after)) == (2, 1)
    rows = {
        name: [[0.5 * i - j for j in range(n)] for i in range(m)] for name, m, n in (("q", 4, 3), ("d", 4, 2))
    }
    loads = {**rows, "S": [[1.0, -2.0], [0.25, 3.0], [-1.5, 0.5]]}
    arrays = {name: np.asarray(value) for name, value in loads.items()}
    expected, found = (evaluate(p, arrays, SIZES, FLOAT64) for p in (before, after))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_nothing_is_gained_without_another_product() -> None:
    build = Builder(("K", "V"))
    before = program(build, shared=False)
    assert share_contractions(before, (), build) == before
