"""Recurrences in stages: split where a state feeds another, each stage compiled, together as declared."""

from __future__ import annotations

import pytest
import torch

import rnnc
import rnnc.ops
from rnnc.codegen.compiler import Staged, analyse
from rnnc.codegen.equivalence import compare
from rnnc.codegen.proof import prove
from rnnc.codegen.standalone import standalone
from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.parser import parse
from rnnc.dsl.recurrence import Recurrence
from rnnc.dsl.stages import gates, hands_on, moved, split, splits
from rnnc.ops import cache
from rnnc.ops.errors import ArgumentError, UnavailableError
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case, draw_case
from rnnc.ops.testing import distance, property_test
from rnnc.ops.trial import draw_trial

pytestmark = pytest.mark.usefixtures("own_cache")

SLOTS = """recurrence slots[M, K, V]:
    input q[K], k[K], v[V], s[M]
    input a in [0, 1]
    let w = softmax(s, M)
    state A[K, M]
    A <- a * A + k @ w.T
    let p = softmax(A.T @ q * K**-0.5, M)
    state B[M, V]
    B <- B + w @ v.T
    output o[V]
    o <- B.T @ p
"""
# The later state is declared first, a let is read by both stages, an output reads both states.
MEMORY = """recurrence memory[K, V]:
    input q[K], v[V], b
    input k[K] per group
    param c
    state S[K, V], R[K, V]
    output y[V], o[V]
    R <- sigmoid(c) * R + k @ v.T
    let x = tanh(R.T @ k)
    let z = x * v
    S <- S + sigmoid(b) * unit(k) @ (z - S.T @ unit(k)).T
    y <- S.T @ q + x
    o <- R.T @ q * sum(x, V)
"""
SPECS = {"slots": SLOTS, "memory": MEMORY}


@pytest.fixture(scope="module", params=SPECS)
def staged(request: pytest.FixtureRequest) -> Operator:
    return rnnc.compile(SPECS[request.param])


def stages_of(*lines: str) -> tuple[Recurrence, ...]:
    text = "recurrence r[K, V]:\n" + "".join(f"    {line}\n" for line in lines)
    return split(check(parse(text)))


def test_what_is_handed_on() -> None:
    first, second = split(check(parse(SLOTS)))
    assert [state.name for state in first.states] == ["A"]
    assert [output.name for output in first.outputs] == ["p"]
    assert [item.name for item in second.inputs] == ["v", "s", "p"]
    assert str(second.inputs[-1].range) == "(0, 1]"
    assert [output.name for output in second.outputs] == ["o"]
    assert first.axes == ("M", "K")
    assert second.axes == ("M", "V")


def test_the_order_is_that_of_the_data() -> None:
    first, second = split(check(parse(MEMORY)))
    assert [state.name for state in first.states] == ["R"]
    assert [output.name for output in first.outputs] == ["o", "R_read"]
    assert [item.name for item in second.inputs] == ["q", "v", "b", "k", "R_read"]


def test_versions_of_a_state_are_told_apart() -> None:
    """Read before and after its update, the readouts are two; read twice at one place, one."""
    lines = ["input q[K], k[K], v[V]", "state A[K, V], B[K, V]", "output o[V]"]
    lines += ["B <- 0.5 * B + k @ tanh(A.T @ q).T", "A <- A + k @ v.T"]
    lines += ["B <- B + q @ (A.T @ q * sum(A.T @ q, V)).T", "o <- B.T @ q"]
    first, second = stages_of(*lines)
    assert [output.name for output in first.outputs] == ["A_read", "A_read2", "A_read3"]
    assert [item.name for item in second.inputs] == ["q", "k", "A_read", "A_read2", "A_read3"]
    assert prove(analyse(first.source))


def test_states_that_feed_each_other_stay_together() -> None:
    lines = ["input q[K], k[K], v[V]", "state A[K, V], B[K, V]", "output o[V]"]
    coupled = ["A <- 0.5 * A + k @ (B.T @ k).T", "B <- 0.5 * B + k @ (v - A.T @ q).T", "o <- A.T @ q"]
    whole = ["A <- 0.5 * A + k @ v.T", "B <- 0.9 * B + A", "o <- B.T @ q"]
    for statements in (coupled, whole):
        (only,) = stages_of(*lines, *statements)
        assert [state.name for state in only.states] == ["A", "B"]


def test_an_output_that_fits_one_stage_decides_the_order() -> None:
    """The first output would fit either stage, the second only that of 'S'."""
    lines = ["input k[K], v[V]", "state S[K, V], h[K]", "output o[V], p[V]"]
    lines += ["h <- 0.5 * h + k", "S <- 0.9 * S + k @ v.T"]
    first, second = stages_of(*lines, "o <- S.T @ k + sum(k * h, K) * v", "p <- S.T @ unit(h)")
    assert [state.name for state in (*first.states, *second.states)] == ["h", "S"]
    assert [output.name for output in second.outputs] == ["o", "p"]
    opposite = [*lines[:1], "state S[K, V], R[K, V]", "output o[V], p[V]"]
    opposite += ["R <- 0.5 * R + k @ v.T", "S <- 0.9 * S + k @ v.T"]
    opposite += ["o <- S.T @ (k * sum(R.T @ k, V))", "p <- R.T @ (k * sum(S.T @ k, V))"]
    with pytest.raises(SpecError, match="the other way round"):
        stages_of(*opposite)


def test_what_cannot_be_staged_is_refused() -> None:
    lines = ["input q[K], k[K], v[V]", "state A[K, V], B[K, V]", "output o[V]"]
    lines += ["A <- A + k @ tanh(B.T @ k).T", "B <- B + k @ tanh(A.T @ q).T", "o <- A.T @ q"]
    text = "recurrence r[K, V]:\n" + "".join(f"    {line}\n" for line in lines)
    with pytest.raises(SpecError) as refusal:
        analyse(text)
    assert "'A', 'B' depend on each other" in str(refusal.value)
    uneven = text.replace("B[K, V]", "h[K]").replace("k @ tanh(B.T @ k).T", "tanh(h) @ v.T")
    uneven = uneven.replace("B <- B + k @ tanh(A.T @ q).T", "h <- 0.5 * h + A @ v")
    with pytest.raises(SpecError) as refusal:
        analyse(uneven)
    assert "expected a key and a value axis, found [K]" in str(refusal.value)
    assert "'A', 'h' depend on each other" in str(refusal.value)


@pytest.mark.parametrize("name", SPECS)
def test_stages_and_all_of_them_are_proven(name: str) -> None:
    compiled = analyse(SPECS[name])
    assert isinstance(compiled, Staged)
    proof = prove(compiled)
    assert proof, str(proof)
    assert proof.seconds < 20
    assert {check.stage for check in proof.checks} == {"stage 1", "stage 2", "all"}
    assert "Stages\n" in compiled.explain()


def test_a_wrong_order_of_stages_is_no_proof() -> None:
    compiled = analyse(SLOTS)
    first, second = compiled.stages
    other = analyse(SLOTS.replace("a * A", "(1 - a) * A")).stages[0]
    assert not prove(Staged(compiled.recurrence, (other, second), (), compiled.recurrence))
    assert prove(Staged(compiled.recurrence, (first, second), (), compiled.recurrence))


def test_all_forms_agree(staged: Operator) -> None:
    report = property_test(staged, cases=8)
    assert report, str(report)


@pytest.mark.parametrize("form", ["chunked", "recurrent"])
def test_kernels_agree(staged: Operator, form: str) -> None:
    pytest.importorskip("triton")
    sizes = dict.fromkeys(staged.recurrence.axes, 3)
    groups = {item.name: 1 for item in staged.recurrence.inputs if item.per_group}
    reverse = form == "chunked"
    case = Case(0, (0, 17, 3), True, 2, sizes, groups, initial=True, reverse=reverse, chunk_size=16)
    trial = draw_trial(staged, case)
    for what, value in trial.to(torch.float32).evaluate(form, backend="triton").items():
        error = float((value.double() - trial.expected[what]).norm()) / max(trial.scales[what], 1e-6)
        assert error < 1e-4, f"{what}: {error:.1e}"


def test_step_writes_in_place_and_kernels_step() -> None:
    operator = rnnc.compile(SLOTS)
    sizes = {"K": 4, "V": 3, "M": 5}
    values = [torch.rand(2, 2, *(sizes[a] for a in item.axes)) for item in operator.recurrence.inputs]
    o, state = operator.step(*values)
    assert type(state).__name__ == "State"
    assert state._fields == ("A", "B")
    room = type(state)(*(torch.empty_like(x) for x in state))
    again, same = operator.step(*values, out_state=room, backend="torch")
    assert same is room
    assert all(map(torch.equal, room, state))
    assert torch.equal(o, again)
    kernels, _ = operator.step(*values, state=state, backend="triton")
    torch.testing.assert_close(kernels, operator.step(*values, state=state)[0])


def test_options_hold_for_every_stage() -> None:
    operator = rnnc.compile(SLOTS)
    values = [torch.rand(1, 3, 1, 4) for _ in range(4)] + [torch.rand(1, 3, 1)]
    with pytest.raises(UnavailableError, match="slots_1"):
        operator(*values, backend="triton", form="parallel")
    with pytest.raises(ArgumentError, match=r"a: promised to be in \[0, 1\]"):
        operator(*values[:4], values[4] + 1, check=True)
    empty = [x[:, :0] for x in values]
    o, state = operator(*empty, output_final_state=True)
    assert o.shape == (1, 0, 1, 4)
    assert not any(x.any() for x in state)


def test_a_stage_of_inputs_per_group_and_shared_parameters() -> None:
    operator = rnnc.compile("""recurrence gated[K, V]:
    input x[K] per group
    param w[K] shared
    input v[V], q[K]
    state h[K], S[K, V]
    h <- 0.9 * h + w * x
    S <- S + sigmoid(h) @ v.T
    output o[V]
    o <- S.T @ q
""")
    case = Case(3, (9, 9), False, 4, {"K": 3, "V": 2}, {"x": 2}, True, False, 16)
    trial = draw_trial(operator, case)
    for what, value in trial.evaluate("chunked").items():
        assert distance(value, trial.expected[what], trial.scales[what]) < 1e-9, what


def test_gates_may_be_float32_through_stages() -> None:
    assert gates(check(parse(SLOTS))) == {"a"}
    lines = ["input q[K], k[K], v[V], a[V], b[V]", "state n[V, K], S[K, V]", "output o[V]"]
    lines += ["n <- 0.9 * n + (0.1 * a) @ q.T", "S <- sigmoid(n.T @ b) * S + k @ v.T", "o <- S.T @ q"]
    first, _ = stages_of(*lines)
    assert gates(check(parse(first.source))) == {"a", "b"}


def test_one_file_alone() -> None:
    text = standalone(analyse(SLOTS))
    module = cache.execute("slots_alone", text, "<slots_alone>")
    operator = rnnc.compile(SLOTS)
    trial = draw_trial(operator, draw_case(operator.recurrence, 2)).to(torch.float32)
    options = {"cu_seqlens": trial.case.cu_seqlens, "reverse": trial.case.reverse}
    expected, _ = operator(*trial.arguments, **options)
    for how in ({}, {"backend": "triton", "form": "chunked"}, {"backend": "triton", "form": "recurrent"}):
        found, _ = module.slots(*trial.arguments, **options, **how)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_cost_is_that_of_all_stages() -> None:
    found = rnnc.compile(SLOTS).cost(B=1, T=256, H=2, M=16, K=16, V=16)
    roles = [(kernel.name.partition("_chunked")[0], kernel.role) for kernel in found.forward.kernels]
    assert {name for name, _ in roles} == {"slots_1", "slots_2"}
    assert (found.backward.kernels[-1].name, found.backward.kernels[-1].role) == (
        "add",
        "torch",
    )  # the gradient of s, from both stages
    assert found.backward.kernels[0].name.startswith("slots_2")
    values = 2 * (2 * 16 + 2 * 16 + 16) + 4  # q, k, v, s in bf16, o; a in float32
    assert found.forward.minimum_bytes == 256 * 2 * values
    recurrent = rnnc.compile(SLOTS).cost(form="recurrent", B=1, T=256, H=2, M=16, K=16, V=16)
    assert recurrent.forward.launches == 2


def test_two_spellings_are_equal() -> None:
    """By the normal forms of the stages; and by the statements, where what is handed on has other names."""
    spelled = SLOTS.replace("B + w @ v.T", "w @ v.T + B")
    renamed = spelled.replace("let p =", "let weights =").replace("B.T @ p", "B.T @ weights")
    other = SLOTS.replace("K**-0.5", "2 * K**-0.5")
    left = check(parse(SLOTS))
    assert compare(left, check(parse(spelled)))
    assert compare(left, check(parse(renamed)))
    assert not compare(left, check(parse(other)))


TURNED = """
recurrence turned[K, V]:
    input k[K], v[V], a
    param R[V, V]
    state A[K, V], S[K, V]
    output o[V]
    A <- sigmoid(a) * A + k @ v.T
    S <- S + k @ tanh(R @ (A.T @ k)).T
    o <- S.T @ k
"""


def test_auto_takes_the_kernels_that_each_stage_has() -> None:
    """The first stage, which turns what it reads, has recurrent kernels only, the second chunked ones."""
    operator = rnnc.compile(TURNED)
    sizes = dict.fromkeys(operator.recurrence.axes, 4)
    case = Case(1, (18,), False, 1, sizes, {}, initial=True, reverse=False, chunk_size=None)
    trial = draw_trial(operator, case)
    with pytest.warns(RuntimeWarning, match="no chunked form"):
        found = trial.to(torch.float32).evaluate("auto", backend="triton")
    for what, value in found.items():
        error = float((value.double() - trial.expected[what]).norm()) / max(trial.scales[what], 1e-6)
        assert error < 1e-4, f"{what}: {error:.1e}"


def test_traced_as_one_node() -> None:
    operator = rnnc.compile(SLOTS)
    values = [torch.rand(1, 9, 2, 4) for _ in range(4)] + [torch.rand(1, 9, 2)]
    compiled = torch.compile(lambda *x: operator(*x)[0], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*values), operator(*values)[0])


def test_products_with_inputs_are_handed_on_where_that_moves_less() -> None:
    """Entry by entry, and not into decays or functions; what is weighed is told with the figures of both."""
    found = rnnc.ops.preconditioned_delta
    first, second = split(found.recurrence)
    assert [item.name for item in second.inputs] == ["q", "v", "b", "h_read"]
    assert not hands_on(found.recurrence, first)
    plain, product = splits(found.recurrence)
    assert "k" in {item.name for item in plain[1].inputs}
    assert moved(found.recurrence, product) < moved(found.recurrence, plain)
    assert hands_on(rnnc.ops.gsa.recurrence, split(rnnc.ops.gsa.recurrence)[0])
    told = found.cost(B=1, T=512, H=64, K=64, V=64).choice
    assert "to hand on other values" in told
    assert "h_read is handed on" in told
    assert told.endswith("or more, which is not less")
    assert "products with inputs are formed by the stage" in found.explain()


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 1.0), (torch.float16, 300.0)])
def test_products_are_handed_on_within_range(dtype: torch.dtype, scale: float) -> None:
    """A mean that hardly begins: the key over its root is a thousand times the key, too much for float16."""
    torch.manual_seed(0)
    shapes = ((1, 20, 2, 8),) * 3
    q, k, v = (torch.randn(shape).to(dtype) for shape in shapes)
    k = (k * scale).requires_grad_()
    f, b = torch.full((1, 20, 2, 8), 18.0).to(dtype), torch.zeros(1, 20, 2)
    out, _ = rnnc.ops.preconditioned_delta(q, k, v, f, b, form="chunked")
    out.float().square().sum().backward()
    exact = k.detach().float().requires_grad_()
    want, _ = rnnc.ops.preconditioned_delta.reference(
        q.float(), exact, *(x.float() for x in (v, f, b)), check=False
    )
    want.square().sum().backward()
    torch.testing.assert_close(out.float(), want, rtol=0.05, atol=0.05)
    assert k.grad is not None
    assert k.grad.isfinite().all()
