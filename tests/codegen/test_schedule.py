"""Schedules: what is parallel does not need the state, what is serial is no more than it must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.compiler import Compiled, Spec
from rnnc.codegen.forms import chunked_form
from rnnc.codegen.gradients import differentiate
from rnnc.codegen.numerics import stabilise
from rnnc.codegen.program import Program, dependents, reachable
from rnnc.codegen.schedule import Plan, cut, on_rows, with_inverses

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[2]
SPECS = sorted([*ROOT.glob("ops/*.rnn"), *ROOT.glob("examples/*.rnn")])
every = pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)


@pytest.fixture
def stages(path: Path, analysed: Callable[[Path], Spec]) -> tuple[Compiled, ...]:
    return analysed(path).stages


def plans(stages: tuple[Compiled, ...]) -> list[Plan]:
    forms = [form for found in stages for form in found.forms]
    return [plan for form in forms for plan in (form.forward, form.states, form.backward)]


@every
def test_stages(stages: tuple[Compiled, ...]) -> None:
    """Every node is computed once, after its arguments, in the earliest stage that has them."""
    for plan in plans(stages):
        starts = [carry.start for carry in plan.program.carries]
        available = {node.number for node in (*plan.given, *starts)}
        for node in (*plan.pre, *plan.scan, *plan.post):
            assert node.number not in available
            unknown = [a for a in node.args if a.number not in available and not isinstance(a.op, ir.Load)]
            assert not unknown, f"{node!r} is computed before {unknown}"
            available.add(node.number)
        moving = dependents([*plan.given, *plan.pre, *plan.scan, *plan.post], starts)
        assert not [node for node in plan.pre if node.number in moving]
        assert all(node.number in moving for node in (*plan.scan, *plan.post))


@every
def test_the_scan_is_minimal(stages: tuple[Compiled, ...]) -> None:
    """What is serial feeds the next state; nothing else waits for the chunk before."""
    for plan in (cut(plan.program, plan.given, plan.keeps) for plan in plans(stages)):
        needed = {node.number for node in reachable(carry.end for carry in plan.program.carries)}
        assert all(node.number in needed for node in plan.scan)
        assert not [node for node in plan.post if node.number in needed]


@every
def test_what_the_backward_pass_is_given_is_kept(stages: tuple[Compiled, ...]) -> None:
    for form in (form for found in stages for form in found.forms):
        assert set(form.backward.given) == set(form.forward.keeps) == set(form.states.keeps)
        for carry in form.forward.program.carries:
            assert carry.start in form.forward.keeps
        inverses = [node for node in form.backward.pre if isinstance(node.op, ir.Inverse)]
        assert not inverses, "inverses are kept, not formed again"


def passes(found: Compiled) -> tuple[Builder, Program, Program]:
    builder = Builder(found.recurrence.axes)
    program = stabilise(chunked_form(found.normal, builder), builder, found.normal, found.decay_ranges)
    return builder, program, differentiate(program, builder)


@every
def test_a_solve_is_one_inverse(stages: tuple[Compiled, ...]) -> None:
    for found in stages:
        builder, *programs = passes(found)
        solved = [with_inverses(program, builder) for program in programs]
        inverses = {node for program in solved for node in program.nodes() if isinstance(node.op, ir.Inverse)}
        reads = found.normal.coupled.writes if found.normal.coupled else found.normal.reads
        assert len(inverses) == (1 if reads else 0)
        assert not [node for program in solved for node in program.nodes() if isinstance(node.op, ir.Solve)]


@every
def test_no_elementwise_work_is_done_for_columns(stages: tuple[Compiled, ...]) -> None:
    """A gate is computed once per token, not once as a row and once as a column."""
    for builder, *programs in map(passes, stages):
        for program in programs:
            for node in on_rows(with_inverses(program, builder), builder).nodes():
                if isinstance(node.op, ir.Apply):
                    assert not (ir.COLUMN in node.axes and ir.ROW not in node.axes), node


@every
def test_the_state_is_never_formed_for_every_token(stages: tuple[Compiled, ...]) -> None:
    """A matrix, that is: a state without a key axis is no larger than an input."""
    for found in (each for each in stages if each.normal.elementwise is None):
        axes = set(found.normal.axes)
        for plan in (found.forms[0].forward, found.forms[0].backward):
            for node in plan.program.nodes():
                assert not (axes <= set(node.axes) and {ir.ROW, ir.COLUMN} & set(node.axes)), node
