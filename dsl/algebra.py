"""Labels and sums over them: the algebra behind the normal form.

A label bound by a sum lives inside a contraction atom, whose factors are flattened, split into connected
parts and relabelled canonically. Two expressions that are equal as sums of products of the same atoms
therefore become equal values, whatever way they were written.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expression import Axes
from rnnc.dsl.polynomial import (
    ONE,
    Atom,
    Base,
    Contraction,
    Delta,
    Function,
    Leaf,
    Monomial,
    Polynomial,
    SizeOf,
    base,
    constant,
    power,
    product,
    single,
    step_label,
    total,
)

MAX_ORDERS = 720
COPIES = range(1, 5)  # powers of a sum that are written out; higher ones are kept as they are


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


def all_steps(polynomial: Polynomial) -> Polynomial:
    """The values of one micro-step as those of all of them, along the axis of the loop."""
    steps = [label for label in polynomial.labels if label == step_label(base(label))]
    return relabel(polynomial, {label: base(label) for label in steps})


_counter = itertools.count()


def _fresh(label: str) -> str:
    """A label over the same axis that nothing else has."""
    return f"{base(label)}$f{next(_counter)}"


def _open(monomial: Monomial, bound: Axes) -> tuple[Polynomial, Axes]:
    """A contraction's body with labels that nothing else has in place of the bound ones."""
    fresh = tuple(map(_fresh, bound))
    body = Polynomial(((monomial, ONE),))
    return relabel(body, dict(zip(bound, fresh, strict=True))), fresh


def rebuild(polynomial: Polynomial, change: Callable[[Atom], Polynomial]) -> Polynomial:
    """The polynomial with every atom replaced, multiplied out again."""
    changed: list[Polynomial] = []
    for monomial, coefficient in polynomial.terms:
        term = constant(coefficient)
        for atom, exponent in monomial:
            term = term * power(change(atom), exponent)
        changed.append(term)
    return total(changed)


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
            case Contraction(inner, inner_bound) if exponent in COPIES and atom.labels & set(bound):
                opened, fresh = _open(inner, inner_bound)
                left = [*factors[:index], (atom, exponent - 1), *factors[index + 1 :]]
                return contract(Polynomial(((product(left), ONE),)) * opened, (*bound, *fresh))
            case _:
                continue
    return _close(factors, bound)


def around(
    factors: Iterable[tuple[Atom, Fraction]], label: str, bound: Iterable[str]
) -> tuple[list[tuple[Atom, Fraction]], set[str]]:
    """The factors connected with a label, through bound labels, and the labels on the way, it included."""
    found, rest, labels = [], list(factors), {label}
    while joined := [factor for factor in rest if factor[0].labels & labels]:
        found += joined
        rest = [factor for factor in rest if factor not in joined]
        labels |= {each for factor in joined for each in factor[0].labels} & set(bound)
    return found, labels


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
    """The contraction with canonical bound labels: of orders that look alike, that with the smallest key."""
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
        aside = {label: _fresh(label) for label in order}
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
    classes = [
        list(group) for _, group in itertools.groupby(sorted(bound, key=places.__getitem__), places.get)
    ]
    if math.prod(math.factorial(len(group)) for group in classes) > MAX_ORDERS:
        raise SpecError([Diagnostic("limit", f"a product sums over {len(bound)} axes that look alike")])
    for orders in itertools.product(*map(itertools.permutations, classes)):
        yield [label for order in orders for label in order]


def _place(body: Polynomial, label: str, places: Mapping[str, int]) -> str:
    """Where a bound label stands in the body, the others named by their places alone."""
    names = {other: f"{base(other)}$p{place}" for other, place in places.items()}
    return relabel(body, names | {label: f"{base(label)}$p"}).key
