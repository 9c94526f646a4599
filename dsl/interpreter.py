"""The naive token loop: a recurrence run one token at a time, straight from its statements.

This is the reference of everything else, so it knows nothing of normal forms, chunks or gradients, and it
runs over any `Arithmetic`: batched tensors (`rnnc.ops.reference`) and exact numbers (`rnnc.codegen.proof`).
A value is aligned to the axes of the expression it came from: its dimensions are those axes, in that order
(after whatever leading dimensions the arithmetic adds); a dimension may be 1 where it would be repeated.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol, assert_never

from rnnc.dsl.expression import (
    Add,
    Axes,
    Call,
    Constant,
    Delay,
    Expression,
    Final,
    Identity,
    Multiply,
    Name,
    Power,
    Rename,
    Select,
    Size,
    Sum,
    names,
    walk,
)
from rnnc.dsl.recurrence import Assign, Let, Loop, Recurrence, Statement

Value = Any


class Arithmetic(Protocol):
    """What the loop asks of numbers; `axes[i]` are the axes of `operands[i]`, `result` those of the value."""

    @abstractmethod
    def extent(self, axis: str) -> int:
        """The size of an axis; a primed axis has the size of the unprimed one."""

    @abstractmethod
    def constant(self, value: Fraction) -> Value:
        """A number, over no axes."""

    @abstractmethod
    def identity(self, axis: str) -> Value:
        """The identity matrix over (axis, axis')."""

    @abstractmethod
    def zeros(self, axes: Axes) -> Value:
        """Zero over the axes."""

    @abstractmethod
    def add(self, operands: Sequence[Value], axes: Sequence[Axes], result: Axes) -> Value:
        """The elementwise sum, broadcast by axis name."""

    @abstractmethod
    def multiply(self, operands: Sequence[Value], axes: Sequence[Axes], result: Axes) -> Value:
        """The elementwise product, broadcast by axis name."""

    @abstractmethod
    def power(self, base: Value, exponent: Fraction) -> Value:
        """The elementwise power."""

    @abstractmethod
    def call(
        self, function: str, operands: Sequence[Value], axes: Sequence[Axes], result: Axes, axis: str | None
    ) -> Value:
        """A function of `rnnc.dsl.functions`; `axis` is the one that `unit` and `softmax` work along."""

    @abstractmethod
    def sum(self, value: Value, axes: Axes, axis: str) -> Value:
        """The sum over `axis`, which is dropped."""

    @abstractmethod
    def select(self, value: Value, axes: Axes, axis: str, index: int) -> Value:
        """The entry `index` along `axis`, which is dropped."""

    @abstractmethod
    def align(self, value: Value, axes: Axes, result: Axes) -> Value:
        """The value with its dimensions reordered to `result`, and repeated where it lacks one."""

    def contract(self, operands: Sequence[Value], axes: Sequence[Axes], axis: str, result: Axes) -> Value:
        """The product of the operands summed over `axis`."""
        return self.sum(self.multiply(operands, axes, (*result, axis)), (*result, axis), axis)


@dataclass(frozen=True, slots=True)
class Carried:
    """An array that goes from token to token: a state, or the value of `source` from `lag` tokens back."""

    name: str
    axes: Axes
    source: str = ""
    lag: int = 0


def carried(recurrence: Recurrence) -> tuple[Carried, ...]:
    """What the loop carries: the states in order, then the delayed values, the latest first."""
    depths: dict[str, int] = {}
    axes: dict[str, Axes] = {}
    for node in _nodes(recurrence.statements):
        if isinstance(node, Delay):
            if not isinstance(node.body, Name):
                raise ValueError("a delay is of a declared name")
            depths[node.body.name] = max(depths.get(node.body.name, 0), node.steps)
            axes[node.body.name] = node.body.axes
    found = [Carried(state.name, state.axes) for state in recurrence.states]
    for source, depth in depths.items():
        for lag in range(1, depth + 1):
            name = f"prev_{source}" if lag == 1 else f"prev_{source}_{lag}"
            while any(name == other.name for other in found):
                name += "_"
            found.append(Carried(name, axes[source], source, lag))
    return tuple(found)


def run(
    recurrence: Recurrence,
    arithmetic: Arithmetic,
    inputs: Mapping[str, Sequence[Value]],
    params: Mapping[str, Value],
    initial: Mapping[str, Value],
    steps: int,
) -> tuple[dict[str, list[Value]], dict[str, Value]]:
    """The outputs of every token, and what is carried after the last one.

    `inputs[name][t]` is the value at token t; `initial` maps names of `carried(recurrence)` to values, and
    what is missing starts at the state's parameter, or at zero.
    """
    arrays = carried(recurrence)
    start = {array.name: initial.get(array.name) for array in arrays}
    for state in recurrence.states:
        if start[state.name] is None and state.initial is not None:
            start[state.name] = params[state.initial]
    for array in arrays:
        if start[array.name] is None:
            start[array.name] = arithmetic.zeros(array.axes)

    def loop(
        statements: Sequence[Statement], final: Mapping[str, Value]
    ) -> tuple[_Outputs, dict[str, Value]]:
        outputs: _Outputs = {output.name: [] for output in recurrence.outputs}
        now = dict(start)
        for t in range(steps):
            scope = dict(params)
            scope.update({name: values[t] for name, values in inputs.items()})
            scope.update({_key(array): now[array.name] for array in arrays})
            token = _Token(recurrence, arithmetic, scope, final)
            token.execute(statements)
            now = {array.name: _carry(array, token.scope) for array in arrays}
            for name in outputs:
                if name in token.scope:
                    outputs[name].append(token.scope[name])
        return outputs, now

    late = _late(recurrence.statements)
    if not late:
        return loop(recurrence.statements, {})
    _, last = loop([statement for statement in recurrence.statements if statement not in late], {})
    return loop(recurrence.statements, last)


def evaluate(expression: Expression, arithmetic: Arithmetic, scope: Mapping[str, Value]) -> Value:
    """The value of an expression that holds no delay and no final state (a parameter's default)."""
    return _Evaluator(arithmetic, dict(scope), {}).value(expression)


_Outputs = dict[str, list[Value]]


def _carry(array: Carried, scope: Mapping[str, Value]) -> Value:
    """What is carried on after a token."""
    if array.lag > 1:
        return scope[_lagged(array.source, array.lag - 1)]
    return scope[array.source or array.name]


def _key(array: Carried) -> str:
    """Where a token finds the array: a state by its name."""
    return _lagged(array.source, array.lag) if array.source else array.name


def _lagged(source: str, lag: int) -> str:
    """The key of a delayed value: no name of a spec is like it."""
    return f"{source} -{lag}"


@dataclass(slots=True)
class _Evaluator:
    """Expressions over one token's names."""

    arithmetic: Arithmetic
    scope: dict[str, Value]
    final: Mapping[str, Value]
    indices: dict[str, int] = field(default_factory=dict)

    def value(self, expression: Expression) -> Value:
        arithmetic = self.arithmetic
        match expression:
            case Constant(value=value):
                return arithmetic.constant(value)
            case Size(axis=axis):
                return arithmetic.constant(Fraction(arithmetic.extent(axis)))
            case Identity(axis=axis):
                return arithmetic.identity(axis)
            case Name(name=name):
                return self.scope[name]
            case Add(terms=terms):
                return arithmetic.add(self._values(terms), _axes(terms), expression.axes)
            case Multiply(factors=factors):
                return arithmetic.multiply(self._values(factors), _axes(factors), expression.axes)
            case Sum(body=Multiply(factors=factors), axis=axis):
                return arithmetic.contract(self._values(factors), _axes(factors), axis, expression.axes)
            case Sum(body=body, axis=axis):
                return arithmetic.sum(self.value(body), body.axes, axis)
            case Power(base=base, exponent=exponent):
                return arithmetic.power(self.value(base), exponent)
            case Call(function=function, arguments=parts, axis=along):
                return arithmetic.call(function, self._values(parts), _axes(parts), expression.axes, along)
            case Rename(body=body):  # the order of the dimensions stays
                return self.value(body)
            case Select(body=body, axis=axis, index=index):
                return arithmetic.select(self.value(body), body.axes, axis, self.indices[index])
            case Delay(body=body, steps=steps):
                return self.scope[_lagged(body.name, steps)] if isinstance(body, Name) else self.value(body)
            case Final(state=state):
                return self.final[state]
            case _:
                assert_never(expression)

    def _values(self, parts: Sequence[Expression]) -> list[Value]:
        return [self.value(part) for part in parts]


class _Token(_Evaluator):
    """The statements of one token, executed in order."""

    __slots__ = ("targets",)

    def __init__(
        self,
        recurrence: Recurrence,
        arithmetic: Arithmetic,
        scope: dict[str, Value],
        final: Mapping[str, Value],
    ) -> None:
        super().__init__(arithmetic, scope, final)
        self.targets = {state.name: state.axes for state in recurrence.states}
        self.targets |= {output.name: output.axes for output in recurrence.outputs}

    def execute(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement:
                case Let(name=name, value=value):
                    self.scope[name] = self.value(value)
                case Assign(target=target, value=value):
                    result = self.targets[target]
                    self.scope[target] = self.arithmetic.align(self.value(value), value.axes, result)
                case Loop(index=index, axis=axis, body=body):
                    for number in range(self.arithmetic.extent(axis)):
                        self.indices[index] = number
                        self.execute(body)
                case _:
                    assert_never(statement)


def _axes(parts: Sequence[Expression]) -> list[Axes]:
    return [part.axes for part in parts]


def _nodes(statements: Sequence[Statement]) -> Iterator[Expression]:
    for statement in statements:
        if isinstance(statement, Loop):
            yield from _nodes(statement.body)
        else:
            yield from walk(statement.value)


def _late(statements: Sequence[Statement]) -> list[Statement]:
    """The statements that need a final state, directly or through a let."""
    late: list[Statement] = []
    unknown: set[str] = set()
    for statement in statements:
        if isinstance(statement, Loop):
            continue
        uses_final = any(isinstance(node, Final) for node in walk(statement.value))
        if uses_final or names(statement.value) & unknown:
            late.append(statement)
            unknown.add(statement.name if isinstance(statement, Let) else statement.target)
    return late
