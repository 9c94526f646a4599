"""`prev(x)` and `delay(x, n)` as inputs of their own: what a token is given of those before it.

A delayed value is free of every state, so that it is known for all tokens before the first: a recurrence that
has delays is one without them that is given the delayed values too. They are carried from call to call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rnnc.dsl.expression import Axes, Delay, Expression, Name, map_children, names, walk
from rnnc.dsl.interpreter import carried
from rnnc.dsl.interval import point
from rnnc.dsl.ranges import environment
from rnnc.dsl.recurrence import Input, Let, Recurrence, mapped, unrolled


@dataclass(frozen=True, slots=True)
class Delayed:
    """The value of `source`, an input or a let, `lag` tokens back: carried as `state`, given as `name`."""

    source: str
    lag: int
    axes: Axes
    state: str
    name: str


def delayed(recurrence: Recurrence) -> tuple[Delayed, ...]:
    """What is delayed, in the order in which it is carried: every source from the latest token back."""
    arrays = [array for array in carried(recurrence) if array.source]
    taken = set(_names(recurrence))
    found = []
    for array in arrays:
        name = array.name
        while name in taken:
            name += "_"
        taken.add(name)
        found.append(Delayed(array.source, array.lag, array.axes, array.name, name))
    return tuple(found)


def without_delays(recurrence: Recurrence) -> Recurrence:
    """The recurrence that is given what is delayed, after its inputs; itself where nothing is."""
    found = delayed(recurrence)
    if not found:
        return recurrence
    known = environment(recurrence)
    given = {(each.source, each.lag): each.name for each in found}
    used = {(node.body.name, node.steps) for node in _delays(recurrence) if isinstance(node.body, Name)}

    def visit(node: Expression) -> Expression:
        if isinstance(node, Delay) and isinstance(node.body, Name):
            return Name(given[node.body.name, node.steps], node.body.axes, node.span)
        return map_children(node, visit)

    inputs = tuple(
        Input(each.name, each.axes, known[each.source].hull(point(0)))
        for each in found
        if (each.source, each.lag) in used
    )
    statements = tuple(mapped(statement, visit) for statement in recurrence.statements)
    return replace(recurrence, inputs=(*recurrence.inputs, *inputs), statements=statements)


def delayed_lets(recurrence: Recurrence) -> tuple[Let, ...]:
    """The lets that delayed ones are made of, in order, with the delayed values in them as inputs."""
    lets = [s for s in unrolled(without_delays(recurrence).statements) if isinstance(s, Let)]
    needed = {each.source for each in delayed(recurrence)}
    for let in reversed(lets):
        if let.name in needed:
            needed |= names(let.value)
    return tuple(let for let in lets if let.name in needed)


def _delays(recurrence: Recurrence) -> Iterator[Delay]:
    for statement in unrolled(recurrence.statements):
        yield from (node for node in walk(statement.value) if isinstance(node, Delay))


def _names(recurrence: Recurrence) -> Iterator[str]:
    """All names that the recurrence has for values."""
    yield from (item.name for item in (*recurrence.declared, *recurrence.states))
    yield from (each.name for each in unrolled(recurrence.statements) if isinstance(each, Let))
