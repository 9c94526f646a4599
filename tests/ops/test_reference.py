"""The naive loop against loops written out by hand, for what the language can say."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from rnnc.dsl.expression import (
    Add,
    Call,
    Constant,
    Delay,
    Final,
    Identity,
    Multiply,
    Name,
    Power,
    Rename,
    Select,
    Sum,
)
from rnnc.dsl.interpreter import carried
from rnnc.dsl.recurrence import Assign, Input, Let, Loop, Output, Param, Recurrence, State
from rnnc.ops.arguments import Sizes
from rnnc.ops.reference import TorchArithmetic, token_loop

K, V = ("K",), ("V",)
S = Name("S", ("K", "V"))
q, k, v, b = Name("q", K), Name("k", K), Name("v", V), Name("b", ())
MINUS = Constant(Fraction(-1))
READ = Sum(Multiply((S, q)), "K")
INPUTS = (Input("q", K), Input("k", K), Input("v", V), Input("b", ()))
STATES, OUTPUTS = (State("S", ("K", "V")),), (Output("o", V),)


def recurrence(*statements, inputs=INPUTS, states=STATES, outputs=OUTPUTS, params=()):
    return Recurrence("r", ("K", "V"), "", inputs, params, states, outputs, statements)


def run(spec: Recurrence, tensors, initial=None, B=2, T=5, H=2, **options):
    sizes = Sizes(B, T, H, {"K": 3, "V": 4, "n": 2})
    if initial is None:
        initial = tuple(
            torch.zeros(B, *sizes.shape(array.axes), dtype=torch.float64) for array in carried(spec)
        )
    count = len(spec.inputs)
    options = {"offsets": None, "reverse": False} | options
    return token_loop(spec, tuple(tensors[:count]), tuple(tensors[count:]), initial, sizes, **options)


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 5, 2, *shape, dtype=torch.float64) for shape in shapes]


def test_a_matrix_times_the_state():
    """S <- (I - b k k.T) @ S + k @ v.T, written with primed axes."""
    other = Rename(k, "K", "K'")
    step = Add((Identity("K"), Multiply((MINUS, b, k, other))))
    update = Add((Sum(Multiply((step, Rename(S, "K", "K'"))), "K'"), Multiply((k, v))))
    spec = recurrence(Assign("S", update), Assign("o", READ))
    Q, W, X, beta = tensors((3,), (3,), (4,), ())
    (o,), (last,) = run(spec, (Q, W, X, beta))
    h = torch.zeros(2, 2, 3, 4, dtype=torch.float64)
    for t in range(5):
        read = torch.einsum("bhk,bhkv->bhv", W[:, t], h)
        h = h + W[:, t, :, :, None] * (X[:, t] - beta[:, t, :, None] * read)[:, :, None]
        torch.testing.assert_close(o[:, t], torch.einsum("bhk,bhkv->bhv", Q[:, t], h))
    torch.testing.assert_close(last, h)


def test_order_of_statements_and_several_states():
    """o reads the old state, the second state reads the new one, broadcast and transposed."""
    spec = recurrence(
        Assign("o", READ),
        Assign("S", Add((S, Multiply((v, k))))),  # axes (V, K): aligned to (K, V)
        Assign("m", Add((Name("m", ()), Sum(Sum(S, "K"), "V")))),
        states=(State("S", ("K", "V")), State("m", ())),
    )
    Q, W, X, beta = tensors((3,), (3,), (4,), ())
    (o,), (last, m) = run(spec, (Q, W, X, beta))
    h, total = torch.zeros(2, 2, 3, 4, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    for t in range(5):
        torch.testing.assert_close(o[:, t], torch.einsum("bhk,bhkv->bhv", Q[:, t], h))
        h = h + W[:, t, :, :, None] * X[:, t, :, None]
        total = total + h.sum((-1, -2))
    torch.testing.assert_close(last, h)
    torch.testing.assert_close(m, total)


def test_micro_steps():
    many = Name("k", ("n", "K"))
    u = Name("u", K)
    change = Add((v, Multiply((MINUS, Sum(Multiply((S, u)), "K")))))
    body = (
        Let("u", Call("unit", (Select(many, "n", "i"),), "K")),
        Assign("S", Add((S, Multiply((u, change))))),
    )
    inputs = (Input("q", K), Input("k", ("n", "K")), Input("v", V))
    spec = recurrence(Loop("i", "n", body), Assign("o", READ), inputs=inputs)
    Q, W, X = tensors((3,), (2, 3), (4,))
    (o,), _ = run(spec, (Q, W, X))
    h = torch.zeros(2, 2, 3, 4, dtype=torch.float64)
    for t in range(5):
        for i in range(2):
            u = W[:, t, :, i] / (W[:, t, :, i].square().sum(-1, keepdim=True) + 1e-6).sqrt()
            h = h + u[..., None] * (X[:, t] - torch.einsum("bhk,bhkv->bhv", u, h))[:, :, None]
        torch.testing.assert_close(o[:, t], torch.einsum("bhk,bhkv->bhv", Q[:, t], h))


@pytest.mark.parametrize("cut", [1, 3])
def test_delays_are_carried(cut):
    delayed = Add((Delay(v, 1), Multiply((Constant(Fraction(2)), Delay(v, 3)))))
    spec = recurrence(Assign("S", Add((S, Multiply((k, delayed))))), Assign("o", READ))
    assert [array.name for array in carried(spec)] == ["S", "prev_v", "prev_v_2", "prev_v_3"]
    Q, W, X, beta = tensors((3,), (3,), (4,), ())
    (o,), last = run(spec, (Q, W, X, beta))
    past = torch.cat([torch.zeros_like(X[:, :3]), X], 1)
    mixed = past[:, 2:-1] + 2 * past[:, :-3]
    (expected,), _ = run(
        recurrence(Assign("S", Add((S, Multiply((k, v))))), Assign("o", READ)), (Q, W, mixed, beta)
    )
    torch.testing.assert_close(o, expected)
    (first,), state = run(spec, [x[:, :cut] for x in (Q, W, X, beta)], T=cut)
    (second,), final = run(spec, [x[:, cut:] for x in (Q, W, X, beta)], state, T=5 - cut)
    torch.testing.assert_close(torch.cat([first, second], 1), o)
    for a, b in zip(final, last, strict=True):
        torch.testing.assert_close(a, b)


def test_final_states():
    last = Sum(Multiply((Final("S", ("K", "V")), q)), "K")
    spec = recurrence(
        Assign("S", Add((S, Multiply((k, v))))),
        Let("y", last),
        Assign("o", Add((Name("y", V), READ))),
    )
    Q, W, X, beta = tensors((3,), (3,), (4,), ())
    (o,), (final,) = run(spec, (Q, W, X, beta))
    (causal,), _ = run(recurrence(*spec.statements[:1], Assign("o", READ)), (Q, W, X, beta))
    torch.testing.assert_close(o, causal + torch.einsum("bthk,bhkv->bthv", Q, final))


def test_parameters_packing_and_reverse():
    spec = recurrence(
        Assign("S", Add((Multiply((Name("d", K), S)), Multiply((k, v))))),
        Assign("o", READ),
        params=(Param("d", K),),
    )
    Q, W, X, beta = (x[:1] for x in tensors((3,), (3,), (4,), ()))
    decay = torch.rand(2, 3, dtype=torch.float64)
    initial = (torch.randn(3, 2, 3, 4, dtype=torch.float64),)
    (o,), (final,) = run(spec, (Q, W, X, beta, decay), initial, B=1, offsets=(0, 2, 2, 5), reverse=True)
    for n, part in enumerate((slice(0, 2), slice(2, 2), slice(2, 5))):
        turned = [x[:, part].flip(1) for x in (Q, W, X, beta)]
        (expected,), (state,) = run(spec, [*turned, decay], (initial[0][n : n + 1],), B=1)
        torch.testing.assert_close(o[:, part], expected.flip(1))
        torch.testing.assert_close(final[n : n + 1], state)


X = torch.tensor([[[-1.5, 0.25, 2.0]]], dtype=torch.float64)
FUNCTIONS = {
    "logsigmoid": torch.nn.functional.logsigmoid(X),
    "softplus": torch.nn.functional.softplus(X),
    "gelu": 0.5 * X * (1 + torch.erf(X / 2**0.5)),
    "silu": X * torch.sigmoid(X),
    "elu": torch.where(X > 0, X, X.expm1()),
    "softmax": torch.softmax(X, -1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    arithmetic = TorchArithmetic({"K": 3}, torch.float64, torch.device("cpu"))
    axis = "K" if name == "softmax" else None
    torch.testing.assert_close(arithmetic.call(name, [X], [K], K, axis), FUNCTIONS[name])


def test_every_function_of_the_language_has_a_meaning():
    from rnnc.dsl.functions import FUNCTIONS as LANGUAGE

    arithmetic = TorchArithmetic({"K": 3}, torch.float64, torch.device("cpu"))
    for function in LANGUAGE.values():
        if function.public:
            value = arithmetic.call(function.name, [X.abs()] * function.arity, [K] * function.arity, K, None)
            assert value.isfinite().all()


def test_powers_and_constants():
    arithmetic = TorchArithmetic({"K": 3}, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(arithmetic.power(X, Fraction(2)), X * X)
    torch.testing.assert_close(arithmetic.power(X.abs(), Fraction(-1, 2)), X.abs().rsqrt())
    assert arithmetic.constant(Fraction(1, 10)).item() == 0.1
    assert Power(k, Fraction(2)).axes == K
