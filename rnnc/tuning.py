"""The search for configurations that compile without spills, without a GPU.

The length of a chunk and spacing of states that the estimate would choose goes first; of it, a kernel's
candidates are compiled in the order of their estimated time until one keeps the limits. If none does, the
next goes, else the search is over: what is left would not be chosen. What a compiler said is kept: another
run goes on where the last one stopped.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """One length of a chunk and one spacing of states: how far its worst kernel is from fitting, in
    registers, the least time through memory and in all, and the candidates of each kernel, those kernels
    first that are likely not to fit.
    """

    excess: float
    memory: float
    seconds: float
    candidates: dict[str, list[Choice]]


class OutOfTime(Exception):
    """No kernel is compiled any more."""


class _Search:
    """The search for one target. `room`: of each kernel, length of a chunk and number of warps, the registers
    by the estimate with which it spills by far, whatever the spacing.
    """

    def __init__(self, target: Target, answers: Answers, deadline: float) -> None:
        self.target, self.answers, self.deadline = target, answers, deadline
        self.hardware, self.size = hardware_of(target.arch), itemsize(target.dtype)
        self.works = target.subject.module.WORK
        self.found = Found(target)
        self.room: dict[tuple[str, int, int], float] = {}

    def run(self) -> Found:
        """Compiles the plan that would be chosen if it fits; if it does not, the one that then would be."""
        plans = sorted(self._plans(), key=lambda plan: plan.excess)
        likely = [plan for plan in plans if plan.excess <= NEAR]
        try:
            tried = self._best_first(list(likely))
            if not self._fitting(tried):  # of those that are far from fitting, the nearest
                tried += [self._compiled_plan(plan) for plan in plans[len(likely) :][:1]]
            if tried and not self._fitting(tried):
                self._complete(min(tried, key=lambda plan: (plan.excess, plan.seconds)))
            self.found.done = True
        except OutOfTime:
            pass
        return self.found

    @staticmethod
    def _fitting(plans: Iterable[_Plan]) -> bool:
        return any(plan.excess <= 0 for plan in plans)

    def _best_first(self, waiting: list[_Plan]) -> list[_Plan]:
        """What compilers made of the plans, until one that fits goes before all that are left."""
        tried: list[_Plan] = []
        while waiting:
            fitting = [plan for plan in tried if plan.excess <= 0]
            least = min(plan.seconds for plan in (*waiting, *fitting))
            near = [plan for plan in (*fitting, *waiting) if plan.seconds <= CLOSE * least]
            first = min(near, key=lambda plan: (plan.memory, plan.seconds))
            if first not in waiting:
                break
            waiting.remove(first)
            tried.append(self._compiled_plan(first))
        return tried

    def _plans(self) -> Iterator[_Plan]:
        """Every length of a chunk and spacing."""
        target = self.target
        for chunk, spacing in product(CHUNKS, spacings(self.works.values())):
            try:
                each = {
                    kernel: plausible(ranked(work, target.axes, self.size, self.hardware, chunk, {}, spacing))
                    for kernel, work in self.works.items()
                }
            except TooLarge:
                continue
            least = max(min(choice.excess for choice in choices) for choices in each.values())
            first = {kernel: choices[0] for kernel, choices in each.items()}
            tight = sorted(first, key=lambda kernel: -first[kernel].excess)
            yield _Plan(
                least,
                sum(choice.times.memory for choice in first.values()),
                sum(choice.times.seconds for choice in first.values()),
                {kernel: each[kernel] for kernel in tight},
            )

    def _compiled_plan(self, plan: _Plan) -> _Plan:
        """The plan as compilers have it, up to the first kernel that does not fit."""
        chosen: list[Choice] = []
        for kernel, choices in plan.candidates.items():
            chosen.append(self._first(kernel, choices))
            if not chosen[-1].fits:
                return plan._replace(excess=chosen[-1].excess)
        memory, seconds = (sum(getattr(c.times, name) for c in chosen) for name in ("memory", "seconds"))
        return plan._replace(excess=0.0, memory=memory, seconds=seconds)

    def _complete(self, plan: _Plan) -> None:
        """Compiles the rest of a plan that does not fit."""
        self.room.clear()
        for kernel, choices in plan.candidates.items():
            self._first(kernel, choices)

    def _first(self, kernel: str, choices: Sequence[Choice]) -> Choice:
        """The first candidate that keeps the limits, else the one that spills least.

        Raises OutOfTime.
        """
        tried: list[tuple[float, Choice]] = []
        room: dict[int, float] = {}  # registers by the estimate, by warps: what is above them spills too
        for choice in choices:
            warps, registers = choice.configuration.warps, choice.need.registers
            shape = kernel, choice.configuration.chunk, warps
            worst = self.room.get(shape, float("inf"))
            if registers > min(room.get(warps, worst), worst):
                continue
            if time.monotonic() > self.deadline:
                raise OutOfTime
            report = self._compiled(kernel, choice)
            left = float("inf")
            if "error" not in report and report["shared"] <= self.hardware.shared_program:
                said = Measured(report["registers"], report["stack"], report["shared"])
                left = excess(self.works[kernel], choice.need, said, choice.configuration, self.hardware)
                choice = choice._replace(measured=said)
            tried.append((left, choice._replace(excess=left)))
            if left <= 0 or len(tried) == TRIES:
                break
            room[warps] = min(room.get(warps, registers), registers - min(left, NEAR) / 2)
            if left > NEAR:
                self.room[shape] = min(worst, registers)
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
