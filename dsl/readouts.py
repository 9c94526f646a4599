"""Outputs -> what is read from the state, and the expression of the readouts that remains."""

from __future__ import annotations

from rnnc.dsl.algebra import (
    ONE,
    ZERO,
    Atom,
    Base,
    Contraction,
    Function,
    Leaf,
    Monomial,
    Polynomial,
    monomial_labels,
    product,
    rebuild,
    relabel,
    single,
    to_expression,
)
from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.normal import Readout
from rnnc.dsl.recurrence import State


def split_readouts(
    output: Polynomial, name: str, state: State, last: int, span: Span
) -> tuple[list[Readout], Polynomial]:
    """The readouts `q^T S` of an output (S after `last` updates, or before any), and the output in terms of them."""
    reader = _Reader(name, state, last, span)
    rest = reader.linear(output)
    if rest is None:
        rest = rebuild(output, reader.visit)
    return reader.readouts(), rest


class _Reader:
    def __init__(self, name: str, state: State, last: int, span: Span) -> None:
        self.name, self.state, self.last, self.span = name, state, last, span
        self.queries: dict[tuple[str, bool], Polynomial] = {}

    def readouts(self) -> list[Readout]:
        return [Readout(name, to_expression(query), old) for (name, old), query in self.queries.items()]

    def linear(self, output: Polynomial) -> Polynomial | None:
        """One readout for all terms that differ only in their query; None if some term is not linear."""
        merged: dict[tuple[Monomial, bool], Polynomial] = {}
        rest = ZERO
        for monomial, coefficient in output.terms:
            reading = [(a, e) for a, e in monomial if self._reads(a)]
            if not reading:
                rest = rest + Polynomial(((monomial, coefficient),))
                continue
            if len(reading) > 1 or reading[0][1] != 1 or not isinstance(reading[0][0].node, Contraction):
                return None
            query, old = self._query(reading[0][0])
            outer = [factor for factor in monomial if factor not in reading]
            scalar = product(f for f in outer if not f[0].labels)
            group = (product(f for f in outer if f[0].labels), old)
            term = query * Polynomial(((scalar, coefficient),))
            merged[group] = merged.get(group, ZERO) + term
        for (outer_part, old), query in merged.items():
            rest = rest + Polynomial(((outer_part, ONE),)) * self._leaf(query, old)
        return rest

    def visit(self, atom: Atom) -> Polynomial:
        """The atom with every read of the state replaced by the name of its readout."""
        if not self._reads(atom):
            return single(atom)
        match atom.node:
            case Contraction(monomial, _) if any(isinstance(a.node, Leaf) and self._reads(a) for a, _ in monomial):
                return self._leaf(*self._query(atom))
            case Function(name, arguments, axis):
                return single(Atom(Function(name, tuple(rebuild(a, self.visit) for a in arguments), axis)))
            case Base(inner):
                return rebuild(inner, self.visit)
            case Contraction(monomial, bound):
                inside = rebuild(Polynomial(((monomial, ONE),)), self.visit)
                return single(Atom(Contraction(inside.terms[0][0], bound)))
            case _:
                raise self._refused("the whole state is read out")

    def _reads(self, atom: Atom) -> bool:
        return any(name == self.state.name for name, _ in atom.leaves)

    def _leaf(self, query: Polynomial, old: bool) -> Polynomial:
        for (name, known_old), known in self.queries.items():
            if known == query and known_old == old:
                return _named(name, self.state.axes[1])
        name = f"{self.name}.{len(self.queries)}"
        self.queries[name, old] = query
        return _named(name, self.state.axes[1])

    def _query(self, atom: Atom) -> tuple[Polynomial, bool]:
        assert isinstance(atom.node, Contraction)
        key_axis, value_axis = self.state.axes
        factors, bound = atom.node.monomial, atom.node.bound
        states = [a.node for a, _ in factors if isinstance(a.node, Leaf) and self._reads(a)]
        rest = product((a, e) for a, e in factors if a.node not in states)
        if len(states) != 1 or any(self._reads(a) for a, _ in rest):
            raise self._refused("a readout multiplies the state by itself")
        labels = states[0].labels
        if len(bound) != 1 or labels[0] != bound[0] or labels[1] != value_axis:
            raise self._refused(f"expected a contraction with the key axis '{key_axis}'")
        if monomial_labels(rest) - {bound[0]}:
            raise self._refused(f"expected a query over '{key_axis}' alone")
        return relabel(Polynomial(((rest, ONE),)), {bound[0]: key_axis}), states[0].version != self.last

    def _refused(self, why: str) -> SpecError:
        message = f"the readout '{self.name}' is not handled: {why}"
        return SpecError([Diagnostic("unsupported", message, self.span)])


def _named(name: str, axis: str) -> Polynomial:
    return single(Atom(Leaf(name, (axis,))))
