"""Adapters of the libraries that have one family each; `rnnc.peers` says how adapters are made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def transformers_gated_delta_net(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, A_log: Tensor, dt_bias: Tensor
) -> Any:
    """Its fallback for machines without a GPU, gates included as its models compute them."""
    module = import_module("transformers.models.qwen3_next.modeling_qwen3_next")
    g = -A_log.exp() * F.softplus(a + dt_bias)
    call = module.torch_chunk_gated_delta_rule
    return call(q, k, v, g, 2 * b.sigmoid(), use_qk_l2norm_in_kernel=True)[0]


def transformers_mamba2(chunk: int) -> Callable[..., Any]:
    """Its torch path; 256 tokens a chunk are its configuration's default."""

    def call(u: Tensor, dt: Tensor, B: Tensor, C: Tensor, A_log: Tensor, dt_bias: Tensor, D: Tensor) -> Any:
        module = import_module("transformers.models.mamba2.modeling_mamba2")
        options = {"chunk_size": chunk, "D": D, "dt_bias": dt_bias, "dt_softplus": True}
        return module.mamba2_chunk_scan(u, dt, -A_log.exp(), B, C, **options)

    return call


def mamba_ssm_alone() -> None:
    """Makes the Triton kernels importable where the CUDA extension, which the package imports, was not built.

    Raises ImportError where the package is not installed.
    """
    found = find_spec("mamba_ssm")
    if "mamba_ssm" in sys.modules or find_spec("selective_scan_cuda") or found is None or not found.origin:
        return
    folder = Path(found.origin).parent
    package = ModuleType("mamba_ssm")
    text = (folder / "__init__.py").read_text("utf-8")
    version = text.partition('__version__ = "')[2].partition('"')[0]
    package.__dict__.update(__path__=[str(folder)], __version__=version)
    sys.modules["mamba_ssm"] = package


def mamba_ssm(u: Tensor, dt: Tensor, B: Tensor, C: Tensor, A_log: Tensor, dt_bias: Tensor, D: Tensor) -> Any:
    """The Triton kernels of the structured state space duality, at their usual chunk size."""
    module = import_module("mamba_ssm.ops.triton.ssd_combined")
    options = {"chunk_size": 256, "D": D, "dt_bias": dt_bias, "dt_softplus": True}
    return module.mamba_chunk_scan_combined(u, dt.to(u.dtype), -A_log.exp(), B, C, **options)


def mlstm_kernels(
    u: Tensor, dt: Tensor, B: Tensor, C: Tensor, A_log: Tensor, dt_bias: Tensor, D: Tensor
) -> Any:
    """The mLSTM with a sigmoid input gate: Mamba-2 where that gate is open and nothing is normalised."""
    module = import_module("mlstm_kernels.torch.chunkwise.triton_xl_chunk_siging")
    heads = u.shape[2]
    delta = F.softplus(dt + dt_bias)
    g = -A_log.exp() * delta
    forget = g - torch.log(-torch.expm1(g))  # the logit of exp(g)
    k = (B.repeat_interleave(heads // B.shape[2], 2) * delta[..., None]).to(B.dtype)
    q = C.repeat_interleave(heads // C.shape[2], 2) * C.shape[-1] ** 0.5  # it divides by that
    q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, u))
    gates = (x.transpose(1, 2).contiguous() for x in (torch.full_like(g, 30.0), forget))
    call = module.mlstm_siging_chunkwise__xl_chunk
    out = call(q, k, v, *gates, normalize=False, autocast_kernel_dtype=u.dtype)
    return out.transpose(1, 2) + (D[:, None] * u).to(u.dtype)


def flash_qla(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, A_log: Tensor, dt_bias: Tensor) -> Any:
    """The gated delta rule on Hopper, 128 channels."""
    call = import_module("flash_qla").chunk_gated_delta_rule
    g = -A_log.exp() * F.softplus(a + dt_bias)
    return call(q, k, v, g, 2 * b.sigmoid(), use_qk_l2norm_in_kernel=True)[0]
