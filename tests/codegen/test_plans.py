"""What `pre` hands on, and by which plan."""

from __future__ import annotations

from pathlib import Path

import pytest

import rnnc
from rnnc.codegen import operations as ir
from rnnc.codegen.compiler import analyse
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.kernels import plan_kernels
from rnnc.codegen.operands import is_matrix
from rnnc.codegen.plans import Kernels
from rnnc.codegen.program import reachable

pytestmark = pytest.mark.smoke
OPS = Path(rnnc.__file__).parents[1] / "ops"


def plans(name: str) -> tuple[Kernels, Kernels, Kernels]:
    """The plan that is taken, the one that hands on all matrices, the lean one."""
    (compiled,) = analyse((OPS / f"{name}.rnn").read_text("utf-8")).stages
    full, lean = (
        Kernels(*plan_kernels(compiled.forms[0], compiled.normal, lean), lean) for lean in (False, True)
    )
    return compiled.kernels, full, lean


def handed(plan: Kernels) -> list[str]:
    return [array.name for array in pre_of(plan).stores]


def pre_of(plan: Kernels) -> Kernel:
    (found,) = (kernel for kernel in plan.forward if kernel.role == "pre")
    return found


@pytest.mark.parametrize("name", ["delta_net", "gated_delta_net"])
def test_lean_plans_hand_on_inverses_alone(name: str) -> None:
    taken, full, lean = plans(name)
    assert taken == lean
    assert len(handed(lean)) < len(handed(full))
    matrices = [array.node for array in pre_of(lean).stores if is_matrix(array.node)]
    assert matrices
    assert all(any(isinstance(n.op, ir.Inverse) for n in reachable([matrix])) for matrix in matrices)
    assert "q" not in {array.name for array in pre_of(lean).loads}


def test_decays_per_channel_have_one_plan() -> None:
    taken, full, lean = plans("kda")
    assert not taken.lean
    assert handed(full) == handed(lean)
