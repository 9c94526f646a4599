"""Declared statements -> normal form: substitute, expand, collect.

The statements are substituted into each other until the new state is a sum of products in the old one.
What has no such form is refused, the smallest part of a statement underlined that has none by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from rnnc.dsl.algebra import relabel, substitute
from rnnc.dsl.diagnostics import NOWHERE, Diagnostic, Span, SpecError
from rnnc.dsl.elementwise import elementwise, is_elementwise
from rnnc.dsl.expansion import expand, to_expression
from rnnc.dsl.expression import Add, Name
from rnnc.dsl.linearity import check_linear, refuse_unsupported
from rnnc.dsl.normal import Normal, Readout, Write
from rnnc.dsl.polynomial import (
    ONE,
    UNIT,
    Atom,
    Leaf,
    Polynomial,
)
from rnnc.dsl.readouts import split_readouts
from rnnc.dsl.recurrence import Assign, Let, Loop, Recurrence, State, Statement
from rnnc.dsl.writes import Collector

Statements = tuple[Statement, ...]


def normalise(recurrence: Recurrence) -> Normal:
    """The normal form of a recurrence with one matrix state; raises SpecError for what does not have one."""
    refuse_unsupported(recurrence)
    check_linear(recurrence)
    (state,) = recurrence.states
    try:
        if is_elementwise(recurrence):
            return elementwise(recurrence)
        return _Substitution(recurrence, state).normal()
    except SpecError as error:
        found = [replace(each, span=_blame(recurrence, state, each)) for each in error.diagnostics]
        raise SpecError(found, recurrence.source, recurrence.path) from None


def _blame(recurrence: Recurrence, state: State, finding: Diagnostic) -> Span:
    """The smallest part of a statement that has the finding by itself: a term of the first refused."""
    if finding.span != NOWHERE:
        return finding.span
    for statement, spelled in _places(recurrence.statements, state):

        def refused(part: Assign, spelled: Callable[[Assign], Statements] = spelled) -> bool:
            changed = replace(recurrence, statements=spelled(part))
            try:
                _Substitution(changed, state).normal()
            except SpecError as error:
                return finding in error.diagnostics
            return False

        if refused(statement):
            return _smallest(statement, refused)
    return state.span


def _places(statements: Statements, state: State) -> Iterator[tuple[Assign, Callable[[Assign], Statements]]]:
    """Every assignment, and the statements with another in its place: up to it, if it is to the state."""
    for number, statement in enumerate(statements):
        before, after = statements[:number], statements[number + 1 :]
        if isinstance(statement, Loop):
            for inner, spelled in _places(statement.body, state):
                yield inner, partial(_inside, before, statement, spelled)
        elif isinstance(statement, Assign):
            yield statement, partial(_between, before, after if statement.target != state.name else ())


def _between(before: Statements, after: Statements, part: Assign) -> Statements:
    return (*before, part, *after)


def _inside(
    before: Statements, loop: Loop, spelled: Callable[[Assign], Statements], part: Assign
) -> Statements:
    return (*before, replace(loop, body=spelled(part)))


def _smallest(statement: Assign, refused: Callable[[Assign], bool]) -> Span:
    value = statement.value
    while isinstance(value, Add):
        wrong = [term for term in value.terms if refused(replace(statement, value=term))]
        if not wrong:
            break
        value = wrong[0]
    return value.span


@dataclass(frozen=True)
class _MicroSteps:
    """A loop: the axis it runs over, the decay before it, and the writes of one micro-step."""

    axis: str
    decay: Polynomial
    writes: tuple[Write, ...]


@dataclass
class _Substitution:
    """Runs the statements symbolically; `versions[n]` is the state after n updates, in terms of the old."""

    recurrence: Recurrence
    state: State
    lets: dict[str, Polynomial] = field(default_factory=dict)
    versions: list[Polynomial] = field(default_factory=list)
    outputs: list[tuple[str, Polynomial]] = field(default_factory=list)
    hidden: frozenset[str] = frozenset()  # in a loop: the lets from before it that read the state
    micro: _MicroSteps | None = None
    updated: Span = NOWHERE  # the last update of the state

    def lookup(self, name: Name) -> Polynomial:
        if name.name in self.hidden:
            message = f"'{name.name}' reads the state before the loop and is used in it"
            hint = "read the state in the loop: every micro-step sees the writes of those before it"
            raise SpecError([Diagnostic("unsupported", message, name.span, hints=(hint,))])
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
                if self.micro is not None:
                    message = f"the state '{self.state.name}' is updated after the loop"
                    hint = "what scales the state stands before the loop"
                    raise SpecError([Diagnostic("unsupported", message, statement.span, hints=(hint,))])
                self.versions.append(self.old_only(expand(value, self.lookup)))
                self.updated = value.span
            case Assign(output, value):
                self.outputs.append((output, expand(value, self.lookup)))
            case Loop(body=body):
                if any(isinstance(inner, Assign) for inner in body):
                    self.micro = self.micro_steps(statement)
                    self.versions.append(_leaf(self.state.name, self.state.axes, len(self.versions)))

    def micro_steps(self, loop: Loop) -> _MicroSteps:
        """What the loop does, after a decay alone."""
        decay, writes = Collector(self.state).collect(self.versions[-1])
        if writes:
            message = f"the state '{self.state.name}' is written before the loop"
            hint = "before a loop the state may be scaled, as in `S <- exp(g) * S`"
            raise SpecError([Diagnostic("unsupported", message, self.updated, hints=(hint,))])
        reading = {
            n for n, let in self.lets.items() if any(name == self.state.name for name, _ in let.leaves)
        }
        lets = {name: value for name, value in self.lets.items() if name not in reading}
        inside = _Substitution(self.recurrence, self.state, lets, hidden=frozenset(reading))
        inside.run(loop.body)
        inner, steps = Collector(self.state, loop.axis).collect(inside.versions[-1])
        if inner != UNIT:
            message = f"the state '{self.state.name}' is scaled in the loop"
            hint = "put the decay before the loop; in it, only terms without it may be added"
            raise SpecError([Diagnostic("unsupported", message, hints=(hint,))])
        if sum(write.read is not None for write in steps) > 1:
            message = f"a micro-step reads the state '{self.state.name}' along several vectors"
            hint = "give every read a micro-step of its own"
            raise SpecError([Diagnostic("unsupported", message, hints=(hint,))])
        return _MicroSteps(loop.axis, decay, steps)

    def run(self, statements: Statements) -> None:
        """Run the statements on the old state."""
        self.versions.append(_leaf(self.state.name, self.state.axes, 0))
        for statement in statements:
            try:
                self.take(statement)
            except SpecError as error:  # too long, or nothing the algebra has a place for
                if isinstance(statement, Loop):
                    raise
                found = [
                    each if each.span != NOWHERE else replace(each, span=statement.span)
                    for each in error.diagnostics
                ]
                raise SpecError(found) from None

    def normal(self) -> Normal:
        self.run(self.recurrence.statements)
        last = len(self.versions) - 1
        key, value_axis = self.state.axes
        if self.micro is None:
            decay, writes = Collector(self.state).collect(self.versions[last])
        else:
            decay, writes = self.micro.decay, self.micro.writes
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
            micro=None if self.micro is None else self.micro.axis,
        )


def _leaf(name: str, axes: tuple[str, ...], version: int | None) -> Polynomial:
    return Polynomial(((((Atom(Leaf(name, axes, version)), ONE),), ONE),))
