"""Errors and warnings about a spec: data, one renderer, one exception that carries them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A range of characters in a spec: lines and columns count from 1, the end column is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


NOWHERE = Span(1, 1, 1, 1)
LINE = 160  # characters of a line that are shown
AROUND = 60  # of them before what is wrong


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: what is wrong (`message`), where (`span`), and what to do about it (`hints`).

    `label` stands beside the caret; `related` points at other places of the same spec.
    """

    code: str
    message: str
    span: Span = NOWHERE
    label: str = ""
    related: tuple[tuple[Span, str], ...] = ()
    notes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    severity: Literal["error", "warning"] = "error"

    def render(self, source: str, path: str) -> str:
        """The finding as text: headline, the line, carets under the span, related places, notes, hints."""
        lines = source.splitlines() or [""]
        width = len(str(max([self.span.line, *(span.line for span, _ in self.related)])))
        head = f"{path}:{self.span.line}:{self.span.column}: {self.severity}[{self.code}]: {self.message}"
        out = [head, *_excerpt(lines, self.span, self.label, "^", width)]
        for span, label in self.related:
            out += _excerpt(lines, span, label, "-", width)
        out += [f"  note: {note}" for note in self.notes]
        out += [f"  hint: {hint}" for hint in self.hints]
        return "\n".join(out)


def _excerpt(lines: Sequence[str], span: Span, label: str, mark: str, width: int) -> list[str]:
    if not 1 <= span.line <= len(lines) or not any(lines):  # of a text that is empty, or not shown, no line
        return []
    line = lines[span.line - 1].replace("\t", " ")
    end = span.end_column if span.end_line == span.line else len(line) + 1
    line, before = _window(line, span.column - 1)
    start = span.column - 1 - before
    length = max(1, min(end - 1 - before, len(line)) - start)
    carets = " " * start + mark * length + (f" {label}" if label else "")
    return [f" {span.line:>{width}} | {line}", f" {'':>{width}} | {carets}"]


def _window(line: str, column: int) -> tuple[str, int]:
    """The part of a long line that shows the column (from 0), and how far its columns have moved left."""
    if len(line) <= LINE:
        return line, 0
    first = 0 if column <= LINE - AROUND else column - AROUND
    shown = ("..." if first else "") + line[first : first + LINE - 6]
    shown += "..." if first + LINE - 6 < len(line) else ""
    return shown, first - 3 if first else 0


class SpecError(ValueError):
    """A spec that cannot be used. Holds every finding; its text is their rendering."""

    def __init__(self, diagnostics: Sequence[Diagnostic], source: str = "", path: str = "<spec>") -> None:
        self.diagnostics = tuple(sorted(diagnostics, key=lambda d: (d.span, d.code)))
        self.source = source
        self.path = path
        super().__init__("\n".join(d.render(source, path) for d in self.diagnostics))
