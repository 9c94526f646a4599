"""The C back end: values, all gradients and states of every built-in against the loop over tokens."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rnnc.ops
from rnnc.ops import c_backend, c_build
from rnnc.ops.builtin import builtin
from rnnc.ops.errors import ArgumentError, UnavailableError
from rnnc.ops.operator import Operator, compile  # noqa: A004
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance
from rnnc.ops.trial import draw_trial

NAMES = sorted(path.stem for path in Path(rnnc.ops.__file__).parent.glob("*.rnn"))
SIZES = (11, 21)  # of axes: neither fills registers
LIMIT = 4e-6  # preconditioned_delta: 2.8e-6, in torch 2.7e-6; the others stay below 2e-6

try:
    c_build.find_compiler()
except c_build.BuildError as reason:
    pytest.skip(str(reason), allow_module_level=True)


def case(op: Operator, lengths: tuple[int, ...] = (37, 37), groups: int = 1, **options: Any) -> Case:
    """A call of three chunks of 16 rows, the last of them not full."""
    recurrence = op.recurrence
    sizes = {axis: SIZES[n % 2] for n, axis in enumerate(recurrence.axes)}
    sizes |= dict.fromkeys(recurrence.loops, 2)
    grouped = {item.name: groups for item in recurrence.inputs if item.per_group}
    options = {"packed": False, "H": 2, "initial": True, "reverse": False, "chunk_size": 16} | options
    return Case(seed=3, lengths=lengths, sizes=sizes, groups=grouped, **options)


def check(op: Operator, call: Case, limit: float = LIMIT, save: str = "auto", final: bool = True) -> None:
    """A call in float32 against the loop in float64."""
    trial = replace(draw_trial(op, call), save=save, final=final)
    found = trial.to(torch.float32).evaluate("chunked", "c")
    errors = {
        what: distance(found[what], trial.expected[what], trial.scales[what]) for what in trial.expected
    }
    assert max(errors.values()) < limit, errors


CALLS: dict[str, dict[str, Any]] = {
    "ragged": {},
    "no chunk full": {"lengths": (5, 5)},
    "packed": {"lengths": (20, 0, 37, 1), "packed": True},
    "reverse": {"reverse": True},
    "packed, reverse": {"lengths": (3, 33, 16), "packed": True, "reverse": True},
    "no initial state": {"initial": False},
}


@pytest.mark.parametrize("name", NAMES)
def test_calls(name: str) -> None:
    op = builtin(name)
    for options in CALLS.values():
        check(op, case(op, **options))
    check(op, case(op), save="inputs")
    check(op, case(op), final=False)
    kinds = {kind for _, kind in op.walks.libraries} if isinstance(op.walks, c_backend.Walks) else set()
    assert len(kinds) <= 1, "batch, length, packing and direction must not compile anew"


@pytest.mark.parametrize("name", ["gated_delta_net", "kda", "mamba2_signed", "gated_delta_product"])
def test_float64(name: str) -> None:
    op = builtin(name)
    trial = draw_trial(op, case(op, lengths=(70, 70), chunk_size=64))
    found = trial.evaluate("chunked", "c")
    for what, expected in trial.expected.items():
        assert distance(found[what], expected, trial.scales[what]) < 1e-12, what


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gla", "gated_delta_net"])
def test_low_precision_is_that_of_inputs_and_outputs(name: str, dtype: torch.dtype) -> None:
    """Computed in float32: an output is the rounded one of the same inputs in float32."""
    op = builtin(name)
    arguments = [x.to(dtype) for x in draw_trial(op, case(op)).arguments]
    exact = [x.float().requires_grad_() for x in arguments]
    low = [x.requires_grad_() for x in arguments]
    expected, _ = op(*exact, backend="c", chunk_size=16)
    found, state = op(*low, backend="c", chunk_size=16, output_final_state=True)
    assert found.dtype == dtype
    assert state.dtype == torch.float32
    assert torch.equal(found, expected.to(dtype))
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted = torch.autograd.grad((expected * weights.float()).sum(), exact)
    gradients = torch.autograd.grad((found * weights).sum(), low)
    for one, other in zip(gradients, wanted, strict=True):
        assert one.dtype == dtype
        assert torch.equal(one, other.to(dtype))


GROUPED = """
recurrence shared_keys[K, V]:
    input q[K]
    input k[K] per group
    input v[V]
    input g in (-inf, 0]
    state S[K, V]
    S <- exp(g) * S + k @ v.T
    output o[V]
    o <- S.T @ q
"""
NUMBER = """
recurrence running_mean:
    input x
    input a
    param start
    state h = start
    h <- sigmoid(a) * h + (1 - sigmoid(a)) * x
    output y
    y <- h
"""
VECTOR = """
recurrence channels[K]:
    input x[K]
    input a[K]
    param w[K] shared
    state h[K]
    h <- sigmoid(a) * h + w * x
    output y[K]
    y <- h * x
"""
STAGES = """
recurrence smoothed[K, V]:
    input q[K], k[K], v[V]
    input a
    state m
    m <- 0.5 * m + 0.5 * sigmoid(a)
    state S[K, V]
    S <- m * S + k @ v.T
    output o[V]
    o <- S.T @ q
"""
DELAYED = """
recurrence trapezoid[K, V]:
    input q[K], k[K], v[V]
    input a
    state S[K, V]
    S <- sigmoid(a) * S + prev(k) @ prev(v).T + k @ v.T
    output o[V]
    o <- S.T @ q
"""
NAMED = """
recurrence gemm[C, H]:
    input q[C], grad_q[C]
    input do[H]
    input start_S, kept_S
    param out_o[C, H]
    param first_S shared
    state S[C, H] = out_o
    S <- sigmoid(start_S + first_S) * S + kept_S * grad_q @ do.T
    output o[H], dq[H]
    o <- S.T @ q
    dq <- do
"""
# What the printed C calls its own, declared by the spec: places of states, copies, sums, turned matrices.
OWN_NAMES = """
recurrence walk[K, V]:
    input S_turned[K], copy_3[K], b_S[V]
    input decay_1[K] in (-inf, 0]
    input sum_w, at_S, first_S, rows, r0
    param w[K]
    param next_S[K, V], S_out shared
    state S[K, V] = next_S
    state S_turned_2[K, V]
    S <- exp(decay_1) * (S - 0.1 * unit(copy_3) @ (unit(copy_3).T @ S)) + at_S * copy_3 @ b_S.T
    S_turned_2 <- sigmoid(sum_w) * S_turned_2 + first_S * (w * copy_3) @ b_S.T
    output other_S[V], b_S_turned[V], S_next[V]
    other_S <- rows * S.T @ S_turned + S_out
    b_S_turned <- r0 * S_turned_2.T @ (w * S_turned)
    S_next <- S.T @ copy_3
"""
# The same with names of states that others are made of.
STATES = """
recurrence work[C, step]:
    input first[C], step_[step], chunks, length
    param sum_first[C]
    state first_S[C, step], S[C, step], turned[step, C], S_turned[C]
    first_S <- sigmoid(chunks) * first_S + first @ step_.T
    S <- sigmoid(length) * S + (sum_first * first) @ step_.T
    turned <- sigmoid(length) * turned + step_ @ first.T
    S_turned <- 0.5 * S_turned + first
    output n[step], h[step], keeps[step], bos[C]
    n <- first_S.T @ first
    h <- S.T @ first
    keeps <- turned @ first
    bos <- S_turned
"""


@pytest.mark.parametrize("text", [GROUPED, NUMBER, VECTOR, STAGES, DELAYED, NAMED, OWN_NAMES, STATES])
def test_own_specs(text: str) -> None:
    op = compile(text)
    check(op, case(op))
    check(op, case(op, lengths=(20, 0, 37, 1), packed=True))


def test_groups_of_heads() -> None:
    op = compile(GROUPED)
    check(op, case(op, H=4, groups=2))
    check(op, case(op, H=4, groups=4))


@pytest.mark.parametrize("chunk_size", [16, 32, 128, None])
def test_chunk_sizes(chunk_size: int | None) -> None:
    op = builtin("gated_delta_net")
    check(op, case(op, lengths=(150,), chunk_size=chunk_size))


@pytest.mark.parametrize(("size", "gradients", "tokens"), [(64, False, 32), (64, True, 64), (512, False, 64)])
def test_short_chunks_where_no_gradients_are_asked_for(
    size: int, gradients: bool, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[c_backend.Kind] = []

    def found(_: c_backend.Walks, which: str, kind: c_backend.Kind) -> str:
        kinds.append(kind)
        return "not now"

    monkeypatch.setattr(c_backend.Walks, "_found", found)
    op = compile(GROUPED.replace("per group", "").replace("shared_keys", "short_chunks"))
    shapes = [(1, 128, 8, *(size for _ in item.axes)) for item in op.recurrence.inputs]
    with pytest.raises(UnavailableError, match="not now"):
        op(*(torch.zeros(shape, requires_grad=gradients) for shape in shapes), backend="c")
    assert {kind.tokens for kind in kinds} == {tokens}


def test_threads_change_nothing() -> None:
    op = builtin("kda")
    arguments = [x.float() for x in draw_trial(op, case(op, H=3)).arguments]
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(op(*arguments, backend="c", chunk_size=16)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_a_forked_process_calls_it_too() -> None:
    program = """
import os, signal, torch
from rnnc.ops.builtin import builtin
torch.set_num_threads(2)
x = [torch.rand(2, 40, 2, 4) for _ in range(3)]
call = lambda: builtin("linear_attention")(*x, backend="c", chunk_size=16)[0]
expected = call()
if not os.fork():
    signal.alarm(60)
    os._exit(0 if torch.equal(call(), expected) else 1)
raise SystemExit(os.wait()[1] != 0)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_second_derivatives_are_those_of_torch() -> None:
    op = builtin("linear_attention")
    arguments = [x.double().requires_grad_() for x in draw_trial(op, case(op)).arguments]
    seconds = []
    for backend in ("c", "torch"):
        outputs, _ = op(*arguments, backend=backend, chunk_size=16)
        gradients = torch.autograd.grad(outputs.square().sum(), arguments, create_graph=True)
        total = torch.stack([x.square().sum() for x in gradients]).sum()
        seconds.append(torch.autograd.grad(total, arguments))
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_nan_reaches_no_other_head_sequence_or_call() -> None:
    op = builtin("gated_delta_net")
    arguments = [x.float() for x in draw_trial(op, case(op)).arguments]
    clean, _ = op(*arguments, backend="c", chunk_size=16)
    arguments[2][0, 20, 1] = float("nan")
    spoiled, _ = op(*arguments, backend="c", chunk_size=16)
    assert spoiled[0, 20:, 1].isnan().all()
    untouched = [spoiled[1], spoiled[0, :, 0], spoiled[0, :16, 1]]  # nor the chunks before its own
    assert all(
        torch.equal(x, y)
        for x, y in zip(untouched, (clean[1], clean[0, :, 0], clean[0, :16, 1]), strict=True)
    )
    again, _ = op(*draw_trial(op, case(op)).to(torch.float32).arguments, backend="c", chunk_size=16)
    assert torch.equal(again, clean), "what a call leaves in the workspace reaches no other"


# Which calls it takes


def large(op: Operator) -> list[torch.Tensor]:
    """Arguments of a call that is worth compiling for, by count alone."""
    sizes = {"K": 64, "V": 64}
    shapes = [(1, 2048, 8, *(sizes[axis] for axis in item.axes)) for item in op.recurrence.inputs]
    return [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]


def test_auto_takes_large_calls() -> None:
    op = compile(GROUPED.replace("per group", "").replace("shared_keys", "large_calls"))
    arguments = large(op)
    arguments[3] = -arguments[3].abs()
    small = [x[:, :100] for x in arguments]
    op(*small)
    assert not op.walks.libraries
    found, _ = op(*arguments)
    assert {which for which, _ in op.walks.libraries} == {"forward"}
    expected, _ = op(*arguments, backend="torch")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_auto_leaves_few_heads_to_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    op = compile(GROUPED.replace("per group", "").replace("shared_keys", "few_heads"))
    arguments = large(op)
    arguments[3] = -arguments[3].abs()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    op(*arguments)
    assert not op.walks.libraries
    monkeypatch.setattr(torch, "get_num_threads", lambda: 24)
    op(*arguments)
    assert op.walks.libraries


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    c_build.find_compiler.cache_clear()
    op = compile(GROUPED.replace("per group", "").replace("shared_keys", "no_compiler"))
    arguments = large(op)
    try:
        with pytest.warns(RuntimeWarning, match=r"no C compiler .*'no-such-compiler'.*torch is used"):
            op(*arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            op(*arguments)  # it is said once
        with pytest.raises(UnavailableError, match="no C compiler"):
            op(*arguments, backend="c")
    finally:
        c_build.find_compiler.cache_clear()


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\necho 'x.c:1: error: no room' >&2\n[ \"$1\" = --version ]\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CC", str(fake))
    c_build.find_compiler.cache_clear()
    op = compile(GROUPED.replace("shared_keys", "compiler_fails"))
    try:
        with pytest.raises(UnavailableError, match=r"failed: x\.c:1: error: no room"):
            op(*(x.float() for x in draw_trial(op, case(op)).arguments), backend="c")
    finally:
        c_build.find_compiler.cache_clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "recurrent"}, "c has no recurrent form"),
        ({"form": "parallel"}, "c has no parallel form"),
    ],
)
def test_refusals(options: dict[str, str], message: str) -> None:
    op = builtin("linear_attention")
    arguments = draw_trial(op, case(op)).arguments
    with pytest.raises(UnavailableError, match=message):
        op(*arguments, backend="c", **options)
    with pytest.raises(ArgumentError, match="'c', got 'C'"):
        op(*arguments, backend="C")


def test_forward_mode_is_left_to_torch() -> None:
    op = builtin("linear_attention")
    arguments = [x.float() for x in draw_trial(op, case(op)).arguments]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(arguments[0], torch.ones_like(arguments[0]))
        with pytest.raises(UnavailableError, match="forward-mode"):
            op(dual, *arguments[1:], backend="c")


def test_libraries_are_kept_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GROUPED.replace("shared_keys", "kept_on_disk")
    op = compile(text)
    arguments = [x.float() for x in draw_trial(op, case(op)).arguments]
    first, _ = op(*arguments, backend="c", chunk_size=16)
    (file,) = folder.with_name("libraries").iterdir()
    assert file.stat().st_mode & 0o077 == 0

    def fail(*_: object) -> bytes:
        raise AssertionError("it is compiled already")

    with monkeypatch.context() as patched:
        patched.setattr(c_build, "_compiled", fail)
        second, _ = compile(text)(*arguments, backend="c", chunk_size=16)
    assert torch.equal(first, second)
    content = file.read_bytes()
    part = file.with_suffix(".part")
    part.write_bytes(content[:-200])
    part.replace(file)  # a file that is not whole is made again (and what is loaded stays as it is)
    third, _ = compile(text)(*arguments, backend="c", chunk_size=16)
    assert torch.equal(first, third)
    assert file.stat().st_size == len(content)


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("RNNC_CACHE_DIR", str(blocked / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        op = compile(GROUPED.replace("shared_keys", "no_cache"))
        check(op, case(op))


def test_torch_compile_takes_it_as_one_node() -> None:
    op = builtin("linear_attention")
    arguments = [x.float() for x in draw_trial(op, case(op)).arguments]
    compiled = torch.compile(lambda *xs: op(*xs, backend="c")[0] * 2, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*arguments), op(*arguments, backend="c")[0] * 2)
