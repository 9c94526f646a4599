"""Polynomials over the rationals in unknowns made on demand, with their derivatives (sympy's sparse ring)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from sympy import QQ, ring

from rnnc.codegen.exact import Oracle, exact
from rnnc.dsl.functions import FUNCTIONS


class Polynomials:
    """Variables, constants, and an oracle whose unknowns are further variables."""

    def __init__(self, unknowns: int) -> None:
        self.domain, *generators = ring([f"x{i}" for i in range(unknowns)], QQ)
        self.generators = generators
        self.used = 0
        self.oracle = Oracle(lambda name: self.variable(name, ()), self.number)

    def variable(self, name: str, index: tuple[int, ...]) -> Any:
        """The next unused unknown."""
        if self.used == len(self.generators):
            raise OverflowError(f"the symbolic check needs more than {self.used} unknowns")
        self.used += 1
        return self.generators[self.used - 1]

    def number(self, value: Any) -> Any:
        fraction = exact(value)
        return self.domain(QQ(fraction.numerator, fraction.denominator))

    def gradients(self, loss: Any, values: Any) -> Any:
        """The derivatives of the loss by an array of variables, through the functions that depend on them."""
        return np.vectorize(lambda x: self._total(loss, x), otypes=[object])(values)

    def _total(self, loss: Any, variable: Any) -> Any:
        weights = self._weights(loss)
        total = loss.diff(variable)
        for weight, args, partials in weights:
            for argument, partial in zip(args, partials, strict=True):
                if slope := argument.diff(variable):
                    total = total + weight * partial * slope
        return total

    @lru_cache(maxsize=4)  # noqa: B019 (one ring serves one proof)
    def _weights(self, loss: Any) -> list[tuple[Any, tuple[Any, ...], tuple[Any, ...]]]:
        """For every function value: the loss's derivative by it, its arguments, its partial derivatives."""
        calls = list(self.oracle.calls)
        total = {value: loss.diff(value) for _, _, value in calls}
        found = []
        for function, args, value in reversed(calls):
            if not total[value]:
                continue
            arguments, partials = self._partials(function, args, value)
            found.append((total[value], arguments, partials))
            for _, _, earlier in calls:
                for argument, partial in zip(arguments, partials, strict=True):
                    if slope := argument.diff(earlier):
                        total[earlier] = total[earlier] + total[value] * partial * slope
        return found

    def _partials(
        self, function: str, args: tuple[Any, ...], value: Any
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        if function == "power":
            base, exponent = args
            return (base,), (self.number(exponent) * self.oracle.apply("power", base, exponent - 1),)
        derivative: Callable[..., Any] = FUNCTIONS[function].derivative
        exact = [
            self.number(p) if isinstance(p, int | Fraction) else p
            for p in derivative(self.oracle.apply, value, *args)
        ]
        return args, tuple(exact)


def polynomials(unknowns: int) -> Polynomials:
    """A fresh ring; it raises OverflowError when more unknowns are asked for."""
    return Polynomials(unknowns)
