"""The adapters of other libraries: they take what the built-in models take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

import rnnc.ops
from rnnc import peers
from rnnc.measurement import draw
from rnnc.ops.arguments import Sizes
from rnnc.peers import PEERS


@pytest.mark.parametrize("name", PEERS)
def test_arguments(name: str) -> None:
    names = tuple(getattr(rnnc.ops, name).signature.names)
    for peer in PEERS[name]:
        assert tuple(inspect.signature(peer.call).parameters) == names


def test_transformers_computes_the_same() -> None:
    (peer,) = (peer for peer in PEERS["gated_delta_net"] if peer.device == "cpu")
    pytest.importorskip(peer.module)
    vectors = [torch.randn(1, 70, 2, 16) for _ in range(3)]
    arguments = [*vectors, *(torch.randn(1, 70, 2) for _ in range(2)), torch.rand(2), torch.rand(2) - 3]
    found, expected = peer.call(*arguments), rnnc.ops.gated_delta_net(*arguments)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def loop(q: Any, k: Any, v: Any, g: Any, scale: float, read: Any = None, write: Any = None) -> Any:
    """S <- exp(g) S + write (read^T S') + k v^T, o = scale S^T q; `read` sees S' = S, or exp(g) S (delta)."""
    state, outputs = torch.zeros(*q.shape[:1], q.shape[2], q.shape[3], v.shape[3]), []
    for t in range(q.shape[1]):
        before = state
        state = state * g[:, t].exp()[..., None]
        if read is not None:
            seen = before if write is not None else state
            removed = torch.einsum("bhk,bhkv->bhv", read[:, t], seen)
            state = state + (write if write is not None else -k)[:, t, :, :, None] * removed[:, :, None]
        state = state + k[:, t, :, :, None] * v[:, t, :, None]
        outputs.append(scale * torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return (torch.stack(outputs, 1), None)


def delta(q: Any, k: Any, v: Any, g: Any, beta: Any, scale: float) -> Any:
    q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
    root = beta.sqrt()[..., None]  # -beta k (k^T S) + beta k v^T
    return loop(q, k * root, v * root, g, scale, read=k * root)


def gated_delta(q: Any, k: Any, v: Any, g: Any, beta: Any, A_log: Any, dt_bias: Any, **options: Any) -> Any:
    assert options.pop("use_qk_l2norm_in_kernel")
    assert options.pop("use_beta_sigmoid_in_kernel")
    assert options.pop("use_gate_in_kernel")
    beta = beta.sigmoid() * (2 if options.pop("allow_neg_eigval", False) else 1)
    assert not options
    if g.dim() == 4:
        A_log, dt_bias = A_log[:, None], dt_bias.view(g.shape[2:])
    g = -A_log.exp() * functional.softplus(g + dt_bias)
    return delta(q, k, v, g if g.dim() == 4 else g[..., None], beta, q.shape[-1] ** -0.5)


def rwkv6(r: Any, k: Any, v: Any, w: Any, u: Any, scale: float) -> Any:
    """The state before the token, and the token itself with the weight u."""
    state = torch.zeros(*r.shape[:1], r.shape[2], r.shape[3], v.shape[3])
    outputs = []
    for t in range(r.shape[1]):
        new = k[:, t, :, :, None] * v[:, t, :, None]
        outputs.append(scale * torch.einsum("bhk,bhkv->bhv", r[:, t], state + u[..., None] * new))
        state = w[:, t].exp()[..., None] * state + new
    return torch.stack(outputs, 1), None


def comba(q: Any, k: Any, v: Any, p: Any, g: Any, beta: Any) -> Any:
    """S <- exp(g) S + beta k (v - S^T p)^T, the state before its decay."""
    strength = beta[..., None] * k
    return loop(q, strength, v, g[..., None], q.shape[-1] ** -0.5, read=p, write=-strength)


def gdn2(q: Any, k: Any, v: Any, g: Any, b: Any, w: Any, A_log: Any, dt_bias: Any, **options: Any) -> Any:
    """S <- (I - k (b k)^T) exp(g) S + k (w v)^T."""
    assert options == {"use_qk_l2norm_in_kernel": True, "use_gate_in_kernel": True}
    q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
    g = -A_log.exp()[:, None] * functional.softplus(g + dt_bias.view(g.shape[2:]))
    return loop(q, k, w * v, g, q.shape[-1] ** -0.5, read=b * k)


# What the functions of fla-core are documented to compute, a token at a time.
DOCUMENTED: dict[str, Callable[..., Any]] = {
    "chunk_linear_attn": lambda q, k, v, scale, normalize: loop(q, k, v, torch.zeros_like(k), scale),
    "chunk_retention": lambda q, k, v: loop(q, k, v, retention_decay(q).expand_as(k), q.shape[-1] ** -0.5),
    "chunk_simple_gla": lambda q, k, v, g, scale: loop(q, k, v, g[..., None], scale),
    "chunk_gla": lambda q, k, v, g: loop(q, k, v, g, q.shape[-1] ** -0.5),
    "chunk_delta_rule": lambda q, k, v, beta, scale, use_qk_l2norm_in_kernel: delta(
        q, k, v, torch.zeros_like(k), beta, scale
    ),
    "chunk_gated_delta_rule": gated_delta,
    "chunk_kda": gated_delta,
    "chunk_rwkv6": rwkv6,
    "chunk_comba": comba,
    "chunk_gdn2": gdn2,
    "chunk_rwkv7": lambda r, w, k, v, a, b, lower_bound: loop(r, k, v, w, 1.0, read=a, write=b),
}


def retention_decay(q: Any) -> Any:
    return (1 - 2.0 ** (-5.0 - torch.arange(q.shape[2]))).log()[:, None]


@pytest.mark.parametrize("name", PEERS)
def test_the_mathematics_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a peer computes what it documents, its adapter computes the built-in model."""
    monkeypatch.setattr(peers, "_fla", lambda module, function: DOCUMENTED[function])
    op = getattr(rnnc.ops, name)
    arguments = draw(
        op.recurrence, Sizes(2, 9, 3, dict.fromkeys(op.recurrence.axes, 4)), torch.float32, "cpu"
    )
    (peer,) = (peer for peer in PEERS[name] if peer.package == "fla-core")
    found, expected = (
        (x,) if isinstance(x, torch.Tensor) else x for x in (peer.call(*arguments), op(*arguments)[0])
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
