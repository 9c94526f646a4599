"""Sums of products of atoms with exact coefficients: the numbers of the algebra.

A polynomial maps monomials to coefficients; a monomial is a sorted product of atoms with exponents. Atoms
carry axis *labels*; equality and order go by canonical text, so that equal values are found whatever made
them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expression import Axes

MAX_TERMS = 512
ONE = Fraction(1)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A name with its labels; `version` counts the updates of a state before the read."""

    name: str
    labels: Axes
    version: int | None = None


@dataclass(frozen=True, slots=True)
class SizeOf:
    axis: str


@dataclass(frozen=True, slots=True)
class Delta:
    """The identity matrix between two labels."""

    labels: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    arguments: tuple[Polynomial, ...]
    axis: str | None


@dataclass(frozen=True, slots=True)
class Contraction:
    """The sum of a monomial over the bound labels."""

    monomial: Monomial
    bound: Axes


@dataclass(frozen=True, slots=True)
class Base:
    """A sum of several terms, raised to the exponent it has in its monomial."""

    polynomial: Polynomial


@dataclass(frozen=True)
class Atom:
    """An indivisible factor. `key` is its canonical text: equality and order go by it."""

    node: Leaf | SizeOf | Delta | Function | Contraction | Base

    @cached_property
    def key(self) -> str:
        match self.node:
            case Leaf(name, labels, version):
                return name + ("" if version is None else f"@{version}") + "[" + ",".join(labels) + "]"
            case SizeOf(axis):
                return f"#{axis}"
            case Delta(labels):
                return f"I[{','.join(labels)}]"
            case Function(name, arguments, axis):
                return f"{name}({'; '.join(a.key for a in arguments)}{'; ' + axis if axis else ''})"
            case Contraction(monomial, bound):
                return f"sum[{','.join(bound)}]{{{monomial_key(monomial)}}}"
            case Base(polynomial):
                return f"({polynomial.key})"

    @cached_property
    def labels(self) -> frozenset[str]:
        """The free labels."""
        match self.node:
            case Leaf(labels=labels):
                return frozenset(labels)
            case SizeOf():
                return frozenset()
            case Delta(labels):
                return frozenset(labels)
            case Function(arguments=arguments):
                return frozenset().union(*(a.labels for a in arguments))
            case Contraction(monomial, bound):
                return monomial_labels(monomial) - frozenset(bound)
            case Base(polynomial):
                return polynomial.labels

    @cached_property
    def leaves(self) -> frozenset[tuple[str, int | None]]:
        """The (name, version) pairs it reads."""
        match self.node:
            case Leaf(name, _, version):
                return frozenset({(name, version)})
            case Function(arguments=arguments):
                return frozenset().union(*(a.leaves for a in arguments))
            case Contraction(monomial, _):
                return frozenset().union(*(atom.leaves for atom, _ in monomial))
            case Base(polynomial):
                return polynomial.leaves
            case _:
                return frozenset()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.key == other.key


Monomial = tuple[tuple[Atom, Fraction], ...]


def monomial_key(monomial: Monomial) -> str:
    return "*".join(a.key if e == 1 else f"{a.key}^{e}" for a, e in monomial)


def monomial_labels(monomial: Monomial) -> frozenset[str]:
    return frozenset().union(*(atom.labels for atom, _ in monomial))


@dataclass(frozen=True)
class Polynomial:
    """A sum of coefficient * monomial, sorted by the monomials' keys; no coefficient is zero."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    @staticmethod
    def of(terms: Iterable[tuple[Monomial, Fraction]]) -> Polynomial:
        collected: dict[Monomial, Fraction] = {}
        for monomial, coefficient in terms:
            known = collected.get(monomial)
            collected[monomial] = coefficient if known is None else known + coefficient
            if len(collected) > MAX_TERMS:
                raise _too_long()
        kept = [(m, c) for m, c in collected.items() if c]
        return Polynomial(tuple(sorted(kept, key=lambda term: monomial_key(term[0]))))

    @cached_property
    def key(self) -> str:
        return " + ".join(f"{c}*{monomial_key(m)}" if m else str(c) for m, c in self.terms) or "0"

    @cached_property
    def labels(self) -> frozenset[str]:
        return frozenset().union(*(monomial_labels(m) for m, _ in self.terms))

    @cached_property
    def leaves(self) -> frozenset[tuple[str, int | None]]:
        return frozenset().union(*(a.leaves for m, _ in self.terms for a, _ in m))

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial.of(itertools.chain(self.terms, other.terms))

    def __mul__(self, other: Polynomial) -> Polynomial:
        if len(self.terms) * len(other.terms) > MAX_TERMS:
            raise _too_long()
        return Polynomial.of((times(m, n), c * d) for m, c in self.terms for n, d in other.terms)

    def scaled(self, factor: Fraction) -> Polynomial:
        return Polynomial.of((m, c * factor) for m, c in self.terms)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.key == other.key


def _too_long() -> SpecError:
    message = f"written out in full, this has more than {MAX_TERMS} terms"
    return SpecError(
        [Diagnostic("limit", message, hints=("fewer updates of the state in one token, or shorter sums",))]
    )


ZERO = Polynomial(())
UNIT = Polynomial((((), ONE),))


def product(atoms: Iterable[tuple[Atom, Fraction]]) -> Monomial:
    """The canonical monomial of a list of factors."""
    collected: dict[Atom, Fraction] = {}
    for atom, exponent in atoms:
        known = collected.get(atom)
        collected[atom] = exponent if known is None else known + exponent
    return tuple(sorted(((a, e) for a, e in collected.items() if e), key=lambda factor: factor[0].key))


def times(left: Monomial, right: Monomial) -> Monomial:
    return product(itertools.chain(left, right)) if left and right else left or right


def single(atom: Atom) -> Polynomial:
    return Polynomial(((((atom, ONE),), ONE),))


def constant(value: Fraction) -> Polynomial:
    return Polynomial((((), value),)) if value else ZERO


def power(base: Polynomial, exponent: Fraction) -> Polynomial:
    """base ** exponent, expanded for small positive integers and for single terms."""
    if exponent == 0:
        return UNIT
    if len(base.terms) == 1:
        (monomial, coefficient), *_ = base.terms
        if exponent.denominator == 1 or (coefficient == 1 and _distributes(monomial)):
            raised = tuple((a, e * exponent) for a, e in monomial)
            return Polynomial(((raised, coefficient ** int(exponent) if exponent.denominator == 1 else ONE),))
    if exponent.denominator == 1 and 0 < exponent <= 4:
        result = UNIT
        for _ in range(int(exponent)):
            result = result * base
        return result
    return Polynomial(((((Atom(Base(base)), exponent),), ONE),))


def _distributes(monomial: Monomial) -> bool:
    """Whether a root of the product is the product of the roots; (x*x)**0.5 is not x."""
    unknown = [e for a, e in monomial if e.denominator == 1 and not _positive(a)]
    return len(unknown) <= 1 and all(e % 2 for e in unknown)


def _positive(atom: Atom) -> bool:
    match atom.node:
        case SizeOf() | Function(name="exp" | "sigmoid" | "softplus"):
            return True
        case _:
            return False


def total(polynomials: Iterable[Polynomial]) -> Polynomial:
    """The sum of all."""
    return Polynomial.of(itertools.chain.from_iterable(p.terms for p in polynomials))


def step_label(axis: str) -> str:
    """The label of the present micro-step of a loop over the axis: no sum over the axis binds it."""
    return f"{axis}$i"


def base(label: str) -> str:
    """The axis that a label ranges over."""
    return label.split("$")[0].rstrip("'")
