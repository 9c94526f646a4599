"""The Triton kernels, in Triton's interpreter, against the naive loop in float64: values and all gradients.

What the kernels write is allocated full of NaN, so that nothing that was not written passes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rnnc
import rnnc.ops
from rnnc.measurement import draw
from rnnc.ops.arguments import Sizes
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.stages import Pipeline
from rnnc.ops.testing import distance
from rnnc.ops.trial import Trial, draw_trial
from rnnc.ops.triton_launch import Runner, run_chunk_tables

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("poisoned")

BUILT_IN = {name: getattr(rnnc.ops, name) for name in rnnc.ops.builtin_names()}
ALONE = {name: op for name, op in BUILT_IN.items() if not isinstance(op, Pipeline)}  # not in stages
NAMES = tuple(name for name, op in ALONE.items() if not op.recurrence.loops)
# Lengths, sizes of the key and the value axis, heads, groups; without groups, as many heads as one has.
PLAIN = [
    ((1,), (5, 3), 2, 1),
    ((15, 15), (24, 20), 1, 1),
    ((16,), (16, 16), 1, 1),
    ((21,), (5, 20), 4, 2),
    ((37,), (8, 33), 1, 1),
]
PACKED = [
    ((0, 33, 0, 5, 0), (5, 3), 1, 1),
    ((0, 0), (5, 3), 2, 2),
    ((16, 0, 1), (17, 8), 2, 1),
]
SMALL = ((2 * 16 + 5,), (5, 3), 2, 1)


def operator(name: str) -> Operator:
    found: Operator = getattr(rnnc.ops, name)
    return found


def case(op: Operator, shape: tuple[Any, ...], *, packed: bool, initial: bool, reverse: bool) -> Case:
    lengths, sizes, heads, groups = shape
    recurrence = op.recurrence
    axes = dict(zip(recurrence.states[0].axes, sizes, strict=True))
    grouped = {item.name: groups for item in recurrence.inputs if item.per_group}
    heads = heads if grouped else heads // groups
    return Case(7, lengths, packed, heads, axes, grouped, initial, reverse, 16)


def trial(name: str, shape: tuple[Any, ...] = SMALL, **flags: bool) -> Trial:
    options = {"packed": False, "initial": True, "reverse": False} | flags
    return draw_trial(operator(name), case(operator(name), shape, **options))


def check(drawn: Trial) -> None:
    """A call in float32 against the loop."""
    found = drawn.to(torch.float32).evaluate("chunked", backend="triton")
    for what, value in found.items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, (what, str(drawn.case))


@pytest.mark.parametrize("number", range(len(PLAIN)))
@pytest.mark.parametrize("name", NAMES)
def test_sequences_of_one_length(name: str, number: int) -> None:
    check(trial(name, PLAIN[number], initial=number % 2 == 0, reverse=number > 2))


@pytest.mark.parametrize("number", range(len(PACKED)))
@pytest.mark.parametrize("name", NAMES)
def test_packed_sequences(name: str, number: int) -> None:
    check(trial(name, PACKED[number], packed=True, initial=number != 2, reverse=number == 2))


@pytest.mark.parametrize("sizes", [(512, 40), (300, 17)])
@pytest.mark.parametrize("name", ["linear_attention", "mamba2", "gated_delta_net"])
def test_long_keys(name: str, sizes: tuple[int, int]) -> None:
    check(trial(name, ((21,), sizes, 1, 1)))


def leaves(drawn: Trial, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [x.to(dtype).requires_grad_() for x in drawn.arguments]


def total(outputs: Any) -> torch.Tensor:
    parts = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    return torch.stack([x.float().sin().sum() for x in parts]).sum()


@pytest.mark.parametrize("name", ["gated_delta_net", "mamba2"])
def test_what_is_kept_changes_nothing(name: str) -> None:
    drawn = trial(name)
    gradients = []
    for save in ("states", "inputs"):
        arguments = leaves(drawn)
        outputs, final = operator(name)(*arguments, backend="triton", chunk_size=16, save=save)
        assert final is None
        gradients.append(torch.autograd.grad(total(outputs), arguments))
    for states, inputs in zip(*gradients, strict=True):
        assert torch.equal(states, inputs)


@pytest.mark.parametrize("both_ends", [False, True])
@pytest.mark.parametrize("name", ["gated_delta_net", "kda", "titans_linear"])
def test_walks_as_one_launch_change_nothing(name: str, both_ends: bool) -> None:
    """From initial states that have gradients or none, to final states that have cotangents or none."""
    shape = ((17, 0, 3), (5, 3), 1, 1)
    op, drawn = operator(name), trial(name, shape, packed=True)
    assert any(pair.beside for pair in op.kernels.available[0].JOINED)
    gradients = []
    for save in ("states", "inputs"):
        arguments = leaves(drawn)
        states = [x.float().requires_grad_(both_ends) for x in drawn.states]
        outputs, final = op(
            *arguments,
            backend="triton",
            chunk_size=16,
            save=save,
            cu_seqlens=drawn.case.cu_seqlens,
            initial_state=tuple(states) if len(states) > 1 else states[0],
            output_final_state=both_ends,
        )
        loss = total(outputs)
        if both_ends:
            loss = loss + total(tuple(final) if isinstance(final, tuple) else final)
        gradients.append(torch.autograd.grad(loss, [*arguments, *states] if both_ends else arguments))
    for states_kept, inputs in zip(*gradients, strict=True):
        assert torch.equal(states_kept, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_no_result_depends_on_later_tokens(name: str) -> None:
    drawn, cut, op = trial(name, ((21,), (5, 3), 1, 1)), 9, operator(name)
    results = []
    for change in (False, True):
        arguments = leaves(drawn)
        count = len(op.recurrence.inputs)
        if change:
            with torch.no_grad():
                for x in arguments[:count]:
                    x[:, cut:] = 3 * x[:, cut:].flip(1) - 1
        outputs, _ = op(*arguments, backend="triton", chunk_size=16)
        first = (outputs if isinstance(outputs, torch.Tensor) else outputs[0])[:, :cut]
        gradients = torch.autograd.grad(first.sin().sum(), arguments, materialize_grads=True)
        results.append([first, *(x[:, :cut] for x in gradients[:count]), *gradients[count:]])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in NAMES])
def test_no_result_of_micro_steps_and_stages_depends_on_later_tokens(name: str) -> None:
    op, cut, results = getattr(rnnc.ops, name), 9, []
    recurrence = op.recurrence
    axes = {axis: 2 if axis in recurrence.loops else 5 for axis in recurrence.axes}
    drawn, count = draw(recurrence, Sizes(1, 21, 1, axes), torch.float32, "cpu"), len(recurrence.inputs)
    for change in (False, True):
        arguments = [x.detach().clone() for x in drawn]
        for x in arguments[:count] if change else ():
            x[:, cut:] = x[:, cut:].flip(1)
        arguments = [x.requires_grad_() for x in arguments]
        outputs, _ = op(*arguments, backend="triton", chunk_size=32 if recurrence.loops else 16)
        first = (outputs if isinstance(outputs, torch.Tensor) else outputs[0])[:, :cut]
        gradients = torch.autograd.grad(first.sin().sum(), arguments, materialize_grads=True)
        results.append([first, *(x[:, :cut] for x in gradients[:count]), *gradients[count:]])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_half_precision_beside_gates_in_float32() -> None:
    op, drawn = operator("gated_delta_net"), trial("gated_delta_net")
    vectors = {item.name for item in op.recurrence.inputs if item.axes}
    declared = [*op.recurrence.inputs, *op.recurrence.params]
    arguments = [
        x.to(torch.float16 if d.name in vectors else torch.float32).requires_grad_()
        for d, x in zip(declared, drawn.arguments, strict=True)
    ]
    exact = [x.detach().double().requires_grad_() for x in arguments]
    found, expected = op(*arguments, backend="triton", chunk_size=16)[0], op.reference(*exact)[0]
    assert found.dtype == torch.float16
    assert distance(found.detach(), expected.detach(), float(expected.detach().norm())) < 2e-3
    gradients = torch.autograd.grad(total(found), arguments), torch.autograd.grad(total(expected), exact)
    for x, one, other in zip(arguments, *gradients, strict=True):
        assert one.dtype == x.dtype
        assert distance(one, other, float(other.norm())) < 5e-3


def test_only_what_requires_a_gradient_has_one() -> None:
    drawn, op = trial("gla"), operator("gla")
    q, k, v, gk = (x.float() for x in drawn.arguments)
    outputs, _ = op(q, k, v.requires_grad_(), gk, backend="triton", chunk_size=16)
    outputs.sum().backward()
    assert v.grad is not None
    assert [x.grad for x in (q, k, gk)] == [None] * 3
    with torch.no_grad():
        assert op(q, k, v, gk, backend="triton", chunk_size=16)[0].grad_fn is None


def test_strides_do_not_matter() -> None:
    drawn, op = trial("delta_net"), operator("delta_net")
    arguments = leaves(drawn)
    strided = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in arguments]
    results = [op(*given, backend="triton", chunk_size=16)[0] for given in (arguments, strided)]
    assert torch.equal(*results)
    gradients = [
        torch.autograd.grad(o.sum(), x) for o, x in zip(results, (arguments, strided), strict=True)
    ]  # the cotangent has strides of zero
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_gradient_through_the_final_state_alone() -> None:
    op, drawn = operator("gated_delta_net"), trial("gated_delta_net")
    results = []
    for dtype, options in ((torch.float32, {"backend": "triton", "chunk_size": 16}), (torch.float64, {})):
        arguments = leaves(drawn, dtype)
        _, final = op(*arguments, output_final_state=True, **options)
        gradients = torch.autograd.grad(total(final), arguments, allow_unused=True, materialize_grads=True)
        results.append(gradients)
    for one, other in zip(*results, strict=True):
        assert float((one - other).norm()) <= 1e-4 * max(1.0, float(other.norm()))


@pytest.mark.parametrize("shape", [(2, 0, 2, 3), (0, 5, 2, 3)])
def test_no_tokens(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    outputs, state = operator("gla")(x, x, x, x, backend="triton", output_final_state=True)
    assert outputs.shape == shape
    assert state.shape == (shape[0], 2, 3, 3)
    (outputs.sum() + state.sum()).backward()


def test_one_node_of_a_graph() -> None:
    torch.compiler.reset()
    op, drawn = operator("linear_attention"), trial("linear_attention")

    def call(*arguments: torch.Tensor) -> torch.Tensor:
        return op(*arguments, backend="triton", chunk_size=16)[0].sin().sum()

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, call):
        arguments = leaves(drawn)
        value = function(*arguments)
        results.append([value, *torch.autograd.grad(value, arguments)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("wanted", [(2,), (0, 3)])
def test_a_node_of_a_graph_computes_only_the_gradients_that_are_wanted(
    wanted: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    op, drawn = operator("gla"), trial("gla")
    arguments = [x.float().requires_grad_(i in wanted) for i, x in enumerate(drawn.arguments)]
    sources = [arguments[i] for i in wanted]
    asked = []

    def call(*given: torch.Tensor) -> torch.Tensor:
        return op(*given, backend="triton", chunk_size=16)[0].sin().sum()

    expected = torch.autograd.grad(call(*arguments), sources)
    backward = Runner.backward
    monkeypatch.setattr(
        Runner, "backward", lambda self, *rest: asked.append(rest[-1]) or backward(self, *rest)
    )
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for one, other in zip(torch.autograd.grad(compiled(*arguments), sources), expected, strict=True):
        torch.testing.assert_close(one, other)
    names = [item.name for item in op.recurrence.inputs]
    assert asked == [{f"d'{names[i]}" for i in wanted}]


def test_source() -> None:
    text = operator("gated_delta_net").triton_source
    compile(text, "kernels.py", "exec")
    assert "import triton" in text
    assert operator("gated_delta_net").source != text


def test_kernels_of_a_module_that_is_in_memory_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNC_CACHE_DIR", "/dev/null")
    with pytest.warns(RuntimeWarning, match="cannot be used"):
        op = rnnc.compile(operator("linear_attention").spec)
    q = torch.randn(1, 5, 1, 4)
    found, expected = (op(q, q, q, backend=backend)[0] for backend in ("triton", "torch"))
    torch.testing.assert_close(found, expected)


def test_chunk_tables() -> None:
    module, _ = operator("gla").kernels.available
    bounds = torch.tensor([0, 0, 17, 33, 33, 34])
    first, table = run_chunk_tables(module, bounds, 16, 34 // 16 + 5)
    assert first.tolist() == [0, 0, 2, 3, 3]
    assert table.view(-1, 2).tolist() == [[1, 0], [1, 1], [2, 0], [4, 0], *[[-1, 0]] * 3]


def test_chunk_tables_of_many_sequences() -> None:
    """More than a program looks at in one go, empty ones among them."""
    module, _ = operator("gla").kernels.available
    lengths = [(7 * n) % 50 for n in range(150)]
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    count = sum(lengths) // 16 + len(lengths)
    first, table = run_chunk_tables(module, bounds, 16, count)
    chunks = [-(-length // 16) for length in lengths]
    expected = [[n, i] for n, each in enumerate(chunks) for i in range(each)]
    assert first.tolist() == [sum(chunks[:n]) for n in range(len(chunks))]
    assert table.view(-1, 2).tolist() == expected + [[-1, 0]] * (count - len(expected))


@pytest.mark.parametrize("wanted", [("q",), ("v",), ("b", "dt_bias"), ("k", "a")])
def test_some_gradients_are_as_all_are(wanted: tuple[str, ...]) -> None:
    op, drawn = operator("gated_delta_net"), trial("gated_delta_net")
    names = [item.name for item in (*op.recurrence.inputs, *op.recurrence.params)]
    found = []
    for chosen in (names, wanted):
        arguments = [
            x.float().requires_grad_(name in chosen) for name, x in zip(names, drawn.arguments, strict=True)
        ]
        outputs, _ = op(*arguments, backend="triton", chunk_size=16)
        outputs.sin().sum().backward()
        found.append({name: x.grad for name, x in zip(names, arguments, strict=True)})
    for name in wanted:
        assert torch.equal(found[0][name], found[1][name])


SINGULAR = """recurrence singular[K, V]:
    input q[K]
    input k[K], v[V] in (0, inf)
    input g in (0, 1)
    state S[K, V]
    output o[V]
    S <- exp(log(g)) * S + log(k) @ (log(v) + 1 / v).T
    o <- S.T @ q + rsqrt(v)
"""


@pytest.mark.parametrize(("lengths", "packed"), [((21,), False), ((0, 17, 0, 5), True)])
@pytest.mark.parametrize("reverse", [False, True])
def test_functions_that_are_not_defined_at_zero(
    lengths: tuple[int, ...], packed: bool, reverse: bool
) -> None:
    """What lies beyond the sequence, or beyond an axis, is not computed with zeros."""
    op = rnnc.compile(SINGULAR)
    shape = (lengths, (5, 3), 2, 1)
    check(draw_trial(op, case(op, shape, packed=packed, initial=True, reverse=reverse)))
