"""What the command line prints: results on standard output, diagnostics and progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, style: str = "", *, console: Console = out) -> None:
    """Prints `text` as it is: no markup, no wrapping."""
    console.print(Text(text, style))


def say_json(value: Any) -> None:
    """Prints `value` as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)  # noqa: T201


def say_diagnostics(diagnostics: Iterable[Diagnostic], source: str, path: str) -> None:
    """Prints findings on standard error, the headlines coloured where a terminal shows them."""
    for diagnostic in diagnostics:
        text = Text(diagnostic.render(source, path))
        colour = "red" if diagnostic.severity == "error" else "yellow"
        text.highlight_regex(r"(error|warning)\[[\w-]+\]", f"bold {colour}")
        text.highlight_regex(r"(?m)^ +\| +[\^-].*$", colour)
        text.highlight_regex(r"(?m)^  (note|hint):", "bold cyan")
        err.print(text)


def say_spec_error(error: SpecError) -> None:
    """Prints the findings of a spec that cannot be used, and how many they are."""
    say_diagnostics(error.diagnostics, error.source, error.path)
    count = sum(diagnostic.severity == "error" for diagnostic in error.diagnostics)
    say(f"{count} error{'s' if count != 1 else ''}", "bold red", console=err)


def error_record(error: SpecError) -> dict[str, Any]:
    """A spec that cannot be used, as plain data."""
    findings = [diagnostic_record(diagnostic) for diagnostic in error.diagnostics]
    return {"path": error.path, "ok": False, "diagnostics": findings}


def say_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints aligned columns under a bold header; lines are as long as they need to be."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        say("   ".join(cells).rstrip(), "" if number else "bold")


def diagnostic_record(diagnostic: Diagnostic) -> dict[str, Any]:
    """A finding as plain data."""
    return {
        "severity": diagnostic.severity,
        "code": diagnostic.code,
        "message": diagnostic.message,
        **_span_record(diagnostic.span),
        "label": diagnostic.label,
        "related": [{**_span_record(span), "label": label} for span, label in diagnostic.related],
        "notes": list(diagnostic.notes),
        "hints": list(diagnostic.hints),
    }


def _span_record(span: Span) -> dict[str, int]:
    return {
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }
