"""Spellings that are equal as algebra have one normal form, and what has none is refused with the reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnc.codegen.compiler import analyse
from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.normal import Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse

pytestmark = pytest.mark.smoke
REFUSED = sorted((Path(__file__).parent / "goldens" / "normal").glob("*.rnn"))

# A model: its declarations, then its spellings. Lets come first, the updates after the state.
LINEAR = """
    input q[K], k[K], v[V]
"""
GLA = """
    input q[K], k[K], v[V], g[K]
"""
DELTA = """
    input q[K], k[K], v[V], a, b
    let alpha = sigmoid(a)
    let beta = 2 * sigmoid(b)
    let u = unit(k)
"""
KDA = """
    input q[K], k[K], v[V], a[K], b
    param A_log
    let alpha = exp(-exp(A_log) * softplus(a))
    let beta = sigmoid(b)
    let u = unit(k)
"""
RWKV7 = """
    input q[K], w[K], k[K], v[V], a[K], kappa[K]
    let decay = exp(-exp(-0.5) * sigmoid(w))
    let rate = sigmoid(a)
"""
VALUE = """
    input q[K], k[K], v[V], g[K], h[V], a
"""
TWO_READS = """
    input q[K], k[K], e[K], v[V], a, b, c
    let alpha = sigmoid(a)
    let u = unit(k)
    let w = unit(e)
"""
MAMBA2 = """
    input u[V], dt, k[K], q[K]
    param A_log, D
    let delta = softplus(dt)
"""
SPELLINGS = {
    "linear": (
        LINEAR,
        ["S <- S + k @ v.T"],
        ["S <- S", "S <- k @ v.T + S"],
        ["let old = S", "S <- k * v", "S <- old + S"],
        ["S <- S + k * v / 2", "S <- S + 0.5 * v * k"],
    ),
    "gla": (
        GLA,
        ["S <- exp(g) * S + k @ v.T"],
        ["S <- exp(g) * S", "S <- S + k @ v.T"],
        ["S <- (I * exp(g)) @ S + (v @ k.T).T"],
        ["let gated = S * exp(g)", "S <- (k @ v.T + gated)"],
    ),
    "gated delta": (
        DELTA,
        ["S <- alpha * (I - beta * u @ u.T) @ S + beta * u @ v.T"],
        ["S <- alpha * S", "S <- S + beta * u @ (v - S.T @ u).T"],
        ["S <- alpha * S - alpha * beta * u @ (u.T @ S) + beta * u @ v.T"],
        ["let e = (v - alpha * (S.T @ u)) * beta", "S <- u @ e.T + S * alpha"],
    ),
    "kda": (
        KDA,
        ["S <- (I - beta * u @ u.T) @ (alpha * S) + beta * u @ v.T"],
        ["S <- alpha * S", "S <- S - beta * u @ (u.T @ S - v.T)"],
        ["S <- alpha * S - (beta * u) @ ((alpha * u).T @ S) + beta * u * v"],
    ),
    "rwkv7": (
        RWKV7,
        ["S <- decay * S - (kappa * rate) @ (kappa.T @ S) + k @ v.T"],
        ["S <- (I * decay - (kappa * rate) @ kappa.T) @ S + k @ v.T"],
        ["let removed = S.T @ kappa", "S <- S * decay + k * v", "S <- S - rate * kappa * removed"],
    ),
    "decays over both": (
        VALUE,
        ["S <- sigmoid(a) * exp(g) * S * exp(h) + k @ v.T"],
        ["S <- exp(h) * S", "S <- sigmoid(a) * (exp(g) * S) + k * v"],
        ["let gate = exp(h) * exp(g) * S", "S <- sigmoid(a) * gate + (v @ k.T).T"],
    ),
    "complements over both": (
        VALUE,
        ["S <- sigmoid(a) * (1 - sigmoid(g)) * (1 - sigmoid(h)) * S"],
        ["S <- S - sigmoid(g) * S", "S <- sigmoid(a) * (S - S * sigmoid(h))"],
        ["S <- S - sigmoid(g) * S - sigmoid(h) * S + sigmoid(h) * sigmoid(g) * S", "S <- S * sigmoid(a)"],
    ),
    "complements of one gate and of V": (
        VALUE,
        ["S <- (1 - sigmoid(a)) * (1 - sigmoid(h)) * S"],
        ["S <- S - sigmoid(a) * S", "S <- S - S * sigmoid(h)"],
    ),
    "a complement of one gate": (
        VALUE,
        ["S <- (1 - sigmoid(a)) * exp(h) * S"],
        ["S <- exp(h) * S", "S <- S - S * sigmoid(a)"],
    ),
    "delta under a decay over V": (
        VALUE,
        ["S <- exp(h) * S", "S <- S - sigmoid(a) * k @ (S.T @ k - v).T"],
        ["S <- exp(h) * S - sigmoid(a) * k @ (exp(h) * (S.T @ k)).T + sigmoid(a) * k @ v.T"],
        ["S <- (I - sigmoid(a) * k @ k.T) @ (S * exp(h)) + k @ (v * sigmoid(a)).T"],
    ),
    "oja": (
        VALUE,
        ["S <- exp(h) * S", "S <- S + sigmoid(a) * (k - S @ v) @ v.T"],
        ["S <- exp(h) * S + sigmoid(a) * (k - S @ (exp(h) * v)) @ v.T"],
        ["S <- (S * exp(h)) @ (I - sigmoid(a) * v @ v.T) + k @ (sigmoid(a) * v).T"],
    ),
    "two reads": (
        TWO_READS,
        ["S <- alpha * (S - sigmoid(b) * u @ (u.T @ S) - sigmoid(c) * w @ (w.T @ S)) + k @ v.T"],
        ["S <- alpha * (I - sigmoid(b) * u @ u.T - sigmoid(c) * w @ w.T) @ S + k @ v.T"],
        [
            "S <- S * alpha",
            "let x = sigmoid(c) * S.T @ w",
            "S <- S - sigmoid(b) * u @ (u.T @ S) - w @ x.T + k @ v.T",
        ],
    ),
    "mamba2": (
        MAMBA2,
        ["S <- exp(-exp(A_log) * delta) * S + delta * k @ u.T"],
        ["S <- exp(-delta * exp(A_log)) * S", "S <- S + k @ (delta * u).T"],
        ["let x = delta * u", "S <- (k @ x.T + exp(delta * -exp(A_log)) * S)"],
    ),
}  # fmt: skip


def spec(declared: str, updates: list[str], output: str = "S.T @ q") -> str:
    lines = [*declared.strip().splitlines(), "state S[K, V]", "output o[V]", *updates, f"o <- {output}"]
    return "recurrence r[K, V]:\n" + "".join(f"    {line.strip()}\n" for line in lines)


def normal_form(text: str) -> Normal:
    return normalise(check(parse(text)))


def body(source: str) -> str:
    """A module without its docstring and the hash of its spec."""
    return source.split('"""', 2)[2].partition("INPUTS = ")[2]


@pytest.mark.parametrize("model", SPELLINGS)
def test_one_form_and_one_module(model: str) -> None:
    declared, first, *others = SPELLINGS[model]
    found = normal_form(spec(declared, first))
    for other in others:
        again = normal_form(spec(declared, other))
        for part in ("axes", "decay", "value_decay", "writes", "readouts", "outputs"):
            assert getattr(again, part) == getattr(found, part), (part, other)
    texts = {body(analyse(spec(declared, updates)).source) for updates in (first, *others)}
    assert len(texts) == 1
    assert "def chunked_backward" in texts.pop()


READOUTS = [
    ("S.T @ q * K**-0.5 + v", "v + K**-0.5 * (q.T @ S).T"),
    ("sigmoid(b) * (S.T @ q)", "S.T @ (sigmoid(b) * q)"),
    ("S.T @ q + S.T @ k", "S.T @ (k + q)"),
    ("tanh(S.T @ (2 * q))", "tanh((q.T @ S).T + S.T @ q)"),
    ("(S.T @ q) / max(abs(b), 1)", "S.T @ (q * max(abs(b), 1)**-1)"),
]


@pytest.mark.parametrize(("one", "other"), READOUTS)
def test_readouts_are_merged(one: str, other: str) -> None:
    forms = [normal_form(spec(DELTA, ["S <- alpha * S + k @ v.T"], output)) for output in (one, other)]
    assert forms[0].readouts == forms[1].readouts
    assert forms[0].outputs == forms[1].outputs
    assert len(forms[0].readouts) == 1


def test_old_and_new_state_are_told_apart() -> None:
    updates = ["output p[V]", "p <- S.T @ q", "S <- alpha * S + k @ v.T"]
    text = spec(DELTA, updates)
    found = normal_form(text)
    assert [readout.old for readout in found.readouts] == [True, False]


RANKS = [
    ("S <- S + k @ v.T + q @ v.T", 1),  # two keys, one value
    ("S <- S + k @ v.T + k @ (a * v).T", 1),
    ("S <- S + k @ v.T + q @ z.T", 2),
    ("S <- S - u @ (u.T @ S) - q @ (u.T @ S)", 1),  # two keys, one read
    ("S <- S - u @ (u.T @ S) - u @ (q.T @ S) + u @ v.T", 1),
    ("S <- S - u @ (u.T @ S) - q @ (q.T @ S) + k @ v.T", 3),
]


@pytest.mark.parametrize(("update", "rank"), RANKS)
def test_as_few_writes_as_the_smaller_side_allows(update: str, rank: int) -> None:
    found = normal_form(spec(DELTA.replace("v[V]", "v[V], z[V]"), [update]))
    assert len(found.writes) == rank


def test_the_decay_of_a_read_cancels() -> None:
    declared, *spellings = SPELLINGS["kda"]
    found = normal_form(spec(declared, spellings[0]))
    assert found.writes[0].read_of_decayed is not None
    declared, *spellings = SPELLINGS["rwkv7"]
    assert all(write.read_of_decayed is None for write in normal_form(spec(declared, spellings[0])).writes)


def test_reads_decide_the_key_axis_and_then_readouts() -> None:
    declared, *spellings = SPELLINGS["oja"]
    assert normal_form(spec(declared, spellings[0])).axes == ("V", "K")
    turned = "recurrence r[K, V]:\n    input q[K], k[K], v[V]\n    state S[V, K]\n    output o[V]\n"
    found = normal_form(f"{turned}    S <- S + v @ k.T\n    o <- S @ q\n")
    assert found.axes == ("K", "V")
    assert found.state_axes == ("V", "K")


UNLIKE = [
    ("S <- alpha * S + k @ v.T", "S <- beta * S + k @ v.T"),
    ("S <- S - u @ (u.T @ S)", "S <- S + u @ (u.T @ S)"),
    ("S <- S - u @ (k.T @ S)", "S <- S - k @ (u.T @ S)"),
]


@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_unlike_updates_stay_apart(one: str, other: str) -> None:
    forms = [normal_form(spec(DELTA, [update])) for update in (one, other)]
    assert (forms[0].decay, forms[0].writes) != (forms[1].decay, forms[1].writes)


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refusal(path: Path, golden: Callable[[Path, str], None]) -> None:
    """What has no normal form yet is refused within seconds, the wrong part underlined."""
    begin = time.process_time()
    with pytest.raises(SpecError) as caught:
        normalise(check(parse(path.read_text("utf-8"), path.name)))
    golden(path.with_suffix(".txt"), f"{caught.value}\n")
    assert time.process_time() - begin < 10


def test_all_updates_are_reported() -> None:
    with pytest.raises(SpecError) as caught:
        normal_form(spec(DELTA, ["S <- S * S", "S <- exp(S)"]))
    assert [each.code for each in caught.value.diagnostics] == ["not-linear"] * 2
