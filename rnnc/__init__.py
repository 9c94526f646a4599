"""A compiler for linear recurrent neural networks.

`rnnc.compile` turns a spec, a text of about twelve lines, into an `rnnc.Operator`: a function on tensors with
gradients, a per-token `step`, a `Layer`, and the evidence that they compute what the spec says.

Everything is imported on first use, so that `import rnnc` stays quick and works without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnnc.dsl.diagnostics import SpecError
    from rnnc.ops.operator import Operator, compile  # noqa: A004

__version__ = "0.1.0"
__all__ = ["Operator", "SpecError", "__version__", "compile"]

_HOMES = {
    "compile": "rnnc.ops.operator",
    "Operator": "rnnc.ops.operator",
    "SpecError": "rnnc.dsl.diagnostics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rnnc' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
