"""The surface syntax of a spec, as the parser found it: plain data, every node with its span.

Nothing is resolved here: a `Reference` may name an input, an axis or nothing at all. Spans take no part in
equality, so two spellings that differ in layout alone parse to equal declarations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from rnnc.dsl.diagnostics import NOWHERE, Span

Operator = Literal["+", "-", "*", "/", "@", "**"]


@dataclass(frozen=True, slots=True)
class Word:
    """A name as it stands in the text: of an axis, of a declared value, of a target."""

    text: str
    span: Span = field(default=NOWHERE, compare=False)


# Expressions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number: `0.1` is one tenth. `text` keeps the spelling."""

    value: Fraction
    text: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in an expression: of a value, of an axis (its size), `I` or `inf`."""

    name: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Syntax
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """`left operator right`; `operator_span` is the operator alone."""

    operator: Operator
    left: Syntax
    right: Syntax
    span: Span = field(default=NOWHERE, compare=False)
    operator_span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Transpose:
    """`operand.T`."""

    operand: Syntax
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Apply:
    """`function(arguments)`: a function, a reduction, `prev`, `delay`, `final` or an initialiser."""

    function: Word
    arguments: tuple[Syntax, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    """`body[index]`: one micro-step of a value inside a `for`."""

    body: Syntax
    index: Word
    span: Span = field(default=NOWHERE, compare=False)


Syntax = Number | Reference | Negate | Binary | Transpose | Apply | Index


# Declarations and statements --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounds:
    """`[low, high)`: the ends are constant expressions in which `inf` is a number."""

    low: Syntax
    high: Syntax
    low_open: bool
    high_open: bool
    span: Span = field(default=NOWHERE, compare=False)


Kind = Literal["input", "param", "state", "output"]


@dataclass(frozen=True, slots=True)
class Declared:
    """One name of an `input`, `param`, `state` or `output` line, with what stands at the end of that line.

    `default` is the expression after `=`, `initialiser` the one after `~`.
    """

    kind: Kind
    word: Word
    axes: tuple[Word, ...]
    bounds: Bounds | None = None
    default: Syntax | None = None
    initialiser: Syntax | None = None
    per_group: bool = False
    shared: bool = False
    complex: bool = False
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class LetStatement:
    """`let word = value`."""

    word: Word
    value: Syntax
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Update:
    """`target <- value`."""

    target: Word
    value: Syntax
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class ForStatement:
    """`for index in axis:` with its body."""

    index: Word
    axis: Word
    body: tuple[Item, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class EigenvalueClaim:
    """`eigenvalues in bounds`."""

    bounds: Bounds
    span: Span = field(default=NOWHERE, compare=False)


# The layer block --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerName:
    """The module's input `x`, an earlier target, an output or an input of the recurrence."""

    name: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class LayerNumber:
    """A number: int where it was written without a point or an exponent, else float."""

    value: int | float
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class LayerCall:
    """`function(arguments, keyword=value)`; `keywords` in the order of the text.

    In a checked spec the value of `rank=` is a LayerNumber holding an int and that of `bias=` is
    LayerNumber(0) or LayerNumber(1).
    """

    function: str
    arguments: tuple[LayerExpression, ...]
    keywords: tuple[tuple[str, LayerExpression], ...] = ()
    span: Span = field(default=NOWHERE, compare=False)
    function_span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class LayerBinary:
    """Elementwise arithmetic: `+ - * /`."""

    op: Literal["+", "-", "*", "/"]
    left: LayerExpression
    right: LayerExpression
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class LayerNegate:
    operand: LayerExpression
    span: Span = field(default=NOWHERE, compare=False)


LayerExpression = LayerName | LayerNumber | LayerCall | LayerBinary | LayerNegate


@dataclass(frozen=True, slots=True)
class LayerBinding:
    """`targets = value`; a call right of several targets is made once for each of them."""

    targets: tuple[str, ...]
    value: LayerExpression
    span: Span = field(default=NOWHERE, compare=False)
    target_spans: tuple[Span, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class LayerBlock:
    """The bindings of `layer:`, in order."""

    bindings: tuple[LayerBinding, ...]
    span: Span = field(default=NOWHERE, compare=False)


# The whole --------------------------------------------------------------------------------------------

Item = Declared | LetStatement | Update | ForStatement | EigenvalueClaim | LayerBlock


@dataclass(frozen=True, slots=True)
class Declaration:
    """A spec: `recurrence word[axes]:`, its docstring and its items in the order of the text."""

    word: Word
    axes: tuple[Word, ...]
    doc: str
    items: tuple[Item, ...]
    version: int = 1
    source: str = field(default="", compare=False)
    path: str = field(default="<spec>", compare=False)
