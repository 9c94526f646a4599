"""Whether two recurrences compute the same outputs and states.

Three steps, each only where the one before did not answer. *Normal forms*: they are unique, so equal ones
mean equal recurrences, at every size and length. *Polynomials*: one token of each, run from the same unknown
state, as identities between polynomials at small sizes; a token from any state is every length.
*Counterexample*: rational inputs, within the declared ranges, from a state that is given, at which two
outputs provably differ. Where none of the three answers, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rnnc.codegen.counterexamples import Counterexample, find_counterexample
from rnnc.codegen.exact import TokenLoop
from rnnc.codegen.polynomials import Polynomials, polynomials
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.expression import Axes, Final, walk
from rnnc.dsl.interpreter import carried, run
from rnnc.dsl.normal import Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.recurrence import Loop, Recurrence, Statement
from rnnc.dsl.stages import split

Verdict = Literal["equal", "different", "undecided"]
SIZES = (2, 3)  # of the axes, in turn: no two that meet have the same size everywhere
UNKNOWNS = (64, 256, 1024)


class Incomparable(ValueError):
    """Why two recurrences cannot be compared: what they are given or give is not the same."""


@dataclass(frozen=True)
class Equivalence:
    """The answer; true when proven equal. `how` says by what, `counterexample` where they differ."""

    names: tuple[str, str]
    verdict: Verdict
    how: str
    counterexample: Counterexample | None = None

    def __bool__(self) -> bool:
        return self.verdict == "equal"

    def __str__(self) -> str:
        head = f"{self.names[0]} and {self.names[1]}: {self.verdict}"
        lines = [head, f"  {self.how}"]
        if self.counterexample is not None:
            lines += [f"  {line}" for line in str(self.counterexample).splitlines()]
        return "\n".join(lines)


def compare(left: Recurrence, right: Recurrence) -> Equivalence:
    """Compares two recurrences with the same names; raises Incomparable where those do not match."""
    _check_signatures(left, right)
    names = (left.name, right.name)
    if _same_normal_form(left, right):
        return Equivalence(names, "equal", "the normal forms are the same, at every size and length")
    where = _sizes(left, right)
    if _same_polynomials(left, right, where):
        sizes = " ".join(f"{axis}={size}" for axis, size in where.items())
        how = f"identities of polynomials in all inputs and in the state, for every length, at {sizes}"
        return Equivalence(names, "equal", how)
    found = find_counterexample(left, right)
    if found is not None:
        return Equivalence(names, "different", "a counterexample, proven", found)
    how = "the normal forms differ, no identity was found, and no counterexample either"
    return Equivalence(names, "undecided", how)


def _check_signatures(left: Recurrence, right: Recurrence) -> None:
    for what, ours, theirs in (
        ("inputs", left.inputs, right.inputs),
        ("parameters", left.params, right.params),
        ("outputs", left.outputs, right.outputs),
        ("states", left.states, right.states),
    ):
        mine, other = _signature(ours), _signature(theirs)
        if mine != other:
            raise Incomparable(f"the {what} differ: {_listed(mine)} against {_listed(other)}")


def _signature(declared: Sequence[Any]) -> dict[str, Axes]:
    return {each.name: each.axes for each in declared}


def _listed(signature: Mapping[str, Axes]) -> str:
    shown = (f"{name}[{', '.join(axes)}]" if axes else name for name, axes in sorted(signature.items()))
    return ", ".join(shown) or "none"


def _same_normal_form(left: Recurrence, right: Recurrence) -> bool:
    forms = []
    for recurrence in (left, right):
        try:
            forms.append([_content(normalise(stage)) for stage in split(recurrence)])
        except SpecError:  # of another class: its statements can still be run
            return False
    return bool(forms[0] == forms[1])


def _content(normal: Normal) -> tuple[Any, ...]:
    """All of a normal form but the recurrence it came from; outputs in the order of their names."""
    readouts = set(normal.readouts)
    update = (normal.decay, normal.value_decay, normal.writes, normal.coupled, normal.elementwise)
    return (normal.state, normal.axes, *update, readouts, dict(normal.outputs))


def _sizes(left: Recurrence, right: Recurrence) -> dict[str, int]:
    axes = dict.fromkeys((*left.axes, *right.axes))
    return {axis: SIZES[number % len(SIZES)] for number, axis in enumerate(axes)}


def _same_polynomials(left: Recurrence, right: Recurrence, sizes: Mapping[str, int]) -> bool:
    """Whether a token of both, from the same state, gives the same; False where that does not decide."""
    if any(_sees_the_end(each) for each in (left, right)) or _carried(left) != _carried(right):
        return False
    for unknowns in UNKNOWNS:
        try:
            return _equal_tokens(polynomials(unknowns), left, right, sizes)
        except OverflowError:
            continue
    return False


def _carried(recurrence: Recurrence) -> set[tuple[str, Axes]]:
    return {(each.name, each.axes) for each in carried(recurrence)}


def _sees_the_end(recurrence: Recurrence) -> bool:
    """Whether a statement reads the final state: then a token is not the same for every length."""
    waiting: list[Statement] = list(recurrence.statements)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, Loop):
            waiting += statement.body
        elif any(isinstance(node, Final) for node in walk(statement.value)):
            return True
    return False


def _equal_tokens(ring: Polynomials, left: Recurrence, right: Recurrence, sizes: Mapping[str, int]) -> bool:
    given: dict[str, Any] = {}

    def unknown(name: str, axes: Axes) -> Any:
        if name not in given:
            values = np.empty([sizes[axis] for axis in axes], dtype=object)
            for index in np.ndindex(*values.shape):
                values[index] = ring.variable(name, index)
            given[name] = values
        return given[name]

    found = []
    for recurrence in (left, right):
        arithmetic = TokenLoop(sizes, ring.oracle.number, ring.oracle.apply)
        inputs = {each.name: [unknown(each.name, each.axes)] for each in recurrence.inputs}
        params = {each.name: unknown(each.name, each.axes) for each in recurrence.params}
        start = {each.name: unknown(each.name, each.axes) for each in carried(recurrence)}
        outputs, final = run(recurrence, arithmetic, inputs, params, start, 1)
        shapes = {each.name: [sizes[axis] for axis in each.axes] for each in recurrence.outputs}
        values = {name: np.broadcast_to(tokens[0], shapes[name]) for name, tokens in outputs.items()}
        found.append(values | final)
    relations = ring.oracle.relations()
    for name, ours in found[0].items():
        for one, two in zip(np.ravel(ours), np.ravel(found[1][name]), strict=True):
            if one != two and (not relations or (one - two).rem(relations)):
                return False
    return True
