"""The terms of an update -> a decay, and as few writes as the smaller side of them allows.

Every term is a decay (the state itself, scaled), a read (`w (f^T S)`), or free of the state (`w v^T`). What
does not fit is refused with the reason. The key axis is the one that reads contract.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from rnnc.dsl.algebra import all_steps, around, contract, relabel
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expansion import split_common, to_expression
from rnnc.dsl.expression import Axes, Expression
from rnnc.dsl.normal import Write
from rnnc.dsl.polynomial import (
    ONE,
    ZERO,
    Atom,
    Contraction,
    Leaf,
    Monomial,
    Polynomial,
    monomial_labels,
    product,
    step_label,
    times,
)
from rnnc.dsl.recurrence import State
from rnnc.dsl.sides import Row, factored, proportion, written_out

Table = dict[Monomial, dict[Monomial, Polynomial]]


@dataclass(frozen=True)
class Update:
    """A decay as factors over the key axis and over the value axis, and writes."""

    decay: Polynomial
    value_decay: Polynomial
    writes: tuple[Write, ...]

    @property
    def scales_keys(self) -> bool:
        """Whether the decay has a factor over the key axis, not one per token alone."""
        return any(atom.labels for monomial, _ in self.decay.terms for atom, _ in monomial)


@dataclass
class Collector:
    """Sorts the terms of an update into decay, reads and values, and groups them into writes."""

    state: State
    axes: Axes  # the key axis and the value axis
    micro: str | None = None  # the axis of the loop that the update stands in
    decay: Polynomial = ZERO
    decays: Table = field(default_factory=dict)  # key part -> value part -> scalar
    scaled: dict[Monomial, Table] = field(
        default_factory=dict
    )  # key part -> read part -> value part -> scalar
    reads: Table = field(default_factory=dict)  # key part -> read part -> scalar
    values: Table = field(default_factory=dict)  # key part -> value part -> scalar

    def collect(self, update: Polynomial) -> Update:
        self.take(update)
        value_decay = self.split()
        groups: dict[Polynomial, list[Polynomial]] = {}
        for side, table in enumerate((self.reads, self.values)):
            for key, other in grouped(table):
                pair = groups.setdefault(key, [ZERO, ZERO])
                pair[side] = pair[side] + other
        writes = tuple(self._write(key, read, value) for key, (read, value) in groups.items())
        return Update(self.decay, written_out(value_decay), writes)

    def split(self) -> Row:
        """The decay's factor over the value axis, which reads have too; `decay` and `reads` are without."""
        key_axis, value_axis = self.axes
        factors = factored(self.decays)
        if factors is None:
            raise self._refused(
                f"its decay is no product of one over '{key_axis}' and one over '{value_axis}'"
            )
        self.decay, side = factors
        for key, row in self.scaled.items():
            for read, parts in row.items():
                scalar = proportion(parts, side)
                if scalar is None and parts.keys() == {()}:
                    why = f"the state is read as it was before its decay over '{value_axis}'"
                    raise self._refused(why, "decay it in a statement of its own, before the one that reads")
                if scalar is None:
                    raise self._refused(f"what is read of the state is scaled along '{value_axis}'")
                self.reads.setdefault(key, {})[read] = scalar
        return side

    def take(self, update: Polynomial) -> None:
        """Sorts all terms."""
        for monomial, coefficient in update.terms:
            self._sort(monomial, coefficient)

    def _sort(self, monomial: Monomial, coefficient: Fraction) -> None:
        key_axis, value_axis = self.axes
        scalar: list[tuple[Atom, Fraction]] = []
        key: list[tuple[Atom, Fraction]] = []
        value: list[tuple[Atom, Fraction]] = []
        read: Monomial | None = None
        decays = False
        for atom, exponent in monomial:
            if any(name == self.state.name for name, _ in atom.leaves):
                if isinstance(atom.node, Leaf):
                    decays = True
                else:
                    read = self._read(atom)
            elif not self._axes(atom):
                scalar.append((atom, exponent))
            elif self._axes(atom) == {key_axis}:
                key.append((atom, exponent))
            elif self._axes(atom) == {value_axis}:
                value.append((atom, exponent))
            else:
                why = f"a factor over both '{key_axis}' and '{value_axis}' is not an outer product"
                hint = f"make it one factor over '{key_axis}' times one over '{value_axis}'"
                raise self._refused(why, f"{hint}, such as exp(g) * exp(h)")
        weight = Polynomial(((product(scalar), coefficient),))
        table = self.decays if decays else self.values
        if read is not None:
            table = self.scaled.setdefault(product(key), {})
        row = table.setdefault(product(key) if read is None else read, {})
        row[product(value)] = row.get(product(value), ZERO) + weight

    @property
    def _step(self) -> frozenset[str]:
        """The label of the present micro-step, if there are any."""
        return frozenset() if self.micro is None else frozenset({step_label(self.micro)})

    def _axes(self, atom: Atom) -> frozenset[str]:
        """The free labels of a factor but the present micro-step's."""
        return atom.labels - self._step

    def _read(self, atom: Atom) -> Monomial:
        """The read vector of `sum_x f[x] S[x, V]`, over the key axis."""
        key_axis, value_axis = self.axes
        if not isinstance(atom.node, Contraction):
            raise self._refused("the state stands inside a function")
        factors, bound = atom.node.monomial, atom.node.bound
        (state,) = [a.node for a, _ in factors if isinstance(a.node, Leaf) and a.node.version is not None]
        rest = [(a, e) for a, e in factors if a.node is not state]
        key, value = state.labels if self.axes == self.state.axes else state.labels[::-1]
        if key == key_axis and value in bound:
            raise self._refused(f"the state is read over '{value_axis}', not over '{key_axis}'")
        if key not in bound or value != value_axis:
            raise self._refused("the state is read along both of its axes at once")
        _, labels = around(rest, key, bound)
        if labels != set(bound) or monomial_labels(product(rest)) - labels - self._step:
            raise self._refused("the state is multiplied by a full matrix")
        query = Polynomial(((product(rest), ONE),))
        query = relabel(contract(query, tuple(labels - {key})), {key: key_axis})
        return query.terms[0][0]

    def _write(self, key: Polynomial, read: Polynomial, value: Polynomial) -> Write:
        key_axis, value_axis = self.axes
        shared = common_scalar(read, value, self._step)
        inverse = Polynomial(((tuple((a, -e) for a, e in shared.terms[0][0]), 1 / shared.terms[0][1]),))
        key, read, value = key * shared, read * inverse, value * inverse
        if not read.terms:
            key, value = _scalar_into_key(key, value, value_axis)
        elif not value.terms:
            key, read = _scalar_into_key(key, read, key_axis)
        return Write(
            key=_expression(key),
            value=_expression(value) if value.terms else None,
            read=_expression(read) if read.terms else None,
            read_of_decayed=self._undecayed(read),
        )

    def _undecayed(self, read: Polynomial) -> Expression | None:
        found = undecayed(read, self.decay)
        return None if found is None else to_expression(found)

    def _refused(self, why: str, *hints: str) -> SpecError:
        (key, value), name = self.state.axes, self.state.name
        note = (
            f"handled are a decay (constant, per token, over '{key}' or '{value}', or a product of these), "
            f"reads over one axis (f.T @ {name} or {name} @ f) of the state after its decay over the other, "
            f"and writes w @ x.T with w over '{key}' and x over '{value}'"
        )
        message = f"the transition of '{self.state.name}' is not handled: {why}"
        return SpecError([Diagnostic("unsupported", message, notes=(note,), hints=hints)])


def undecayed(read: Polynomial, decay: Polynomial) -> Polynomial | None:
    """The f' with read = decay * f', where every term of the read has the decay as a factor; else None."""
    if not read.terms or len(decay.terms) != 1:
        return None
    (factors, coefficient), *_ = decay.terms
    if not factors:
        return None
    for monomial, _ in read.terms:
        own = dict(monomial)
        if any(own.get(a, Fraction(0)) * e <= 0 or abs(own[a]) < abs(e) for a, e in factors):
            return None
    inverse = tuple((a, -e) for a, e in factors)
    return Polynomial.of((times(m, inverse), c / coefficient) for m, c in read.terms)


def grouped(table: Table) -> list[tuple[Polynomial, Polynomial]]:
    """Pairs (key, other) whose outer products sum to the table; as many as its smaller side has entries."""
    others = {other for row in table.values() for other in row}
    if len(table) <= len(others):
        pairs = [(Polynomial(((key, ONE),)), _combine(row.items())) for key, row in table.items()]
    else:
        pairs = [
            (
                _combine((key, row[other]) for key, row in table.items() if other in row),
                Polynomial(((other, ONE),)),
            )
            for other in others
        ]
    return sorted(pairs, key=lambda pair: (pair[0].key, pair[1].key))


def _combine(parts: Iterable[tuple[Monomial, Polynomial]]) -> Polynomial:
    result = ZERO
    for monomial, scalar in parts:
        result = result + scalar * Polynomial(((monomial, ONE),))
    return result


def _expression(vector: Polynomial) -> Expression:
    """A vector as an expression; along the axis of the loop where it differs between micro-steps."""
    return to_expression(all_steps(vector))


def common_scalar(read: Polynomial, value: Polynomial, step: frozenset[str]) -> Polynomial:
    """The scalar factor that every term of both has; its sign makes the first value term positive."""
    terms = (*value.terms, *read.terms)
    (common, _), _ = split_common(Polynomial(terms))
    scalars = tuple((a, e) for a, e in common if not a.labels - step)
    sizes = {abs(c) for _, c in terms}
    coefficient = terms[0][1] if len(sizes) == 1 else ONE
    return Polynomial(((scalars, coefficient),))


def _scalar_into_key(key: Polynomial, other: Polynomial, axis: str) -> tuple[Polynomial, Polynomial]:
    """Where `other` is one vector times a sum of scalars, the sum goes to the key."""
    parts: dict[Monomial, Polynomial] = {}
    for monomial, coefficient in other.terms:
        vector = tuple((a, e) for a, e in monomial if axis in a.labels)
        scalar = tuple((a, e) for a, e in monomial if axis not in a.labels)
        parts[vector] = parts.get(vector, ZERO) + Polynomial(((scalar, coefficient),))
    if len(parts) != 1:
        return key, other
    ((vector, weight),) = parts.items()
    return key * weight, Polynomial(((vector, ONE),))
