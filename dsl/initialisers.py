"""The initialisers of the language: their names, what they take, what they stand for.

How a layer carries them out is the business of `rnnc.ops.initialisers`.
"""

from __future__ import annotations

from dataclasses import dataclass


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
