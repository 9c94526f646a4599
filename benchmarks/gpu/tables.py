"""The results as tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from benchmarks.entries import Entry
from benchmarks.results import Answer, Results

COLOURS = {"ok": "green", "failed": "red", "error": "red", "not run": "yellow"}


def show(results: Results, entries: Iterable[Entry], console: Console) -> None:
    """Errors, times, what went wrong, and how many entries of each kind there are."""
    answers = [(entry, results.answers[entry.key]) for entry in entries if entry.key in results.answers]
    stamp = ", ".join(f"{name} {value}" for name, value in results.stamp.items())
    done = [x for x in answers if x[1]["status"] != "not run"]
    console.print(_errors([x for x in done if x[0].kind in ("error", "graph")]))
    console.print(_times([x for x in done if x[0].kind == "time"], ceiling(done)))
    console.print(_measures([x for x in done if x[0].kind in ("ceilings", "step", "warps")]))
    reasons: dict[str, list[Entry]] = defaultdict(list)
    for entry, answer in answers:
        if answer["status"] != "ok":
            reasons[f"{answer['status']}: {answer.get('reason') or _beyond(answer)}"].append(entry)
    for reason, found in reasons.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        console.print(f"{reason}\n    {found[0]}{more}", markup=False, highlight=False)
    counts = Counter((entry.kind, answer["status"]) for entry, answer in answers)
    console.print(", ".join(f"{kind} {status}: {n}" for (kind, status), n in sorted(counts.items())))
    console.print(stamp, markup=False)


def _beyond(answer: Answer) -> str:
    wrong = [f"{what} {answer['errors'][what]:.1e}" for what in answer.get("beyond", ())]
    if answer.get("deterministic") is False:
        wrong.append("not deterministic")
    return ", ".join(wrong) or "a wrong result"


def _errors(answers: Iterable[tuple[Entry, Answer]]) -> Table:
    table = Table("model", "dtype", "call", "", "outputs", "gradients", title="errors against float64")
    for entry, answer in answers:
        name = str(entry.call) + (" as a CUDA graph" if entry.kind == "graph" else "")
        table.add_row(entry.model, entry.dtype, name, _status(answer), *_worst(answer))
    return table


def ceiling(answers: Iterable[tuple[Entry, Answer]]) -> float | None:
    """Bytes per second of a copy, as measured in the same run."""
    found = [answer for entry, answer in answers if entry.kind == "ceilings" and answer["status"] == "ok"]
    return found[0]["terabytes_per_second"] * 1e12 if found else None


def _measures(answers: Iterable[tuple[Entry, Answer]]) -> Table:
    table = Table(
        "", "model", "", "", title="the card; microseconds a chunk; nanoseconds for a token and head"
    )
    left_out = ("status", "took", "kernels")
    for entry, answer in answers:
        for what, value in (*answer.items(), *answer.get("kernels", {}).items()):
            if what not in left_out:
                shown = f"{value:.3f}" if isinstance(value, float) else str(value)
                table.add_row(entry.kind, entry.model, what, shown)
    return table


def fractions(answer: Answer, copied: float | None) -> list[str]:
    """How long the least bytes of the passes would take at the rate of a copy, of what they took."""
    found = []
    for name, least in zip(("forward_ms", "both_ms"), answer.get("least_bytes", (0, 0)), strict=True):
        taken = answer.get(name)
        found.append(f"{least / copied / (taken * 1e-3):.0%}" if copied and taken and least else "")
    return found


def _times(answers: Iterable[tuple[Entry, Answer]], copied: float | None) -> Table:
    header = ("model", "B x T x H x D", "", "", "forward, ms", "both, ms", "MB", "of a copy", "both")
    header += ("outputs", "gradients")
    table = Table(*header, title="times, medians; errors against float64")
    for entry, answer in answers:
        numbers = [answer.get(name) for name in ("forward_ms", "both_ms", "megabytes")]
        shown = ["" if x is None else f"{x:.3f}" if x < 100 else f"{x:.0f}" for x in numbers]
        shown += fractions(answer, copied)
        table.add_row(entry.model, str(entry.call), entry.who, _status(answer), *shown, *_worst(answer))
    return table


def _worst(answer: Answer) -> list[str]:
    """The largest error of outputs and final states, and of gradients."""
    errors: Mapping[str, float] = answer.get("errors", {})
    sides = ([e for what, e in errors.items() if what.startswith("d") is back] for back in (False, True))
    return [f"{max(side):.1e}" if side else "" for side in sides]


def _status(answer: Answer) -> str:
    status = answer["status"]
    return f"[{COLOURS[status]}]{status}[/]"
