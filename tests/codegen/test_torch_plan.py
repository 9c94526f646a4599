"""Plans of the torch back end: still whole, and arranged so that a CPU reads the states once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rnnc.codegen import operations as ir
from rnnc.codegen.compiler import Spec
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import Plan
from rnnc.codegen.torch_module import Form
from rnnc.codegen.torch_plan import for_torch

pytestmark = pytest.mark.smoke
ROOT = Path(__file__).parents[2]
SPECS = sorted(path for path in ROOT.glob("ops/*.rnn"))
READING = ("delta_net", "gated_delta_net", "kda", "rwkv7", "delta_product")
every = pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)


@pytest.fixture
def forms(path: Path, analysed: Callable[[Path], Spec]) -> tuple[Form, ...]:
    return tuple(form for stage in analysed(path).stages for form in stage.forms)


def reads_kept(node: Node, plan: Plan) -> bool:
    """Whether the node is a product over rows of tokens with a state that was kept."""
    states = {given for given in plan.given if not set(given.axes) & set(ir.TIME_AXES)}
    rows = set(node.axes) & set(ir.TIME_AXES)
    return isinstance(node.op, ir.Dot) and bool(rows) and bool(states & set(node.args))


@every
def test_every_node_comes_after_its_arguments(forms: tuple[Form, ...]) -> None:
    for form in forms:
        for plan in (form.forward, form.states, form.backward):
            arranged = for_torch(plan, form.builder)
            available = {*arranged.given, *(carry.start for carry in arranged.program.carries)}
            for node in (*arranged.pre, *arranged.scan, *arranged.post):
                assert node not in available
                assert all(a in available or isinstance(a.op, ir.Load) for a in node.args), repr(node)
                available.add(node)
            ends = {carry.end for carry in arranged.program.carries}
            loads = {n for n in (*ends, *arranged.program.results.values()) if isinstance(n.op, ir.Load)}
            assert ends | set(arranged.program.results.values()) <= available | loads


@every
def test_kept_states_are_read_in_the_scan_or_once(forms: tuple[Form, ...]) -> None:
    """Two passes over the states of all chunks would be most of what a backward pass reads."""
    for form in (form for form in forms if form.name == "chunked"):
        plan = for_torch(form.backward, form.builder)
        outside = [node for node in (*plan.pre, *plan.post) if reads_kept(node, plan)]
        free = [node for node in outside if not _needed_by_scan(node, plan)]
        assert len(free) <= 1
        assert not free or not [node for node in plan.scan if reads_kept(node, plan)]


@every
def test_products_that_the_scan_only_adds_are_formed_in_it(forms: tuple[Form, ...]) -> None:
    for form in (form for form in forms if form.name == "chunked"):
        plan = for_torch(form.forward, form.builder)
        users = [node for node in (*plan.pre, *plan.scan, *plan.post) for _ in node.args]
        arguments = [argument for node in (*plan.pre, *plan.scan, *plan.post) for argument in node.args]
        sums = {node for node in plan.scan if isinstance(node.op, ir.Add) and ir.ROW in node.axes}
        for node in (node for node in plan.pre if isinstance(node.op, ir.Dot) and len(node.axes) == 2):
            found = [user for user, argument in zip(users, arguments, strict=True) if argument is node]
            assert len(found) != 1 or found[0] not in sums or node in plan.keeps, repr(node)


def _needed_by_scan(node: Node, plan: Plan) -> bool:
    found = {node}
    for later in (*plan.pre, *plan.scan):
        if found & set(later.args):
            found.add(later)
    return bool(found & set(plan.scan))


@pytest.mark.parametrize("path", [path for path in SPECS if path.stem in READING], ids=lambda path: path.stem)
def test_what_tokens_write_is_kept(forms: tuple[Form, ...]) -> None:
    """No product with a kept inverse is formed again where the forward pass had formed it."""
    (form,) = (form for form in forms if form.name == "chunked")
    writes = [n for n in form.forward.keeps if isinstance(n.op, ir.Dot) and not _of_pairs(n)]
    assert len(writes) == 1
    assert set(writes) <= set(form.backward.given)
    assert not set(writes) & {*form.backward.pre, *form.backward.scan, *form.backward.post}


@every
def test_products_of_pairs_are_formed_once(forms: tuple[Form, ...]) -> None:
    """What the forward pass formed of two tokens' features is not formed again."""
    for form in (form for form in forms if form.name == "chunked"):
        before = {node for node in form.forward.pre if _of_pairs(node)}
        assert not before & {*form.backward.pre, *form.backward.scan, *form.backward.post}


def _of_pairs(node: Node) -> bool:
    pairs = len(node.axes) == 2 and set(node.axes) <= set(ir.TIME_AXES)
    return isinstance(node.op, ir.Dot) and pairs and node.op.axis not in ir.TIME_AXES
