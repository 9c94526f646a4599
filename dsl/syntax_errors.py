"""What the parser stumbled over, in the words of the person who wrote the spec."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rnnc.dsl.diagnostics import Diagnostic, Span
from rnnc.dsl.indentation import Blocks, place

if TYPE_CHECKING:
    from lark import Token
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

_VALUE = {"NAME", "NUMBER", "LPAR"}
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "MATMUL", "POWER"}
_STATEMENTS = {"INPUT", "PARAM", "STATE", "OUTPUT", "LET", "FOR", "EIGENVALUES", "LAYER"}
_MODIFIERS = {"IN", "EQUAL", "TILDE", "PER", "SHARED", "COMPLEX"}
_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "LONG_STRING": "a docstring",
    "SHORT_STRING": "a docstring",
    "_NL": "the end of the line",
    "_INDENT": "an indented block",
    "_DEDENT": "the end of the block",
    "$END": "the end of the spec",
    "ARROW": "'<-'",
    "COMMA": "','",
    "COLON": "':'",
    "EQUAL": "'='",
    "TILDE": "'~'",
    "DOT": "'.'",
    "LPAR": "'('",
    "RPAR": "')'",
    "LSQB": "'['",
    "RSQB": "']'",
    "PLUS": "'+'",
    "MINUS": "'-'",
    "STAR": "'*'",
    "SLASH": "'/'",
    "MATMUL": "'@'",
    "POWER": "'**'",
}
_STRAY = {
    "^": "a power is written '**'",
    ";": "every statement has a line of its own",
    "\\": "a line goes on while a bracket is open: put the expression in parentheses",
    "<": "'<-' updates a state or an output; there are no comparisons",
    ">": "there are no comparisons; 'max', 'min' and 'sign' may serve",
    "!": "there are no comparisons",
    "%": "there is no remainder; comments begin with '#'",
    "{": "blocks go by indentation",
    "}": "blocks go by indentation",
    "'": "only the docstring, the first line of a spec, is in quotes",
    '"': "only the docstring, the first line of a spec, is in quotes",
    **dict.fromkeys("\u2212\u2013\u2014", "a minus is written '-'"),
    **dict.fromkeys(
        "\u00d7\u00b7\u22c5\u2217\u2299\u2218", "'*' multiplies elementwise, '@' contracts an axis"
    ),
    **dict.fromkeys("\u1d40\u22a4", "'.T' transposes"),
    **dict.fromkeys("\u2190\u21d0", "'<-' updates a state or an output"),
}
_PYTHON = {
    **dict.fromkeys(("if", "else", "elif"), "there are no conditions; 'max', 'min' and 'sign' may serve"),
    "while": "a loop goes through an axis: 'for i in n:'",
    **dict.fromkeys(("import", "from"), "a spec is no Python: there is nothing to import"),
    **dict.fromkeys(("def", "return", "lambda"), "'let' names a value; there are no functions of one's own"),
}
NOTHING_READ = frozenset({"_INDENT", "_DEDENT", "$END"})  # what follows from an earlier error, mostly


def explain(error: UnexpectedInput, blocks: Blocks) -> Diagnostic:
    """The finding for an error of the parser or of the lexer."""
    token: Token | None = getattr(error, "token", None)
    if token is None:
        return _stray_character(error)  # type: ignore[arg-type]
    return _unexpected_token(error, token, blocks)  # type: ignore[arg-type]


def _stray_character(error: UnexpectedCharacters) -> Diagnostic:
    character = error.char
    span = Span(error.line, error.column, error.line, error.column + 1)
    if character in "\"'" and "LONG_STRING" in (error.allowed or ()):
        hint = "it ends with the quotes that it begins with"
        return Diagnostic("syntax", "the docstring is never closed", span, "opened here", hints=(hint,))
    hints: tuple[str, ...] = (_STRAY[character],) if character in _STRAY else ()
    if not hints and character.isalpha():
        hints = ("names are made of the letters a-z and A-Z, digits and '_'",)
    shown = "the quote" if character in "\"'" else f"'{character}'"
    label = "" if hints else f"expected {_expected(error.allowed or ())}"
    return Diagnostic("syntax", f"{shown} cannot stand here", span, label, hints=hints)


def _unexpected_token(error: UnexpectedToken, token: Token, blocks: Blocks) -> Diagnostic:
    bracket = blocks.open_brackets[-1] if blocks.open_brackets else None
    if bracket is not None and (token.type in NOTHING_READ or (token.line or 0) > (bracket.line or 0)):
        return _unclosed(bracket)
    before = _previous(error)
    if token.type == "ARROW" and before is not None and before.type in _STATEMENTS:
        return reserved(str(before), place(before), "begins a line of another kind")
    if token.type == "_INDENT":
        message = "this line is indented deeper than its block"
        hint = "lines of one block begin in the same column"
        return Diagnostic("syntax", message, place(token), hints=(hint,))
    if token.type == "LPAR" and (attribute := _attribute(error)) is not None:
        return _called(attribute)
    accepted = error.accepts or error.expected
    hints = _hints(token, before, accepted)
    message = f"expected {_expected(accepted)}, found {_found(token)}"
    return Diagnostic("syntax", message, place(token), hints=hints)


def _attribute(error: UnexpectedToken) -> Token | None:
    """The name behind a dot that was read last, if there is one."""
    parser = error.interactive_parser
    stack = parser.parser_state.value_stack[-2:] if parser is not None else []
    types = [getattr(value, "type", "") for value in stack]
    return stack[1] if types == ["DOT", "NAME"] else None


def _called(name: Token) -> Diagnostic:
    hint = "'.T' takes no brackets" if name == "T" else f"a function stands alone: '{name}(...)'"
    return Diagnostic("syntax", f"'.{name}' cannot be called", place(name), hints=(hint,))


def reserved(name: str, span: Span, reason: str) -> Diagnostic:
    """The refusal of a name that the language keeps for itself."""
    message = f"'{name}' is a reserved word"
    return Diagnostic("reserved-word", message, span, reason, hints=("use another name",))


def _unclosed(bracket: Token) -> Diagnostic:
    return Diagnostic("syntax", f"'{bracket}' is never closed", place(bracket), "opened here")


def _previous(error: UnexpectedToken) -> Token | None:
    history = error.token_history or []
    last = history[-1] if history else None
    return last if hasattr(last, "type") else None


def _hints(token: Token, before: Token | None, accepted: Iterable[str]) -> tuple[str, ...]:
    accepted = set(accepted)
    for word in (before, token):
        if str(word) in _PYTHON:
            return (_PYTHON[str(word)],)
    if accepted == {"ARROW"}:
        return _hints_of_update(token, str(before))
    if accepted == {"$END"}:
        one = "a file holds one recurrence"
        return (
            one if token == "recurrence" else "indent it as the lines above: it stands in the recurrence",
        )
    if token.type == "SLASH" and before is not None and before.type == "SLASH":
        return ("comments begin with '#'",)
    if token.type == "ARROW" and "COMMA" in accepted:
        return ("in 'layer:' every line is 'names = value'",)
    if token.type == "ARROW" and "EQUAL" in accepted:
        return ("'let' takes '='; '<-' updates a state or an output, without 'let'",)
    if "RECURRENCE" in accepted:
        return ("a spec begins with 'recurrence name[AXES]:'",)
    if accepted >= _MODIFIERS and token.type == "NAME":
        return ("names are separated by commas",)
    if _MODIFIERS & accepted and token.type == "COMMA":
        return ("what follows the names holds for all of them: write two lines",)
    return ()


def _hints_of_update(token: Token, before: str) -> tuple[str, ...]:
    """Of a line that begins with a name, behind which `token` is not '<-'."""
    if token.type == "EQUAL":
        return (f"'{before} <- ...' updates a state or an output, 'let {before} = ...' names a value",)
    if token.type in _OPERATORS:
        return (f"'{before} <- ...' updates a state or an output",)
    words = sorted(word.lower() for word in _STATEMENTS)
    return tuple(f"did you mean '{word}'?" for word in get_close_matches(before, words, 1))


def _found(token: Token) -> str:
    text = str(token)
    if token.type in _WORDS and (token.type.startswith("_") or token.type == "$END"):
        return _WORDS[token.type]
    return f"'{text if len(text) <= 40 else text[:37] + '...'}'"


def _expected(types: Iterable[str]) -> str:
    """A list of what could have stood there, the many ways to go on in one word each."""
    left = set(types) - {"RNNC"}
    out: list[str] = []
    if left >= _VALUE:
        left -= _VALUE | {"PLUS", "MINUS", "_NL"}
        out.append("a value")
    if "INPUT" in left:
        left -= _STATEMENTS | {"NAME"}
        out.append("a declaration or a statement")
    if left >= {"PLUS", "STAR"}:
        left -= _OPERATORS | {"DOT", "LSQB", "LPAR"}
        out.append("an operator")
    if left >= _MODIFIERS:
        left -= _MODIFIERS
    if "_NL" in left:
        left -= _MODIFIERS
    out += sorted({_WORDS.get(name, f"'{name.lower()}'") for name in left})
    if len(out) > 5:
        out = [*out[:5], "..."]
    return " or ".join([", ".join(out[:-1]), out[-1]]) if len(out) > 1 else "".join(out) or "something else"
