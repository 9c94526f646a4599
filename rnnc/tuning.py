"""The search for configurations that compile without spills, without a GPU.

The length of a chunk and spacing of states that the estimate would choose goes first; of it, a kernel's
candidates are compiled in the order of their estimated time until one keeps the limits. If none does, the
next goes, else the search is over: what is left would not be chosen, but for sequences that are shorter than
such a chunk; for these every shorter one is searched in the same way. What a compiler said is kept: another
run goes on where the last one stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, NamedTuple

from rnnc.codegen.cuts import DEFAULT, chosen, passes
from rnnc.codegen.resources import Configuration
from rnnc.codegen.tiling import (
    CHUNKS,
    CLOSE,
    NEAR,
    STACK,
    STACK_SERIAL,
    STANDS,
    TILES,
    as_one,
    compiled_for,
    excess,
    plausible,
    ranked,
    spacings,
    together,
)
from rnnc.codegen.tiling_record import Choice, Measured, Pair, Tiling, TooLarge
from rnnc.compiler_answers import Answers
from rnnc.compiler_processes import Report
from rnnc.kernel_jobs import hardware_of, itemsize, recorded
from rnnc.side_kernels import SHORT, cut_jobs, map_choices, stretch_jobs
from rnnc.tuning_record import Found, Target, findings_of

TRIES = 5  # candidates of a kernel, for one length of a chunk


def search(targets: Sequence[Target], answers: Answers, workers: int, deadline: float) -> Iterator[Found]:
    """The targets as they are done; after that time of the monotonic clock no kernel is compiled any more."""
    with ThreadPoolExecutor(workers) as threads:
        yield from threads.map(lambda target: _Search(target, answers, deadline).run(), targets)


class _Plan(NamedTuple):
    """One length of a chunk and one spacing of states: how far its worst kernel is from fitting, in
    registers, the least bytes through memory and time, and the candidates of each kernel, those kernels
    first that are likely not to fit.
    """

    chunk: int
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
        module = target.subject.module
        from rnnc.ops.triton_tiling import keeping_works

        self.cuts = {DEFAULT: module.WORK, **keeping_works(module)}
        self.every = {**module.WORK, **module.CUT_WORK, **module.SUMMARY_WORK}
        self.found = Found(target)
        self.room: dict[tuple[str, int, int], float] = {}

    @property
    def keeping(self) -> dict[str, str]:
        """The cut that a kernel is in, of those that all calls may run by."""
        own = self.target.subject.module.CUT_WORK
        return {kernel: cut for cut, works in self.cuts.items() for kernel in works if kernel in own}

    @property
    def _known(self) -> dict[str, dict[Configuration, Measured]]:
        """What compilers have said."""
        return {kernel: findings_of(reports) for kernel, reports in self.found.kernels.items()}

    def _chosen(self, chunk: int | None = None, joined: bool = False) -> Tiling:
        """What is chosen by what is known, for chunks of that many tokens if given. Raises TooLarge."""
        from rnnc.ops.triton_tiling import tiling

        given = self.target.axes, self.size, self.hardware, chunk
        return tiling(self.target.subject.module, *given, self._known, joined=joined)

    def run(self) -> Found:
        """Compiles the plan that would be chosen if it fits; if it does not, the one that then would be."""
        plans = sorted(self._plans(), key=lambda plan: plan.excess)
        try:
            self._among(plans)
            self._joints(None)
            self._as_it_runs(None)
            for chunk in self._shorter():
                self._among([plan for plan in plans if plan.chunk == chunk])
                self._joints(chunk)
                self._as_it_runs(chunk)
            self._side()
            self.found.done = True
        except OutOfTime:
            pass
        return self.found

    def _among(self, plans: Sequence[_Plan]) -> None:
        """Compiles what would be chosen of the plans; of those that are far from fitting, the nearest.

        Raises OutOfTime.
        """
        likely = [plan for plan in plans if plan.excess <= NEAR]
        tried = self._best_first(list(likely))
        if not self._fitting(tried):
            tried += [self._compiled_plan(plan) for plan in plans[len(likely) :][:1]]
        if tried and not self._fitting(tried):
            self._complete(min(tried, key=lambda plan: (plan.excess, plan.seconds)))

    def _shorter(self) -> list[int]:
        """The chunks that sequences run by which are shorter than those that are chosen."""
        try:
            usual = self._chosen().chunk
        except TooLarge:
            return []
        return [chunk for chunk in CHUNKS if chunk < usual]

    def _joints(self, chunk: int | None) -> None:
        """Compiles two kernels as one launch, for the chunks and the spacing that are chosen.

        Raises OutOfTime.
        """
        axes, module, known = self.target.axes, self.target.subject.module, self._known
        try:
            plan = self._chosen(chunk)
        except TooLarge:
            return
        for joint in module.JOINED:
            names = joint.first, joint.second
            if not set(names) <= set(plan.kernels):
                continue
            two = [(self.every[n], known.get(n, {}), plan.kernels[n]) for n in names]
            pairs = together(two, joint.beside, axes, self.size, self.hardware, plan.chunk, plan.spacing)
            self._joint(joint, pairs[:TRIES], [apart for *_, apart in two])

    def _as_it_runs(self, chunk: int | None) -> None:
        """Compiles what is chosen with its own spacing where another stood for it, until what is chosen was
        compiled so. Raises OutOfTime.
        """
        joints = {joint.kernel: joint.beside for joint in self.target.subject.module.JOINED}
        new = True
        while new:
            new = False
            try:
                plan = self._chosen(chunk, joined=True)
            except TooLarge:
                return
            for kernel, choice in plan.kernels.items():
                how = choice.configuration
                new |= self._own_spacing(kernel, how, how, {})
            for kernel, (one, other) in plan.joined.items():
                pair = one.configuration, other.configuration
                new |= self._own_spacing(kernel, as_one(pair, joints[kernel]), pair[0], {kernel: pair})

    def _own_spacing(
        self,
        kernel: str,
        how: Configuration,
        first: Configuration,
        joined: Mapping[str, tuple[Configuration, Configuration]],
    ) -> bool:
        """Whether another spacing stood for that of a configuration, and it was compiled for the first time;
        `first`: of two kernels as one launch, that of the first. Raises OutOfTime.
        """
        if how.spacing <= STANDS or how in self.found.kernels.get(kernel, {}):
            return False
        self._in_time()
        self._compiled(kernel, how, self._tiled(first, joined))
        return True

    def _side(self) -> None:
        """Compiles what only some calls launch, as it would be chosen. Raises OutOfTime."""
        from rnnc.ops.triton_tiling import cut_works

        target, module, known = self.target, self.target.subject.module, self._known
        try:
            plan = self._chosen()
            maps = map_choices(target.subject, target.arch, target.dtype, target.axes, plan.chunk, {})
        except TooLarge:
            return
        seen: set[tuple[str, int]] = set()
        for length in SHORT:
            each = passes(cut_works(module), target.axes, self.size, self.hardware, length, None, known)
            taken = chosen(each, min(plan.chunk, length), unseen=True)
            for kernel in taken.kernels if taken else ():
                if taken and kernel in module.CUT_WORK and (kernel, taken.chunk) not in seen:
                    seen.add((kernel, taken.chunk))
                    given = module.CUT_WORK[kernel], target.axes, self.size, self.hardware
                    self._first(kernel, plausible(ranked(*given, taken.chunk, {})))
        for kernel, choices in ({} if module.NO_STRETCHES else maps).items():
            self._first(kernel, plausible(choices))

    def _joint(self, joint: Any, pairs: Sequence[Pair], apart: Sequence[Choice]) -> None:
        """Until a configuration spills no more than the limit, or than the two do apart."""
        spilled = [choice.measured.stack for choice in apart if choice.measured]
        most = max((STACK_SERIAL if joint.beside else STACK, *spilled))
        for pair in pairs:
            self._in_time()
            one, other = (
                choice.configuration._replace(
                    spacing=compiled_for(self.every[kernel], choice.configuration.spacing)
                )
                for kernel, choice in zip((joint.first, joint.second), pair, strict=True)
            )
            both = as_one((one, other), joint.beside)
            report = self._compiled(joint.kernel, both, self._tiled(one, {joint.kernel: (one, other)}))
            if "error" not in report and report["stack"] <= most:
                break

    def _in_time(self) -> None:
        """Raises OutOfTime."""
        if time.monotonic() > self.deadline:
            raise OutOfTime

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
        cuts = ((works, spacing) for works in self.cuts.values() for spacing in spacings(works.values()))
        for chunk, (works, spacing) in product(CHUNKS, cuts):
            try:
                each = {
                    kernel: plausible(ranked(work, target.axes, self.size, self.hardware, chunk, {}, spacing))
                    for kernel, work in works.items()
                }
            except TooLarge:
                continue
            least = max(min(choice.excess for choice in choices) for choices in each.values())
            first = {kernel: choices[0] for kernel, choices in each.items()}
            tight = sorted(first, key=lambda kernel: -first[kernel].excess)
            yield _Plan(
                chunk,
                least,
                sum(choice.bytes for choice in first.values()),
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
        memory, seconds = sum(c.bytes for c in chosen), sum(c.times.seconds for c in chosen)
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
            self._in_time()
            how = choice.configuration
            how = how._replace(spacing=compiled_for(self.every[kernel], how.spacing))
            report = self._compiled(kernel, how, self._tiled(how, {}))
            left = float("inf")
            if "error" not in report and report["shared"] <= self.hardware.shared_program:
                said = Measured(report["registers"], report["stack"], report["shared"])
                left = excess(self.every[kernel], choice.need, said, choice.configuration, self.hardware)
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

    def _tiled(self, how: Configuration, joined: Mapping[str, tuple[Configuration, Configuration]]) -> Any:
        """How a call runs in which what is compiled runs in that way."""
        from rnnc.ops.triton_call import Tiled
        from rnnc.ops.triton_tiling import precision

        each = dict.fromkeys(self.every, how._replace(tile=how.tile or TILES[0]))
        each |= {kernel: how for kernel, work in self.every.items() if bool(work.tiled) == bool(how.tile)}
        spacing = max(each.spacing for each in (how, *(one for pair in joined.values() for one in pair)))
        return Tiled(how.chunk, spacing, each, precision(self.hardware), False, joined)

    def _compiled(self, kernel: str, how: Configuration, tiled: Any) -> Report:
        """What the compiler makes of a kernel, launched as `tiled` says; kept under its configuration.

        Two walks of which no call needs the first again are never one launch: an error.
        """
        target = self.target
        given = target.subject, target.arch, target.dtype, target.axes
        if kernel in target.subject.module.SUMMARY_WORK:
            jobs = [job for job in stretch_jobs(*given, tiled, {kernel: how}) if job.task["kernel"] == kernel]
        elif kernel in target.subject.module.CUT_WORK and kernel not in self.keeping:
            cuts = target.subject.module.CUTS.items()
            (cut,) = (name for name, group in cuts if kernel in {launch.kernel for launch in group})
            own = dict.fromkeys(self.every, how) | dict(tiled.configurations)
            jobs = cut_jobs(*given, tiled._replace(cut=cut, configurations=own), kernel)
        else:
            jobs = recorded(*given, tiled._replace(cut=self.keeping.get(kernel, DEFAULT)), kernel)
        report = self.answers.of(jobs[0]) if jobs else {"error": "never launched"}
        self.found.kernels.setdefault(kernel, {})[how] = report
        return report
