"""From the syntax of an expression to a typed expression over named axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from rnnc.dsl import arithmetic, axes, syntax
from rnnc.dsl.axes import Value, refuse
from rnnc.dsl.calls import call, placed
from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.expression import Constant, Expression, Size
from rnnc.dsl.functions import FUNCTIONS
from rnnc.dsl.matrices import matmul
from rnnc.dsl.scope import Scope


class Lowering:
    """Lowers the expressions of one spec; findings are collected, and what they spoil has no value."""

    def __init__(self, scope: Scope, findings: list[Diagnostic]) -> None:
        self.scope = scope
        self.findings = findings

    def lower(self, node: syntax.Syntax) -> Value | None:
        """The typed value; None after an error, which is then among the findings."""
        try:
            return self._lower(node)
        except SpecError as error:
            self.findings += error.diagnostics
            return None

    def _lower(self, node: syntax.Syntax) -> Value | None:
        match node:
            case syntax.Number(value, _, span):
                return Value(arithmetic.constant(value, span))
            case syntax.Reference(name, span):
                return self._reference(name, span)
            case syntax.Negate(operand, span):
                return self._of(lambda v: _negated(v, span), operand)
            case syntax.Transpose(operand, span):
                return self._of(lambda v: axes.transpose(v, span), operand)
            case syntax.Binary():
                return self._binary(node)
            case syntax.Index():
                return self._index(node)
            case syntax.Apply():
                return call(self, node)

    def _of(self, build: Callable[..., Value], *operands: syntax.Syntax) -> Value | None:
        """`build` of the operands' values, all of which are lowered even if one has an error."""
        values = [self.lower(operand) for operand in operands]
        return None if None in values else build(*values)

    def _reference(self, name: str, span: Span) -> Value | None:
        if name == "I":
            return axes.identity(span)
        if name == "inf":
            raise refuse("range", "'inf' stands in ranges only", span)
        if name in FUNCTIONS and name not in self.scope.symbols:
            raise refuse("unknown-name", f"'{name}' is a function", span, f"call it: {name}(...)")
        symbol = self.scope.look_up(name, span)
        match symbol.kind:
            case "axis":
                return Value(Size(name, span))
            case "output":
                hint = "give the value a name with 'let' and read that"
                raise refuse("output-read", f"the output '{name}' cannot be read", span, "", hint)
            case "index":
                hint = f"'x[{name}]' is the micro-step of an x over '{symbol.axis}'"
                raise refuse("index", f"'{name}' counts micro-steps and has no value", span, "", hint)
            case _:
                return symbol.value and replace(
                    symbol.value, expression=placed(symbol.value.expression, span)
                )

    def _binary(self, node: syntax.Binary) -> Value | None:
        if node.operator == "**":
            return self._power(node)
        left, right = self.lower(node.left), self.lower(node.right)
        if left is None or right is None:
            return None
        try:
            return _combined(node.operator, left, right, node.span)
        except SpecError as error:  # the operator is the smallest place that is wrong
            whole, sign = node.span, node.operator_span
            moved = [replace(d, span=sign) if d.span == whole else d for d in error.diagnostics]
            raise SpecError(moved) from None

    def _power(self, node: syntax.Binary) -> Value | None:
        base, exponent = self.lower(node.left), self.constant(node.right)
        if base is None or exponent is None:
            return None
        return axes.power(base, exponent, node.span)

    def constant(self, node: syntax.Syntax) -> Fraction | None:
        """The exact number that the expression folds to; None, with a finding, where there is none."""
        value = self.lower(node)
        if value is None:
            return None
        if isinstance(value.expression, Constant):
            return value.expression.value
        hint = "only numbers and + - * / ** between them"
        self.findings.append(
            Diagnostic("not-constant", "a constant must stand here", node.span, hints=(hint,))
        )
        return None

    def _index(self, node: syntax.Index) -> Value | None:
        body = self.lower(node.body)
        name, span = node.index.text, node.index.span
        symbol = self.scope.symbols.get(name)
        if symbol is None or symbol.kind != "index":
            what = "a number" if name.isdigit() else f"'{name}'"
            hint = "'for i in n:' goes through the axis n; inside it, 'x[i]' is one micro-step of x"
            raise refuse("index", f"{what} is not the variable of a loop around this line", span, "", hint)
        self.scope.read.add(name)
        return body and axes.select(body, symbol.axis, name, node.span)


def _combined(operator: syntax.Operator, left: Value, right: Value, span: Span) -> Value:
    """`left operator right`, for all operators but the power."""

    def subtract(a: Expression, b: Expression) -> Expression:
        return arithmetic.add(a, arithmetic.negate(b, b.span), span)

    def divide(a: Expression, b: Expression) -> Expression:
        return arithmetic.multiply(a, arithmetic.power(b, Fraction(-1), b.span), span)

    match operator:
        case "@":
            return matmul(left, right, span)
        case "+":
            return axes.elementwise(left, right, "+", lambda a, b: arithmetic.add(a, b, span), span)
        case "-":
            return axes.elementwise(left, right, "-", subtract, span)
        case "*":
            return axes.elementwise(left, right, "*", lambda a, b: arithmetic.multiply(a, b, span), span)
        case _:
            return axes.elementwise(left, right, "/", divide, span)


def _negated(value: Value, span: Span) -> Value:
    return replace(value, expression=arithmetic.negate(value.expression, span))
