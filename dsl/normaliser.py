"""Declared statements -> normal form: substitute, expand, collect.

The statements are substituted into each other until the new state is a sum of products in the old one.
What has no such form is refused, the smallest part of a statement underlined that has none by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from rnnc.dsl.algebra import relabel, substitute
from rnnc.dsl.coupling import couple
from rnnc.dsl.diagnostics import NOWHERE, Diagnostic, Span, SpecError
from rnnc.dsl.elementwise import elementwise, is_elementwise
from rnnc.dsl.expansion import expand, to_expression
from rnnc.dsl.expression import Add, Axes, Expression, Name
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
from rnnc.dsl.recurrence import Assign, Let, Loop, Recurrence, State, Statement
from rnnc.dsl.sides import roles
from rnnc.dsl.writes import Collector, Update

Statements = tuple[Statement, ...]


def normalise(recurrence: Recurrence) -> Normal:
    """The normal form of a recurrence in matrix states; raises SpecError for what does not have one."""
    refuse_unsupported(recurrence)
    check_linear(recurrence)
    try:
        if is_elementwise(recurrence):
            return elementwise(recurrence)
        return _Substitution(recurrence).normal()
    except SpecError as error:
        found = [replace(each, span=_blame(recurrence, each)) for each in error.diagnostics]
        raise SpecError(found, recurrence.source, recurrence.path) from None


def _blame(recurrence: Recurrence, finding: Diagnostic) -> Span:
    """The smallest part of a statement that has the finding by itself: a term of the first refused."""
    if finding.span != NOWHERE:
        return finding.span
    states = frozenset(state.name for state in recurrence.states)
    for statement, spelled in _places(recurrence.statements, states):

        def refused(part: Assign, spelled: Callable[[Assign], Statements] = spelled) -> bool:
            changed = replace(recurrence, statements=spelled(part))
            try:
                _Substitution(changed).normal()
            except SpecError as error:
                return finding in error.diagnostics
            return False

        if refused(statement):
            return _smallest(statement, refused)
    return recurrence.states[0].span


def _places(
    statements: Statements, states: frozenset[str]
) -> Iterator[tuple[Assign, Callable[[Assign], Statements]]]:
    """Every assignment, and the statements with another in its place: up to it, if it is to a state."""
    for number, statement in enumerate(statements):
        before, after = statements[:number], statements[number + 1 :]
        if isinstance(statement, Loop):
            for inner, spelled in _places(statement.body, states):
                yield inner, partial(_inside, before, statement, spelled)
        elif isinstance(statement, Assign):
            yield statement, partial(_between, before, after if statement.target not in states else ())


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
    """A loop: the axis it runs over, the state before it, and what one micro-step makes of the state."""

    axis: str
    before: Polynomial
    step: Polynomial


@dataclass
class _Substitution:
    """Runs the statements symbolically; `versions[S][n]` is S after n updates, in terms of the old states."""

    recurrence: Recurrence
    lets: dict[str, Polynomial] = field(default_factory=dict)
    versions: dict[str, list[Polynomial]] = field(default_factory=dict)
    outputs: list[tuple[str, Polynomial]] = field(default_factory=list)
    hidden: frozenset[str] = frozenset()  # in a loop: the lets from before it that read the state
    micro: _MicroSteps | None = None
    updated: Span = NOWHERE  # the last update of a state

    @property
    def states(self) -> tuple[State, ...]:
        return self.recurrence.states

    def lookup(self, name: Name) -> Polynomial:
        if name.name in self.hidden:
            message = f"'{name.name}' reads the state before the loop and is used in it"
            hint = "read the state in the loop: every micro-step sees the writes of those before it"
            raise SpecError([Diagnostic("unsupported", message, name.span, hints=(hint,))])
        if name.name in self.lets:
            return self.lets[name.name]
        version = len(self.versions[name.name]) - 1 if name.name in self.versions else None
        return _leaf(name.name, name.axes, version)

    def old_only(self, polynomial: Polynomial, keep: Mapping[str, int] | None = None) -> Polynomial:
        """The polynomial with every version of a state but the old one (and that to `keep`) written out."""
        axes = {state.name: state.axes for state in self.states}

        def change(leaf: Leaf) -> Polynomial | None:
            if leaf.version in (None, 0, (keep or {}).get(leaf.name)):
                return None
            assert leaf.version is not None
            written = self.versions[leaf.name][leaf.version]
            return relabel(written, dict(zip(axes[leaf.name], leaf.labels, strict=True)))

        return substitute(polynomial, change)

    def take(self, statement: Statement) -> None:
        """Run one statement."""
        match statement:
            case Let(name, value):
                self.lets[name] = expand(value, self.lookup)
            case Assign(target, value) if target in self.versions:
                if self.micro is not None:
                    message = f"the state '{target}' is updated after the loop"
                    hint = "what scales the state stands before the loop"
                    raise SpecError([Diagnostic("unsupported", message, statement.span, hints=(hint,))])
                self.versions[target].append(self.old_only(expand(value, self.lookup)))
                self.updated = value.span
            case Assign(output, value):
                self.outputs.append((output, expand(value, self.lookup)))
            case Loop(body=body):
                if any(isinstance(inner, Assign) for inner in body):
                    self.micro = self.micro_steps(statement)
                    (state,) = self.states
                    versions = self.versions[state.name]
                    versions.append(_leaf(state.name, state.axes, len(versions)))

    def micro_steps(self, loop: Loop) -> _MicroSteps:
        """What the loop does, after a decay alone."""
        (state,) = self.states
        before = self.versions[state.name][-1]
        if Collector(state, roles(state, [before])).collect(before).writes:
            message = f"the state '{state.name}' is written before the loop"
            hint = "before a loop the state may be scaled, as in `S <- exp(g) * S`"
            raise SpecError([Diagnostic("unsupported", message, self.updated, hints=(hint,))])
        reading = {n for n, let in self.lets.items() if any(name == state.name for name, _ in let.leaves)}
        lets = {name: value for name, value in self.lets.items() if name not in reading}
        inside = _Substitution(self.recurrence, lets, hidden=frozenset(reading))
        inside.run(loop.body)
        step = inside.versions[state.name][-1]
        inner = Collector(state, roles(state, [step]), loop.axis).collect(step)
        if not inner.decay == inner.value_decay == UNIT:
            message = f"the state '{state.name}' is scaled in the loop"
            hint = "put the decay before the loop; in it, only terms without it may be added"
            raise SpecError([Diagnostic("unsupported", message, hints=(hint,))])
        if sum(write.read is not None for write in inner.writes) > 1:
            message = f"a micro-step reads the state '{state.name}' along several vectors"
            hint = "give every read a micro-step of its own"
            raise SpecError([Diagnostic("unsupported", message, hints=(hint,))])
        return _MicroSteps(loop.axis, before, step)

    def collected(self, state: State, update: Polynomial, readouts: Sequence[Readout]) -> tuple[Axes, Update]:
        """The key and the value axis of the state, and its update."""
        if self.micro is None:
            axes = roles(state, [update], readouts)
            found = Collector(state, axes).collect(update)
            if found.value_decay != UNIT and not found.scales_keys and not any(w.read for w in found.writes):
                axes = axes[::-1]  # nothing is read: the axis of the decay takes the part of the key axis
                found = Collector(state, axes).collect(update)
            return axes, found
        axes = roles(state, [self.micro.step], readouts)
        before = Collector(state, axes).collect(self.micro.before)
        step = Collector(state, axes, self.micro.axis).collect(self.micro.step)
        return axes, replace(before, writes=step.writes)

    def run(self, statements: Statements) -> None:
        """Run the statements on the old states."""
        for state in self.states:
            self.versions[state.name] = [_leaf(state.name, state.axes, 0)]
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
        updates = {name: versions[-1] for name, versions in self.versions.items()}
        state = self.states[0]
        readouts, outputs = self.read_out()
        axes, update, coupled = state.axes, Update(UNIT, UNIT, ()), None
        if len(self.states) > 1:
            coupled = couple(self.states, updates)
            self.check_sides(readouts)
        else:
            axes, update = self.collected(state, updates[state.name], readouts)
        return Normal(
            recurrence=self.recurrence,
            state=state.name,
            key_axis=axes[0],
            value_axis=axes[1],
            decay=None if update.decay == UNIT else to_expression(update.decay),
            value_decay=None if update.value_decay == UNIT else to_expression(update.value_decay),
            writes=update.writes,
            readouts=readouts,
            outputs=outputs,
            micro=None if self.micro is None else self.micro.axis,
            coupled=coupled,
        )

    def check_sides(self, readouts: Sequence[Readout]) -> None:
        """Raises SpecError where several states are read out over their second axis."""
        for readout in readouts:
            if readout.over != self.states[0].axes[0]:
                message = f"'{readout.state}' is read out over '{readout.over}'"
                hint = f"states that mix are read out over '{self.states[0].axes[0]}'"
                raise SpecError([Diagnostic("unsupported", message, hints=(hint,))])

    def read_out(self) -> tuple[tuple[Readout, ...], tuple[tuple[str, Expression], ...]]:
        """What the outputs read of the states, and the outputs in terms of it."""
        last = {name: len(versions) - 1 for name, versions in self.versions.items()}
        readouts: list[Readout] = []
        outputs = []
        for name, polynomial in self.outputs:
            own: list[Readout] = []
            rest = self.old_only(polynomial, last)
            for state in self.states:
                found, rest = split_readouts(rest, name, state, last[state.name], len(own))
                own += found
            readouts += own
            outputs.append((name, to_expression(rest)))
        return tuple(readouts), tuple(outputs)


def _leaf(name: str, axes: tuple[str, ...], version: int | None) -> Polynomial:
    return Polynomial(((((Atom(Leaf(name, axes, version)), ONE),), ONE),))
