"""What a user calls: operators, layers, the built-in models.

Every `name.rnn` beside this file is a built-in: `from rnnc.ops import gated_delta_net`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any


def builtin_names() -> tuple[str, ...]:
    """The names of the built-in models, sorted.

    >>> "gated_delta_net" in builtin_names()
    True
    """
    found = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".rnn") for name in found if name.endswith(".rnn")))


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in builtin_names():
        raise AttributeError(f"module 'rnnc.ops' has no attribute {name!r}")
    from rnnc.ops.builtin import builtin

    operator = globals()[name] = builtin(name)
    return operator


def __dir__() -> list[str]:
    return sorted({*globals(), *builtin_names()})
