"""Operators of other libraries on the arguments of the built-in models: what those are compared with.

What a peer has no room for (feature maps, gates, normalisation) is done in torch, as its users do it; where
its kernels offer it, they are asked to. Every adapter takes what the built-in takes and returns the outputs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnc import other_peers

os.environ.setdefault("FLA_DISABLE_BACKEND_DISPATCH", "1")  # its own kernels, not those of other packages
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# If set, fla-core's gated backward pass runs with versions of Triton that it refuses because of wrong results
# on Hopper (3.4 to 3.7.0): for its times, beside which its errors stand.
UNCHECKED = "RNNC_FLA_UNCHECKED"


@dataclass(frozen=True)
class Peer:
    """A library, by its name on PyPI and that of its module; the kind of device that its operator runs on."""

    package: str
    module: str
    device: str
    call: Callable[..., Any]
    variant: str = ""  # where there are several of one package

    @property
    def name(self) -> str:
        """What results call it."""
        return ", ".join(filter(None, (self.package, self.variant)))

    def version(self) -> str:
        """The installed version. Raises ImportError with the reason where there is none."""
        if self.module == "mamba_ssm":
            other_peers.mamba_ssm_alone()
        return str(getattr(import_module(self.module), "__version__", "unknown"))


def _fla(module: str, name: str) -> Callable[..., Any]:
    if os.environ.get(UNCHECKED):
        vars(import_module("fla.ops.common.chunk_o"))["IS_NVIDIA_HOPPER"] = False
    return getattr(import_module(f"fla.ops.{module}"), name)  # type: ignore[no-any-return]


def _linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Any:
    call = _fla("linear_attn", "chunk_linear_attn")
    return call(F.elu(q) + 1, F.elu(k) + 1, v, scale=1.0, normalize=False)[0]


def _retention(q: Tensor, k: Tensor, v: Tensor, gamma: Tensor) -> Any:
    """Its decays are fixed, at what the built-in starts with."""
    del gamma
    return _fla("retention", "chunk_retention")(q, k, v)[0]


def _mamba2(u: Tensor, dt: Tensor, B: Tensor, C: Tensor, A_log: Tensor, dt_bias: Tensor, D: Tensor) -> Any:
    delta = F.softplus(dt + dt_bias)
    g = -A_log.exp() * delta
    k = (B * delta[..., None]).to(B.dtype)
    out = _fla("simple_gla", "chunk_simple_gla")(C, k, u, g=g, scale=1.0)[0]
    return out + (D[:, None] * u).to(u.dtype)


def _gla(q: Tensor, k: Tensor, v: Tensor, gk: Tensor) -> Any:
    return _fla("gla", "chunk_gla")(q, k, v, F.logsigmoid(gk.float()) / 16)[0]


def _delta_net(q: Tensor, k: Tensor, v: Tensor, b: Tensor) -> Any:
    call = _fla("delta_rule", "chunk_delta_rule")
    return call(q, k, v, b.sigmoid(), scale=1.0, use_qk_l2norm_in_kernel=True)[0]


def _gated_delta_net(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, A_log: Tensor, dt_bias: Tensor
) -> Any:
    return _fla("gated_delta_rule", "chunk_gated_delta_rule")(
        q,
        k,
        v,
        a,
        b,
        use_qk_l2norm_in_kernel=True,
        use_beta_sigmoid_in_kernel=True,
        allow_neg_eigval=True,
        use_gate_in_kernel=True,
        A_log=A_log,
        dt_bias=dt_bias,
    )[0]


def _kda(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, A_log: Tensor, dt_bias: Tensor) -> Any:
    return _fla("kda", "chunk_kda")(
        q,
        k,
        v,
        a,
        b,
        use_qk_l2norm_in_kernel=True,
        use_beta_sigmoid_in_kernel=True,
        use_gate_in_kernel=True,
        A_log=A_log,
        dt_bias=dt_bias.flatten(),
    )[0]


def _rwkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    w0: Tensor,
    xi: Tensor,
    mix: Tensor,
    rho: Tensor,
) -> Any:
    kind, bound = r.dtype, -math.exp(-0.5)
    g = bound * torch.sigmoid(w0 + w)
    rate = a.sigmoid()
    kappa = F.normalize(k * xi, dim=-1)
    key = k * (1 + (rate - 1) * mix)
    read, write = (-kappa).to(kind), (kappa * rate).to(kind)
    out = _fla("rwkv7", "chunk_rwkv7")(r, g, key.to(kind), v, read, write, lower_bound=-0.607)[0]
    return out, ((r * rho * key).sum(-1, keepdim=True) * v).to(kind)


def _rwkv6(r: Tensor, w: Tensor, k: Tensor, v: Tensor, w0: Tensor, u: Tensor) -> Any:
    return _fla("rwkv6", "chunk_rwkv6")(r, k, v, -(w0 + w).exp(), u, scale=1.0)[0]


def _comba(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    s: Tensor,
    d: Tensor,
) -> Any:
    g = -A_log.exp() * F.softplus(a + dt_bias)
    u = F.normalize(k, dim=-1)
    read, erase = F.normalize(q, dim=-1) - d[:, None] * u, s.sigmoid()[:, None] * u
    return _fla("comba", "chunk_comba")(read.to(k.dtype), u, v, erase.to(k.dtype), g, b.sigmoid())[0]


def _gated_delta_net2(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, w: Tensor, A_log: Tensor, dt_bias: Tensor
) -> Any:
    return _fla("gdn2", "chunk_gdn2")(
        q,
        k,
        v,
        a,
        b.sigmoid(),
        w.sigmoid(),
        use_qk_l2norm_in_kernel=True,
        use_gate_in_kernel=True,
        A_log=A_log,
        dt_bias=dt_bias.flatten(),
    )[0]


FLA = ("fla-core", "fla", "cuda")
TRANSFORMERS = ("transformers", "transformers", "cpu")
PEERS: dict[str, tuple[Peer, ...]] = {
    "linear_attention": (Peer(*FLA, _linear_attention),),
    "retention": (Peer(*FLA, _retention),),
    "mamba2": (
        Peer(*FLA, _mamba2),
        Peer("mamba-ssm", "mamba_ssm", "cuda", other_peers.mamba_ssm),
        Peer("mlstm-kernels", "mlstm_kernels", "cuda", other_peers.mlstm_kernels),
        *(Peer(*TRANSFORMERS, other_peers.transformers_mamba2(n), f"chunks of {n}") for n in (256, 64)),
    ),
    "gla": (Peer(*FLA, _gla),),
    "delta_net": (Peer(*FLA, _delta_net),),
    "gated_delta_net": (
        Peer(*FLA, _gated_delta_net),
        Peer("flash-qla", "flash_qla", "cuda", other_peers.flash_qla),
        Peer(*TRANSFORMERS, other_peers.transformers_gated_delta_net),
    ),
    "kda": (Peer(*FLA, _kda),),
    "rwkv7": (Peer(*FLA, _rwkv7),),
    "rwkv6": (Peer(*FLA, _rwkv6),),
    "comba": (Peer(*FLA, _comba),),
    "gated_delta_net2": (Peer(*FLA, _gated_delta_net2),),
}
