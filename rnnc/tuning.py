"""The search for configurations that compile without spills, without a GPU.

For each length of a chunk and spacing of states, what moves the fewest bytes first, a kernel's candidates
are compiled in the order of their estimated time until one keeps the limits. What cannot be chosen, given
what was found, is left out. What a compiler said is kept: another run goes on where the last one stopped.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from rnnc.codegen.resources import Configuration
from rnnc.codegen.tiling import (
    CHUNKS,
    CLOSE,
    NEAR,
    TILES,
    Choice,
    Measured,
    TooLarge,
    compiled_for,
    excess,
    plausible,
    ranked,
    spacings,
)
from rnnc.compiler_processes import Compile, Report
from rnnc.kernel_jobs import Job, Subject, hardware_of, itemsize, recorded

TRIES = 5  # candidates of a kernel, for one length of a chunk


class Answers:
    """What compilers said, by the key of a job, in a file of lines of JSON."""

    def __init__(self, file: Path, compile_one: Compile) -> None:
        self.file, self.compile_one = file, compile_one
        self.lock = threading.Lock()
        self.known: dict[str, Report] = {}
        self.compiled = 0
        if file.is_file():
            for line in file.read_text("utf-8").splitlines():
                key, report = json.loads(line)
                self.known[key] = report

    def of(self, job: Job) -> Report:
        """The report on a kernel, compiled if it was not before."""
        if job.key not in self.known:
            report = self.compile_one(job.task)
            with self.lock:
                self.known[job.key] = report
                self.compiled += 1
                if "the compiler" in report.get("error", ""):  # was stopped: it may do better another time
                    return report
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([job.key, report]) + "\n")
        return self.known[job.key]


@dataclass(frozen=True)
class Target:
    """A recurrence at sizes of axes, in a dtype, for an architecture."""

    subject: Subject
    arch: str
    dtype: str
    axes: Mapping[str, int]

    def __str__(self) -> str:
        sizes = " ".join(f"{axis}={size}" for axis, size in self.axes.items())
        return f"{self.subject.name} {self.dtype} {sizes}"


@dataclass
class Found:
    """What was found for a target: by kernel and configuration; `done` if the search came to its end."""

    target: Target
    kernels: dict[str, dict[Configuration, Report]] = field(default_factory=dict)
    done: bool = False

    def rows(self) -> Iterator[dict[str, Any]]:
        """One record per kernel and configuration."""
        for kernel, reports in self.kernels.items():
            for configuration, report in reports.items():
                known = {"model": self.target.subject.name, "kernel": kernel, "dtype": self.target.dtype}
                yield known | {"sizes": dict(self.target.axes)} | configuration._asdict() | report


def search(targets: Sequence[Target], answers: Answers, workers: int, deadline: float) -> Iterator[Found]:
    """The targets as they are done; after that time of the monotonic clock no kernel is compiled any more."""
    with ThreadPoolExecutor(workers) as threads:
        yield from threads.map(lambda target: _Search(target, answers, deadline).run(), targets)


class _Plan(NamedTuple):
    """One length of a chunk and one spacing of states: whether a kernel is far from fitting, the least time
    through memory and in all, and the candidates of each kernel.
    """

    hopeless: bool
    memory: float
    seconds: float
    candidates: dict[str, list[Choice]]


class _Search:
    """The search for one target."""

    def __init__(self, target: Target, answers: Answers, deadline: float) -> None:
        self.target, self.answers, self.deadline = target, answers, deadline
        self.hardware, self.size = hardware_of(target.arch), itemsize(target.dtype)
        self.works = target.subject.module.WORK
        self.found = Found(target)

    def run(self) -> Found:
        """All lengths of chunks and spacings that the choice may take, fewest bytes first.

        What moves more bytes than a length that fits is taken only if it is faster by a factor.
        """
        best = float("inf")
        for plan in sorted(self._chunks(), key=lambda plan: (plan.hopeless, plan.memory)):
            if plan.seconds >= best / CLOSE:
                continue
            spent = 0.0
            for kernel, choices in plan.candidates.items():
                choice = self._first(kernel, choices)
                if choice is None:
                    return self.found
                spent += choice.times.seconds
                if not choice.fits:
                    break
            else:
                best = min(best, spent)
        self.found.done = True
        return self.found

    def _chunks(self) -> Iterator[_Plan]:
        """For every length of a chunk and spacing, the kernels first that are likely not to fit."""
        target = self.target
        for chunk, spacing in product(CHUNKS, spacings(self.works.values())):
            try:
                each = {
                    kernel: plausible(ranked(work, target.axes, self.size, self.hardware, chunk, {}, spacing))
                    for kernel, work in self.works.items()
                }
            except TooLarge:
                continue
            least = {kernel: min(choice.excess for choice in choices) for kernel, choices in each.items()}
            yield _Plan(
                max(least.values()) > NEAR,
                sum(choices[0].times.memory for choices in each.values()),
                sum(choices[0].times.seconds for choices in each.values()),
                {kernel: each[kernel] for kernel in sorted(each, key=lambda kernel: -least[kernel])},
            )

    def _first(self, kernel: str, choices: Sequence[Choice]) -> Choice | None:
        """The first candidate that keeps the limits, else the one that spills least; None: out of time."""
        tried: list[tuple[float, Choice]] = []
        room: dict[int, float] = {}  # registers by the estimate, by warps: what is above them spills too
        for choice in choices:
            warps, registers = choice.configuration.warps, choice.need.registers
            if registers > room.get(warps, registers):
                continue
            if time.monotonic() > self.deadline:
                return None
            report = self._compiled(kernel, choice)
            if "error" in report or report["shared"] > self.hardware.shared_program:
                continue
            said = Measured(report["registers"], report["stack"], report["shared"])
            left = excess(self.works[kernel], choice.need, said, choice.configuration, self.hardware)
            tried.append((left, choice._replace(measured=said, excess=left)))
            if left <= 0 or len(tried) == TRIES:
                break
            room[warps] = min(room.get(warps, registers), registers - min(left, NEAR) / 2)
        if not tried:
            return choices[0]._replace(excess=float("inf"))
        _, best = min(tried, key=lambda each: each[0])
        return best

    def _compiled(self, kernel: str, choice: Choice) -> Report:
        from rnnc.ops.triton_call import Tiled
        from rnnc.ops.triton_tiling import precision

        how = choice.configuration
        how = how._replace(spacing=compiled_for(self.works[kernel], how.spacing))
        others = how._replace(tile=how.tile or TILES[0])
        each = dict.fromkeys(self.works, others) | {kernel: how}
        tiled = Tiled(how.chunk, how.spacing, each, precision(self.hardware))
        target = self.target
        (job,) = recorded(target.subject, target.arch, target.dtype, target.axes, tiled, kernel)
        report = self.answers.of(job)
        self.found.kernels.setdefault(kernel, {})[how] = report
        return report


def entries(found: Found) -> dict[str, dict[str, Any]]:
    """What was found as entries of the table that is shipped (`rnnc.ops.tuned`): per kernel, length of a
    chunk and spacing, the best of what was compiled.
    """
    from rnnc.ops.tuned import class_of, key, triton_version

    target = found.target
    hardware, size = hardware_of(target.arch), itemsize(target.dtype)
    made = {}
    for kernel, reports in found.kernels.items():
        findings = {
            how: Measured(said["registers"], said["stack"], said["shared"])
            for how, said in reports.items()
            if "error" not in said
        }
        rows = []
        for chunk, spacing in sorted({(how.chunk, how.spacing) for how in findings}):
            work = target.subject.module.WORK[kernel]
            try:
                best = ranked(work, target.axes, size, hardware, chunk, findings, spacing)[0]
            except TooLarge:
                continue
            rows.append([*best.configuration, *findings[best.configuration][:3]])
        made[key(target.subject.text, kernel, target.axes, size, hardware.name)] = {
            "kernel": kernel,
            "bytes": size,
            "sizes": class_of(target.axes),
            "triton": triton_version(),
            "found": rows,
        }
    return made


def merged(old: Mapping[str, dict[str, Any]], new: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The entries of a table after a search: a kernel has one for its sizes, bytes and version of Triton."""

    def same(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(entry[name] for name in ("kernel", "sizes", "bytes", "triton"))

    again = {same(entry) for entry in new.values()}
    kept = {each: entry for each, entry in old.items() if same(entry) not in again}
    together = kept | dict(new)
    return dict(sorted(together.items(), key=lambda item: (*map(str, same(item[1])), item[0])))


def written(table: Mapping[str, Any]) -> str:
    """The text of a table: a line for each entry."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in table.items())
    return f"{{\n{lines}\n}}\n"
