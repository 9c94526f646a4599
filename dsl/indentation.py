"""Blocks by indentation: what stands between the lexer and the parser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError

if TYPE_CHECKING:
    from lark import Token

MAX_TOKENS = 20_000
MAX_NAME = 100  # characters; of these are made the names of files, too
OPENING = {"LPAR", "LSQB"}
CLOSING = {"RPAR", "RSQB"}


class Blocks:
    """Turns the white space at the start of lines into tokens that open and close blocks.

    While a bracket is open, line ends mean nothing. After an error, `open_brackets` and `first_line` (where
    the statement in hand began) say where the reader of the tokens was.
    """

    always_accept = ("_NL",)

    def __init__(self) -> None:
        self.open_brackets: list[Token] = []
        self.first_line = 1
        self._levels = [0]
        self._character = ""
        self.length = 0  # of the text: indentation means nothing where it ends

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens with `_INDENT` and `_DEDENT` put in, and without the line ends that mean nothing."""
        self.open_brackets, self.first_line, self._levels, self._character = [], 0, [], ""
        token: Token | None = None
        for count, token in enumerate(stream):
            if count > MAX_TOKENS:
                message = f"the spec has more than {MAX_TOKENS} words and signs"
                raise SpecError([Diagnostic("limit", message, place(token))])
            if token.type == "_NL":
                yield from self._line_end(token)
                continue
            if len(token) > MAX_NAME and token.type == "NAME":
                message = f"a name has at most {MAX_NAME} characters, not {len(token)}"
                raise SpecError([Diagnostic("limit", message, place(token))])
            if not self._levels:
                self._levels = [(token.column or 1) - 1]
            self.first_line = self.first_line or token.line or 1
            if token.type in OPENING:
                self.open_brackets.append(token)
            elif token.type in CLOSING:
                self._close(token)
            yield token
        for _ in self._levels[1:]:
            assert token is not None
            yield token.new_borrow_pos("_DEDENT", "", token)

    def _close(self, token: Token) -> None:
        if not self.open_brackets:
            message = f"'{token}' closes a bracket that was never opened"
            raise SpecError([Diagnostic("syntax", message, place(token))])
        self.open_brackets.pop()

    def _line_end(self, token: Token) -> Iterator[Token]:
        if self.open_brackets or not self._levels:
            return
        self.first_line = 0
        yield token
        indentation = token.rsplit("\n", 1)[1]
        line = token.end_line or 1
        self._check_characters(indentation, line)
        width = len(indentation)
        if width > self._levels[-1]:
            self._levels.append(width)
            yield token.new_borrow_pos("_INDENT", indentation, token)
        while width < self._levels[-1] and len(self._levels) > 1:
            self._levels.pop()
            yield token.new_borrow_pos("_DEDENT", indentation, token)
        if width != self._levels[-1] and (token.end_pos or 0) < self.length:
            raise SpecError([_uneven(line, width)])

    def _check_characters(self, indentation: str, line: int) -> None:
        self._character = self._character or indentation[:1]
        if indentation.strip(self._character or " "):
            message = "tabs and spaces are mixed in the indentation"
            span = Span(line, 1, line, len(indentation) + 1)
            raise SpecError([Diagnostic("syntax", message, span, hints=("indent every line with spaces",))])


def _uneven(line: int, width: int) -> Diagnostic:
    span = Span(line, 1, line, max(2, width + 1))
    return Diagnostic("syntax", "this line is indented like no block around it", span)


def place(token: Token) -> Span:
    """The characters of a token; the place just behind the line's text for a line end."""
    line, column = token.line or 1, token.column or 1
    if token.type == "_INDENT":
        line = token.end_line or line
        return Span(line, 1, line, token.end_column or 2)
    if token.type.startswith("_") or token.type == "$END":
        return Span(line, column, line, column + 1)
    return Span(line, column, token.end_line or line, token.end_column or column + 1)
