"""`prev` and `delay`: every form, back end and call against the naive loop, which has them from the spec."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

import rnnc
from rnnc.codegen.compiler import analyse
from rnnc.codegen.proof import prove
from rnnc.dsl.delays import delayed, without_delays
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance, property_test
from rnnc.ops.torch_recording import Operations, around, bare
from rnnc.ops.trial import draw_trial

TRAPEZOID = (Path(__file__).parent / "dsl" / "specs" / "mamba3.rnn").read_text("utf-8")
SEVERAL = """recurrence several[K, V]:
    input q[K], v[V]
    input k[K] per group
    input a, prev_a
    param p[K] shared
    let u = unit(k) * p
    state S[K, V]
    S <- sigmoid(prev(a)) * S + 0.1 * u @ (v - S.T @ u).T + delay(u, 3) @ v.T
    output o[V]
    o <- S.T @ (q + prev(k)) * sigmoid(prev_a)
"""
STAGED = """recurrence staged[K, V]:
    input q[K], k[K], v[V], a
    state A[K, V], S[K, V]
    A <- sigmoid(a) * A + prev(k) @ v.T
    S <- 0.9 * S + k @ tanh(A.T @ k + prev(v)).T
    output o[V]
    o <- S.T @ q
"""
SPECS = {"trapezoid": TRAPEZOID, "several": SEVERAL, "staged": STAGED}
every = pytest.mark.parametrize("name", SPECS)


@cache
def operator(name: str) -> Operator:
    return rnnc.compile(SPECS[name])


def test_delayed_values_are_inputs_with_names_of_their_own() -> None:
    declared = operator("several").recurrence
    assert [(d.source, d.lag, d.name) for d in delayed(declared)] == [
        ("a", 1, "prev_a_"),
        ("u", 1, "prev_u"),
        ("u", 2, "prev_u_2"),
        ("u", 3, "prev_u_3"),
        ("k", 1, "prev_k"),
    ]
    inputs = [item.name for item in without_delays(declared).inputs]
    assert inputs == ["q", "v", "k", "a", "prev_a", "prev_a_", "prev_u_3", "prev_k"]
    assert without_delays(without_delays(declared)) == without_delays(declared)


@every
def test_every_form_agrees(name: str) -> None:
    report = property_test(operator(name), 5)
    assert report, str(report)


@every
@pytest.mark.parametrize("packed", [False, True])
def test_kernels_agree(name: str, packed: bool) -> None:
    pytest.importorskip("triton")
    op = operator(name)
    groups = {item.name: 1 for item in op.recurrence.inputs if item.per_group}
    lengths = (0, 17, 5, 0) if packed else (21,)
    trial = draw_trial(op, Case(7, lengths, packed, 2, {"K": 5, "V": 3}, groups, True, packed, 16))
    for form in ("chunked", "recurrent"):
        for what, value in trial.to(torch.float32).evaluate(form, backend="triton").items():
            assert distance(value, trial.expected[what], trial.scales[what]) <= 1e-4, (form, what)


@pytest.mark.parametrize("name", ["trapezoid", "several"])
def test_kernels_form_what_is_delayed(name: str) -> None:
    """Of the rows before: with and without what is carried, in both directions, of no and of one token."""
    pytest.importorskip("triton")
    op = operator(name)
    groups = {item.name: 1 for item in op.recurrence.inputs if item.per_group}
    for lengths, given, backwards in (((18, 18), False, False), ((1, 17, 0, 2), True, True)):
        case = Case(3, lengths, given, 2, {"K": 4, "V": 3}, groups, given, backwards, 16)
        trial = draw_trial(op, case)
        found = trial.to(torch.float32).evaluate("chunked", backend="triton")
        for what, value in found.items():
            assert distance(value, trial.expected[what], trial.scales[what]) <= 1e-4, (lengths, what)
    assert op.inside is not None
    assert not isinstance(op.inside.generated, str)


def test_what_is_delayed_is_formed_before_where_kernels_cannot() -> None:
    """And `explain` and `cost` say why."""
    text = SPECS["several"].replace("delay(u, 3)", "delay(u, 9)")
    op = rnnc.compile(text)
    assert op.inside is None
    assert "'u' is delayed by 9 tokens, more than 8" in op.explain()
    found = op.cost(B=1, T=64, H=2, K=8, V=8)
    assert "more than 8" in found.choice
    twice = text.replace("delay(u, 9)", "prev(w)")
    twice = twice.replace("    state S", "    let w = u * prev(a)\n    state S")
    assert "'w', which is delayed, is made of what is delayed" in rnnc.compile(twice).explain()


def test_the_cost_of_what_kernels_form() -> None:
    """One launch forward, which reads the rows once; of the gradients one more; the other way is told."""
    sizes = {"B": 1, "T": 1024, "H": 64, "K": 64, "V": 64}
    found = operator("trapezoid").cost(**sizes)
    per = sizes["B"] * sizes["T"] * sizes["H"]
    assert found.forward.launches == 1
    assert found.backward.launches == 3
    assert found.backward.kernels[-1].bytes == 3 * 2 * 64 * 2 * per
    states = 64 * 64 * 2 // found.chunk
    assert found.forward.bytes == per * (4 * 64 * 2 + 3 * 4 + states)
    assert found.choice.startswith("what is delayed is formed in the kernels; before them it would be")


@every
def test_proven(name: str) -> None:
    proof = prove(analyse(SPECS[name]))
    assert proof
    assert "Delayed values are given to the programs: prev_" in str(proof)


def test_what_is_delayed_is_no_input_of_the_user() -> None:
    text = operator("several").explain()
    (declared,) = (line for line in text.splitlines() if line.startswith("  input "))
    assert declared == "  input   q[K], v[V], k[K] per group, a, prev_a"
    assert "prev_k[K]  k of the token before, zero at the start" in text


def test_the_state_holds_what_is_delayed() -> None:
    op, (B, T, H, K, V) = operator("trapezoid"), (2, 9, 2, 4, 3)
    q, k = (torch.randn(B, T, H, K) for _ in range(2))
    v, gates = torch.randn(B, T, H, V), [torch.randn(B, T, H) for _ in range(3)]
    whole, state = op(q, k, v, *gates, output_final_state=True)
    assert state._fields == ("S", "prev_u", "prev_v")
    torch.testing.assert_close(state.prev_v, v[:, -1])
    _, state = op(*(x[:, :-2] for x in (q, k, v, *gates)), output_final_state=True)
    for t in (T - 2, T - 1):
        place = tuple(torch.empty_like(x) for x in state)
        out, state = op.step(*(x[:, t] for x in (q, k, v, *gates)), state=state, out_state=place)
        torch.testing.assert_close(out, whole[:, t])
    again, _ = op.step(*(x[:, 0] for x in (q, k, v, *gates)), state=state, out_state=state)
    assert again.shape == out.shape
    torch.testing.assert_close(state[2], v[:, 0])


def test_a_traced_call_is_one_node() -> None:
    op = operator("trapezoid")
    given = [torch.randn(1, 7, 2, *axes) for axes in ((4,), (4,), (3,), (), (), ())]
    counted = []

    def inspect(graph: torch.fx.GraphModule, _: object) -> object:
        counted.append(sum("forward" in str(node.target) for node in graph.graph.nodes))
        return graph

    traced = torch.compile(lambda *xs: op(*xs)[0], fullgraph=True, backend=inspect)
    torch.testing.assert_close(traced(*given), op(*given)[0])
    assert counted == [1]


def test_the_layer_continues_a_sequence() -> None:
    torch.manual_seed(0)
    layer = operator("trapezoid").Layer(d_model=16, num_heads=2)
    x = torch.randn(2, 9, 16)
    first, state = layer(x[:, :5], return_state=True)
    torch.testing.assert_close(torch.cat([first, layer(x[:, 5:], state=state)], 1), layer(x))


def test_the_cost_has_what_is_formed_before_the_kernels() -> None:
    """Every delayed value is read once and written once, its gradient too; it is no argument of a call."""
    tokens, width = 64 * 2, 8
    found = operator("staged").cost(B=1, T=64, H=2, K=width, V=width)
    formed = [kernel for kernel in found.forward.kernels if kernel.role == "torch" and kernel.name == "cat"]
    assert [kernel.bytes for kernel in formed] == [tokens * width * 2 * 2] * 2
    assert found.forward.minimum_bytes == tokens * (4 * width * 2 + 4)  # q, k, v, o in bf16, a in float32
    back = [kernel.bytes for kernel in found.backward.kernels if kernel.role == "torch"]
    assert sum(back) == pytest.approx(tokens * width * 2 * (2 + 2 + 3 * 3), rel=0.03)  # and three additions
    inner = operator("staged").inner.cost(B=1, T=64, H=2, K=width, V=width)
    assert found.forward.saved_bytes == inner.forward.saved_bytes + 2 * tokens * width * 2
    assert found.forward.bytes > inner.forward.bytes


def test_what_is_recorded_without_data_is_what_a_call_does() -> None:
    op = operator("several")
    sizes = {"B": 2, "T": 9, "H": 2, "G": 1, "K": 4, "V": 3}
    recorded = around(op, sizes, torch.float32, states=False)
    shapes = [(2, 9, 2, 4), (2, 9, 2, 3), (2, 9, 1, 4), (2, 9, 2), (2, 9, 2), (4,)]
    with Operations() as real:
        outputs, _ = bare(op)(*(torch.randn(shape) for shape in shapes))
    assert outputs.shape == (2, 9, 2, 3)
    assert tuple(each for each in real.found if each[0] != "randn") == recorded.forward
