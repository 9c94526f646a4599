"""The shapes of the values in a `layer:` block.

A value is a number, a vector of the model's width, or one array per head (or group). All shapes are known
except that of a `linear`, which follows from its target or from what it meets: `expected` hands it down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.expression import Axes, union
from rnnc.dsl.syntax import LayerBinary, LayerCall, LayerExpression, LayerName, LayerNegate, LayerNumber


@dataclass(frozen=True, slots=True)
class Shape:
    """[B, T, d_model] (`model`), [B, T, H, axes] (`heads`), [B, T, G, axes] (`groups`) or a number."""

    lead: Literal["number", "model", "heads", "groups"]
    axes: Axes = ()

    def __str__(self) -> str:
        match self.lead:
            case "number":
                return "a number"
            case "model":
                return "[B, T, d_model]"
            case "heads" | "groups":
                return f"[{', '.join(['B', 'T', self.lead[0].upper(), *self.axes])}]"


NUMBER = Shape("number")
MODEL = Shape("model")


def shape_of(value: LayerExpression, known: Mapping[str, Shape]) -> Shape | None:
    """The shape of a value as far as it follows from the value itself: None for that of a `linear`."""
    match value:
        case LayerName(name=name):
            return known[name]
        case LayerNumber():
            return NUMBER
        case LayerNegate(operand=operand):
            return shape_of(operand, known)
        case LayerBinary(left=left, right=right):
            return join(shape_of(left, known), shape_of(right, known), value.span)
        case LayerCall(function="linear"):
            return None
        case LayerCall(arguments=(argument, *others)):
            shape = shape_of(argument, known)
            for other in others:
                shape = join(shape, shape_of(other, known), value.span)
            return shape
        case LayerCall():
            return None
        case _:
            assert_never(value)


def join(left: Shape | None, right: Shape | None, span: Span) -> Shape | None:
    """The shape of an elementwise operation: numbers and arrays with fewer axes are broadcast."""
    if left is None or right is None:
        certain = left or right
        return None if certain == NUMBER else certain  # a linear meets it: both take the other's shape
    if NUMBER in (left, right):
        return right if left == NUMBER else left
    if left.lead != right.lead:
        raise mismatch(f"{left} does not combine with {right}", span)
    return Shape(left.lead, union([left.axes, right.axes]))


def mismatch(message: str, span: Span, hint: str = "") -> SpecError:
    """An error about a shape in a layer block."""
    return SpecError([Diagnostic("layer-shape", message, span, hints=(hint,) if hint else ())])
