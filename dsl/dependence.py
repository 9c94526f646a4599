"""Which states the values of a recurrence depend on, and in which order the states can be computed.

A state that another one only *reads* (contracted with a vector, or a state of one axis) can be computed for
all tokens before it: a stage of its own. States that read each other, or that take each other in as whole
matrices, stay together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expression import (
    Add,
    Axes,
    Call,
    Constant,
    Expression,
    Multiply,
    Name,
    Power,
    Size,
    Sum,
    children,
    map_children,
    names,
    walk,
)
from rnnc.dsl.recurrence import Assign, Let, Recurrence, unrolled

Group = frozenset[str]


@dataclass(frozen=True)
class Dependence:
    """The states behind every name of a recurrence."""

    recurrence: Recurrence

    @cached_property
    def lets(self) -> Mapping[str, Expression]:
        """The values of all lets."""
        return {s.name: s.value for s in unrolled(self.recurrence.statements) if isinstance(s, Let)}

    @cached_property
    def axes(self) -> Mapping[str, Axes]:
        """The axes of every state."""
        return {state.name: state.axes for state in self.recurrence.states}

    @cached_property
    def behind(self) -> Mapping[str, Group]:
        """The states that a state or a let is made of."""
        found = {name: frozenset([name]) for name in self.axes}
        for name, value in self.lets.items():
            found[name] = frozenset().union(*(found.get(other, frozenset()) for other in names(value)))
        return found

    def of(self, expression: Expression) -> Group:
        """The states that the expression depends on."""
        return frozenset().union(*(self.behind.get(name, frozenset()) for name in names(expression)))

    def is_cut(self, expression: Expression, own: Group) -> bool:
        """Whether the value is one that a stage without the `own` states can hand over, per token.

        It is a state of one axis or none, or what sums over an axis (a readout, a softmax). Elementwise
        functions and `unit` are left to where the value is used: a decay is better handed over as its
        logarithm, and of a unit vector the length is known there.
        """
        states = self.of(expression)
        if not states or states & own or len(self._features(expression)) > 1:
            return False
        match expression:
            case Name(name):
                return name in self.axes or (name in self.lets and self.is_cut(self.lets[name], own))
            case Call(function):
                return function == "softmax"
            case _:
                return isinstance(expression, Sum)

    def is_operand(self, expression: Expression, own: Group) -> bool:
        """Whether the value is a product, entry by entry, of inputs over one axis with what a stage without
        the `own` states can hand over: it can be handed over in place of that.
        """
        states = self.of(expression)
        if not states or states & own or len(self._features(expression)) != 1:
            return False
        whole = self.expanded(expression)
        nodes = list(walk(whole))
        inputs = {item.name for item in self.recurrence.inputs if item.axes == expression.axes}
        entrywise = all(
            isinstance(node, Name | Constant | Size | Add | Multiply | Power)
            or (isinstance(node, Call) and node.axis is None)
            for node in nodes
        )
        return isinstance(whole, Multiply) and entrywise and not inputs.isdisjoint(names(whole))

    def expanded(self, expression: Expression) -> Expression:
        """The expression with the values of lets in their places."""
        if isinstance(expression, Name) and expression.name in self.lets:
            return self.expanded(self.lets[expression.name])
        return map_children(expression, self.expanded)

    def _features(self, expression: Expression) -> Axes:
        return tuple(axis for axis in expression.axes if axis not in self.recurrence.loops)

    def whole(self, expression: Expression, own: Group) -> Iterator[str]:
        """The states beside `own` that the expression takes in as whole matrices."""
        if self.is_cut(expression, own) or not self.of(expression) - own:
            return
        match expression:
            case Name(name) if name in self.axes:
                yield name
            case Name(name):
                yield from self.whole(self.lets[name], own)
            case _:
                for part in children(expression):
                    yield from self.whole(part, own)


def ordered_groups(dependence: Dependence) -> tuple[tuple[Group, tuple[str, ...]], ...]:
    """The states that stay together, and the outputs computed with them, those first that others need.

    Raises SpecError where two outputs need states in opposite orders.
    """
    groups = _merged(dependence)
    assigned = [s for s in unrolled(dependence.recurrence.statements) if isinstance(s, Assign)]
    outputs = {s.target: s.value for s in assigned if s.target not in dependence.axes}
    needs = {group: _others(group, groups, _updates(dependence, group)) for group in groups}
    hosts: dict[str, Group] = {}
    # An output that fits into one group alone decides the order for those that fit into several.
    for output, value in sorted(outputs.items(), key=lambda each: len(_able(dependence, each[1], groups))):
        host = hosts[output] = _host(dependence, value, groups, needs)
        needs[host] |= _others(host, groups, [dependence.of(value)])
        if host in _able(dependence, value, groups) and host in _reached(host, needs):
            raise _circle(dependence, output, value)
    return tuple(
        (group, tuple(output for output in outputs if hosts[output] == group))
        for group in _sorted(groups, needs)
    )


def _circle(dependence: Dependence, output: str, value: Expression) -> SpecError:
    states = ", ".join(f"'{name}'" for name in sorted(dependence.of(value)))
    message = (
        f"the output '{output}' needs one of {states} before the other, another output the other way round"
    )
    hint = "read both by vectors that hold neither, and combine what is read"
    finding = Diagnostic("unsupported", message, value.span, hints=(hint,))
    return SpecError([finding], dependence.recurrence.source, dependence.recurrence.path)


def _updates(dependence: Dependence, group: Group) -> list[Group]:
    """What the updates of the group's states depend on."""
    statements = unrolled(dependence.recurrence.statements)
    return [dependence.of(s.value) for s in statements if isinstance(s, Assign) and s.target in group]


def _merged(dependence: Dependence) -> list[Group]:
    """States joined where one takes in another whole, or both need each other; in order of declaration."""
    groups = [frozenset([state.name]) for state in dependence.recurrence.states]
    for statement in unrolled(dependence.recurrence.statements):
        if isinstance(statement, Assign) and statement.target in dependence.axes:
            for other in dependence.whole(statement.value, frozenset([statement.target])):
                groups = _joined(groups, {statement.target, other})
    while True:
        needs = {group: _others(group, groups, _updates(dependence, group)) for group in groups}
        circle = next(
            (a | b for a in groups for b in _reached(a, needs) if a != b and a in _reached(b, needs)), None
        )
        if circle is None:
            return groups
        groups = _joined(groups, circle)


def _joined(groups: list[Group], states: Iterable[str]) -> list[Group]:
    """The groups, those with any of the states made one."""
    wanted = frozenset(states)
    one = frozenset().union(*(group for group in groups if group & wanted))
    result: list[Group] = []
    for group in groups:
        new = one if group & wanted else group
        if new not in result:
            result.append(new)
    return result


def _others(group: Group, groups: Iterable[Group], used: Iterable[Group]) -> set[Group]:
    """The groups beside `group` that hold any of the states used."""
    states = frozenset().union(*used)
    return {other for other in groups if other != group and other & states}


def _reached(start: Group, needs: Mapping[Group, set[Group]]) -> set[Group]:
    """All groups that a group needs, directly or not."""
    found: set[Group] = set()
    waiting = list(needs[start])
    while waiting:
        group = waiting.pop()
        if group not in found:
            found.add(group)
            waiting += needs[group]
    return found


def _host(
    dependence: Dependence, value: Expression, groups: list[Group], needs: Mapping[Group, set[Group]]
) -> Group:
    """The group with which an output is computed: of those it reads the last one that can wait for the rest.

    Where none can, it is the last: its stage is refused for the state that is not its own.
    """
    reading = [group for group in groups if group & dependence.of(value)]
    for group in reversed(_able(dependence, value, groups)):
        if not any(group in _reached(other, needs) for other in reading):
            return group
    return (reading or groups)[-1]


def _able(dependence: Dependence, value: Expression, groups: list[Group]) -> list[Group]:
    """The groups that an output reads and that are the only one that it takes in as whole matrices."""
    reading = [group for group in groups if group & dependence.of(value)]
    return [group for group in reading if not list(dependence.whole(value, group))]


def _sorted(groups: list[Group], needs: Mapping[Group, set[Group]]) -> Iterator[Group]:
    """The groups, every one after those that it needs, else in order."""
    done: list[Group] = []
    while len(done) < len(groups):
        ready = (g for g in groups if g not in done and needs[g] <= set(done))
        done.append(next(ready, next(g for g in groups if g not in done)))
    return iter(done)
