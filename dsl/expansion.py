"""Between typed expressions and polynomials, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from rnnc.dsl.algebra import contract, relabel
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
    Select,
    Size,
    Sum,
)
from rnnc.dsl.polynomial import (
    ONE,
    UNIT,
    ZERO,
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
    times,
)


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
                return _applied(function, tuple(map(visit, arguments)), axis)
            case Sum(body, axis):
                return contract(visit(body), (axis,))
            case Rename(body, old, new):
                return relabel(visit(body), {old: new})
            case Select(body, axis):
                return relabel(visit(body), {axis: step_label(axis)})
            case _:
                raise SpecError([unsupported(node)])

    return visit(expression)


def _applied(function: str, arguments: tuple[Polynomial, ...], axis: str | None) -> Polynomial:
    """The function's value; where it undoes a function, what that took (of a logarithm that has a value)."""
    match function, arguments:
        case "exp", (Polynomial(((((Atom(Function("log", (inner,), None)), 1),), 1),)),):
            return inner
        case "log", (Polynomial(((((Atom(Function("exp", (inner,), None)), 1),), 1),)),):
            return inner
        case "exp", (Polynomial(((((Atom(Function("logsigmoid", inside, None)), 1),), 1),)),):
            return single(Atom(Function("sigmoid", inside, None)))
        case _:
            return single(Atom(Function(function, arguments, axis)))


def unsupported(node: Expression) -> Diagnostic:
    """The refusal of an expression that the normal form cannot hold yet."""
    what = {"Delay": "'prev' and 'delay'", "Final": "'final'"}[type(node).__name__]
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
    moved = {old: new for old, new in zip(declared, labels, strict=True) if old != new}
    while moved:  # a label is free to take once its owner has moved on; in a circle, one steps aside
        free = [old for old, new in moved.items() if new not in moved]
        old = free[0] if free else next(iter(moved))
        new = moved.pop(old)
        if not free:
            aside = base(old) + "'" * (1 + max(label.count("'") for label in labels))
            moved[aside], new = new, aside
        expression = Rename(expression, old, new)
    return expression
