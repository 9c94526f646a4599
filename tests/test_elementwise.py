"""States of one axis, or none: scans, alone and as stages that feed others."""

from __future__ import annotations

import pytest
import torch

import rnnc
from rnnc.codegen import operations as ir
from rnnc.codegen.compiler import analyse
from rnnc.codegen.cost import cost
from rnnc.codegen.proof import prove
from rnnc.dsl.diagnostics import SpecError
from rnnc.ops import tiles
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import property_test
from rnnc.ops.trial import draw_trial

pytestmark = pytest.mark.usefixtures("own_cache")

CHANNELS = """recurrence channels[K]:
    input x[K], f[K]
    state h[K]
    output before, o[K]
    before <- h.T @ x
    h <- sigmoid(f) * h + (1 - sigmoid(f)) * x
    o <- h * silu(x)
"""
SHARED = """recurrence shared[K]:
    input x[K]
    input g in [-1, 1]
    state h[K] = h0
    param h0[K]
    output o[K]
    h <- g * h + x
    o <- softmax(h, K)
"""
SCALAR = """recurrence scalar[K]:
    input x[K], g
    input y in [-1, 1]
    state h
    output o[K]
    h <- y * (h + g)
    o <- h * x
"""
SUMS = """recurrence sums[K]:
    input x[K]
    state h[K]
    output o[K]
    o <- tanh(h) * x
    h <- h + x
"""
# The gate of a matrix state is a running mean, of a scalar and per channel.
MEAN_GATE = """recurrence mean_gate[K, V]:
    input q[K], k[K], v[V], a, c[K]
    state m, n[K], S[K, V]
    output o[V]
    m <- 0.9 * m + 0.1 * a
    n <- 0.5 * n + 0.5 * c
    S <- exp(logsigmoid(n) / 16) * sigmoid(m) * S + k @ v.T
    o <- S.T @ q
"""
KEY = """recurrence key[K, V]:
    input q[K], k[K], v[V], f[K], b
    state h[K], S[K, V]
    output o[V]
    h <- sigmoid(f) * h + k * k
    let u = unit(k * rsqrt(max(h, 0) + 0.01))
    S <- S + sigmoid(b) * u @ (v - S.T @ u).T
    o <- S.T @ unit(q)
    eigenvalues in (0, 1]
"""
ALONE = {"channels": CHANNELS, "shared": SHARED, "scalar": SCALAR, "sums": SUMS}
SPECS = ALONE | {"mean_gate": MEAN_GATE, "key": KEY}


@pytest.fixture(scope="module", params=SPECS)
def operator(request: pytest.FixtureRequest) -> Operator:
    return rnnc.compile(SPECS[request.param])


@pytest.mark.parametrize("name", SPECS)
def test_all_are_proven(name: str) -> None:
    compiled = analyse(SPECS[name])
    proof = prove(compiled)
    assert proof, str(proof)
    assert not [warning for warning in compiled.warnings if "eigenvalues" in warning.message]


def test_all_forms_agree(operator: Operator) -> None:
    report = property_test(operator, cases=6)
    assert report, str(report)


def test_recurrent_kernels_agree(operator: Operator) -> None:
    pytest.importorskip("triton")
    sizes = dict.fromkeys(operator.recurrence.axes, 3)
    case = Case(0, (0, 9, 3), True, 2, sizes, {}, initial=True, reverse=True, chunk_size=None)
    trial = draw_trial(operator, case)
    for what, value in trial.to(torch.float32).evaluate("recurrent", backend="triton").items():
        error = float((value.double() - trial.expected[what]).norm()) / max(trial.scales[what], 1e-6)
        assert error < 1e-4, f"{what}: {error:.1e}"


@pytest.mark.parametrize("suffix", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_scan_is_its_recursion(suffix: bool, exclusive: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    d, x = (torch.randn(2, 3, 8, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    y = torch.zeros_like(x)
    for i in range(7, -1, -1) if suffix else range(8):
        before = i + 1 if suffix else i - 1
        if 0 <= before < 8:
            y[:, :, i] = d[:, :, before if suffix or exclusive else i] * y[:, :, before]
            y[:, :, i] += x[:, :, before] if exclusive else 0
        y[:, :, i] += 0 if exclusive else x[:, :, i]
    torch.testing.assert_close(tiles.linear_scan(d, x, 2, suffix, exclusive), y)


def test_resets_and_strong_decays_are_exact() -> None:
    """A decay of 0 cuts the sequence, with its gradient; one that underflows harms no other."""
    operator = rnnc.compile(SCALAR.replace("y in [-1, 1]", "y in [0, 1]"))
    x, g, y = torch.randn(1, 70, 1, 4), torch.randn(1, 70, 1), torch.full((1, 70, 1), 0.999)
    y[:, 31], y[:, 40] = 0, 1e-40
    leaves = [t.clone().requires_grad_() for t in (x, g, y)]
    exact = [t.double().clone().requires_grad_() for t in (x, g, y)]
    o, _ = operator(*leaves, form="chunked")
    expected, _ = operator.reference(*exact)
    found = torch.autograd.grad(o.sin().sum(), leaves)
    gradients = torch.autograd.grad(expected.sin().sum(), exact)
    for one, two in zip((o, *found), (expected, *gradients), strict=True):
        assert float(((one.double() - two).norm() / two.norm()).detach()) < 1e-5


def test_low_precision_keeps_small_squares() -> None:
    """Squares of 1e-4 are 0 in float16: what a stage without a key axis computes stays in float32."""
    operator = rnnc.compile(KEY.replace("+ 0.01", "+ 1e-9"))
    shapes = [(1, 20, 1, *[4] * len(item.axes)) for item in operator.recurrence.inputs]
    values = [1e-4 * torch.randn(shape).half() for shape in shapes]
    values[2] = torch.randn(shapes[2]).half()
    o, _ = operator(*values)
    assert o.dtype == torch.float16
    expected, _ = operator.reference(*(x.double() for x in values))
    assert float((o.double() - expected).norm() / expected.norm()) < 5e-3


def test_what_mixes_is_refused() -> None:
    text = SUMS.replace("h <- h + x", "h <- h + x * (h.T @ x)")
    with pytest.raises(SpecError) as refusal:
        analyse(text)
    (found,) = refusal.value.diagnostics
    assert found.code == "unsupported"
    assert "the entries of the state 'h[K]' mix" in found.message


def test_chunks_of_one_number_hold_no_matrix_of_pairs() -> None:
    """They are as long as vectors of numbers may be: gradients of running products are scans, too."""
    (compiled,) = analyse(SCALAR).stages
    bodies = [node.op for kernels in compiled.kernels[:2] for kernel in kernels for node in kernel.body]
    assert not any(isinstance(op, ir.Path | ir.PathAdjoint | ir.RunningProductAdjoint) for op in bodies)
    assert cost(compiled, B=1, T=8192, H=8, K=64).chunk == 256
    assert "stage 1" not in compiled.explain()
    assert "the state h is one number: one decay" in compiled.explain()


def test_a_mean_for_a_gate_steps_in_place() -> None:
    pytest.importorskip("triton")
    operator = rnnc.compile(MEAN_GATE)
    values = [torch.randn(2, 1, *[4] * len(item.axes)) for item in operator.recurrence.inputs]
    expected, state = operator.step(*values)
    assert state._fields == ("m", "n", "S")
    assert state.m.shape == (2, 1)
    room = type(state)(*(torch.empty_like(x) for x in state))
    found, same = operator.step(*values, out_state=room, backend="triton")
    assert same is room
    torch.testing.assert_close(found, expected)
    for one, other in zip(room, state, strict=True):
        torch.testing.assert_close(one, other)


def test_a_learned_start_and_a_softmax_in_kernels() -> None:
    pytest.importorskip("triton")
    operator = rnnc.compile(SHARED)
    given = [torch.randn(2, 20, 2, 4), torch.rand(2, 20, 2), torch.randn(2, 4)]
    found = []
    for backend in ("torch", "triton"):
        arguments = [x.clone().requires_grad_() for x in given]
        o, _ = operator(*arguments, backend=backend, form="chunked", chunk_size=16)
        found.append([o, *torch.autograd.grad(o.square().sum(), arguments)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_it_is_explained() -> None:
    text = rnnc.compile(CHANNELS).explain()
    assert "u[i] = D[i] u[i-1] + v[i],  u[0] = 0, as a scan" in text
    assert "the entries of the state h[K] do not mix: a decay for every entry" in text
    assert "h[t] = sigmoid(f) * h[t-1]" in text


def test_any_initial_state_is_taken() -> None:
    """Also one that no call ends with: no logarithm is taken of a state because of where it starts."""
    lines = ["input k[K], v[V], a, r", "param m0 in (0, 1)", "state m = m0", "state S[K, V]", "output o[V]"]
    lines += ["let rho = sigmoid(r)", "m <- rho * m + (1 - rho) * sigmoid(a)", "S <- m * S + k @ v.T"]
    operator = rnnc.compile("\n    ".join(["recurrence gate[K, V]:", *lines, "o <- S.T @ k"]))
    given = [torch.randn(1, 21, 1, 4) for _ in range(2)] + [torch.randn(1, 21, 1) for _ in range(2)]
    state = (torch.full((1, 1), -3.0), torch.randn(1, 1, 4, 4))
    found, _ = operator(*given, torch.tensor([0.5]), initial_state=state, form="chunked")
    expected, _ = operator.reference(*given, torch.tensor([0.5]), initial_state=state)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
