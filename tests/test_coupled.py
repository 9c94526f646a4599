"""States that mix: two to four, in one direction or in a circle, in every form and on both back ends."""

from __future__ import annotations

from functools import cache

import pytest

import rnnc
from rnnc.codegen.compiler import Compiled, analyse
from rnnc.codegen.equivalence import compare
from rnnc.codegen.operations import Inverse
from rnnc.codegen.proof import prove, rational_checks
from rnnc.codegen.triton_module import chunk_kernels
from rnnc.dsl.interval import Interval
from rnnc.dsl.pretty import pretty
from rnnc.dsl.spectrum import spectrum
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import Report, check_case, distance
from rnnc.ops.trial import draw_trial

HEAD = "input q[K], k[K], v[V], a, b\ninput d in [-1, 1]\nlet u = unit(k)\noutput o[V]\n"
TWO = HEAD + "state M[K, V], S[K, V]\n"
THREE = HEAD + "state L[K, V], M[K, V], S[K, V]\n"
FOUR = HEAD + "state L[K, V], M[K, V], N[K, V], S[K, V]\n"
SPECS = {
    "momentum": TWO + "M <- sigmoid(a) * M + u @ (v - S.T @ u).T\nS <- sigmoid(b) * S + M\no <- S.T @ q",
    "resets": TWO + "M <- d * M + u @ (v - d * S.T @ u).T\nS <- d * S + sigmoid(b) * M\no <- S.T @ q",
    "nothing is lost": TWO + "M <- M + k @ v.T\nS <- S + 0.1 * M\no <- S.T @ q",
    "nothing is kept": TWO + "S <- d * S + M\nM <- k @ v.T\no <- S.T @ q + M.T @ k",
    "apart in what they write": TWO
    + "M <- 0.5 * M + k @ v.T - 0.3 * u @ (u.T @ S)\nS <- d * S + b * M + q @ v.T\no <- S.T @ q",
    "before the update": TWO + "o <- S.T @ q\nM <- d * M + k @ v.T\nS <- sigmoid(b) * S + M",
    "both read": TWO + "M <- d * M + u @ (v - S.T @ u - 0.2 * M.T @ u).T\nS <- 0.9 * S + 0.3 * M\n"
    "o <- tanh(S.T @ q) * M.T @ k",
    "a circle": TWO
    + "let old = M\nM <- d * (cos(a) * M - sin(a) * S) + k @ v.T\nS <- d * (sin(a) * old + cos(a) * S)\n"
    "o <- S.T @ q",
    "a circle that reads": TWO
    + "M <- 0.5 * d * M - 0.3 * S + u @ (v - S.T @ u).T\nS <- 0.5 * S + 0.4 * M\no <- S.T @ q",
    "a read without a value that does not come back": TWO
    + "M <- d * M + k @ v.T\nS <- sigmoid(b) * S + M - 0.3 * u @ (u.T @ M)\no <- S.T @ q",
    "a read that does not come back": TWO
    + "M <- d * M + k @ v.T\nS <- sigmoid(b) * S + 0.5 * M + u @ (v - M.T @ k).T\no <- S.T @ q",
    "a chain of three": THREE
    + "L <- d * L + k @ v.T\nM <- 0.8 * M + sigmoid(a) * L\nS <- sigmoid(b) * S + M\no <- S.T @ q",
    "a chain of four": FOUR
    + "L <- d * L + k @ v.T\nM <- 0.8 * M + L\nN <- 0.7 * N + d * M\nS <- sigmoid(b) * S + N\no <- S.T @ q",
}
CHUNKED = ["resets", "nothing is kept", "both read", "a circle that reads", "a chain of four"]
KERNELS = [(name, "chunked") for name in CHUNKED]
KERNELS += [(name, "recurrent") for name in ("before the update", "a circle", "a chain of three")]
every = pytest.mark.parametrize("name", SPECS)
pytestmark = pytest.mark.filterwarnings("ignore:.*unused-name")


def text(body: str) -> str:
    return "recurrence r[K, V]:\n" + "".join(f"    {line}\n" for line in body.splitlines())


@cache
def compiled(name: str) -> Compiled:
    found = analyse(text(SPECS[name]))
    assert isinstance(found, Compiled)
    return found


@cache
def operator(name: str) -> Operator:
    return rnnc.compile(text(SPECS[name]))


def case(lengths: tuple[int, ...], chunk: int = 16) -> Case:
    packed = len(lengths) > 1
    return Case(3, lengths, packed, 2, {"K": 4, "V": 3}, {}, True, packed, chunk)


@every
def test_proven_on_fractions(name: str) -> None:
    checks = list(rational_checks(compiled(name)))
    assert checks
    assert not [check for check in checks if check.failure]


@pytest.mark.parametrize("name", ["momentum", "a circle that reads", "nothing is kept"])
def test_proven(name: str) -> None:
    proof = prove(compiled(name))
    assert proof
    assert proof.seconds < 30  # on a busy machine


@every
def test_every_form_agrees(name: str) -> None:
    report = Report(name, 1)
    check_case(operator(name), case((5, 0, 33)), report)
    check_case(operator(name), case((37,)), report)
    assert report, str(report)


@pytest.mark.parametrize(("name", "form"), KERNELS)
def test_kernels_agree(name: str, form: str) -> None:
    pytest.importorskip("triton")
    trial = draw_trial(operator(name), case((5, 0, 19)))
    for what, value in trial.to(trial.arguments[0].float().dtype).evaluate(form, backend="triton").items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, trial.expected[what], trial.scales[what]) <= limit, what


def test_the_normal_form_is_unique() -> None:
    spellings = [
        "M <- sigmoid(a) * M - sigmoid(b) * u @ (u.T @ S - v.T)\nS <- d * S + M",
        "M <- sigmoid(a) * M\nM <- M + sigmoid(b) * u @ v.T\nM <- M - sigmoid(b) * u @ u.T @ S\nS <- M + S*d",
        "S <- d * S + sigmoid(a) * M + sigmoid(b) * u @ (v - S.T @ u).T\nM <- S - d * M",
    ]
    one, two, other = (analyse(text(TWO + body + "\no <- S.T @ q")) for body in spellings)
    assert one.normal.coupled == two.normal.coupled
    assert compare(one.recurrence, two.recurrence).verdict == "equal"
    assert one.normal.coupled != other.normal.coupled


def test_a_write_into_two_states_is_one() -> None:
    coupled = compiled("resets").normal.coupled
    assert coupled is not None
    (write,) = coupled.writes
    assert [key and pretty(key) for key in write.keys] == ["unit(k)", "sigmoid(b) * unit(k)"]
    assert [read and pretty(read) for read in write.reads] == [None, "-d * unit(k)"]


def test_eigenvalues() -> None:
    found = spectrum(compiled("momentum").normal)
    assert (found.interval, found.kind) == (Interval(-1, 1), "general")
    triangular = spectrum(compiled("a chain of three").normal)
    assert (triangular.interval, triangular.kind) == (Interval(-1, 1), "real")
    unknown = spectrum(compiled("both read").normal)
    assert unknown.kind == "general"
    assert "no modulus is above 1" not in "".join(unknown.reasons)


def test_a_wrong_claim_is_refuted() -> None:
    body = TWO + "M <- a * M + u @ (v - S.T @ u).T\nS <- S + M\no <- S.T @ q\neigenvalues in [-1, 1]"
    with pytest.raises(rnnc.SpecError, match="eigenvalues do not stay"):
        analyse(text(body))


@pytest.mark.parametrize("name", ["momentum", "resets"])
def test_what_walks_the_chunks_inverts_nothing(name: str) -> None:
    forward, backward = chunk_kernels(compiled(name))
    serial = [kernel for kernel in (*forward, *backward) if kernel.serial]
    assert [kernel.role for kernel in serial] == ["scan", "reverse"]
    for kernel in serial:
        assert not [node for node in kernel.body if isinstance(node.op, Inverse)]


def test_explained() -> None:
    found = compiled("momentum").explain()
    assert "linear in the states M, S, each [K, V], which mix by scalars" in found
    assert "D = [[sigmoid(a), 0], [sigmoid(a), sigmoid(b)]], of (M, S)" in found
    assert "P[i,j] = sum_XY T[i-1,j]_XY f_X[i]^T w_Y[j],  j < i" in found
    reset = compiled("resets").explain()
    assert "the decay of 'S' by itself lies in [-1, 1], which may be 0" in reset
