"""A checked recurrence: declarations, statements in order, the eigenvalue claim, the layer block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from rnnc.dsl.diagnostics import NOWHERE, Diagnostic, Span
from rnnc.dsl.expression import Axes, Expression
from rnnc.dsl.interval import Interval
from rnnc.dsl.syntax import LayerBlock


@dataclass(frozen=True, slots=True)
class Input:
    """A per-token value of shape [B, T, H, axes] ([B, T, G, axes] if `per_group`); `range` is promised.

    `default`, made of numbers and sizes, may have fewer axes and makes it optional in calls. `handed`: it
    is what an earlier stage hands on, so that a token alone does not choose it.
    """

    name: str
    axes: Axes
    range: Interval | None = None
    per_group: bool = False
    default: Expression | None = None
    span: Span = field(default=NOWHERE, compare=False)
    handed: bool = False


@dataclass(frozen=True, slots=True)
class Initialiser:
    """A named initialiser with constant or nested arguments: `inv_softplus(log_uniform(0.001, 0.1))`."""

    name: str
    arguments: tuple[float | Initialiser, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Param:
    """A learned value of shape [H, axes] ([axes] if `shared`)."""

    name: str
    axes: Axes
    range: Interval | None = None
    shared: bool = False
    default: Expression | None = None
    initialiser: Initialiser | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class State:
    """A carried array; it starts at zero, or at the parameter named `initial`."""

    name: str
    axes: Axes
    initial: str | None = None
    complex: bool = False
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    axes: Axes
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Let:
    """`let name = value`, the value as of this line."""

    name: str
    value: Expression
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Assign:
    """`target <- value`; the target is a state or an output."""

    target: str
    value: Expression
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Loop:
    """`for index in axis:` micro-steps inside one token."""

    index: str
    axis: str
    body: tuple[Statement, ...]
    span: Span = field(default=NOWHERE, compare=False)


Statement = Let | Assign | Loop


def unrolled(body: Iterable[Statement]) -> Iterator[Let | Assign]:
    """The lets and assignments in order, those inside loops too."""
    for statement in body:
        if isinstance(statement, Loop):
            yield from unrolled(statement.body)
        else:
            yield statement


def mapped(statement: Statement, change: Callable[[Expression], Expression]) -> Statement:
    """The statement with every value in it changed."""
    if isinstance(statement, Loop):
        return replace(statement, body=tuple(mapped(inner, change) for inner in statement.body))
    return replace(statement, value=change(statement.value))


@dataclass(frozen=True, slots=True)
class Claim:
    """`eigenvalues in ...`: to be checked, never believed."""

    interval: Interval
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Earlier:
    """An input or a parameter `name` that a caller does not give: kernels find it in what they are given.

    row: the input `source` of the token `lag` before; mark: 1 for token number `lag` of a sequence, 0 for
    others; start: the array `source`, [N, H, axes], that was carried into the sequence.
    """

    name: str
    kind: Literal["row", "mark", "start"]
    source: str = ""
    lag: int = 0


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What a spec declares, checked: every name resolves, every axis matches, statements are in order."""

    name: str
    axes: Axes
    doc: str
    inputs: tuple[Input, ...]
    params: tuple[Param, ...]
    states: tuple[State, ...]
    outputs: tuple[Output, ...]
    statements: tuple[Statement, ...]
    claim: Claim | None = None
    layer: LayerBlock | None = None
    warnings: tuple[Diagnostic, ...] = field(default=(), compare=False)
    source: str = field(default="", compare=False)
    path: str = field(default="<spec>", compare=False)
    earlier: tuple[Earlier, ...] = ()

    @property
    def loops(self) -> Axes:
        """The axes that loops run over: the micro-steps of a token."""
        return tuple(statement.axis for statement in self.statements if isinstance(statement, Loop))

    @property
    def arguments(self) -> tuple[Input | Param, ...]:
        """What a call is given, in order: the inputs, then the parameters."""
        return (*self.inputs, *self.params)

    @property
    def declared(self) -> tuple[Input | Param | Output, ...]:
        """Everything that has a shape outside the recurrence."""
        return (*self.inputs, *self.params, *self.outputs)
