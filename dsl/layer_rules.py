"""The rules of a `layer:` block: names, functions, order. Shapes are the business of who prints the layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.functions import FUNCTIONS
from rnnc.dsl.scope import KIND_WORDS, Symbol, check_name, counted, meant
from rnnc.dsl.syntax import (
    LayerBinary,
    LayerBinding,
    LayerBlock,
    LayerCall,
    LayerExpression,
    LayerName,
    LayerNegate,
    LayerNumber,
)

MAX_WINDOW = 1024
MAX_RANK = 65536


@dataclass(frozen=True, slots=True)
class LayerFunction:
    """How many values a function takes, how many numbers after them, and which keywords."""

    values: int
    numbers: int = 0
    keywords: tuple[str, ...] = ()


LAYER_FUNCTIONS: dict[str, LayerFunction] = {
    "linear": LayerFunction(1, keywords=("rank", "bias")),
    "conv": LayerFunction(1, numbers=1, keywords=("bias",)),
    "shift": LayerFunction(1),
    "rmsnorm": LayerFunction(1),
    "unit": LayerFunction(1),
    **{f.name: LayerFunction(f.arity) for f in FUNCTIONS.values() if f.public},
}


class LayerCheck:
    """Checks one block. `symbols`: the recurrence's names; `defaulted`: inputs that may stay unbound."""

    def __init__(self, symbols: dict[str, Symbol], defaulted: frozenset[str]) -> None:
        self.symbols = symbols
        self.inputs = {name for name, symbol in symbols.items() if symbol.kind == "input"}
        self.outputs = {name for name, symbol in symbols.items() if symbol.kind == "output"}
        self.defaulted = defaulted
        self.bound: dict[str, Span] = {}
        self.findings: list[Diagnostic] = []

    def check(self, block: LayerBlock) -> LayerBlock:
        """The block with the values of its keywords as numbers; what is wrong goes to `findings`."""
        bindings = tuple(self._binding(b, block.bindings[i + 1 :]) for i, b in enumerate(block.bindings))
        for name in sorted(self.inputs - self.bound.keys() - self.defaulted):
            message = f"the layer does not bind the input '{name}'"
            hint = f"for example: {name} = linear(x)"
            self._report("layer-unbound", message, block.span, "", hint)
        if "y" not in self.bound:
            self._report("layer-unbound", "the layer has no output", block.span, "'y = ...' is missing")
        self._check_order(block)
        return replace(block, bindings=bindings)

    def _report(self, code: str, message: str, span: Span, label: str = "", *hints: str) -> None:
        self.findings.append(Diagnostic(code, message, span, label, hints=hints))

    # Bindings -----------------------------------------------------------------------------------------

    def _binding(self, binding: LayerBinding, later: tuple[LayerBinding, ...]) -> LayerBinding:
        value = self._value(binding.value)
        read_later = {node.name for b in later for node in walk(b.value) if isinstance(node, LayerName)}
        for name, span in zip(binding.targets, binding.target_spans, strict=True):
            self._target(name, span, read_later)
        return replace(binding, value=value)

    def _target(self, name: str, span: Span, read_later: set[str]) -> None:
        symbol = self.symbols.get(name)
        try:
            check_name(name, span)
        except SpecError as error:
            self.findings += error.diagnostics
        if name in self.bound:
            related = ((self.bound[name], "first bound here"),)
            self.findings.append(
                Diagnostic("duplicate-name", f"'{name}' is bound twice", span, related=related)
            )
        elif name != "y" and symbol is not None and symbol.kind != "input":
            label = f"{KIND_WORDS[symbol.kind]}; a layer binds inputs"
            self._report("layer-target", f"'{name}' cannot be bound here", span, label)
        elif name != "y" and symbol is None and name not in read_later:
            label = "not an input, and nothing below reads it"
            self._report("unknown-name", f"'{name}' is not declared", span, label, *meant(name, self.inputs))
        elif name == "y" and name in self.inputs:
            message = "'y' is the layer's output and cannot be an input as well"
            self._report("layer-target", message, span, "", "give the input another name")
        self.bound.setdefault(name, span)

    def _check_order(self, block: LayerBlock) -> None:
        """Inputs come first: they cannot depend on what the recurrence makes of them."""
        after: Span | None = None
        for binding in block.bindings:
            reads = [n for n in walk(binding.value) if isinstance(n, LayerName) and n.name in self.outputs]
            if reads and after is None:
                after = reads[0].span
            for name, span in zip(binding.targets, binding.target_spans, strict=True):
                if name in self.inputs and name != "y" and after is not None:
                    message = f"the input '{name}' is bound after an output was read"
                    related = ((after, "read here"),)
                    self.findings.append(Diagnostic("layer-order", message, span, related=related))

    # Values -------------------------------------------------------------------------------------------

    def _value(self, value: LayerExpression) -> LayerExpression:
        match value:
            case LayerName(name=name, span=span):
                self._name(name, span)
                return value
            case LayerNumber():
                return value
            case LayerNegate(operand=operand):
                return replace(value, operand=self._value(operand))
            case LayerBinary(left=left, right=right):
                return replace(value, left=self._value(left), right=self._value(right))
            case LayerCall():
                return self._call(value)

    def _name(self, name: str, span: Span) -> None:
        known = {"x", *self.bound, *self.outputs}
        if name in known:
            return
        symbol = self.symbols.get(name)
        if symbol is not None and symbol.kind == "input":
            self._report("order", f"'{name}' is read before the line that binds it", span)
        elif symbol is not None:
            label = f"{KIND_WORDS[symbol.kind]}; a layer reads 'x', outputs and what it has bound"
            self._report("layer-read", f"'{name}' cannot be read here", span, label)
        else:
            label = "not 'x', an output or a name bound above"
            self._report("unknown-name", f"'{name}' is not declared", span, label, *meant(name, known))

    def _call(self, call: LayerCall) -> LayerExpression:
        kind = LAYER_FUNCTIONS.get(call.function)
        if kind is None:
            message = f"a layer has no function '{call.function}'"
            self._report(
                "unknown-function", message, call.function_span, "", *meant(call.function, LAYER_FUNCTIONS)
            )
            return call
        expected = kind.values + kind.numbers
        if len(call.arguments) != expected:
            message = f"'{call.function}' takes {counted(expected)}, not {len(call.arguments)}"
            hint = ("conv(linear(x), 4) looks at 4 tokens",) if call.function == "conv" else ()
            self._report("arity", message, call.function_span, "", *hint)
            return call
        values = [self._value(argument) for argument in call.arguments[: kind.values]]
        numbers = call.arguments[kind.values :]
        for number in numbers:
            self._whole(number, f"the length of '{call.function}'", MAX_WINDOW)
        keywords = tuple((name, self._keyword(call, kind, name, value)) for name, value in call.keywords)
        return replace(call, arguments=(*values, *numbers), keywords=keywords)

    def _keyword(
        self, call: LayerCall, kind: LayerFunction, name: str, value: LayerExpression
    ) -> LayerExpression:
        if name not in kind.keywords:
            message = f"'{call.function}' takes no '{name}='"
            self._report("arity", message, value.span, "", *meant(name, kind.keywords))
        elif [other for other, _ in call.keywords].count(name) > 1:
            self._report("duplicate-name", f"'{name}=' stands here twice", value.span)
        elif name == "rank":
            self._whole(value, "a rank", MAX_RANK)
        else:
            return self._switch(name, value)
        return value

    def _whole(self, value: LayerExpression, what: str, most: int) -> None:
        if not (isinstance(value, LayerNumber) and isinstance(value.value, int) and 1 <= value.value <= most):
            self._report("range", f"{what} is a whole number from 1 to {most}", value.span)

    def _switch(self, name: str, value: LayerExpression) -> LayerExpression:
        words = {"true": 1, "false": 0}
        if isinstance(value, LayerName) and value.name.lower() in words:
            return LayerNumber(words[value.name.lower()], value.span)
        if not (isinstance(value, LayerNumber) and value.value in (0, 1)):
            self._report("range", f"'{name}=' is 1 or 0", value.span)
        return value


def walk(value: LayerExpression) -> Iterator[LayerExpression]:
    """The expression and its parts, except the values of keywords."""
    yield value
    match value:
        case LayerNegate(operand=operand):
            yield from walk(operand)
        case LayerBinary(left=left, right=right):
            yield from walk(left)
            yield from walk(right)
        case LayerCall(arguments=arguments):
            for argument in arguments:
                yield from walk(argument)
        case _:
            pass
