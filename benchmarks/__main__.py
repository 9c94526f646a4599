"""Every operator that has a peer, timed beside it on this machine's device: `make bench`.

    python -m benchmarks [--models gated_delta_net mamba2] [--threads 2] [--seconds 3600] [--naive]
    python -m benchmarks --render          only the tables, plots and README, of the results that are there

Medians after warm-up, forward and forward and backward, peak memory, errors against float64. One process does
all of them in turn (one more for what must be switched on before it is imported). An entry that takes longer
than its share is ended and recorded as such. Results are kept as they come: another run with the same commit,
device and versions does what is left.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import ROOT
from benchmarks.candidates import environment
from benchmarks.comparisons import compared, entries
from benchmarks.entries import Entry
from benchmarks.pool import Pool, Worker
from benchmarks.report import update_readme, write_tables
from benchmarks.results import Results, commit

RESULTS = ROOT / "benchmarks" / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs, writes and prints; the exit status is 1 where a result of the project's own is wrong."""
    given = _parser().parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=150)
    wrong = 0 if given.render else run(given, console)
    console.print(write_tables(given.out), markup=False, highlight=False)
    if given.out == RESULTS and not given.tiny:
        update_readme(ROOT / "README.md", given.out)
    return min(wrong, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", help="built-in models; those with a peer if none is given")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="as there is")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="on a CPU")
    parser.add_argument("--seconds", type=float, default=3600, help="for everything")
    parser.add_argument("--box", type=float, default=180, help="the most seconds one entry may take")
    parser.add_argument(
        "--naive", action="store_true", help="on a CPU the naive loop too: minutes, gigabytes"
    )
    parser.add_argument("--tiny", action="store_true", help="sizes that take no time")
    parser.add_argument("--afresh", action="store_true", help="do again what has been done")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


def run(given: argparse.Namespace, console: Console) -> int:
    """Measures what is left to measure; how many results of the project's own are wrong."""
    start = time.monotonic()
    device = given.device or _device()
    todo = entries(given.models or compared(device), device, given.tiny, given.naive)
    threads = given.threads if device == "cpu" else 1
    log = given.out / "workers.log"
    pools: dict[str, Pool] = {}
    try:
        first = Worker(device, log, threads)
        pools[str({})] = Pool(device, 1, log)
        pools[str({})].workers = [first]
        stamp = {"commit": commit(), **first.ask(None, 120)}
        results = Results(given.out, stamp)
        if not given.afresh:
            results.read()
        for entry in todo:
            if results.done(entry):
                continue
            place = str(environment(entry.who))
            if place not in pools:
                pools[place] = Pool(device, 1, log)
                pools[place].workers = [Worker(device, log, threads, environment(entry.who))]
            requests = [(entry, entry.as_dict())]
            for _, answer in pools[place].run(requests, 1, start + given.seconds, given.box):
                results.add(entry, answer)
                spent = f"{time.monotonic() - start:6.1f} s  {answer['status']:<8}"
                console.print(f"{spent} {entry} {answer.get('reason', '')}", markup=False, highlight=False)
    finally:
        for pool in pools.values():
            pool.close()
    console.print(f"written: {results.write(time.monotonic() - start)}")
    return sum(_is_wrong(entry, results) for entry in todo)


def _is_wrong(entry: Entry, results: Results) -> bool:
    return entry.who == "rnnc" and results.answers[entry.key]["status"] in ("error", "failed")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    raise SystemExit(main())
