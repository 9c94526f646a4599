"""The initialisers of the language: their names, what they take, what they stand for.

How a layer carries them out is the business of `rnnc.ops.initialisers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Reach = tuple[float, float]  # the least and the largest value


@dataclass(frozen=True, slots=True)
class InitialiserKind:
    """`numbers`: how many constants it takes; `nested`: whether it transforms what another one has made."""

    name: str
    numbers: int
    nested: bool
    doc: str

    @property
    def spelling(self) -> str:
        """How it is called."""
        arguments = ["initialiser"] * self.nested + ["number"] * self.numbers
        return f"{self.name}({', '.join(arguments)})"


INITIALISERS: dict[str, InitialiserKind] = {
    kind.name: kind
    for kind in (
        InitialiserKind("zeros", 0, False, "0"),
        InitialiserKind("ones", 0, False, "1"),
        InitialiserKind("constant", 1, False, "the number everywhere"),
        InitialiserKind("uniform", 2, False, "uniform in [low, high)"),
        InitialiserKind("log_uniform", 2, False, "x in [low, high] with log x uniform"),
        InitialiserKind("normal", 2, False, "normal with the mean and the standard deviation"),
        InitialiserKind("linspace", 2, False, "evenly spaced along the last axis, from first to last"),
        InitialiserKind("log_linspace", 2, False, "x from first to last with log x evenly spaced"),
        InitialiserKind("retention_decay", 0, False, "1 - 2**(-5 - h) for head h (RetNet)"),
        InitialiserKind("log", 0, True, "log x"),
        InitialiserKind("exp", 0, True, "exp x"),
        InitialiserKind("negate", 0, True, "-x"),
        InitialiserKind("logit", 0, True, "log(x / (1 - x)): what a sigmoid takes back to x"),
        InitialiserKind("inv_softplus", 0, True, "log(exp(x) - 1): what a softplus takes back to x"),
        InitialiserKind("fixed", 0, True, "x, and the layer does not train it"),
    )
}

_DOMAINS = {"log": (0.0, math.inf), "inv_softplus": (0.0, math.inf), "logit": (0.0, 1.0)}
_WORDS = {"log": "not below zero", "inv_softplus": "not below zero", "logit": "between 0 and 1"}


def reach(name: str, inner: Reach | None, numbers: Sequence[float]) -> Reach:
    """Between which values an initialiser starts a parameter; `inner`: the same of the one it transforms.

    Raises ValueError, whose text is what its arguments must be.
    """
    if inner is not None:
        return _transformed(name, *inner)
    least, largest = (min(numbers), max(numbers)) if numbers else (float(name == "ones"),) * 2
    if name == "retention_decay":
        return 1 - 2**-5, 1.0
    if name.startswith("log_") and least <= 0:
        raise ValueError("goes between numbers above zero")
    if name in ("uniform", "log_uniform") and numbers[0] > numbers[1]:
        raise ValueError("goes from the smaller number to the larger")
    if name != "normal":
        return least, largest
    mean, deviation = numbers
    if deviation < 0:
        raise ValueError("takes the mean, then the standard deviation, which is not below zero")
    return (mean, mean) if deviation == 0 else (-math.inf, math.inf)


def _transformed(name: str, low: float, high: float) -> Reach:
    first, last = _DOMAINS.get(name, (-math.inf, math.inf))
    if low < first or high > last:
        raise ValueError(f"takes numbers {_WORDS[name]}, these lie between {low:g} and {high:g}")
    match name:
        case "negate":
            return -high, -low
        case "exp":
            return _exp(low), _exp(high)
        case "log":
            return _log(low), _log(high)
        case "logit":
            return _log(low) - _log(1 - low), _log(high) - _log(1 - high)
        case "inv_softplus":
            return _inv_softplus(low), _inv_softplus(high)
        case _:
            return low, high


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _inv_softplus(x: float) -> float:
    return x if x > 30 else _log(math.expm1(x))


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf
