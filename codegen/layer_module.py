"""What the text of a layer needs around it."""

from __future__ import annotations

import re

from rnnc.dsl.initialisers import INITIALISERS

LAYER_MODULES = (
    "CausalConv",
    "LayerState",
    "LowRank",
    "RMSNorm",
    "TokenShift",
    "Windows",
    "check_widths",
    "unit",
)

HEADER = """from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
"""


def layer_names(text: str) -> list[tuple[str, str]]:
    """What a printed layer uses of `rnnc.ops`, as (module, name)."""
    words = set(re.findall(r"\w+", text))
    starts = [f"init_{name}" for name in sorted(INITIALISERS) if f"init_{name}" in words]
    parts = [name for name in LAYER_MODULES if name in words]
    return [
        *(("rnnc.ops.initialisers", name) for name in starts),
        *(("rnnc.ops.layers", name) for name in parts),
    ]


def layer_module(text: str) -> str:
    """A module around a printed layer, for use inside the package."""
    imports = [f"from {module} import {name}" for module, name in layer_names(text)]
    return "\n".join([HEADER, *imports, "", "", text])
