"""From the parser's tree to the surface syntax: one small function for each rule of the grammar."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rnnc.dsl import syntax
from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError

if TYPE_CHECKING:
    from lark import Token, Tree

LANGUAGE_VERSION = 1
MAX_DIGITS = 40
MAX_DECIMAL_EXPONENT = 300


def build(tree: Tree[Token]) -> syntax.Declaration:
    """The syntax of a tree. Raises SpecError for what the grammar lets pass and the language does not."""
    findings: list[Diagnostic] = []
    declaration = _build(tree, findings)
    if findings:
        raise SpecError(findings)
    assert isinstance(declaration, syntax.Declaration)
    return declaration


def _build(tree: Tree[Token], findings: list[Diagnostic]) -> Any:
    parts = [part if hasattr(part, "type") else _build(part, findings) for part in tree.children]
    meta = tree.meta
    span = Span(1, 1, 1, 1) if meta.empty else Span(meta.line, meta.column, meta.end_line, meta.end_column)
    rule = str(tree.data)
    try:
        return _RULES[rule](span, parts)
    except SpecError as error:  # go on with something of the right kind, to find the rest
        findings += error.diagnostics
        return {"version": LANGUAGE_VERSION, "declaration": []}.get(rule, syntax.Reference("", span))


@dataclass(frozen=True, slots=True)
class Modifier:
    """What stands at the end of a line of declarations; `value` is True for a bare word."""

    field: str
    value: Any
    span: Span


def _word(token: Token) -> syntax.Word:
    return syntax.Word(str(token), _span(token))


def _span(token: Token) -> Span:
    return Span(token.line or 1, token.column or 1, token.end_line or 1, token.end_column or 1)


def _across(first: Span, last: Span) -> Span:
    return Span(first.line, first.column, last.end_line, last.end_column)


def _start(_: Span, parts: list[Any]) -> syntax.Declaration:
    *versions, declaration = parts
    return replace(declaration, version=versions[0]) if versions else declaration  # type: ignore[no-any-return]


def _version(_: Span, parts: list[Any]) -> int:
    if str(parts[0]) != str(LANGUAGE_VERSION):
        message = f"language version {parts[0]} is not known here"
        hint = f"this release reads 'rnnc {LANGUAGE_VERSION}'"
        raise SpecError([Diagnostic("version", message, _span(parts[0]), hints=(hint,))])
    return LANGUAGE_VERSION


def _recurrence(_: Span, parts: list[Any]) -> syntax.Declaration:
    axes: tuple[syntax.Word, ...] = ()
    doc = ""
    items: list[syntax.Item] = []
    for part in parts[1:]:
        if isinstance(part, str):
            doc = part
        elif isinstance(part, tuple):
            axes = part
        elif isinstance(part, list):
            items += part
        else:
            items.append(part)
    return syntax.Declaration(_word(parts[0]), axes, doc, tuple(items))


def _docstring(_: Span, parts: list[Any]) -> str:
    text = str(parts[0])
    quote = 3 if text[:3] in ('"""', "'''") else 1
    return inspect.cleandoc(text[quote:-quote])


def _declaration(_: Span, parts: list[Any]) -> list[syntax.Declared]:
    kind: syntax.Kind = parts[0].value
    modifiers = [part for part in parts if isinstance(part, Modifier)]
    _check_modifiers(kind, modifiers)
    values = {modifier.field: modifier.value for modifier in modifiers}
    return [replace(part, kind=kind, **values) for part in parts if isinstance(part, syntax.Declared)]


_ALLOWED = {
    "bounds": ("input", "param"),
    "default": ("input", "param", "state"),
    "initialiser": ("param",),
    "per_group": ("input",),
    "shared": ("param",),
    "complex": ("state",),
}
_SPELLING = {"bounds": "in", "default": "=", "initialiser": "~", "per_group": "per group"}


def _check_modifiers(kind: str, modifiers: Sequence[Modifier]) -> None:
    findings = []
    seen: set[str] = set()
    for modifier in modifiers:
        spelling = _SPELLING.get(modifier.field, modifier.field)
        if modifier.field in seen:
            findings.append(Diagnostic("modifier", f"'{spelling}' stands here twice", modifier.span))
        elif kind not in _ALLOWED[modifier.field]:
            where = " or ".join(f"'{name}'" for name in _ALLOWED[modifier.field])
            message = f"'{spelling}' cannot follow what '{kind}' declares"
            findings.append(Diagnostic("modifier", message, modifier.span, f"goes with {where} only"))
        seen.add(modifier.field)
    if findings:
        raise SpecError(findings)


def _declared(span: Span, parts: list[Any]) -> syntax.Declared:
    axes = parts[1] if len(parts) > 1 else ()
    return syntax.Declared("input", _word(parts[0]), axes, span=span)


def _modifier(field: str) -> Callable[[Span, list[Any]], Modifier]:
    return lambda span, parts: Modifier(field, parts[0] if parts else True, span)


def _bounds(span: Span, parts: list[Any]) -> syntax.Bounds:
    opening, low, high, closing = parts
    return syntax.Bounds(low, high, opening.type == "LPAR", closing.type == "RPAR", span)


def _let(_: Span, parts: list[Any]) -> syntax.LetStatement:
    word = _word(parts[0])
    return syntax.LetStatement(word, parts[1], _across(word.span, parts[1].span))


def _update(_: Span, parts: list[Any]) -> syntax.Update:
    word = _word(parts[0])
    return syntax.Update(word, parts[1], _across(word.span, parts[1].span))


def _for(_: Span, parts: list[Any]) -> syntax.ForStatement:
    index, axis = _word(parts[0]), _word(parts[1])
    body = [item for part in parts[2:] for item in (part if isinstance(part, list) else [part])]
    return syntax.ForStatement(index, axis, tuple(body), _across(index.span, axis.span))


def _claim(span: Span, parts: list[Any]) -> syntax.EigenvalueClaim:
    bounds = parts[0]
    start = Span(span.line, span.column, span.line, span.column)
    return syntax.EigenvalueClaim(bounds, _across(start, bounds.span))


def _number(span: Span, parts: list[Any]) -> syntax.Number:
    return syntax.Number(exact(parts[0]), str(parts[0]), span)


def exact(token: Token) -> Fraction:
    """The number a token spells. Raises SpecError when it is longer or larger than any use."""
    mantissa, _, exponent = str(token).lower().partition("e")
    digits = len(mantissa)
    if digits > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > MAX_DECIMAL_EXPONENT:
        message = f"numbers have at most {MAX_DIGITS} digits and exponents up to {MAX_DECIMAL_EXPONENT}"
        raise SpecError([Diagnostic("limit", message, _span(token))])
    return Fraction(str(token))


def _binary(span: Span, parts: list[Any]) -> syntax.Binary:
    left, operator, right = parts
    return syntax.Binary(str(operator), left, right, span, _span(operator))  # type: ignore[arg-type]


def _transpose(span: Span, parts: list[Any]) -> syntax.Transpose:
    body, name = parts
    if str(name) != "T":
        hint = "'.T' transposes; nothing else follows a dot"
        raise SpecError([Diagnostic("syntax", f"'.{name}' means nothing", _span(name), hints=(hint,))])
    return syntax.Transpose(body, span)


def _layer(span: Span, parts: list[Any]) -> syntax.LayerBlock:
    word = Span(span.line, span.column, span.line, span.column + len("layer"))
    return syntax.LayerBlock(tuple(parts), word)


def _layer_binary(span: Span, parts: list[Any]) -> syntax.LayerBinary:
    left, operator, right = parts
    return syntax.LayerBinary(str(operator), left, right, span)  # type: ignore[arg-type]


def _binding(_: Span, parts: list[Any]) -> syntax.LayerBinding:
    words, value = parts
    names = tuple(word.text for word in words)
    spans = tuple(word.span for word in words)
    return syntax.LayerBinding(names, value, _across(spans[0], value.span), spans)


def _layer_number(span: Span, parts: list[Any]) -> syntax.LayerNumber:
    value = exact(parts[0])
    whole = str(parts[0]).isdigit()
    return syntax.LayerNumber(int(value) if whole else float(value), span)


def _layer_call(span: Span, parts: list[Any]) -> syntax.LayerCall:
    plain: list[syntax.LayerExpression] = []
    named: list[tuple[str, syntax.LayerExpression]] = []
    for argument in parts[1:]:
        if isinstance(argument, tuple):
            named.append((argument[0].text, argument[1]))
        elif named:
            message = "an argument without a name stands before those with one"
            raise SpecError([Diagnostic("syntax", message, argument.span)])
        else:
            plain.append(argument)
    word = _word(parts[0])
    return syntax.LayerCall(word.text, tuple(plain), tuple(named), span, word.span)


_RULES: dict[str, Callable[[Span, list[Any]], Any]] = {
    "start": _start,
    "version": _version,
    "recurrence": _recurrence,
    "docstring": _docstring,
    "axes": lambda _, parts: tuple(map(_word, parts)),
    "declaration": _declaration,
    "declared": _declared,
    "promised": _modifier("bounds"),
    "default": _modifier("default"),
    "initialiser": _modifier("initialiser"),
    "per_group": _modifier("per_group"),
    "shared": _modifier("shared"),
    "complex": _modifier("complex"),
    "bounds": _bounds,
    "let": _let,
    "update": _update,
    "for": _for,
    "claim": _claim,
    "number": _number,
    "reference": lambda span, parts: syntax.Reference(str(parts[0]), span),
    "negate": lambda span, parts: syntax.Negate(parts[0], span),
    "group": lambda span, parts: replace(parts[0], span=span),
    "binary": _binary,
    "transpose": _transpose,
    "index": lambda span, parts: syntax.Index(parts[0], _word(parts[1]), span),
    "apply": lambda span, parts: syntax.Apply(_word(parts[0]), tuple(parts[1:]), span),
    "layer": _layer,
    "binding": _binding,
    "targets": lambda _, parts: list(map(_word, parts)),
    "layer_number": _layer_number,
    "layer_name": lambda span, parts: syntax.LayerName(str(parts[0]), span),
    "layer_negate": lambda span, parts: syntax.LayerNegate(parts[0], span),
    "layer_group": lambda span, parts: replace(parts[0], span=span),
    "layer_binary": _layer_binary,
    "layer_call": _layer_call,
    "argument": lambda _, parts: parts[0],
    "keyword": lambda _, parts: (_word(parts[0]), parts[1]),
}
