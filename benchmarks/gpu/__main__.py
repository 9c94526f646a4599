"""Kernels compiled, checked, measured and timed beside a peer, on one GPU, in under eight minutes.

    python -m benchmarks.gpu [--models gla kda] [--parts compile error] [--seconds 460] [--dry] [--out FOLDER]

Every part has its share of the time; what no time was left for is recorded as not run, what fails as failed,
and the rest goes on. Results are kept as they come: another run with the same commit, device and versions
does what is left. `--dry` does the same on a CPU, in Triton's interpreter, at tiny sizes, and times nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import ROOT
from benchmarks.entries import Entry, checks, measures, of_models, rank, warm_ups
from benchmarks.gpu.checks import cover
from benchmarks.gpu.tables import show
from benchmarks.pool import Answer, Pool
from benchmarks.results import Results, commit

# The share of the time at which a part ends, and the most that one of its entries may take, in seconds.
PARTS = {
    "compile": (0.5, 200.0),
    "error": (0.65, 60.0),
    "check": (0.75, 90.0),
    "measure": (0.8, 60.0),
    "time": (1.0, 90.0),
}
DRY = 10  # times as long: in the interpreter
URGENT = (False, 1)  # rank: before the peers' kernels are compiled
TOGETHER = ("error", "check")
ALONE = ("large",)  # needs the memory
CHECKERS = 4  # processes that use the GPU at once where no times are taken


class Run:
    """One run: the workers, the results, the time there is."""

    def __init__(self, pool: Pool, results: Results, seconds: float, cores: int, console: Console) -> None:
        self.pool, self.results, self.cores, self.console = pool, results, cores, console
        self.start, self.seconds = time.monotonic(), seconds
        self.broken: dict[str, str] = {}  # calls with a kernel that did not compile, and why

    def deadline(self, part: str) -> float:
        return self.start + self.seconds * PARTS[part][0]

    def compile(self, entries: Sequence[Entry], peers: Sequence[Entry]) -> None:
        """All kernels of the entries, those of different calls that are the same once, in parallel; the
        peers' after the most urgent ones, because they take long.
        """
        calls = list({_call(e): e for e in entries if e.who == "rnnc"}.values())
        end, most = self.deadline("compile"), PARTS["compile"][1]
        listed = dict(self._run(((e, {"list": e.as_dict()}) for e in calls), self.cores, end, most))
        first: dict[str, Entry] = {}
        urgent = 0
        users: dict[str, list[str]] = {}
        for entry in calls:
            answer = listed[entry]
            if answer["status"] != "ok":
                self.broken[_call(entry)] = str(answer.get("reason"))
            for number, signature in enumerate(answer.get("kernels", ())):
                urgent += signature not in first and rank(entry) <= URGENT
                first.setdefault(signature, replace(entry, kind="compile", who="rnnc", kernel=number))
                users.setdefault(signature, []).append(_call(entry))
        todo: list[tuple[str, Entry]] = list(first.items())
        todo[urgent:urgent] = [(peer.key, peer) for peer in peers]
        named = dict(todo)
        requests = ((name, entry.as_dict()) for name, entry in todo)
        for name, answer in self._run(requests, self.cores, end, most):
            self._add(named[name], answer)
            if answer["status"] == "error" or answer.get("reason") == "no time was left":
                reason = f"{answer.get('launch') or named[name]}: {answer.get('reason')}"
                self.broken |= dict.fromkeys(users.get(name, ()), reason)

    def do(self, part: str, entries: Sequence[Entry], workers: int) -> None:
        """What is left of the entries of a part."""
        todo = [entry for entry in entries if not self.results.done(entry)]
        for entry in todo:
            if entry.who == "rnnc" and _call(entry) in self.broken:
                self._add(entry, {"status": "not run", "reason": self.broken[_call(entry)]})
        ready = [e for e in todo if e.who != "rnnc" or _call(e) not in self.broken]
        requests = ((entry, entry.as_dict()) for entry in ready)
        most = PARTS[part][1] * (DRY if self.pool.mode == "dry" else 1)
        for entry, answer in self._run(requests, workers, self.deadline(part), most):
            self._add(entry, answer)

    def _run(
        self, requests: Iterable[tuple[object, object]], workers: int, deadline: float, most: float
    ) -> Iterable[tuple[object, Answer]]:
        return self.pool.run(requests, workers, deadline, most)

    def _add(self, entry: Entry, answer: Answer) -> None:
        self.results.add(entry, answer)
        spent = time.monotonic() - self.start
        self.console.print(f"{spent:6.1f} s  {answer['status']:<8} {entry}", markup=False, highlight=False)


def _call(entry: Entry) -> str:
    """What the kernels of an entry depend on."""
    return f"{entry.model} {entry.dtype} {entry.call}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and prints; the exit status is 1 where something was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", help="built-in models; all if none is given")
    parser.add_argument("--seconds", type=float, default=460, help="for everything")
    parser.add_argument("--dry", action="store_true", help="on a CPU, in the interpreter, at tiny sizes")
    parser.add_argument(
        "--parts", nargs="*", default=list(PARTS), choices=list(PARTS), help="all if not given"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--cores", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--afresh", action="store_true", help="do again what has been done")
    given = parser.parse_args(arguments)
    console = Console(width=150)
    given.out.mkdir(parents=True, exist_ok=True)
    models = given.models or sorted(path.stem for path in (ROOT / "ops").glob("*.rnn"))
    pool = Pool("dry" if given.dry else "cuda", given.cores, given.out / "workers.log")
    start = time.monotonic()
    try:
        about = pool.workers[0].ask(None, 120)
        if not given.dry and about.get("device", "interpreter") == "interpreter":
            parser.error(f"no GPU: {about.get('reason', 'torch sees none')}; --dry needs none")
        device = "dry run" if given.dry else about["device"]
        results = Results(given.out, {"commit": commit(), **about, "device": device})
        if not given.afresh:
            results.read()
        run = Run(pool, results, given.seconds, given.cores, console)
        errors, times = of_models(models, given.dry)
        todo = {"error": errors, "check": checks(models, cover(models), given.dry)}
        todo |= {"measure": measures(models, given.dry), "time": times}
        todo = {part: entries for part, entries in todo.items() if part in given.parts}
        entries = [entry for each in todo.values() for entry in each]
        if "compile" in given.parts:
            run.compile(sorted([*errors, *times], key=rank), warm_ups(times))
        for part, each in todo.items():
            together = [entry for entry in each if part in TOGETHER and entry.kind not in ALONE]
            run.do(part, together, min(CHECKERS, given.cores))
            run.do(part, [entry for entry in each if entry not in together], 1)
    finally:
        pool.close()
    show(results, entries, console)
    console.print(f"written: {results.write(time.monotonic() - start)}")
    wrong = [e for e in entries if results.answers[e.key]["status"] in ("error", "failed")]
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
