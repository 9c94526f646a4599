"""Which decays are carried as logarithms, and that the logarithm is exact where the decay underflows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rnnc.codegen.builder import Builder
from rnnc.codegen.compiler import analyse
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.exact import rationals
from rnnc.codegen.logarithms import logarithm
from rnnc.codegen.lowering import Lowering
from rnnc.codegen.numerics import describe, log_decay
from rnnc.codegen.program import Program
from rnnc.dsl.ranges import environment

pytestmark = pytest.mark.smoke

SPEC = """recurrence r[K, V]:
    input q[K], k[K], v[V], f
    input d in {range}
    state S[K, V]
    output o[V]
    S <- ({decay}) * S + k @ v.T
    o <- S.T @ q
"""
# A decay, and its base-2 logarithm at f = -800 and d = 0.5 (None: products have to do).
LOG2E = 1 / math.log(2)
DECAYS = [
    ("exp(-exp(f))", 0.0),
    ("sigmoid(f)", -800 * LOG2E),
    ("1 - sigmoid(-f)", -800 * LOG2E),
    ("sigmoid(f)**0.5", -400 * LOG2E),
    ("exp(f) * sigmoid(f) * 0.5", -1600 * LOG2E - 1),
    ("0.5 + 0.5 * sigmoid(f)", -1.0),
    ("sigmoid(f) * (0.5 + 0.5 * sigmoid(f))", -800 * LOG2E - 1),
    ("d", -1.0),
    ("0.25", -2.0),
    ("1 - sigmoid(f)**2", None),
    ("softplus(f)", None),
    ("tanh(f)", None),
    ("d - 0.5", None),
]


@pytest.mark.parametrize(("decay", "expected"), DECAYS)
def test_logarithm(decay: str, expected: float | None) -> None:
    compiled = analyse(SPEC.format(decay=decay, range="(0, 1]"))
    log = log_decay(compiled.normal, *compiled.normal.decays, *compiled.decay_ranges)
    (said,) = describe(compiled.normal, compiled.decay_ranges)
    assert ("base-2 logarithms" in said) == (expected is not None)
    assert ("no logarithm and no division" in said) == (expected is None)
    if expected is None:
        assert log is None
        return
    assert log is not None
    assert log == logarithm(compiled.normal.decay, environment(compiled.recurrence))  # type: ignore[arg-type]
    builder = Builder(("K", "V"))
    program = Program("log", {"log": Lowering(builder, compiled.recurrence, None).lower(log)}, ())
    found = evaluate(program, {"f": -800.0, "d": 0.5}, {}, FLOAT64)["log"]
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_a_closed_range_stays_a_product() -> None:
    compiled = analyse(SPEC.format(decay="d", range="[0, 1]"))
    assert log_decay(compiled.normal, *compiled.normal.decays, *compiled.decay_ranges) is None
    assert "which reaches 0" in describe(compiled.normal, compiled.decay_ranges)[0]


def test_exact_powers_share_a_root() -> None:
    oracle = rationals(0)
    root = oracle.apply("rsqrt", 3)
    assert oracle.apply("reciprocal", 3) == root**2
    assert oracle.apply("power", 3, -1.5) == root**3
    assert oracle.apply("rsqrt", 9) == oracle.number("1/3")
    assert oracle.apply("sigmoid", 5) + oracle.apply("sigmoid", -5) == 1
    assert oracle.apply("sigmoid", 0) * 2 == 1


@pytest.mark.parametrize("gate", ["2 * sigmoid(f) - 1", "(sigmoid(f) - 0.5) * 2", "tanh(f / 2)"])
def test_a_signed_gate_keeps_its_digits_near_zero(gate: str) -> None:
    compiled = analyse(SPEC.format(decay=gate, range="(0, 1]"))
    assert compiled.normal.decay is not None
    builder = Builder(("K", "V"))
    node = Lowering(builder, compiled.recurrence, None).lower(compiled.normal.decay)
    found = evaluate(Program("recurrent", {"d": node}, ()), {"f": np.array(1e-20)}, {}, FLOAT64)["d"]
    assert float(found) == pytest.approx(5e-21, rel=1e-12)
