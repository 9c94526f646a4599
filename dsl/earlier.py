"""A recurrence with delays as one whose delayed values are formed where they are used, of earlier inputs.

`without_delays` asks for the delayed values of all tokens; a kernel that works on rows of tokens can as well
read the inputs of the row before and form of them what is delayed. The first tokens of a sequence take what
was carried into it.
"""

from __future__ import annotations

from dataclasses import replace

from rnnc.dsl.delays import Delayed, delayed, without_delays
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expression import Call, Delay, Expression, Name, map_children, names, walk
from rnnc.dsl.interval import Interval, point
from rnnc.dsl.ranges import environment
from rnnc.dsl.recurrence import Earlier, Input, Let, Param, Recurrence, mapped, unrolled

LONGEST = 8  # lag: the first tokens take what was carried one by one


def inside(recurrence: Recurrence) -> Recurrence:
    """The recurrence, with `earlier` inputs in the place of the delayed values that `without_delays` has.

    Raises SpecError, which says why they are formed before it: values that are delayed twice, long lags,
    micro-steps.
    """
    found, rest = delayed(recurrence), without_delays(recurrence)
    used = {item.name for item in rest.inputs} - {item.name for item in recurrence.inputs}
    _check(recurrence, [each for each in found if each.name in used])
    made = _Made(recurrence, found)
    values = {each.name: made.value(each) for each in found if each.name in used}

    def visit(node: Expression) -> Expression:
        if isinstance(node, Name) and node.name in values:
            return values[node.name]
        return map_children(node, visit)

    statements = tuple(mapped(statement, visit) for statement in rest.statements)
    return replace(
        recurrence,
        name=f"{recurrence.name}_inside",
        inputs=(*recurrence.inputs, *made.inputs.values()),
        params=(*recurrence.params, *made.params.values()),
        statements=statements,
        earlier=tuple(made.earlier.values()),
    )


def _check(recurrence: Recurrence, found: list[Delayed]) -> None:
    """Raises SpecError."""
    lets = _lets(recurrence)
    reason = ""
    for each in found:
        if each.lag > LONGEST:
            reason = f"'{each.source}' is delayed by {each.lag} tokens, more than {LONGEST}"
        elif any(isinstance(node, Delay) for node in walk(_substituted(Name(each.source, each.axes), lets))):
            reason = f"'{each.source}', which is delayed, is made of what is delayed"
    if recurrence.loops:
        reason = "a token has micro-steps"
    if reason:
        finding = Diagnostic("unsupported", reason, recurrence.statements[0].span)
        raise SpecError([finding], recurrence.source, recurrence.path)


class _Made:
    """Makes the value of what is delayed, and notes the inputs and parameters that it takes."""

    def __init__(self, recurrence: Recurrence, found: tuple[Delayed, ...]) -> None:
        self.recurrence, self.found = recurrence, found
        self.lets, self.known = _lets(recurrence), environment(recurrence)
        self.taken = {item.name for item in (*recurrence.declared, *recurrence.states)} | set(self.lets)
        self.taken |= set(recurrence.axes)
        self.earlier: dict[tuple[str, str, int], Earlier] = {}
        self.inputs: dict[str, Input] = {}
        self.params: dict[str, Param] = {}

    def value(self, each: Delayed) -> Expression:
        """Of the source of so many tokens before; of the first tokens, what was carried.

        Token number t is given what was carried of the token `lag - t` before the sequence.
        """
        value = self._before(_substituted(Name(each.source, each.axes), self.lets), each.lag)
        for token in range(each.lag):
            mark = self._name("mark", "", token, f"is_{token}")
            self.inputs.setdefault(mark, Input(mark, (), Interval(0.0, 1.0)))
            carried = next(e for e in self.found if (e.source, e.lag) == (each.source, each.lag - token))
            start = self._name("start", carried.state, 0, f"{carried.state}_start")
            promised = self.known[each.source].hull(point(0))
            self.params.setdefault(start, Param(start, each.axes, promised))
            value = Call("select", (Name(mark, ()), Name(start, each.axes), value))
        return value

    def _before(self, value: Expression, lag: int) -> Expression:
        """The value of the token `lag` before: its inputs are."""
        own = {item.name: item for item in self.recurrence.inputs}

        def visit(node: Expression) -> Expression:
            if isinstance(node, Name) and node.name in own:
                item = own[node.name]
                name = self._name("row", item.name, lag, f"{item.name}_before" + str(lag) * (lag > 1))
                self.inputs.setdefault(name, replace(item, name=name, default=None))
                return Name(name, node.axes, node.span)
            return map_children(node, visit)

        return visit(value)

    def _name(self, kind: str, source: str, lag: int, name: str) -> str:
        """The name under which it is given; new when it is asked for first."""
        key = kind, source, lag
        if key not in self.earlier:
            while name in self.taken:
                name += "_"
            self.taken.add(name)
            self.earlier[key] = Earlier(name, kind, source, lag)  # type: ignore[arg-type]
        return self.earlier[key].name


def _lets(recurrence: Recurrence) -> dict[str, Expression]:
    return {s.name: s.value for s in unrolled(recurrence.statements) if isinstance(s, Let)}


def _substituted(value: Expression, lets: dict[str, Expression]) -> Expression:
    """The value of inputs and parameters alone."""
    if isinstance(value, Name) and value.name in lets:
        return _substituted(lets[value.name], lets)
    if not names(value) & set(lets):
        return value
    return map_children(value, lambda node: _substituted(node, lets))
