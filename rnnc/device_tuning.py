"""The search for the fastest configurations on the GPU that is there: each is validated before it is timed.

For each length of a chunk, the likeliest first, the kernels run as the estimate has it; then one kernel after
the other is tried in other configurations, the rest left as they are. Two kernels that may be one launch are
then tried as such, for what was found to be fastest. What gives wrong results is recorded and never chosen;
of what is right, the fastest is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import Configuration
from rnnc.codegen.tiling import CHUNKS, as_one, choose, plausible, ranked, spacings, together
from rnnc.codegen.tiling_record import Choice, Findings, Measured, TooLarge
from rnnc.dsl.stages import handed
from rnnc.files import read_spec, write_text
from rnnc.kernel_jobs import MICRO_STEPS, itemsize
from rnnc.ops import tuned
from rnnc.ops.operator import Operator
from rnnc.ops.operator import compile as compile_spec
from rnnc.ops.stages import Pipeline
from rnnc.ops.triton_backend import TritonKernels
from rnnc.ops.triton_call import Tiled
from rnnc.ops.triton_tiling import hardware_of, precision
from rnnc.probing import Probe
from rnnc.tuning_table import merged, written

TRIES = 4  # configurations of a kernel, for one length of a chunk
FAR = 2.0  # lengths of a chunk that are estimated to take so much longer are validated, and no more
Works = Mapping[str, Any]


def tune_functions(
    specs: Sequence[str],
    sizes: Sequence[int],
    dtypes: Sequence[str],
    device: torch.device,
    deadline: float,
    output: Path | None = None,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """What was measured for every spec (a name or a path), size of all axes and dtype, as each is done.

    The table is written as it goes: `output`, or the one of the device in the user's cache. `options` are
    those of `Probe`.
    """
    hardware = hardware_of(device)
    table = output or tuned.measured_file(hardware.device or device.type)
    for dtype in dtypes:
        for size in sizes:
            for name in specs:
                yield _tune(_operator(name), size, dtype, device, deadline, table, options)


def _tune(
    operator: Operator,
    size: int,
    dtype: str,
    device: torch.device,
    deadline: float,
    table: Path,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """All stages of an operator."""
    said: dict[str, Any] = {"name": operator.name, "dtype": dtype, "sizes": size}
    said |= {"right": 0, "wrong": 0, "reasons": [], "done": True}
    whole = getattr(operator, "inner", operator)
    for function in whole.stages if isinstance(whole, Pipeline) else (whole,):
        recurrence, kernels = function.recurrence, function.kernels
        assert isinstance(kernels, TritonKernels)
        why_not = kernels.generated if isinstance(kernels.generated, str) else kernels.no_chunks
        if why_not:
            said["reasons"].append(why_not)
            continue
        axes = dict.fromkeys(recurrence.axes, size) | dict.fromkeys(recurrence.loops, MICRO_STEPS)
        wide = () if function is whole else handed(whole.recurrence, recurrence)
        probe = Probe(function, axes, dtype, device, wide, **options)
        found = _searched(probe, itemsize(dtype), hardware_of(device), deadline, table)
        for each in found.kernels.values():
            said["wrong"] += sum(what.wrong for what in each.values())
            said["right"] += sum(not what.wrong for what in each.values())
        said["reasons"] += found.reasons
        said["done"] = said["done"] and found.done
    return said


def _searched(probe: Probe, size: int, hardware: Hardware, deadline: float, table: Path) -> Measurements:
    """What the search finds for elements of `size` bytes; it is merged into the table."""
    names = (*probe.works, *(joint.kernel for joint in probe.joints))
    keys = {each: tuned.key(probe.text, each, probe.axes, size, hardware.name) for each in names}
    old = json.loads(table.read_text("utf-8")) if table.is_file() else {}
    known = {
        kernel: {
            how: what
            for entries in (tuned.table(hardware.name), old)
            for how, what in tuned.said(entries.get(key, {"found": ()})).items()
        }
        for kernel, key in keys.items()
    }
    found = DeviceSearch(probe, hardware, size, known, deadline).run()
    common = {"bytes": size, "sizes": tuned.class_of(probe.axes), "triton": tuned.triton_version()}
    common |= {"device": hardware.device or probe.device.type}
    new = {keys[k]: {"kernel": k} | common | each for k, each in rows(found).items()}
    table.parent.mkdir(parents=True, exist_ok=True)
    write_text(table, written(merged(old, new)))
    return found


def _operator(name: str) -> Operator:
    """A built-in model, or that of a file."""
    text, _ = read_spec(name)
    return compile_spec(text + "\n")


@dataclass
class Measurements:
    """What was measured: by kernel and configuration; `reasons`: what was wrong; `done` if all was tried."""

    kernels: dict[str, dict[Configuration, Measured]]
    reasons: list[str] = field(default_factory=list)
    done: bool = False


class OutOfTime(Exception):
    """The budget is spent."""


class DeviceSearch:
    """The search for one probe. `known`: what compilers said, and what was measured before, by kernel.

    Raises nothing: what the deadline (of the monotonic clock) did not leave time for is not `done`.
    """

    def __init__(
        self, probe: Probe, hardware: Hardware, size: int, known: Mapping[str, Findings], deadline: float
    ) -> None:
        self.probe, self.hardware, self.size, self.deadline = probe, hardware, size, deadline
        self.works: Works = probe.works
        self.said = known
        tried = {
            kernel: {how: said for how, said in findings.items() if said.wrong or said.seconds is not None}
            for kernel, findings in known.items()
        }
        names = (*self.works, *(joint.kernel for joint in probe.joints))
        self.found = Measurements({kernel: tried.get(kernel, {}) for kernel in names})

    def run(self) -> Measurements:
        """All lengths of chunks, the likeliest first."""
        plans = sorted(self._plans(), key=lambda plan: sum(each[0].times.seconds for each in plan.values()))
        try:
            for plan in plans:
                spent, least = (sum(each[0].times.seconds for each in p.values()) for p in (plan, plans[0]))
                self._chunk(plan, TRIES if spent <= FAR * least else 1)
            self._joints()
            self.found.done = True
        except OutOfTime:
            pass
        return self.found

    def _joints(self) -> None:
        """Kernels as one launch, for the chunks and the spacing that are fastest where all are apart."""
        how = self.probe.axes, self.size, self.hardware
        try:
            apart = choose(self.works, *how, None, self.found.kernels)
        except TooLarge:
            return
        each = {kernel: choice.configuration for kernel, choice in apart.kernels.items()}
        for joint in self.probe.joints if apart.measured else ():
            two = [
                (self.works[name], self.found.kernels[name], apart.kernels[name])
                for name in (joint.first, joint.second)
            ]
            said = self.said.get(joint.kernel, {})
            pairs = together(two, joint.beside, *how, apart.chunk, apart.spacing, said)
            for one, other in pairs[:TRIES]:
                pair = one.configuration, other.configuration
                both = as_one(pair, joint.beside)
                if both in self.found.kernels[joint.kernel]:
                    continue
                tiled = self._tiled(each)._replace(joined={joint.kernel: pair})
                if reason := self.probe.wrong(tiled):
                    self._reject(joint.kernel, both, reason)
                else:
                    self._keep(joint.kernel, both, self.probe.seconds(tiled, {joint.kernel}))

    def _plans(self) -> Iterator[dict[str, list[Choice]]]:
        """For every length of a chunk and spacing, the candidates of kernels: what compilers know first."""
        for chunk, spacing in product(CHUNKS, spacings(self.works.values())):
            try:
                yield {kernel: self._candidates(kernel, chunk, spacing) for kernel in self.works}
            except TooLarge:
                continue

    def _candidates(self, kernel: str, chunk: int, spacing: int) -> list[Choice]:
        how = self.works[kernel], self.probe.axes, self.size, self.hardware, chunk
        compiled = {each: said for each, said in self.said.get(kernel, {}).items() if not said.wrong}
        likely: dict[Configuration, Choice] = {}
        for choice in (*ranked(*how, compiled, spacing), *plausible(ranked(*how, {}, spacing))):
            likely.setdefault(choice.configuration, choice)
        return list(likely.values())[:TRIES]

    def _chunk(self, plan: Mapping[str, list[Choice]], tries: int) -> None:
        """Times for one length of a chunk; without a right configuration of every kernel there are none."""
        base = self._right(plan)
        if base is None:
            return
        for kernel, how in base.items():
            self._time(base, kernel, how)
        for kernel, choices in plan.items():
            for choice in choices[:tries]:
                how = choice.configuration
                if how in self.found.kernels[kernel]:
                    continue
                others = base | {kernel: how}
                reason = self._wrong(others)
                if reason:
                    self._reject(kernel, how, reason)
                else:
                    self._time(others, kernel, how)

    def _right(self, plan: Mapping[str, list[Choice]]) -> dict[str, Configuration] | None:
        """A right configuration of every kernel: what the estimate has first, or with one kernel exchanged.

        Where no exchange helps, more than one kernel is wrong: then all of these configurations are.
        """
        first = {kernel: self._usable(kernel, choices) for kernel, choices in plan.items()}
        if not all(first.values()):
            return None
        base = {kernel: choices[0] for kernel, choices in first.items()}
        if all(self._is_right(kernel, how) for kernel, how in base.items()):
            return base
        reason = self._wrong(base)
        if not reason:
            return base
        for kernel, choices in first.items():
            for how in choices[1:]:
                if not self._wrong(base | {kernel: how}):
                    self._reject(kernel, base[kernel], reason)
                    return base | {kernel: how}
        for kernel, how in base.items():
            self._reject(kernel, how, reason)
        return None

    def _usable(self, kernel: str, choices: list[Choice]) -> list[Configuration]:
        """The candidates that are not known to be wrong."""
        known = self.found.kernels[kernel]
        each = [choice.configuration for choice in choices]
        return [how for how in each if how not in known or not known[how].wrong]

    def _is_right(self, kernel: str, how: Configuration) -> bool:
        known = self.found.kernels[kernel].get(how)
        return known is not None and not known.wrong

    def _wrong(self, each: Mapping[str, Configuration]) -> str:
        return self.probe.wrong(self._tiled(each))

    def _reject(self, kernel: str, how: Configuration, reason: str) -> None:
        self.found.kernels[kernel][how] = Measured(wrong=True)
        self.found.reasons.append(f"{kernel} {how}: {reason}")

    def _time(self, each: Mapping[str, Configuration], kernel: str, how: Configuration) -> None:
        """The time of a kernel in a configuration that is right, kept."""
        if self._is_right(kernel, how):
            return
        self._keep(kernel, how, self.probe.seconds(self._tiled(each), {kernel}))

    def _keep(self, kernel: str, how: Configuration, seconds: Mapping[str, float]) -> None:
        said = self.said.get(kernel, {}).get(how, Measured())
        self.found.kernels[kernel][how] = said._replace(seconds=seconds[kernel])

    def _tiled(self, each: Mapping[str, Configuration]) -> Tiled:
        """How a call runs. Raises OutOfTime."""
        if time.monotonic() > self.deadline:
            raise OutOfTime
        (chunk,) = {how.chunk for how in each.values()}
        spacing = max(how.spacing for how in each.values())
        return Tiled(chunk, spacing, each, precision(self.hardware))


def rows(measurements: Measurements) -> dict[str, dict[str, list[list[Any]]]]:
    """What was measured by kernel, as `found` and `wrong` of entries of a table (see `rnnc.ops.tuned`)."""
    made: dict[str, dict[str, list[list[Any]]]] = {}
    for kernel, each in measurements.kernels.items():
        right = [
            [*tuned.row_of(how), said.registers, said.stack, said.shared, said.seconds]
            for how, said in each.items()
            if not said.wrong
        ]
        made[kernel] = {
            "found": right,
            "wrong": [tuned.row_of(how) for how, said in each.items() if said.wrong],
        }
    return made
