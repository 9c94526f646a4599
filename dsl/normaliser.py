"""Declared statements -> normal form: substitute, expand, collect.

The statements are substituted into each other until the new state is a sum of products in the old one.
What has no such form is refused, the smallest part of a statement underlined that has none by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rnnc.dsl.algebra import relabel, substitute
from rnnc.dsl.diagnostics import NOWHERE, Diagnostic, Span, SpecError
from rnnc.dsl.expansion import expand, to_expression
from rnnc.dsl.expression import Add, Name
from rnnc.dsl.linearity import check_linear, refuse_unsupported
from rnnc.dsl.normal import Normal, Readout
from rnnc.dsl.polynomial import (
    ONE,
    UNIT,
    Atom,
    Leaf,
    Polynomial,
)
from rnnc.dsl.readouts import split_readouts
from rnnc.dsl.recurrence import Assign, Let, Recurrence, State, Statement
from rnnc.dsl.writes import Collector

Statements = tuple[Statement, ...]


def normalise(recurrence: Recurrence) -> Normal:
    """The normal form of a recurrence with one matrix state; raises SpecError for what does not have one."""
    refuse_unsupported(recurrence)
    check_linear(recurrence)
    (state,) = recurrence.states
    try:
        return _Substitution(recurrence, state).normal()
    except SpecError as error:
        found = [replace(each, span=_blame(recurrence, state, each)) for each in error.diagnostics]
        raise SpecError(found, recurrence.source, recurrence.path) from None


def _blame(recurrence: Recurrence, state: State, finding: Diagnostic) -> Span:
    """The smallest part of a statement that has the finding by itself: a term of the first refused."""
    if finding.span != NOWHERE:
        return finding.span
    for number, statement in enumerate(recurrence.statements):
        if not isinstance(statement, Assign):
            continue
        before = recurrence.statements[:number]
        after = recurrence.statements[number + 1 :] if statement.target != state.name else ()

        def refused(part: Assign, before: Statements = before, after: Statements = after) -> bool:
            changed = replace(recurrence, statements=(*before, part, *after))
            try:
                _Substitution(changed, state).normal()
            except SpecError as error:
                return finding in error.diagnostics
            return False

        if refused(statement):
            return _smallest(statement, refused)
    return state.span


def _smallest(statement: Assign, refused: Callable[[Assign], bool]) -> Span:
    value = statement.value
    while isinstance(value, Add):
        wrong = [term for term in value.terms if refused(replace(statement, value=term))]
        if not wrong:
            break
        value = wrong[0]
    return value.span


@dataclass
class _Substitution:
    """Runs the statements symbolically; `versions[n]` is the state after n updates, in terms of the old."""

    recurrence: Recurrence
    state: State
    lets: dict[str, Polynomial] = field(default_factory=dict)
    versions: list[Polynomial] = field(default_factory=list)
    outputs: list[tuple[str, Polynomial]] = field(default_factory=list)

    def lookup(self, name: Name) -> Polynomial:
        if name.name in self.lets:
            return self.lets[name.name]
        version = len(self.versions) - 1 if name.name == self.state.name else None
        return _leaf(name.name, name.axes, version)

    def old_only(self, polynomial: Polynomial, keep: int = 0) -> Polynomial:
        """The polynomial with every version of the state but the old one (and `keep`) written out."""

        def change(leaf: Leaf) -> Polynomial | None:
            if leaf.version in (None, 0, keep):
                return None
            assert leaf.version is not None
            return relabel(self.versions[leaf.version], dict(zip(self.state.axes, leaf.labels, strict=True)))

        return substitute(polynomial, change)

    def take(self, statement: Statement) -> None:
        """Run one statement."""
        match statement:
            case Let(name, value):
                self.lets[name] = expand(value, self.lookup)
            case Assign(self.state.name, value):
                self.versions.append(self.old_only(expand(value, self.lookup)))
            case Assign(output, value):
                self.outputs.append((output, expand(value, self.lookup)))
            case _:
                raise AssertionError(statement)

    def normal(self) -> Normal:
        self.versions.append(_leaf(self.state.name, self.state.axes, 0))
        for statement in self.recurrence.statements:
            try:
                self.take(statement)
            except SpecError as error:  # too long, or nothing the algebra has a place for
                found = [
                    each if each.span != NOWHERE else replace(each, span=statement.span)
                    for each in error.diagnostics
                ]
                raise SpecError(found) from None
        last = len(self.versions) - 1
        key, value_axis = self.state.axes
        decay, writes = Collector(self.state).collect(self.versions[last])
        readouts: list[Readout] = []
        outputs = []
        for name, polynomial in self.outputs:
            own, rest = split_readouts(self.old_only(polynomial, last), name, self.state, last)
            readouts += own
            outputs.append((name, to_expression(rest)))
        return Normal(
            recurrence=self.recurrence,
            state=self.state.name,
            key_axis=key,
            value_axis=value_axis,
            decay=None if decay == UNIT else to_expression(decay),
            writes=writes,
            readouts=tuple(readouts),
            outputs=tuple(outputs),
        )


def _leaf(name: str, axes: tuple[str, ...], version: int | None) -> Polynomial:
    return Polynomial(((((Atom(Leaf(name, axes, version)), ONE),), ONE),))
