"""Results as tables in Markdown, as plots, and as the section of the README that is made from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.candidates import OWN
from benchmarks.comparisons import is_growth
from benchmarks.entries import Entry
from benchmarks.plots import plot

Measured = list[tuple[Entry, dict[str, Any]]]
BEGIN, END = "<!-- made by `python -m benchmarks --render` -->\n", "<!-- end -->\n"
NOTHING = "No measurement is kept in `benchmarks/results`.\n"


def reports(folder: Path) -> Iterator[tuple[Path, dict[str, Any], Measured]]:
    """Every file of results: where it lies, its stamp, and what was timed."""
    for path in sorted(folder.glob("*.json")):
        if path.stem != "dry_run":
            report = json.loads(path.read_text("utf-8"))
            both = [(e, e.pop("answer")) for e in report["entries"]]
            timed = [(Entry.of(e), a) for e, a in both if e["kind"] == "time" and a.get("both_ms")]
            if timed:
                yield path, report["stamp"], timed


def write_tables(folder: Path) -> str:
    """The tables of every file of results, written beside it with a plot; all of them."""
    texts = []
    for path, stamp, timed in reports(folder):
        text = tables(stamp, timed)
        path.with_suffix(".md").write_text(text, encoding="utf-8")
        plot(path.with_suffix(".svg"), stamp, timed)
        texts.append(text)
    return "\n".join(texts) or NOTHING


def section(folder: Path) -> str:
    """What the README says between its two marks."""
    return "\n".join(tables(stamp, timed) for _, stamp, timed in reports(folder)) or NOTHING


def with_section(readme: str, folder: Path) -> str:
    """The README's text with its section made anew. Raises ValueError where it has no marks."""
    before, middle, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not middle or not end:
        raise ValueError("the README has no place for measurements")
    return f"{before}{BEGIN}\n{section(folder)}\n{END}{after}"


def update_readme(readme: Path, folder: Path) -> None:
    """Writes the section into the file."""
    text = readme.read_text("utf-8")
    new = with_section(text, folder)
    if new != text:
        readme.write_text(new, encoding="utf-8")


def tables(stamp: dict[str, Any], timed: Measured) -> str:
    """Two tables: the candidates side by side, and the time per token as sequences grow."""
    versions = [
        f"torch {stamp['torch']}",
        *sorted({f"{e.who.partition(',')[0]} {a['version']}" for e, a in timed if "version" in a}),
    ]
    grown = [found for found in timed if is_growth(found[0])]
    shown = [found for found in timed if not is_growth(found[0])]
    lines = [f"{stamp['device']} ({', '.join(versions)}; commit {stamp['commit']}), medians:", ""]
    lines += _side_by_side(shown)
    if grown:
        lines += [
            "",
            "As sequences grow, per token: microseconds forward / forward and backward, peak memory of both:",
            "",
            *_growth(grown),
        ]
    return "\n".join(lines) + "\n"


def _side_by_side(timed: Measured) -> list[str]:
    lines = [
        "| operator, B x T x H x D | | forward | both passes | peak memory | error: outputs, gradients |"
    ]
    lines.append("|---|---|---|---|---|---|")
    own = {(e.model, e.call, e.dtype): a for e, a in timed if e.who == OWN}
    for entry, answer in timed:
        base = own.get((entry.model, entry.call, entry.dtype))
        times = [
            _time(answer, base if entry.who != OWN else None, name) for name in ("forward_ms", "both_ms")
        ]
        memory = "" if answer.get("megabytes") is None else f"{answer['megabytes']:.0f} MB"
        name = f"`{entry.model}` {entry.call}, {entry.dtype}" if entry.who == OWN else ""
        lines.append(f"| {name} | {entry.who} | {' | '.join(times)} | {memory} | {_errors(answer)} |")
    return lines


def _time(answer: dict[str, Any], base: dict[str, Any] | None, name: str) -> str:
    """Milliseconds, and how many times as long as the project's own."""
    value = answer[name]
    text = f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.3f} ms"
    return text if base is None else f"{text} ({value / base[name]:.1f}x)"


def _errors(answer: dict[str, Any]) -> str:
    errors = answer.get("errors", {})
    sides = [[e for what, e in errors.items() if what.startswith("d") is back] for back in (False, True)]
    return ", ".join(f"{max(side):.0e}" for side in sides if side)


def _growth(timed: Measured) -> list[str]:
    lengths = sorted({e.call.T for e, _ in timed})
    lines = [
        "| operator | | " + " | ".join(f"T = {_thousands(n)}" for n in lengths) + " |",
        "|---" * (len(lengths) + 2) + "|",
    ]
    for model, who in dict.fromkeys((e.model, e.who) for e, _ in timed):
        found = {e.call.T: (e, a) for e, a in timed if (e.model, e.who) == (model, who)}
        cells = [_per_token(*found[n]) if n in found else "" for n in lengths]
        lines.append(f"| `{model}` | {who} | {' | '.join(cells)} |")
    return lines


def _per_token(entry: Entry, answer: dict[str, Any]) -> str:
    tokens = entry.call.B * entry.call.T
    times: Sequence[float] = [answer[name] * 1000 / tokens for name in ("forward_ms", "both_ms")]
    memory = answer.get("megabytes")
    text = "" if memory is None else f", {memory * 1024 / tokens:.1f} KB"
    return " / ".join(f"{t:.3g}" for t in times) + text


def _thousands(n: int) -> str:
    return f"{n // 1024}k" if n % 1024 == 0 else str(n)
