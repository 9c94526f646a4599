"""A recurrence made by hand and a module written by hand in the shape of a generated one.

    S[t] = exp(g[t]) S[t-1] + k[t] v[t]^T        o[t] = w S[t]^T q[t] + z        norm[t] = sum(S[t]^T q[t])

with k per group, w per head, z shared by all heads.
"""

from __future__ import annotations

import types
from fractions import Fraction

import torch

from rnnc.dsl.expression import Add, Call, Constant, Multiply, Name, Power, Size, Sum
from rnnc.dsl.recurrence import Assign, Input, Let, Output, Param, Recurrence, State
from rnnc.ops.operator import Operator

S = Name("S", ("K", "V"))
READ = Sum(Multiply((S, Name("q", ("K",)))), "K")

RECURRENCE = Recurrence(
    name="stand_in",
    axes=("K", "V"),
    doc="",
    inputs=(Input("q", ("K",)), Input("k", ("K",), per_group=True), Input("v", ("V",)), Input("g", ())),
    params=(
        Param("w", (), default=Power(Size("K"), Fraction(-1, 2))),
        Param("z", ("V",), shared=True, default=Constant(Fraction(0))),
    ),
    states=(State("S", ("K", "V")),),
    outputs=(Output("o", ("V",)), Output("norm", ())),
    statements=(
        Let("decay", Call("exp", (Name("g", ()),))),
        Assign(
            "S", Add((Multiply((Name("decay", ()), S)), Multiply((Name("k", ("K",)), Name("v", ("V",))))))
        ),
        Assign("o", Add((Multiply((Name("w", ()), READ)), Name("z", ("V",))))),
        Assign("norm", Sum(READ, "V")),
    ),
)

SOURCE = """
import torch


def chunked_forward(args, valid, h0, steps, keep):
    q, k, v, g, w, z = args
    (h,) = h0
    total = (g * valid).cumsum(-1)
    mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
    weights = (total[..., :, None] - total[..., None, :]).masked_fill(~mask, -torch.inf).exp()
    inside = ((q @ k.mT) * weights) @ v
    written = (k * ((total[..., -1:] - total).exp() * valid)[..., None]).mT @ v
    reads = []
    for a, b in steps:
        reads.append((q[a:b] * total[a:b].exp()[..., None]) @ h[: b - a])
        new = h[: b - a] * total[a:b, :, -1].exp()[..., None, None] + written[a:b]
        h = torch.cat([new, h[b - a :]])
    read = inside + torch.cat(reads)
    return (read * w[..., None, None] + z[:, :, None], read.sum(-1)), (h,), (read.detach(),) if keep else None


def recurrent_forward(args, valid, h0, steps, keep):
    q, k, v, g, w, z = args
    (h,) = h0
    reads = []
    for a, b in steps:
        new = h[: b - a] * g[a:b].exp()[..., None, None] + k[a:b, ..., None] * v[a:b, ..., None, :]
        h = torch.cat([new, h[b - a :]])
        reads.append((q[a:b, ..., None] * new).sum(-2))
    read = torch.cat(reads)
    return (read * w[..., None] + z, read.sum(-1)), (h,), (read.detach(),) if keep else None


chunked_states, recurrent_states = chunked_forward, recurrent_forward


def differentiate(forward, args, valid, h0, steps, kept, douts, dht):
    again = torch.is_grad_enabled()
    if again:
        assert kept is None
    leaves = args + h0 if again else tuple(x.detach().requires_grad_() for x in args + h0)
    with torch.enable_grad():
        leaves = tuple(x if x.requires_grad else x.detach().requires_grad_() for x in leaves)
        outputs, ht, _ = forward(leaves[: len(args)], valid, leaves[len(args) :], steps, False)
        grads = torch.autograd.grad(
            outputs + ht, leaves, tuple(d.contiguous() for d in douts + dht), create_graph=again
        )
    return grads[: len(args)], grads[len(args) :]


def chunked_backward(*arguments):
    return differentiate(chunked_forward, *arguments)


def recurrent_backward(*arguments):
    return differentiate(recurrent_forward, *arguments)
"""


def operator() -> Operator:
    """The operator of the stand-in."""
    module = types.ModuleType("stand_in")
    exec(SOURCE, module.__dict__)
    return Operator("", RECURRENCE, module, SOURCE)


def arguments(
    B: int, T: int, H: int = 4, G: int = 2, K: int = 3, V: int = 2, dtype: torch.dtype = torch.float64
):
    """q, k, v, g, w, z with random values."""
    torch.manual_seed(0)
    q = torch.randn(B, T, H, K, dtype=dtype)
    k = torch.randn(B, T, G, K, dtype=dtype)
    v = torch.randn(B, T, H, V, dtype=dtype)
    g = -torch.rand(B, T, H, dtype=dtype)
    return q, k, v, g, torch.randn(H, dtype=dtype), torch.randn(V, dtype=dtype)
