"""Canonical sums of products over labelled axes: the arithmetic behind the normal form.

A polynomial maps monomials to exact coefficients; a monomial is a sorted product of atoms with exponents.
Atoms carry axis *labels*; a label bound by a sum lives inside a contraction atom, whose factors are
flattened, split into connected parts and relabelled canonically. Two expressions that are equal as sums of
products of the same atoms therefore become equal values, whatever way they were written.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expression import (
    Add,
    Axes,
    Call,
    Constant,
    Expression,
    Identity,
    Multiply,
    Name,
    Power,
    Rename,
    Size,
    Sum,
)

MAX_TERMS = 512
MAX_ORDERS = 720
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
            collected[monomial] = collected.get(monomial, Fraction(0)) + coefficient
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
    return SpecError([Diagnostic("limit", message, hints=("fewer updates of the state in one token, or shorter sums",))])


ZERO = Polynomial(())
UNIT = Polynomial((((), ONE),))


def product(atoms: Iterable[tuple[Atom, Fraction]]) -> Monomial:
    """The canonical monomial of a list of factors."""
    collected: dict[Atom, Fraction] = {}
    for atom, exponent in atoms:
        collected[atom] = collected.get(atom, Fraction(0)) + exponent
    return tuple(sorted(((a, e) for a, e in collected.items() if e), key=lambda factor: factor[0].key))


def times(left: Monomial, right: Monomial) -> Monomial:
    return product(itertools.chain(left, right))


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


def relabel(polynomial: Polynomial, labels: Mapping[str, str]) -> Polynomial:
    """The polynomial with its free labels renamed."""
    if not polynomial.labels & labels.keys():
        return polynomial
    return rebuild(polynomial, lambda atom: _relabelled(atom, labels))


def _relabelled(atom: Atom, labels: Mapping[str, str]) -> Polynomial:
    if not atom.labels & labels.keys():
        return single(atom)
    match atom.node:
        case Leaf(name, own, version):
            return single(Atom(Leaf(name, tuple(labels.get(x, x) for x in own), version)))
        case Delta((a, b)):
            return single(Atom(Delta((labels.get(a, a), labels.get(b, b)))))
        case Function(name, arguments, axis):
            renamed = tuple(relabel(a, labels) for a in arguments)
            return single(Atom(Function(name, renamed, labels.get(axis, axis) if axis else None)))
        case Contraction(monomial, bound):
            opened, fresh = _open(monomial, bound)
            return contract(relabel(opened, labels), fresh)
        case Base(inner):
            return single(Atom(Base(relabel(inner, labels))))
        case SizeOf():
            return single(atom)


_counter = itertools.count()


def _open(monomial: Monomial, bound: Axes) -> tuple[Polynomial, Axes]:
    """A contraction's body with labels that nothing else has in place of the bound ones."""
    fresh = tuple(f"{base(label)}$f{next(_counter)}" for label in bound)
    body = Polynomial(((monomial, ONE),))
    return relabel(body, dict(zip(bound, fresh, strict=True))), fresh


def base(label: str) -> str:
    """The axis that a label ranges over."""
    return label.split("$")[0].rstrip("'")


def rebuild(polynomial: Polynomial, change: Callable[[Atom], Polynomial]) -> Polynomial:
    """The polynomial with every atom replaced, multiplied out again."""
    changed: list[Polynomial] = []
    for monomial, coefficient in polynomial.terms:
        term = constant(coefficient)
        for atom, exponent in monomial:
            term = term * power(change(atom), exponent)
        changed.append(term)
    return total(changed)


def total(polynomials: Iterable[Polynomial]) -> Polynomial:
    """The sum of all."""
    return Polynomial.of(itertools.chain.from_iterable(p.terms for p in polynomials))


def substitute(polynomial: Polynomial, change: Callable[[Leaf], Polynomial | None]) -> Polynomial:
    """The polynomial with leaves replaced wherever they occur, inside sums and functions too."""

    def visit(atom: Atom) -> Polynomial:
        match atom.node:
            case Leaf() as leaf:
                new = change(leaf)
                return single(atom) if new is None else new
            case Function(name, arguments, axis):
                return single(Atom(Function(name, tuple(rebuild(a, visit) for a in arguments), axis)))
            case Contraction(monomial, bound):
                opened, fresh = _open(monomial, bound)
                return contract(rebuild(opened, visit), fresh)
            case Base(inner):
                return rebuild(inner, visit)
            case _:
                return single(atom)

    return rebuild(polynomial, visit)


def contract(body: Polynomial, labels: Axes) -> Polynomial:
    """The sum of the body over the labels, in canonical form."""
    return total(_contract_term(monomial, labels).scaled(coefficient) for monomial, coefficient in body.terms)


def _contract_term(monomial: Monomial, labels: Axes) -> Polynomial:
    factors = list(monomial)
    bound = list(labels)
    for index, (atom, exponent) in enumerate(factors):
        match atom.node:
            case Delta((a, b)) if exponent == 1 and (a in bound or b in bound):
                gone, kept = (a, b) if a in bound else (b, a)
                rest = Polynomial(((product(factors[:index] + factors[index + 1 :]), ONE),))
                bound.remove(gone)
                return contract(relabel(rest, {gone: kept}), tuple(bound))
            case Contraction(inner, inner_bound) if exponent == 1 and atom.labels & set(bound):
                opened, fresh = _open(inner, inner_bound)
                rest = Polynomial(((product(factors[:index] + factors[index + 1 :]), ONE),))
                return contract(rest * opened, (*bound, *fresh))
            case _:
                continue
    return _close(factors, bound)


def _close(factors: list[tuple[Atom, Fraction]], bound: list[str]) -> Polynomial:
    """Split the factors into parts connected by bound labels; each part is a contraction of its own."""
    names = set(bound)
    inside = [factor for factor in factors if factor[0].labels & names]
    result = Polynomial(((product(factor for factor in factors if not factor[0].labels & names), ONE),))
    unused = dict.fromkeys(bound)
    while inside:
        part = [inside.pop(0)]
        labels = part[0][0].labels & names
        while joined := [factor for factor in inside if factor[0].labels & labels]:
            inside = [factor for factor in inside if not factor[0].labels & labels]
            part += joined
            labels = labels.union(*(factor[0].labels & names for factor in joined))
        for label in labels:
            unused.pop(label, None)
        result = result * single(_named(part, sorted(labels)))
    for label in unused:  # summed over, yet nothing depends on it
        result = result * single(Atom(SizeOf(base(label))))
    return result


def _named(factors: list[tuple[Atom, Fraction]], bound: list[str]) -> Atom:
    """The contraction with canonical bound labels: of those that look alike, the order with the smallest key."""
    body = Polynomial(((product(factors), ONE),))
    free = body.labels - set(bound)
    candidates: list[Atom] = []
    for order in _orders(body, bound):
        names: dict[str, str] = {}
        taken = set(free)
        for label in order:
            number = next(n for n in itertools.count(1) if f"{base(label)}${n}" not in taken)
            names[label] = f"{base(label)}${number}"
            taken.add(names[label])
        # Two steps, so that a new label never meets an old one of the same spelling.
        aside = {label: f"{base(label)}$a{i}" for i, label in enumerate(order)}
        named = relabel(relabel(body, aside), {aside[label]: names[label] for label in order})
        (inner, _), *_ = named.terms
        candidates.append(Atom(Contraction(inner, tuple(sorted(names.values())))))
    return min(candidates, key=lambda atom: atom.key)


def _orders(body: Polynomial, bound: list[str]) -> Iterator[list[str]]:
    """The orders of the bound labels that their places in the body do not tell apart."""
    places = dict.fromkeys(bound, 0)
    for _ in bound:
        seen = {label: (places[label], _place(body, label, places)) for label in bound}
        ranks = {place: rank for rank, place in enumerate(sorted(set(seen.values())))}
        found = {label: ranks[seen[label]] for label in bound}
        if found == places:
            break
        places = found
    classes = [list(group) for _, group in itertools.groupby(sorted(bound, key=places.__getitem__), places.get)]
    if math.prod(math.factorial(len(group)) for group in classes) > MAX_ORDERS:
        raise SpecError([Diagnostic("limit", f"a product sums over {len(bound)} axes that look alike")])
    for orders in itertools.product(*map(itertools.permutations, classes)):
        yield [label for order in orders for label in order]


def _place(body: Polynomial, label: str, places: Mapping[str, int]) -> str:
    """Where a bound label stands in the body, the others named by their places alone."""
    names = {other: f"{base(other)}$p{place}" for other, place in places.items()}
    return relabel(body, names | {label: f"{base(label)}$p"}).key


def expand(expression: Expression, lookup: Callable[[Name], Polynomial]) -> Polynomial:
    """The expression as a polynomial; `lookup` says what a name stands for."""

    def visit(node: Expression) -> Polynomial:
        match node:
            case Constant(value):
                return constant(value)
            case Size(axis):
                return single(Atom(SizeOf(axis)))
            case Identity():
                a, b = node.axes
                return single(Atom(Delta((a, b))))
            case Name():
                return lookup(node)
            case Add(terms):
                result = ZERO
                for term in terms:
                    result = result + visit(term)
                return result
            case Multiply(factors):
                result = UNIT
                for factor in factors:
                    result = result * visit(factor)
                return result
            case Power(inner, exponent):
                return power(visit(inner), exponent)
            case Call(function, arguments, axis):
                return single(Atom(Function(function, tuple(map(visit, arguments)), axis)))
            case Sum(body, axis):
                return contract(visit(body), (axis,))
            case Rename(body, old, new):
                return relabel(visit(body), {old: new})
            case _:
                raise SpecError([unsupported(node)])

    return visit(expression)


def unsupported(node: Expression) -> Diagnostic:
    """The refusal of an expression that the normal form cannot hold yet."""
    what = {"Select": "micro-steps", "Delay": "'prev' and 'delay'", "Final": "'final'"}[type(node).__name__]
    return Diagnostic("unsupported", f"{what} cannot be compiled yet", node.span)


def to_expression(polynomial: Polynomial) -> Expression:
    """The polynomial as an expression, with factors common to all terms taken out."""
    if not polynomial.terms:
        return Constant(Fraction(0))
    shared, rest = split_common(polynomial)
    outer = _factors(shared[0], shared[1])
    if rest == UNIT:
        return _multiply(outer)
    terms = tuple(_multiply(_factors(m, c)) for m, c in rest.terms)
    inner: Expression = terms[0] if len(terms) == 1 else Add(terms)
    return _multiply([*outer, inner]) if outer else inner


def split_common(polynomial: Polynomial) -> tuple[tuple[Monomial, Fraction], Polynomial]:
    """The greatest common term and what is left of the polynomial without it."""
    first = dict(polynomial.terms[0][0])
    for monomial, _ in polynomial.terms[1:]:
        other = dict(monomial)
        first = {a: min(e, other[a], key=abs) for a, e in first.items() if a in other and e * other[a] > 0}
    common = product(first.items())
    coefficient = polynomial.terms[0][1] if len({abs(c) for _, c in polynomial.terms}) == 1 else ONE
    inverse = tuple((a, -e) for a, e in common)
    rest = Polynomial.of((times(m, inverse), c / coefficient) for m, c in polynomial.terms)
    return (common, coefficient), rest


def _factors(monomial: Monomial, coefficient: Fraction) -> list[Expression]:
    parts = [_atom_expression(a) if e == 1 else Power(_atom_expression(a), e) for a, e in monomial]
    return [Constant(coefficient), *parts] if coefficient != 1 else parts


def _multiply(factors: list[Expression]) -> Expression:
    if not factors:
        return Constant(ONE)
    return factors[0] if len(factors) == 1 else Multiply(tuple(factors))


def _atom_expression(atom: Atom) -> Expression:
    match atom.node:
        case Leaf(name, labels):
            return _labelled(name, labels)
        case SizeOf(axis):
            return Size(axis)
        case Delta((a, _)):
            return Identity(base(a))
        case Function(name, arguments, axis):
            return Call(name, tuple(map(to_expression, arguments)), axis)
        case Contraction(monomial, bound):
            body = Polynomial(((monomial, ONE),))
            names = dict(_plain(bound, body.labels))
            inner = to_expression(relabel(body, names))
            for label in bound:
                inner = Sum(inner, names[label])
            return inner
        case Base(inner_polynomial):
            return to_expression(inner_polynomial)


def _plain(bound: Axes, labels: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Spellings for bound labels: the axis itself where it is free to use, else primed."""
    taken = set(labels) - set(bound)
    for label in bound:
        name = base(label)
        while name in taken:
            name += "'"
        taken.add(name)
        yield label, name


def _labelled(name: str, labels: Axes) -> Expression:
    own = tuple(base(label) for label in labels)
    squares = len(set(own)) < len(own)
    declared = (own[0], own[0] + "'") if squares else own
    expression: Expression = Name(name, declared)
    moved = [(old, new) for old, new in zip(declared, labels, strict=True) if old != new]
    for old, new in reversed(moved):
        expression = Rename(expression, old, new)
    return expression
