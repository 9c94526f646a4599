"""A recurrence whose states feed each other -> stages, each a recurrence of its own.

Where the readout of a state, or a state of one axis, goes into the update of another, the first is computed
for all tokens before the second: its values at the line where they are read are an output of its stage, and
an input of the later one under the same name. The stages share the declared inputs and parameters. For the
state of all stages together the derivative of a token's update is block triangular, so that its eigenvalues
are those of the stages.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rnnc.dsl.delays import delayed, without_delays
from rnnc.dsl.dependence import Dependence, Group, ordered_groups
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.exponentials import apart
from rnnc.dsl.expression import (
    Call,
    Expression,
    Multiply,
    Name,
    Power,
    Select,
    Size,
    Sum,
    map_children,
    names,
    walk,
)
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.ranges import infer
from rnnc.dsl.recurrence import Assign, Input, Let, Loop, Output, Param, Recurrence, Statement, unrolled

Place = tuple[int, int]  # number of the statement, and 0 before it, 1 in its place


def split(recurrence: Recurrence) -> tuple[Recurrence, ...]:
    """The stages in the order in which they are computed; the recurrence itself where there is one.

    Delayed values are inputs of the stages (see `delays`); exp(a + b) over both axes of a state is a product
    (see `exponentials`).

    Every input of a stage is a declared one or an output of an earlier stage, by name. Raises SpecError for
    values of micro-steps that would have to be handed from one stage to another.
    """
    return min(splits(recurrence), key=lambda stages: moved(recurrence, stages))


def splits(recurrence: Recurrence) -> list[tuple[Recurrence, ...]]:
    """The ways to it: a stage hands over states and readouts as they are, or, where a later one needs only
    their product with inputs, entry by entry, that.
    """
    recurrence = apart(without_delays(recurrence))
    if len(recurrence.states) < 2:
        return [(recurrence,)]
    dependence = Dependence(recurrence)
    groups = ordered_groups(dependence)
    if len(groups) < 2:
        return [(recurrence,)]
    found = [_stages(dependence, groups, products) for products in (False, True)]
    return found[:1] if found[0] == found[1] else found


def moved(recurrence: Recurrence, stages: Sequence[Recurrence]) -> int:
    """Bytes of vectors, for each entry, that the stages read and write, forward and backward.

    A stage reads every input in two kernels of each pass, and writes its gradient; it writes what it hands
    on, and reads the gradient of that in two; gradients of inputs of several stages are added up.
    """
    exact = frozenset().union(*(_exact(recurrence, stages, stage) for stage in stages))
    declared = {item.name for item in without_delays(recurrence).declared}
    total = 0
    seen = set[str]()
    for stage in stages:
        for item in (item for item in stage.inputs if item.axes):
            width = 4 if item.name in exact else 2
            total += 5 * width + 3 * width * (item.name in seen)
            seen.add(item.name)
        total += sum(3 * (4 if o.name in exact else 2) for o in stage.outputs if o.name not in declared)
    return total


def _exact(recurrence: Recurrence, stages: Sequence[Recurrence], stage: Recurrence) -> frozenset[str]:
    """What a stage hands on that is float32: all, unless all of it is operands of matrix products alone."""
    declared = {item.name for item in without_delays(recurrence).declared}
    handed = {output.name for output in stage.outputs} - declared
    made = {s.target: s.value for s in unrolled(stage.statements) if isinstance(s, Assign)}
    dependence = Dependence(stage)
    for name in handed:
        value = dependence.expanded(made[name])
        if not isinstance(value, Multiply) or any(
            isinstance(n, Sum | Call) and _sums(n) for n in walk(value)
        ):
            return frozenset(handed)
        if any(_bends(other, name) for other in stages if name in {item.name for item in other.inputs}):
            return frozenset(handed)
    return frozenset()


def _sums(node: Expression) -> bool:
    return isinstance(node, Sum) or (isinstance(node, Call) and node.axis is not None)


def _bends(stage: Recurrence, name: str) -> bool:
    """Whether a stage uses an input in a function other than `unit`, or in a decay."""
    dependence = Dependence(stage)
    if any(name in names(decay) for decay in normalise(stage).decays):
        return True
    values = (dependence.expanded(s.value) for s in unrolled(stage.statements))
    return any(
        name in names(node)
        for value in values
        for node in walk(value)
        if isinstance(node, Power) or (isinstance(node, Call) and node.function != "unit")
    )


def _stages(
    dependence: Dependence, groups: Sequence[tuple[Group, tuple[str, ...]]], products: bool
) -> tuple[Recurrence, ...]:
    handed = _Handed(dependence.recurrence, products)
    stages: list[Recurrence] = []
    for number in range(len(groups), 0, -1):
        group, outputs = groups[number - 1]
        later = frozenset().union(*(states for states, _ in groups[number:]))
        stages.append(_Stage(dependence, handed, group, later, outputs).recurrence(number))
    return tuple(reversed(stages))


def wide(recurrence: Recurrence, number: int) -> frozenset[str]:
    """The inputs of a stage, counted from 0, that may be float32 where the vectors are not: gates, and what
    other stages hand on.
    """
    stage = split(recurrence)[number]
    return gates(stage) | (handed(recurrence, stage) & {item.name for item in stage.inputs})


def handed(recurrence: Recurrence, stage: Recurrence) -> frozenset[str]:
    """What a stage of the recurrence is given by others or hands to them."""
    declared = {item.name for item in without_delays(recurrence).declared}
    every = {item.name for item in stage.inputs} | {output.name for output in stage.outputs}
    return frozenset(every - declared)


def in_float32(recurrence: Recurrence, stage: Recurrence) -> frozenset[str]:
    """What a stage is given and gives that is float32 beside vectors of lower precision: what stages hand to
    each other, the outputs that go with it, lets that are delayed and that a decay is made of.
    """
    stages = split(recurrence)
    found = frozenset().union(*(_exact(recurrence, stages, each) for each in stages))
    found &= handed(recurrence, stage)
    if hands_on(recurrence, stage):
        found |= {output.name for output in stage.outputs}
    lets = {s.name for s in unrolled(recurrence.statements) if isinstance(s, Let)}
    vectors = {each.name for each in delayed(recurrence) if each.axes and each.source in lets}
    if vectors:
        found |= vectors & gates(without_delays(recurrence)) & {item.name for item in stage.inputs}
    return found


def hands_on(recurrence: Recurrence, stage: Recurrence) -> bool:
    """Whether a later stage of the recurrence is given anything by the stage that is float32."""
    return bool(_exact(recurrence, split(recurrence), stage))


def feeds(recurrence: Recurrence, stage: Recurrence) -> bool:
    """Whether a later stage of the recurrence is given anything by the stage."""
    return not {output.name for output in stage.outputs} <= {output.name for output in recurrence.outputs}


def gates(recurrence: Recurrence) -> frozenset[str]:
    """The inputs and parameters that decays are made of.

    Where a decay is made of what another stage hands on, what only that stage is given counts too.
    """
    stages = split(recurrence)
    found: set[str] = set()
    for stage in reversed(stages):
        decays = normalise(stage).decays
        others = {item.name for other in stages if other is not stage for item in other.arguments}
        if {output.name for output in stage.outputs} & found:
            found |= {item.name for item in stage.arguments if item.name not in others}
        found = found.union(*map(names, decays))
    found |= {each.source for each in delayed(recurrence) if each.name in found}
    return frozenset(found & {item.name for item in recurrence.arguments})


@dataclass(frozen=True, slots=True)
class _Value:
    """What one stage hands to others: an expression as of a place in the statements."""

    name: str
    place: Place
    expression: Expression
    states: Group


@dataclass
class _Handed:
    """All values handed over so far; stages ask for them, the last stage first."""

    recurrence: Recurrence
    products: bool
    values: list[_Value] = field(default_factory=list)

    def ask(self, wanted: Expression, place: Place, states: Group) -> Name:
        """The name under which the value is handed over."""
        version = self._version(place, states)
        for known in self.values:
            if known.expression == wanted and self._version(known.place, states) == version:
                return Name(known.name, wanted.axes, wanted.span)
        if isinstance(wanted, Name) and wanted.name not in states:
            name = wanted.name
        else:
            first = next(state.name for state in self.recurrence.states if state.name in states)
            name = self.fresh(f"{first}_read")
        self.values.append(_Value(name, place, wanted, states))
        return Name(name, wanted.axes, wanted.span)

    def _version(self, place: Place, states: Group) -> int:
        """How often the states were updated before the place."""
        before = self.recurrence.statements[: place[0] + (place[1] > 0)]
        return sum(isinstance(s, Assign) and s.target in states for s in unrolled(before))

    def fresh(self, name: str) -> str:
        """A name like this one that nothing has."""
        recurrence = self.recurrence
        lets = [s.name for s in unrolled(recurrence.statements) if isinstance(s, Let)]
        taken = {*recurrence.axes, *lets, *(v.name for v in self.values)}
        taken |= {d.name for d in (*recurrence.declared, *recurrence.states)}
        options = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
        return next(option for option in options if option not in taken)


@dataclass
class _Stage:
    """Collects the statements of one stage: the updates of its states, its outputs, and what later stages
    ask of it.
    """

    dependence: Dependence
    handed: _Handed
    states: Group
    later: Group
    outputs: tuple[str, ...]
    lets: dict[str, Expression] = field(default_factory=dict)
    inputs: dict[str, None] = field(default_factory=dict)

    def recurrence(self, number: int) -> Recurrence:
        """The stage as a recurrence."""
        whole = self.dependence.recurrence
        asked = [value for value in self.handed.values if self._is_mine(value)]
        found: list[tuple[Place, Statement]] = []
        for value in asked:
            inner = value.expression
            if isinstance(inner, Name) and inner.name in self.dependence.lets:
                inner = self.dependence.lets[inner.name]
            found.append((value.place, Assign(value.name, self._rewritten(inner, value.place), inner.span)))
        for index, statement in enumerate(whole.statements):
            found += [((index, 1), kept) for kept in self._kept(statement, index)]
        for index, statement in enumerate(whole.statements):  # once all lets that are needed are known
            found += [((index, 0), let) for let in self._needed(statement)]
        order = [self._with_lets(statement) for _, statement in sorted(found, key=lambda entry: entry[0])]
        # A let that is an output too has another name: an output cannot be read.
        both = {value.name: self.handed.fresh(f"{value.name}_") for value in asked if value.name in self.lets}
        return self._declared(number, tuple(_renamed(each, both) for each in order), asked)

    def _is_mine(self, value: _Value) -> bool:
        return bool(value.states & self.states) and not value.states & self.later

    def _kept(self, statement: Statement, index: int) -> Iterator[Statement]:
        """The statement, if it assigns what this stage computes, with what it is handed in place."""
        wanted = {*self.states, *self.outputs}
        if isinstance(statement, Assign) and statement.target in wanted:
            yield replace(statement, value=self._rewritten(statement.value, (index, 0)))
        elif isinstance(statement, Loop):
            assigned = [s for s in statement.body if isinstance(s, Assign) and s.target in wanted]
            body = tuple(replace(s, value=self._rewritten(s.value, (index, 0), statement)) for s in assigned)
            if body:
                yield replace(statement, body=body)

    def _needed(self, statement: Statement) -> Iterator[Let]:
        if isinstance(statement, Let) and statement.name in self.lets:
            yield Let(statement.name, self.lets[statement.name], statement.span)

    def _with_lets(self, statement: Statement) -> Statement:
        """A loop with those of its lets that its body needs."""
        if not isinstance(statement, Loop):
            return statement
        loops = (s for s in self.dependence.recurrence.statements if isinstance(s, Loop))
        whole = next(loop for loop in loops if loop.span == statement.span)
        kept = {inner.span: inner for inner in statement.body}
        body: list[Statement] = []
        for inner in whole.body:
            body += self._needed(inner)
            body += [kept[inner.span]] if inner.span in kept else []
        return replace(statement, body=tuple(body))

    def _rewritten(self, value: Expression, place: Place, loop: Loop | None = None) -> Expression:
        """The expression with the names of what earlier stages hand over; lets that it needs are noted."""

        def visit(node: Expression) -> Expression:
            may = self.handed.products and loop is None
            product = may and self.dependence.is_operand(node, self.states)
            if product or self.dependence.is_cut(node, self.states):
                if loop is not None:
                    self._check_steady(node, loop)
                where = self._line(node.name) if isinstance(node, Name) and node.name in lets else place
                name = self.handed.ask(node, where, self.dependence.of(node))
                self.inputs[name.name] = None
                return name
            if isinstance(node, Name) and node.name in lets and node.name not in self.lets:
                inside = loop if loop and any(_defines(s, node.name) for s in loop.body) else None
                where = place if inside else self._line(node.name)
                self.lets[node.name] = node  # every let is visited once
                self.lets[node.name] = self._rewritten(lets[node.name], where, inside)
            return map_children(node, visit)

        lets = self.dependence.lets
        return visit(value)

    def _line(self, let: str) -> Place:
        """The place of a let."""
        statements = self.dependence.recurrence.statements
        found = (i for i, s in enumerate(statements) if _defines(s, let))
        return next(found), 1

    def _check_steady(self, value: Expression, loop: Loop) -> None:
        """Raises SpecError where the value changes between the micro-steps of a token."""
        local = {s.name for s in loop.body if isinstance(s, Let)}
        updated = {s.target for s in loop.body if isinstance(s, Assign)}
        steps = any(isinstance(node, Select) for node in walk(value))
        if not (steps or names(value) & local or self.dependence.of(value) & updated):
            return
        states = ", ".join(f"'{name}'" for name in sorted(self.dependence.of(value)))
        message = f"a value of {states} that differs between micro-steps goes into another state"
        hint = "outside the loop it may: every token hands over one value"
        finding = Diagnostic("unsupported", message, value.span, hints=(hint,))
        raise SpecError([finding], self.dependence.recurrence.source, self.dependence.recurrence.path)

    def _declared(self, number: int, statements: tuple[Statement, ...], asked: list[_Value]) -> Recurrence:
        """The stage with the declarations that its statements need."""
        whole = self.dependence.recurrence
        values = [inner for s in statements for inner in _values(s)]
        used = frozenset().union(*map(names, values))
        states = tuple(state for state in whole.states if state.name in self.states)
        used |= {state.initial for state in states if state.initial}
        inputs = [item for item in whole.inputs if item.name in used]
        inputs += [self._handed_in(value) for value in self.handed.values if value.name in self.inputs]
        params = [item for item in whole.params if item.name in used]
        mentioned = {axis.rstrip("'") for v in values for n in walk(v) for axis in _axes(n)}
        mentioned |= {axis for state in states for axis in state.axes}
        inputs += _sizes(whole, mentioned, [*inputs, *params])
        outputs = tuple(output for output in whole.outputs if output.name in self.outputs)
        outputs += tuple(Output(value.name, value.expression.axes) for value in asked)
        return replace(
            whole,
            name=f"{whole.name}_{number}",
            axes=tuple(axis for axis in whole.axes if axis in mentioned.union(*(x.axes for x in inputs))),
            doc=f"Stage {number} of {whole.name}.",
            inputs=tuple(inputs),
            params=tuple(params),
            states=states,
            outputs=outputs,
            statements=statements,
            layer=None,
            warnings=(),
        )

    def _handed_in(self, value: _Value) -> Input:
        known = infer(value.expression, self.dependence.recurrence)
        return Input(value.name, value.expression.axes, known, handed=True)


def _defines(statement: Statement, let: str) -> bool:
    if isinstance(statement, Loop):
        return any(_defines(inner, let) for inner in statement.body)
    return isinstance(statement, Let) and statement.name == let


def _values(statement: Statement) -> Iterator[Expression]:
    yield from (inner.value for inner in unrolled([statement]))


def _axes(node: Expression) -> tuple[str, ...]:
    return (node.axis,) if isinstance(node, Size) else node.axes


def _renamed(statement: Statement, lets: Mapping[str, str]) -> Statement:
    """The statement with other names for lets."""

    def visit(node: Expression) -> Expression:
        if isinstance(node, Name) and node.name in lets:
            return replace(node, name=lets[node.name])
        return map_children(node, visit)

    match statement:
        case Let(name, value):
            return replace(statement, name=lets.get(name, name), value=visit(value))
        case Assign(_, value):
            return replace(statement, value=visit(value))
        case Loop(body=body):
            return replace(statement, body=tuple(_renamed(inner, lets) for inner in body))


def _sizes(whole: Recurrence, axes: set[str], known: list[Input | Param]) -> list[Input]:
    """Inputs that a stage is given for their sizes alone; at least one says how many tokens there are."""
    missing = axes - {axis for item in known for axis in item.axes}
    found: list[Input] = []
    for item in whole.inputs:
        if missing & set(item.axes):
            found.append(item)
            missing -= set(item.axes)
    if found or any(isinstance(item, Input) for item in known):
        return found
    return [min(whole.inputs, key=lambda item: (bool(set(item.axes) - axes), item.per_group, len(item.axes)))]
