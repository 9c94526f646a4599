"""What the kernels of decays per channel hand to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnnc
from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.kernels import plan_kernels
from rnnc.codegen.operands import crossing, with_plain_operands
from rnnc.codegen.operations import ROW
from rnnc.codegen.phases import Read, Store
from rnnc.codegen.program import Node, Program
from rnnc.codegen.schedule import GRADIENTS
from rnnc.codegen.torch_sums import plain

pytestmark = pytest.mark.smoke

OPS = Path(rnnc.__file__).parents[1] / "ops"
NAMES = ["gla", "kda", "rwkv6", "rwkv7"]
LARGE = (ir.Running, ir.DecayDot, ir.Inverse, *GRADIENTS)


def kernels(name: str) -> dict[str, Kernel]:
    compiled = compile_text((OPS / f"{name}.rnn").read_text("utf-8"))
    forward, backward = plan_kernels(compiled.forms[0], compiled.normal)
    return {kernel.role: kernel for kernel in (*forward, *backward)}


@pytest.mark.parametrize("name", NAMES)
def test_kernels_over_values_find_operands_in_memory(name: str) -> None:
    """They form nothing from tokens' decays, and no tile of tokens and channels is scaled for a product."""
    found = kernels(name)
    for role in found.keys() & {"scan", "reverse", "grads"}:
        kernel = found[role]
        assert not any(isinstance(node.op, LARGE) for node in kernel.body), role
        assert not any(array.node.axes == (ROW, "K") for array in kernel.loads if _is_input(array.node))
        for node in kernel.body:
            if isinstance(node.op, ir.Dot):
                loaded = {array.node for array in kernel.loads}
                tiles = [plain(a) for a in node.args if plain(a).axes == (ROW, "K")]
                assert all(tile in loaded for tile in tiles), (role, node)


def _is_input(node: Node) -> bool:
    return isinstance(node.op, ir.Load)


@pytest.mark.parametrize("name", NAMES)
def test_products_under_decays_are_formed_once(name: str) -> None:
    """One loop over channels for each in `pre`, one for all of their derivatives in `channels`."""
    found = kernels(name)
    loops = [
        [node for node in phase.nodes if isinstance(node.op, ir.DecayDot)] for phase in found["pre"].phases
    ]
    assert max(map(len, loops)) == 1
    formed = [node for phase in found["channels"].phases for node in phase.nodes]
    derivatives = [node for node in formed if isinstance(node.op, GRADIENTS)]
    assert len(derivatives) == len(set(derivatives)) > 0


def test_what_waits_for_sums_over_channels_is_kept_in_memory() -> None:
    """The derivative of a unit vector needs a sum over all channels: the rest is written before it."""
    kernel = kernels("kda")["channels"]
    steps = [step for phase in kernel.phases for step in phase.body]
    again = [array for array in kernel.loads if array.name in {store.name for store in kernel.stores}]
    rows = [array for array in again if array.place == "token"]
    assert {array.name for array in rows} == {"d'q", "d'k"}
    assert not {array.node for array in rows} & {store.node for store in kernel.stores}  # not all of it
    assert {array.place for array in again} == {"token", "matrix"}  # and of sums over values these alone
    for array in again:
        assert steps.index(Store(array)) < steps.index(Read(array))


@pytest.mark.parametrize("name", NAMES)
def test_plain_operands_change_no_value(name: str) -> None:
    compiled = compile_text((OPS / f"{name}.rnn").read_text("utf-8"))
    form = compiled.forms[0]
    given = crossing(form.forward.program, compiled.normal)
    sizes = {"K": 3, "V": 2, ROW: 4}
    for program in (form.forward.program, form.backward.program):
        loads = _loads(program, sizes)
        found = evaluate(with_plain_operands(program, given, form.builder), loads, sizes, FLOAT64)
        for key, expected in evaluate(program, loads, sizes, FLOAT64).items():
            np.testing.assert_allclose(found[key], expected, rtol=1e-12, atol=1e-12)


def _loads(program: Program, sizes: dict[str, int]) -> dict[str, Any]:
    source = np.random.default_rng(0)
    loads = {}
    for node in program.nodes():
        if isinstance(node.op, ir.Load):
            shape = [4 if axis in ir.TIME_AXES else sizes[axis] for axis in node.axes]
            valid = node.op.kind == "valid"
            loads[node.op.name] = np.ones(shape) if valid else source.uniform(0.1, 0.9, shape)
    return loads


def test_masks_are_dropped_where_a_derivative_applies_them() -> None:
    builder = Builder(("K",))
    matrix = builder.load(ir.Load("m", "input"), (ROW, ir.COLUMN))
    y = builder.load(ir.Load("y", "input"), (ir.COLUMN, "K"))
    decay = builder.load(ir.Load("g", "input"), (ROW, "K"))
    for strict, masked, dropped in ((True, True, True), (False, False, True), (False, True, False)):
        op = ir.DecayDotRows("K", "log", False, strict)
        node = builder.node(op, [builder.mask(matrix, masked), y, decay], (ROW, "K"))
        program = Program("p", {"o": node}, ())
        result = with_plain_operands(program, (), builder).results["o"]
        assert (result.args[0] is matrix) is dropped
