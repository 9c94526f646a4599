"""The kernels that walk the tokens, in Triton's interpreter, against the naive loop in float64.

What the kernels write is allocated full of NaN, so that nothing that was not written passes.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
import torch

import rnnc
import rnnc.ops
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.triton_module import triton_source
from rnnc.ops import triton_steps
from rnnc.ops.errors import UnavailableError
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance
from rnnc.ops.trial import Trial, draw_trial
from rnnc.ops.triton_steps import interval, tiling

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("poisoned")

READ = "o <- S.T @ q"
PLAIN = "S <- S + k @ v.T"
# Declarations, statements.
EXTRA = {
    "signed": ("input d in [-1, 1]\ninput b", f"S <- d * (S - b * k @ (k.T @ S)) + b * k @ v.T\n{READ}"),
    "resets": ("input d[K] in [0, 1]", f"S <- d * S + k @ v.T\n{READ}"),
    "softmax_keys": ("", "S <- S + softmax(k, K) @ v.T\no <- S.T @ softmax(q, K)"),
    "softmax_values": ("", f"{PLAIN}\no <- softmax(S.T @ q, V)"),
    "unit_values": ("", f"S <- S + k @ unit(v).T\n{READ}"),
    "no_zero_beyond": ("", "S <- 0.5 * S + exp(k) @ v.T\no <- S.T @ exp(q)"),
    "outputs": ("output z\noutput y[K]", f"{PLAIN}\n{READ}\nz <- sum(S.T @ q, V)\ny <- q * sum(v, V)"),
    "no_values": ("input a\noutput y[K]", f"{PLAIN}\n{READ}\ny <- a * q"),
    "square_values": ("param W[V, V]", "S <- S + k @ (W @ v).T\no <- S.T @ q"),
    "square": ("param R[K, K]", "S <- S + (R @ k) @ v.T\no <- S.T @ (R.T @ q)"),
    "third_axis": ("input x[M]\nparam W[K, M]", f"S <- S + (k * (W @ x)) @ v.T\n{READ}"),
    "old_state": ("param u[K]", "o <- (S + (u * k) @ v.T).T @ q\nS <- 0.5 * S + k @ v.T"),
    "two_reads": ("", ""),  # the example
    "micro_steps": (
        "input g[K], e[n, K], w[n, V], b[n]",
        "S <- sigmoid(g) * S\nfor i in n:\n    let u = unit(e[i])\n    S <- S + LOOP\n" + READ,
    ),
}
NAMES = (*(n for n in rnnc.ops.builtin_names() if not getattr(rnnc.ops, n).recurrence.loops), *EXTRA)
# Lengths, sizes of the axes, heads, groups. 37 tokens are three parts.
ONE, FEW, MANY = ((1,), (5, 3), 2, 1), ((3, 3), (3, 20), 4, 2), ((37,), (5, 20), 1, 1)
PACKED, PARTS = ((0, 4, 0, 2, 0), (5, 3), 1, 1), ((0, 20, 0, 33), (5, 3), 1, 1)


@cache
def operator(name: str) -> Operator:
    """A built-in, or one of the extra recurrences."""
    if name == "two_reads":
        return rnnc.compile(files("rnnc").joinpath("..", "examples", "two_read_delta.rnn").read_text())
    if name not in EXTRA:
        found: Operator = getattr(rnnc.ops, name)
        return found
    declared, body = EXTRA[name]
    body = body.replace("LOOP", "softmax(b, n)[i] * (u + k) @ (v + w[i] - S.T @ u).T")
    lines = [
        "input q[K], k[K], v[V]",
        *declared.splitlines(),
        "state S[K, V]",
        "output o[V]",
        *body.splitlines(),
    ]
    text = "".join(f"    {line}\n" for line in lines)
    more = ", M" * ("[M]" in declared) + ", n" * ("[n]" in declared)
    return rnnc.compile(f"recurrence {name}[K, V{more}]:\n{text}")


def trial(name: str, shape: tuple[Any, ...], **flags: bool) -> Trial:
    lengths, sizes, heads, groups = shape
    options = {"packed": False, "initial": True, "reverse": False} | flags
    recurrence = operator(name).recurrence
    axes = dict(zip(recurrence.axes, (*sizes, 4), strict=False))
    grouped = {item.name: groups for item in recurrence.inputs if item.per_group}
    case = Case(
        7, lengths, options["packed"], heads, axes, grouped, options["initial"], options["reverse"], 16
    )
    return draw_trial(operator(name), case)


def check(drawn: Trial) -> None:
    """A call in float32 against the loop."""
    found = drawn.to(torch.float32).evaluate("recurrent", backend="triton")
    for what, value in found.items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, (what, str(drawn.case))


@pytest.mark.parametrize("name", NAMES)
def test_sequences_of_one_length(name: str) -> None:
    check(trial(name, ONE))
    check(trial(name, FEW, initial=False, reverse=True))


@pytest.mark.parametrize("name", ["gated_delta_net", "kda", "no_values", "old_state", "softmax_values"])
def test_parts_and_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts of the sequence; where values can be told apart, three tiles of a state."""
    monkeypatch.setattr(triton_steps, "ENTRIES", {"steps": 64, "steps_back": 64})
    op = operator(name)
    for launch in (*op.kernels.available[0].FORWARD_STEPS, *op.kernels.available[0].BACKWARD_STEPS):
        assert tiling(launch, {"K": 5, "V": 20}).tiles == (1 if name == "softmax_values" else 3)
    check(trial(name, MANY))


@pytest.mark.parametrize("name", NAMES)
def test_packed_sequences(name: str) -> None:
    check(trial(name, PACKED, packed=True, reverse=name == "gla"))
    if name in ("mamba2", "resets"):
        check(trial(name, PARTS, packed=True))


def leaves(drawn: Trial, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [x.to(dtype).requires_grad_() for x in drawn.arguments]


@pytest.mark.parametrize("name", ["gated_delta_net", "softmax_values"])
def test_what_is_kept_changes_nothing(name: str) -> None:
    drawn = trial(name, ((20,), (5, 3), 2, 1))
    gradients = []
    for save in ("states", "inputs"):
        arguments = leaves(drawn)
        outputs, _ = operator(name)(*arguments, backend="triton", form="recurrent", save=save)
        gradients.append(torch.autograd.grad(outputs.sin().sum(), arguments))
    for states, inputs in zip(*gradients, strict=True):
        assert torch.equal(states, inputs)


@pytest.mark.parametrize("name", ["gated_delta_net", "resets", "two_reads"])
def test_no_result_depends_on_later_tokens(name: str) -> None:
    drawn, cut, op = trial(name, ((21,), (5, 3), 1, 1)), 13, operator(name)
    count = len(op.recurrence.inputs)
    results = []
    for change in (False, True):
        arguments = leaves(drawn)
        if change:
            with torch.no_grad():
                for x, item in zip(arguments, op.recurrence.inputs, strict=False):
                    x[:, cut:] = 0.5 * x[:, cut:].flip(1) if item.range else 3 * x[:, cut:].flip(1) - 1
        first = op(*arguments, backend="triton", form="recurrent")[0][:, :cut]
        gradients = torch.autograd.grad(first.sin().sum(), arguments, materialize_grads=True)
        results.append([first, *(x[:, :cut] for x in gradients[:count]), *gradients[count:]])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_a_reset_cuts_the_sequence() -> None:
    """A decay of 0 is exact, with its gradient: the tokens before leave no trace."""
    op = operator("resets")
    generator = torch.Generator().manual_seed(0)
    q, k, v, d = (torch.rand(1, 12, 1, n, generator=generator) for n in (4, 4, 3, 4))
    d[:, 5] = 0
    results = []
    for first in (0, 5):
        arguments = [x[:, first:].clone().requires_grad_() for x in (q, k, v, d)]
        outputs = op(*arguments, backend="triton", form="recurrent")[0][:, 5 - first :]
        gradients = torch.autograd.grad(outputs.sum(), arguments[:3])
        results.append([outputs, *(x[:, 5 - first :] for x in gradients)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_half_precision_beside_gates_in_float32() -> None:
    op, drawn = operator("gated_delta_net"), trial("gated_delta_net", ((20,), (5, 20), 2, 1))
    vectors = {item.name for item in op.recurrence.inputs if item.axes}
    declared = [*op.recurrence.inputs, *op.recurrence.params]
    for low, limit in ((torch.float16, 1e-3), (torch.bfloat16, 1e-2)):
        arguments = [
            x.to(low if d.name in vectors else torch.float32).requires_grad_()
            for d, x in zip(declared, drawn.arguments, strict=True)
        ]
        exact = [x.detach().double().requires_grad_() for x in arguments]
        found = op(*arguments, backend="triton", form="recurrent")[0]
        expected = op.reference(*exact)[0]
        assert found.dtype == low
        assert distance(found.detach(), expected.detach(), float(expected.detach().norm())) < limit
        cotangent = torch.ones_like(found)
        gradients = (
            torch.autograd.grad(found, arguments, cotangent),
            torch.autograd.grad(expected, exact, cotangent.double()),
        )
        for x, one, other in zip(arguments, *gradients, strict=True):
            assert one.dtype == x.dtype
            assert distance(one, other, float(other.norm())) < limit


def test_strides_do_not_matter() -> None:
    drawn, op = trial("delta_net", FEW), operator("delta_net")
    arguments = leaves(drawn)
    strided = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in arguments]
    results = [op(*given, backend="triton", form="recurrent")[0] for given in (arguments, strided)]
    assert torch.equal(*results)
    gradients = [
        torch.autograd.grad(o.sum(), x) for o, x in zip(results, (arguments, strided), strict=True)
    ]  # the cotangent has strides of zero
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", [(2, 0, 2, 3), (0, 5, 2, 3)])
def test_no_tokens(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    call = {"backend": "triton", "form": "recurrent", "output_final_state": True}
    outputs, state = operator("gla")(x, x, x, x, **call)
    assert outputs.shape == shape
    (outputs.sum() + state.sum()).backward()


@pytest.mark.parametrize("length", [1, 2, 16, 257, 1000, 8192, 100_000])
def test_states_are_kept_every_so_many_tokens(length: int) -> None:
    every = interval(length)
    assert every >= 16
    assert every == 16 or length / 4 <= every**2 <= 2 * length


# One token


@pytest.mark.parametrize("name", ["gated_delta_net", "mamba2", "softmax_values", "outputs", "two_reads"])
def test_steps_equal_the_whole(name: str) -> None:
    drawn, op = trial(name, ((4, 4), (5, 20), 4, 2)), operator(name)
    arguments = [x.float() for x in drawn.arguments]
    (state,) = (x.float() for x in drawn.states)
    expected, final = op(*arguments, initial_state=state, output_final_state=True, form="recurrent")
    inputs, params = arguments[: len(op.recurrence.inputs)], arguments[len(op.recurrence.inputs) :]
    steps = []
    for t in range(4):
        outputs, new = op.step(
            *(x[:, t] for x in inputs), *params, state=state, out_state=state, backend="triton"
        )
        assert new is state
        steps.append((outputs,) if isinstance(outputs, torch.Tensor) else outputs)
    whole = (expected,) if isinstance(expected, torch.Tensor) else expected
    for parts, together in zip(zip(*steps, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.stack(parts, 1), together)
    torch.testing.assert_close(state, final)


def test_a_step_from_nothing_into_an_array_with_strides() -> None:
    op = operator("gla")
    q = torch.randn(3, 2, 4)
    expected, new = op.step(q, q, q, q, backend="torch")
    place = torch.zeros(2, 3, 4, 4).transpose(0, 1)
    found, state = op.step(q, q, q, q, out_state=place, backend="triton")
    assert state is place
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(state, new)
    found, state = op.step(q, q, q, q, backend="triton")
    torch.testing.assert_close(state, new)


def test_a_step_that_cannot_be() -> None:
    q = torch.randn(3, 2, 4, dtype=torch.float64)
    with pytest.raises(UnavailableError, match=r"^triton has no float64: use backend='torch'$"):
        operator("gla").step(q, q, q, q, backend="triton")


# What runs when nothing is said, and what is refused


def test_auto_takes_the_recurrent_form_where_there_is_no_other() -> None:
    op = operator("square_values")
    q, R = torch.randn(1, 3, 1, 4), torch.randn(1, 4, 4)
    reason = (
        "triton has no chunked form of square_values in this version: a square matrix over the value axis"
        " 'V', which kernels tile"
    )
    with pytest.warns(RuntimeWarning) as caught:
        found = [op(q, q, q, R, backend="triton")[0] for _ in range(2)]
    assert [str(w.message) for w in caught] == [
        f"{reason}: its recurrent form runs, one token after the other"
    ]
    torch.testing.assert_close(found[0], op(q, q, q, R, backend="torch")[0])
    with pytest.raises(UnavailableError, match=f"^{reason}: use backend='torch'$"):
        op(q, q, q, R, backend="triton", form="chunked")


def test_what_one_program_cannot_hold() -> None:
    q, v = torch.randn(1, 3, 1, 512), torch.randn(1, 3, 1, 80)
    with pytest.raises(UnavailableError) as caught:
        operator("softmax_values")(q, q, v, backend="triton", form="recurrent")
    assert str(caught.value) == (
        "triton has no recurrent form of softmax_values for K = 512, V = 80: a program holds all of S,"
        " at most 32768 entries: use backend='torch'"
    )


@pytest.mark.parametrize("name", ["abc", "gated_oja", "gla", "gsa"])
def test_a_state_that_a_program_holds_whole_is_read_again_after_sums(name: str) -> None:
    """No tile of its size is held from one sum to the next; a tile of a state is read once."""
    compiled = compile_text(getattr(rnnc.ops, name).spec, name)
    whole = []
    for stage in compiled.stages:
        back = triton_source(stage).rpartition("# The cotangents, token by token back.")[2]
        reads = len(re.findall(r"tl\.load\(\s*\w+_formed \+", back))
        whole.append("entries(i_nh, " in back)
        assert reads > 1 if whole[-1] else reads <= 1
    assert any(whole) == (name != "gla")
