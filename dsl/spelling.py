"""A declaration as the text of a spec again: `parse(spell(parse(text)))` is `parse(text)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

from rnnc.dsl.syntax import (
    Apply,
    Binary,
    Bounds,
    Declaration,
    Declared,
    EigenvalueClaim,
    ForStatement,
    Index,
    Item,
    LayerBinary,
    LayerBlock,
    LayerCall,
    LayerExpression,
    LayerName,
    LayerNegate,
    LayerNumber,
    LetStatement,
    Negate,
    Number,
    Reference,
    Syntax,
    Transpose,
    Update,
    Word,
)

_LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2, "@": 2, "**": 4}
_NEGATE, _POSTFIX, _ATOM = 3, 5, 6


def spell(declaration: Declaration) -> str:
    """The text of a spec, one declared name a line, without comments."""
    head = f"recurrence {declaration.word.text}{_axes(declaration.axes)}:"
    lines = list(_lines(declaration.items))
    if declaration.doc:
        quote = "'''" if '"' in declaration.doc and "'''" not in declaration.doc else '"""'
        lines = [*f"{quote}{declaration.doc}{quote}".split("\n"), *lines]
    return "\n".join([f"rnnc {declaration.version}", head, *(f"    {line}".rstrip() for line in lines), ""])


def _lines(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        match item:
            case Declared():
                yield _declared(item)
            case LetStatement(word, value):
                yield f"let {word.text} = {expression(value)}"
            case Update(target, value):
                yield f"{target.text} <- {expression(value)}"
            case EigenvalueClaim(bounds):
                yield f"eigenvalues in {_bounds(bounds)}"
            case ForStatement(index, axis, body):
                yield f"for {index.text} in {axis.text}:"
                yield from (f"    {line}" for line in _lines(body))
            case LayerBlock(bindings):
                yield "layer:"
                yield from (f"    {', '.join(b.targets)} = {layer_expression(b.value)}" for b in bindings)
            case _:
                assert_never(item)


def _axes(words: Sequence[Word]) -> str:
    return f"[{', '.join(word.text for word in words)}]" if words else ""


def _bounds(bounds: Bounds) -> str:
    left, right = "(" if bounds.low_open else "[", ")" if bounds.high_open else "]"
    return f"{left}{expression(bounds.low)}, {expression(bounds.high)}{right}"


def _declared(item: Declared) -> str:
    parts = [f"{item.kind} {item.word.text}{_axes(item.axes)}"]
    parts += [f"in {_bounds(item.bounds)}"] if item.bounds else []
    parts += ["per group"] * item.per_group + ["shared"] * item.shared + ["complex"] * item.complex
    parts += [f"= {expression(item.default)}"] if item.default else []
    parts += [f"~ {expression(item.initialiser)}"] if item.initialiser else []
    return " ".join(parts)


def expression(node: Syntax, level: int = 0) -> str:
    """The expression, in parentheses where it binds less tightly than `level`."""
    match node:
        case Number(text=text) | Reference(name=text):
            return text
        case Negate(operand):
            return _grouped(f"-{expression(operand, _NEGATE)}", _NEGATE, level)
        case Binary(operator, left, right):
            own = _LEVELS[operator]
            first, second = (_POSTFIX, _NEGATE) if operator == "**" else (own, own + 1)
            text = f"{expression(left, first)} {operator} {expression(right, second)}"
            return _grouped(text, own, level)
        case Transpose(operand):
            return f"{_operand(operand)}.T"
        case Index(body, index):
            return f"{_operand(body)}[{index.text}]"
        case Apply(function, arguments):
            return f"{function.text}({', '.join(map(expression, arguments))})"
        case _:
            assert_never(node)


def _operand(node: Syntax) -> str:
    text = expression(node, _POSTFIX)
    return f"({text})" if isinstance(node, Number) else text


def _grouped(text: str, own: int, level: int) -> str:
    return f"({text})" if own < level else text


def layer_expression(node: LayerExpression, level: int = 0) -> str:
    """An expression of the layer block, in parentheses where it binds less tightly than `level`."""
    match node:
        case LayerName(name):
            return name
        case LayerNumber(value):
            return repr(value)
        case LayerNegate(operand):
            return _grouped(f"-{layer_expression(operand, _NEGATE)}", _NEGATE, level)
        case LayerBinary(op, left, right):
            own = _LEVELS[op]
            text = f"{layer_expression(left, own)} {op} {layer_expression(right, own + 1)}"
            return _grouped(text, own, level)
        case LayerCall(function, arguments, keywords):
            parts = [*map(layer_expression, arguments)]
            parts += [f"{name}={layer_expression(value)}" for name, value in keywords]
            return f"{function}({', '.join(parts)})"
        case _:
            assert_never(node)
