"""Calls: elementwise functions, reductions along an axis, and what looks along time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Protocol

from rnnc.dsl import axes, syntax
from rnnc.dsl.axes import Value, refuse
from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.expression import Delay, Expression, Final
from rnnc.dsl.functions import FUNCTIONS
from rnnc.dsl.scope import KIND_WORDS, Scope, Symbol, counted, meant

COMPLEX_FUNCTIONS = {"re": 1, "im": 1, "conj": 1, "angle": 1, "complex": 2}
REAL_RESULTS = ("re", "im", "angle", "abs")
TAKES_COMPLEX = (*COMPLEX_FUNCTIONS, "abs", "exp", "sin", "cos")
MAX_DELAY = 4096
_ELSEWHERE = {
    "diag": "'I * g' is the diagonal matrix of a vector g",
    "dot": "'a.T @ b' is the dot product",
    "matmul": "'a @ b' is the matrix product",
    "mm": "'a @ b' is the matrix product",
    "outer": "'a @ b.T' is the outer product",
    "einsum": "'@' contracts, '.T' transposes, 'sum(x, K)' reduces",
    "transpose": "'a.T' transposes",
    "mean": "'sum(x, K) / K' is the mean",
    "square": "'x**2' is the square",
    "pow": "'x**2' is a power; exponents are constants",
    "log1p": "'softplus' is log(1 + exp(x))",
    "normalize": "'unit(x)' has length one",
    "l2norm": "'unit(x)' has length one",
    "cumsum": "a running sum is a state: 's <- s + x'",
}


class Reader(Protocol):
    """Who lowers the arguments of a call."""

    scope: Scope

    def lower(self, node: syntax.Syntax) -> Value | None: ...

    def constant(self, node: syntax.Syntax) -> Fraction | None: ...


def call(reader: Reader, node: syntax.Apply) -> Value | None:
    """The value of a call; None where an argument has an error, which is then among the reader's findings."""
    name = node.function.text
    match name:
        case "sum" | "norm" | "unit" | "softmax":
            return _along(reader, node)
        case "prev" | "delay":
            return _delay(reader, node)
        case "final":
            return _final(reader, node)
        case _:
            return _function(reader, node)


def _function(reader: Reader, node: syntax.Apply) -> Value | None:
    name, span = node.function.text, node.function.span
    function = FUNCTIONS.get(name)
    arity = function.arity if function and function.public else COMPLEX_FUNCTIONS.get(name)
    if arity is None:
        raise SpecError([_unknown_function(reader, name, span)])
    _check_count(node, arity, arity)
    values = [reader.lower(argument) for argument in node.arguments]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if any("complex" in value.traits for value in known) and name not in TAKES_COMPLEX:
        raise refuse("complex", f"'{name}' is not defined for complex values", span)
    value = axes.apply(name, known, node.span)
    if name in REAL_RESULTS:
        return replace(value, traits=value.traits - {"complex"})
    return replace(value, traits=value.traits | {"complex"}) if name == "complex" else value


def _unknown_function(reader: Reader, name: str, span: Span) -> Diagnostic:
    known = [f.name for f in FUNCTIONS.values() if f.public]
    known += [*COMPLEX_FUNCTIONS, "sum", "norm", "unit", "softmax", "prev", "delay", "final"]
    if name in reader.scope.symbols:
        label = f"{KIND_WORDS[reader.scope.symbols[name].kind]}, not a function"
        return Diagnostic("unknown-function", f"'{name}' cannot be called", span, label)
    if name in ("concat", "linear", "conv", "shift", "rmsnorm"):
        label = "belongs into 'layer:'"
        return Diagnostic("unknown-function", f"'{name}' is not a function of the recurrence", span, label)
    hints = (_ELSEWHERE[name],) if name in _ELSEWHERE else meant(name, known)
    return Diagnostic("unknown-function", f"there is no function '{name}'", span, hints=hints)


def _along(reader: Reader, node: syntax.Apply) -> Value | None:
    """A function along an axis, which is named unless a vector has but one."""
    name = node.function.text
    named = name in ("sum", "softmax")
    if named and len(node.arguments) == 1:
        hint = f"'{name}(x, K)' goes along K"
        raise refuse("arity", f"'{name}' names its axis", node.function.span, "", hint)
    _check_count(node, 1, 2)
    value = reader.lower(node.arguments[0])
    axis = _axis(reader, node.arguments[1]) if len(node.arguments) == 2 else ""
    if value is None or axis is None:
        return None
    if not axis and len(value.axes) != 1:
        hint = f"'{name}(x, K)' goes along K"
        raise refuse("axis-mismatch", f"'{name}' of {value}: along which axis?", node.span, "", hint)
    axis = axis or value.axes[0]
    if "complex" in value.traits and name != "sum":
        raise refuse("complex", f"'{name}' is not defined for complex values", node.function.span)
    if name in ("sum", "norm"):
        return (axes.total if name == "sum" else axes.norm)(value, axis, node.span)
    axes.check_axis(value, axis, name, node.span)
    return axes.apply(name, [value], node.span, axis)


def _axis(reader: Reader, node: syntax.Syntax) -> str | None:
    if not isinstance(node, syntax.Reference):
        raise refuse("axis-mismatch", "the name of an axis must stand here", node.span)
    symbol = reader.scope.look_up(node.name, node.span)
    if symbol.kind != "axis":
        label = KIND_WORDS[symbol.kind]
        raise refuse("axis-mismatch", f"'{node.name}' is not an axis", node.span, label)
    return node.name


def _delay(reader: Reader, node: syntax.Apply) -> Value | None:
    name = node.function.text
    _check_count(node, 1 if name == "prev" else 2, 1 if name == "prev" else 2)
    symbol = _named(reader, node.arguments[0], name)
    steps = Fraction(1) if name == "prev" else reader.constant(node.arguments[1])
    if steps is None or symbol.value is None:
        return None
    if steps.denominator != 1 or not 1 <= steps <= MAX_DELAY:
        raise refuse("limit", f"a delay is a whole number from 1 to {MAX_DELAY}", node.arguments[1].span)
    if symbol.kind not in ("input", "let") or symbol.value.traits & {"state", "final", "loop"}:
        what = "depends on a state or a loop" if symbol.kind == "let" else f"is {KIND_WORDS[symbol.kind]}"
        message = f"'{name}' takes an input or a let free of states"
        raise refuse("delay", message, node.arguments[0].span, f"'{symbol.name}' {what}")
    body = placed(symbol.value.expression, node.arguments[0].span)
    return replace(symbol.value, expression=Delay(body, int(steps), node.span))


def _final(reader: Reader, node: syntax.Apply) -> Value | None:
    _check_count(node, 1, 1)
    symbol = _named(reader, node.arguments[0], "final")
    if symbol.kind != "state":
        label = KIND_WORDS[symbol.kind]
        raise refuse(
            "final", f"'final' takes a state, '{symbol.name}' is none", node.arguments[0].span, label
        )
    assert symbol.value is not None
    final = Final(symbol.name, symbol.value.axes, node.span)
    return replace(symbol.value, expression=final, traits=symbol.value.traits | {"final"})


def _named(reader: Reader, node: syntax.Syntax, function: str) -> Symbol:
    if not isinstance(node, syntax.Reference):
        hint = f"let part = ...; then '{function}(part)'" if function != "final" else "name a state"
        raise refuse(
            function if function == "final" else "delay", f"'{function}' takes a name", node.span, "", hint
        )
    return reader.scope.look_up(node.name, node.span)


def _check_count(node: syntax.Apply, least: int, most: int) -> None:
    count = len(node.arguments)
    if not least <= count <= most:
        expected = counted(most) if least == most else f"{least} or {counted(most)}"
        message = f"'{node.function.text}' takes {expected}, not {count}"
        raise refuse("arity", message, node.function.span)


def placed(expression: Expression, span: Span) -> Expression:
    """The expression as it stands at another place of the text."""
    return replace(expression, span=span)
