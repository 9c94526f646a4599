"""From the text of a spec to its syntax. Syntax only: no name is resolved here."""

from __future__ import annotations

import importlib.resources
import threading
import unicodedata
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rnnc.dsl import syntax_errors
from rnnc.dsl.diagnostics import NOWHERE, Diagnostic, Span, SpecError
from rnnc.dsl.indentation import Blocks
from rnnc.dsl.syntax import Declaration
from rnnc.dsl.tree import build

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.exceptions import UnexpectedInput

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 64
MAX_SYNTAX_ERRORS = 10
_EXAMPLE = "a spec begins with 'recurrence name[AXES]:'"
_LOCK = threading.Lock()  # the reader of indentation holds the state of one parse


def parse(text: str, path: str = "<spec>") -> Declaration:
    """The declaration that a spec spells; `path` is what error messages call the file.

    Raises SpecError with the code `syntax` (all lines that cannot be read, up to ten), `reserved-word`,
    `modifier`, `version`, or `limit` for a spec that is larger or nested deeper than any use.
    """
    try:
        text = _readable(text)
        tree = _tree(text)
        _check_depth(tree)
        declaration = build(tree)
    except SpecError as error:
        raise SpecError(error.diagnostics, _printable(text[:MAX_CHARACTERS]), path) from None
    return replace(declaration, source=text, path=path)


def _readable(text: str) -> str:
    """The text with line ends made alike. Raises SpecError for what is not text, or too much of it."""
    if len(text) > MAX_CHARACTERS:
        raise _refusal("limit", f"the spec is longer than {MAX_CHARACTERS // 1024} KiB")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), 1):
        for column, character in enumerate(line, 1):
            if character != "\t" and unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
                span = Span(number, column, number, column + 1)
                message = f"the character U+{ord(character):04X} is not text"
                raise _refusal("syntax", message, span, "save the spec as plain UTF-8 text")
    if not text.strip():
        raise _refusal("syntax", "the spec is empty", NOWHERE, _EXAMPLE)
    return text.rstrip() + "\n"


def _printable(text: str) -> str:
    """The text as it can be shown: what is not text could not even be printed."""
    return "".join(character if character in "\n\t" or character.isprintable() else "?" for character in text)


def _refusal(code: str, message: str, span: Span = NOWHERE, *hints: str) -> SpecError:
    return SpecError([Diagnostic(code, message, span, hints=hints)])


@lru_cache(maxsize=1)
def _grammar() -> tuple[Lark, Blocks]:
    from lark import Lark  # here, so that importing this module costs nothing

    blocks = Blocks()
    text = importlib.resources.files("rnnc.dsl").joinpath("grammar.lark").read_text(encoding="utf-8")
    options: dict[str, Any] = {"postlex": blocks, "propagate_positions": True}
    return Lark(text, parser="lalr", lexer="contextual", **options), blocks


def _tree(text: str) -> Tree[Token]:
    """The parser's tree. On an error the statement is left out and the rest read, to find all errors."""
    from lark.exceptions import UnexpectedInput

    findings: list[Diagnostic] = []
    with _LOCK:
        grammar, blocks = _grammar()
        while True:
            blocks.length = len(text)
            try:
                tree = grammar.parse(text)
                break
            except UnexpectedInput as error:
                finding = syntax_errors.explain(error, blocks)
                if findings and _follows(error):
                    break
            except SpecError as error:
                finding = error.diagnostics[0]
            findings.append(finding)
            shorter = _without_statement(text, finding, blocks.first_line)
            if finding.code == "limit" or len(findings) == MAX_SYNTAX_ERRORS or shorter == text:
                break
            text = shorter
    if findings:
        raise SpecError(findings)
    return tree


def _follows(error: UnexpectedInput) -> bool:
    """Whether the error may come of an earlier one: a block that became empty."""
    token = getattr(error, "token", None)
    return token is not None and token.type in syntax_errors.NOTHING_READ


def _without_statement(text: str, finding: Diagnostic, first_line: int) -> str:
    """The text without the statement of the finding, and without the block that hangs on it.

    The text itself where nothing can be left out: without the first line the rest means nothing.
    """
    lines = text.split("\n")
    first = min(first_line or finding.span.line, finding.span.line)
    start = first - 1
    if lines[start].lstrip().startswith(("recurrence", "rnnc")) or not "".join(lines[:start]).strip():
        return text
    depth = _indentation(lines[start])
    end = finding.span.line
    while end < len(lines) and (not lines[end].strip() or _indentation(lines[end]) > depth):
        end += 1
    return "\n".join([*lines[:start], *[""] * (end - start), *lines[end:]])


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _check_depth(tree: Tree[Token]) -> None:
    """Refuse what would exhaust the stack of a recursive reader. Itself it does not recurse."""
    waiting: list[tuple[Any, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH and not node.meta.empty:
            span = Span(node.meta.line, node.meta.column, node.meta.end_line, node.meta.end_column)
            message = f"nested deeper than {MAX_DEPTH} levels"
            hint = "give the inner parts names: let part = ... (a chain of operators nests as well)"
            raise _refusal("limit", message, span, hint)
        waiting += [(part, depth + 1) for part in node.children if hasattr(part, "children")]
