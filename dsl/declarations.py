"""Inputs, parameters, states and outputs: their axes, ranges, defaults and initialisers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from rnnc.dsl.axes import Trait, refuse, shaped, with_size
from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.expression import Axes, Expression, Name, walk
from rnnc.dsl.initialisers import INITIALISERS, Reach, reach
from rnnc.dsl.interval import Interval
from rnnc.dsl.labels import base
from rnnc.dsl.lowering import Lowering
from rnnc.dsl.recurrence import Initialiser, Input, Output, Param, State
from rnnc.dsl.scope import Symbol, counted, meant
from rnnc.dsl.syntax import Apply, Bounds, Declared, Negate, Number, Reference, Syntax, Word

Tuples = tuple[tuple[Input, ...], tuple[Param, ...], tuple[State, ...], tuple[Output, ...]]


class Declarations:
    """What a spec declares, in the order of the text. Errors go to the findings of `lowering`."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
        self.scope = lowering.scope
        self.findings = lowering.findings
        self.words: dict[str, Word] = {}
        self.items: list[Declared] = []
        self.inputs: list[Input] = []
        self.params: list[Param] = []
        self.states: list[State] = []
        self.outputs: list[Output] = []

    def tuples(self) -> Tuples:
        return tuple(self.inputs), tuple(self.params), tuple(self.states), tuple(self.outputs)

    def axes(self, words: Sequence[Word]) -> None:
        """Declare the axes of the first line."""
        for word in words:
            self._declare(Symbol(word.text, "axis", word.span))
            self.words.setdefault(word.text, word)

    def add(self, items: Sequence[Declared]) -> None:
        """Declare all names first, then read what is said of them: a state may start at a later parameter."""
        self.items += items
        kept = [item for item in items if self._declare(self._symbol(item))]
        for item in kept:
            try:
                self._add(item)
            except SpecError as error:
                self.findings += error.diagnostics

    def _declare(self, symbol: Symbol) -> bool:
        try:
            self.scope.declare(symbol)
        except SpecError as error:
            self.findings += error.diagnostics
            return False
        return True

    # Axes ---------------------------------------------------------------------------------------------

    def _symbol(self, item: Declared) -> Symbol:
        name = item.word.text
        axes = self._declared_axes(item)
        if axes is None:
            return Symbol(name, item.kind, item.word.span)
        traits: list[Trait] = ["state"] if item.kind == "state" else []
        traits += ["complex"] if item.complex else []
        return Symbol(name, item.kind, item.word.span, shaped(Name(name, axes), axes, *traits))

    def _declared_axes(self, item: Declared) -> Axes | None:
        """The axes with the second of a square primed; None, with findings, where they cannot be used."""
        found: list[str] = []
        sound = True
        for word in item.axes:
            symbol = self.scope.symbols.get(word.text)
            if symbol is None or symbol.kind != "axis":
                sound = False
                self.findings.append(self._unknown_axis(word))
                continue
            self.scope.read.add(word.text)
            found.append(word.text)
        if len(set(found)) < len(found):
            if item.kind != "param" or len(found) != 2:
                message = f"'{item.word.text}' repeats an axis"
                label = "only parameters may be square: 'param R[K, K]'"
                self.findings.append(Diagnostic("repeated-axis", message, item.span, label))
                return None
            return (found[0], found[0] + "'") if sound else None
        return tuple(found) if sound else None

    def _unknown_axis(self, word: Word) -> Diagnostic:
        hints = meant(word.text, self.words) or (f"declare it: 'recurrence name[..., {word.text}]:'",)
        return Diagnostic("unknown-name", f"'{word.text}' is not an axis", word.span, hints=hints)

    # What stands behind the names ---------------------------------------------------------------------

    def _add(self, item: Declared) -> None:
        symbol = self.scope.symbols[item.word.text]
        axes = symbol.value.axes if symbol.value else ()
        name, span = item.word.text, item.span
        bounds = interval(self.lowering, item.bounds) if item.bounds else None
        match item.kind:
            case "input":
                default = self._default(item, axes)
                self.inputs.append(Input(name, axes, bounds, item.per_group, default, span))
            case "param":
                start = self._initialiser(item.initialiser) if item.initialiser else None
                default = self._default(item, axes)
                self.params.append(Param(name, axes, bounds, item.shared, default, start, span))
            case "state":
                self.states.append(State(name, axes, self._initial(item, axes), item.complex, span))
            case "output":
                self.outputs.append(Output(name, axes, span))

    def _default(self, item: Declared, axes: Axes) -> Expression | None:
        if item.default is None:
            return None
        value = self.lowering.lower(item.default)
        if value is None:
            return None
        if value.unknown and len({base(axis) for axis in axes}) < len(axes):
            value = with_size(value, axes[0])
        if any(isinstance(node, Name) for node in walk(value.expression)):
            hint = "numbers, sizes of axes, and functions of them"
            raise refuse(
                "not-constant", "a default cannot depend on other values", item.default.span, "", hint
            )
        if not set(value.axes) <= set(axes):
            message = f"'{item.word.text}' is {_shown(axes)}, its default is {value}"
            raise refuse("axis-mismatch", message, item.default.span)
        return value.expression

    def _initial(self, item: Declared, axes: Axes) -> str | None:
        if item.default is None:
            return None
        if not isinstance(item.default, Reference):
            hint = f"'state {item.word.text}' alone starts at zero; 'param S0[...]' declares a learned start"
            raise refuse("initial", "a state starts at zero or at a parameter", item.default.span, "", hint)
        name, span = item.default.name, item.default.span
        symbol = self.scope.look_up(name, span)
        if symbol.kind != "param":
            raise refuse("initial", f"a state starts at a parameter, '{name}' is none", span)
        if symbol.value is not None and symbol.value.axes != axes:
            message = f"'{item.word.text}' is {_shown(axes)}, '{name}' is {_shown(symbol.value.axes)}"
            raise refuse("axis-mismatch", message, span)
        return name

    def _initialiser(self, node: Syntax) -> Initialiser | None:
        if isinstance(node, Apply):
            return self._call(node.function.text, node.function.span, node.arguments, node.span)
        if isinstance(node, Reference):
            return self._call(node.name, node.span, (), node.span)
        value = self.lowering.constant(node)
        return None if value is None else Initialiser("constant", (float(value),), node.span)

    def _call(self, name: str, span: Span, arguments: Sequence[Syntax], whole: Span) -> Initialiser | None:
        kind = INITIALISERS.get(name)
        if kind is None:
            hints = meant(name, INITIALISERS) or (f"one of: {', '.join(INITIALISERS)}",)
            raise refuse("unknown-initialiser", f"there is no initialiser '{name}'", span, "", *hints)
        if len(arguments) != kind.numbers + kind.nested:
            expected = kind.numbers + kind.nested
            message = f"'{name}' takes {counted(expected)}, not {len(arguments)}"
            raise refuse("arity", message, span, "", f"{kind.spelling}: {kind.doc}")
        nested = [self._initialiser(argument) for argument in arguments[: int(kind.nested)]]
        numbers = [self.lowering.constant(argument) for argument in arguments[int(kind.nested) :]]
        if None in nested or None in numbers:
            return None
        inner = [n for n in nested if n is not None]
        values = [float(n) for n in numbers if n is not None]
        if any(n.name == "fixed" for n in inner):
            raise refuse("nesting", "'fixed' stands around the whole initialiser", whole)
        found = Initialiser(name, (*inner, *values), whole)
        _reach(found)
        return found


def _reach(initialiser: Initialiser) -> Reach:
    """Between which values it starts a parameter. Raises SpecError where its arguments make no sense."""
    inner = [_reach(argument) for argument in initialiser.arguments if isinstance(argument, Initialiser)]
    numbers = [argument for argument in initialiser.arguments if not isinstance(argument, Initialiser)]
    try:
        return reach(initialiser.name, inner[0] if inner else None, numbers)
    except ValueError as error:
        raise refuse("range", f"'{initialiser.name}' {error}", initialiser.span) from None


def _shown(axes: Axes) -> str:
    return f"[{', '.join(map(base, axes))}]" if axes else "a scalar"


# Ranges -----------------------------------------------------------------------------------------------


def interval(lowering: Lowering, bounds: Bounds) -> Interval | None:
    """The interval that is spelled; None, with a finding, where an end is no number.

    Raises SpecError (`range`) for an interval without numbers.
    """
    low, high = _end(lowering, bounds.low), _end(lowering, bounds.high)
    if low is None or high is None:
        return None
    empty = low > high or (low == high and (bounds.low_open or bounds.high_open or math.isinf(low)))
    if empty:
        hint = "the smaller end comes first" if low > high else "'[' and ']' include the end"
        raise refuse("range", "there is no number in this range", bounds.span, "", hint)
    return Interval(float(low), float(high), bounds.low_open, bounds.high_open)


def _end(lowering: Lowering, node: Syntax) -> Fraction | float | None:
    match node:
        case Reference(name="inf"):
            return math.inf
        case Negate(operand=Reference(name="inf")):
            return -math.inf
        case Number(value=value):
            return value
        case _:
            return lowering.constant(node)
