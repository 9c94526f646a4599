"""The order of work in kernels, as data."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pytest

import rnnc
from rnnc.codegen import operations as ir
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.kernel_record import Kernel, UnsupportedOnGpu
from rnnc.codegen.kernels import plan_kernels
from rnnc.codegen.operations import COLUMN, ROW
from rnnc.codegen.phases import Anew, Part, Read, Store, verify
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import plain

OPS = Path(rnnc.__file__).parents[1] / "ops"
NAMES = sorted(path.stem for path in OPS.glob("*.rnn"))


@cache
def kernels(name: str) -> dict[str, Kernel]:
    """The kernels of a built-in model, or of its last stage, by role."""
    compiled = compile_text((OPS / f"{name}.rnn").read_text("utf-8")).stages[-1]
    form = compiled.forms[0]
    try:
        forward, backward = plan_kernels(form, compiled.normal)
    except (UnsupportedOnGpu, NotImplementedError) as reason:
        pytest.skip(str(reason))
    return {kernel.role: kernel for kernel in (*forward, *backward)}


def loops(kernel: Kernel) -> list[tuple[str | None, list[tuple[str, ...]], int]]:
    """Of each phase: its axis, the axes of what it sums, and how many products it adds to a result."""
    return [
        (
            phase.axis,
            [node.axes for node in phase.sums],
            sum(isinstance(step, Part) and step.inline for step in phase.body),
        )
        for phase in kernel.phases
    ]


@pytest.mark.parametrize("name", ["gated_delta_net", "mamba2"])
def test_kernels_that_walk_the_chunks_have_one_phase(name: str) -> None:
    found = kernels(name)
    assert loops(found["scan"]) == loops(found["reverse"]) == [(None, [], 0)]


def test_gradients_of_a_delta_rule() -> None:
    """Small sums in one loop; then one accumulator for q, one for k: products between tokens, then a loop."""
    found = loops(kernels("gated_delta_net")["grads"])
    matrix, row = (ROW, COLUMN), (ROW,)
    assert found == [
        (None, [], 0),
        ("V", [(), row, matrix, row, matrix, row], 0),
        (None, [], 0),
        (None, [], 0),
        (None, [], 1),
        ("V", [], 1),
        (None, [], 3),
        ("V", [], 2),
        (None, [], 0),
    ]


def test_products_under_decays_are_settled_one_by_one() -> None:
    """And so is what is summed over values: each is all that is formed after a fresh start, its weights
    with it, and what it gives is added up at once.
    """
    (loop,) = (phase for phase in kernels("rwkv7")["channels"].phases if Anew() in phase.body)
    starts = [index for index, step in enumerate(loop.body) if step == Anew()]
    kinds = []
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        part = loop.body[start:end]
        nodes = [step for step in part if isinstance(step, Node)]
        grads = [node for node in nodes if isinstance(node.op, ir.DecayDotDecay)]
        sums = [node for node in nodes if isinstance(node.op, ir.Dot | ir.Sum) and node.op.axis == "V"]
        assert len(grads) <= len(sums) == 1
        assert (sums[0].axes == (ir.ROW, ir.COLUMN)) == bool(grads)
        kinds.append(len(grads))
        added = {step.term for step in part if isinstance(step, Part)}
        assert set(grads) <= added
        assert added
    assert sorted(kinds) == [0] * 5 + [1] * 4  # do S^T, inv_dU S^T, v dS^T, U dS^T, the sums of S dS


def test_what_loops_meet_again_is_handed_on_in_memory() -> None:
    """Of many products no weights are, and no product is formed twice: only what the writes of a chunk
    amount to is written, once, before the loop that reads it.
    """
    channels = kernels("rwkv7")["channels"]
    written = {array.name for array in channels.stores}
    own = [a for a in channels.loads if a.name in written and "K" not in a.node.axes]
    assert [array.place for array in own] == ["token"]
    formed = [node for phase in channels.phases for node in phase.nodes]
    grads = [node for node in formed if isinstance(node.op, ir.DecayDotDecay)]
    assert len(grads) == len(set(grads)) == 4


def test_one_kernel_in_tiles_of_channels() -> None:
    """What weighs a product under decays is written before the loop and read in it, each with what is read
    of all values, after a fresh start.
    """
    found = kernels("kda")
    assert "grads" not in found
    channels = found["channels"]
    before, loop = next(
        pair for pair in zip(channels.phases, channels.phases[1:], strict=False) if Anew() in pair[1].body
    )
    handed = [step.array for step in before.body if isinstance(step, Store)]
    assert [array.place for array in handed] == ["matrix", "matrix"]
    assert {array.name for array in handed} <= {array.name for array in channels.loads}
    read = [step.array.name for step in loop.body if isinstance(step, Read)]
    assert all(read.count(array.name) == 1 for array in handed)
    assert read.count("d'o") == loop.body.count(Anew()) == 2


@pytest.mark.parametrize("name", ["mamba2", "retention"])
def test_gradients_without_a_read(name: str) -> None:
    """One loop takes the state, which it may have to form anew; the number that needs it is formed there."""
    kernel = kernels(name)["grads"]
    tiled = [phase for phase in kernel.phases if phase.axis]
    (taking,) = (
        phase for phase in tiled if any(isinstance(s, Read) and s.array.name == "Ss" for s in phase.body)
    )
    assert sorted(len(node.axes) for node in taking.sums) == [0, 2]
    assert len(tiled) == 3
    assert sorted(products for axis, _, products in loops(kernel) if axis) == [0, 0, 1]


def test_plans_print() -> None:
    """The same text every time."""
    text = str(kernels("gated_delta_net")["grads"])
    assert text == str(kernels.__wrapped__("gated_delta_net")["grads"])
    assert text.startswith("kernel gated_delta_net_chunked_grads (grads):\n  once:\n    ")
    assert "  for the tiles of V, sums " in text


def test_sums_of_several_sizes_are_consumed_one_by_one() -> None:
    """All that is formed of the sum between micro-steps is, before anything the smaller one goes into."""
    phases = kernels("gated_delta_product")["grads"].phases
    (loop,) = (number for number, phase in enumerate(phases) if phase.sums)
    sums = [node for node in phases[loop].sums if len(node.axes) == 2]
    small, large = sorted(sums, key=lambda node: node.axes == (ir.ROWS, ir.COLUMNS))
    used: list[set[Node]] = []
    formed: dict[Node, set[Node]] = {small: {small}, large: {large}}
    for phase in phases[loop + 1 :]:
        nodes = list(phase.nodes)
        for node in nodes:
            formed[node] = set().union(*(formed.get(plain(each), set()) for each in node.args))
        used.append(set().union(*(formed[node] for node in nodes)))
    assert used[:2] == [{large}, {large}]
    assert small in used[2]


@pytest.mark.parametrize("name", NAMES)
def test_every_array_is_written_once(name: str) -> None:
    """Or twice, where a part of it is read again before it is whole."""
    for kernel in kernels(name).values():
        steps = [step for phase in kernel.phases for step in phase.body]
        written = {array.name for array in kernel.stores}
        whole = {array.node for array in kernel.stores}
        parts = (array for array in kernel.loads if array.node not in whole)
        again = [array.name for array in parts if array.name in written]
        assert sorted(step.array.name for step in steps if isinstance(step, Store)) == sorted(
            [*written, *again]
        )
        assert {step.array.name for step in steps if isinstance(step, Read)} == {
            array.name for array in kernel.loads
        }
        assert str(kernel).count("store ") == len(kernel.stores) + len(again)


def test_what_is_not_there_is_noticed() -> None:
    grads = kernels("gated_delta_net")["grads"]
    with pytest.raises(AssertionError, match="not there"):
        verify(grads.phases[1:], ())
    part = next(step for phase in grads.phases for step in phase.body if isinstance(step, Part))
    twice = [
        dataclasses.replace(phase, body=(*phase.body, part)) if part in phase.body else phase
        for phase in grads.phases
    ]
    with pytest.raises(AssertionError, match="a term twice"):
        verify(twice, ())
