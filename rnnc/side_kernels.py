"""Kernels that only some calls launch, as tasks for a compiler: those of a forward pass that keeps nothing,
in another cut; of sequences in stretches, what forms what these make of the state, and what combines them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from rnnc.codegen.resources import Configuration
from rnnc.codegen.stretches import Maps
from rnnc.codegen.tiling import ranked
from rnnc.codegen.tiling_record import NOTHING, Choice, Findings, TooLarge
from rnnc.kernel_jobs import KINDS, LENGTH, Job, Subject, hardware_of, itemsize, job_of

SHORT = (16, 32, 64)  # tokens of the calls that are looked at for another cut
PARTS = 4  # stretches of a sequence


def cut_jobs(
    subject: Subject, arch: str, dtype: str, axes: Mapping[str, int], how: Any, only: str | None = None
) -> list[Job]:
    """The kernels of the cut that `how` says, but those of the usual one; with `only`, that one."""
    launches = _launches(subject, dtype, axes, how, None)
    wanted = {only} if only else set(subject.module.CUT_WORK)
    return [_job(subject, arch, dtype, one) for one in launches if one.kernel in wanted]


def stretch_jobs(
    subject: Subject,
    arch: str,
    dtype: str,
    axes: Mapping[str, int],
    how: Any,
    configurations: Mapping[str, Configuration],
) -> list[Job]:
    """What is launched for stretches beside the walks."""
    from rnnc.ops.triton_stretches import Split

    launches = _launches(subject, dtype, axes, how, Split(PARTS, configurations))
    wanted = {*subject.module.SUMMARY_WORK, "combine"}
    found = {one.kernel: one for one in launches if one.kernel in wanted}
    return [_job(subject, arch, dtype, one) for one in found.values()]


def side_jobs(subject: Subject, arch: str, dtype: str, axes: Mapping[str, int], how: Any) -> Iterator[Job]:
    """As they are chosen to run; `how`: as the chunked kernels do."""
    from rnnc.ops.triton_tiling import forward_alone
    from rnnc.ops.tuned import findings

    module, hardware, size = subject.module, hardware_of(arch), itemsize(dtype)
    names = (*module.WORK, *module.CUT_WORK, *module.SUMMARY_WORK)
    known = findings(subject.text, names, axes, size, hardware)
    seen: set[tuple[str, int]] = set()
    for length in SHORT:
        usual = min(how.chunk, length)
        cut = forward_alone(module, usual, axes, size, hardware, length, None, known)
        if cut and (cut.cut, cut.chunk) not in seen:
            seen.add((cut.cut, cut.chunk))
            yield from cut_jobs(subject, arch, dtype, axes, cut)
    if not module.NO_STRETCHES:
        try:
            found = map_choices(subject, arch, dtype, axes, how.chunk, known)
        except TooLarge:
            return
        each = {name: choices[0].configuration for name, choices in found.items()}
        yield from stretch_jobs(subject, arch, dtype, axes, how, each)


def map_choices(
    subject: Subject,
    arch: str,
    dtype: str,
    axes: Mapping[str, int],
    chunk: int,
    known: Mapping[str, Findings],
) -> dict[str, list[Choice]]:
    """The candidates of what forms what stretches make of the state, the best first. Raises TooLarge."""
    module = subject.module
    own = Maps(module.SUMMARY_WORK, module.SCALING, module.KEY_AXIS, module.VALUE_AXIS).sizes(axes)
    given = own, itemsize(dtype), hardware_of(arch), chunk
    return {
        name: ranked(work, *given, known.get(name, NOTHING)) for name, work in module.SUMMARY_WORK.items()
    }


def _launches(subject: Subject, dtype: str, axes: Mapping[str, int], how: Any, split: Any) -> list[Any]:
    """Of a call that needs no gradients."""
    import torch

    from rnnc.ops.triton_recording import Shapes, record
    from rnnc.ops.triton_stretches import WHOLE

    passes = record(
        subject.module,
        subject.recurrence,
        Shapes(1, LENGTH, 96, 96, axes),
        getattr(torch, KINDS[dtype]),
        states=True,
        wanted=(),
        how=how._replace(joined={}),
        split=split or WHOLE,
        wide=subject.wide,
    )
    return list(passes[0])


def _job(subject: Subject, arch: str, dtype: str, one: Any) -> Job:
    if one.kernel == "combine":
        path = Path(str(files("rnnc.ops").joinpath("triton_combine.py")))
        subject = replace(subject, text=path.read_text("utf-8"), path=path)
        return job_of(subject, arch, dtype, "combine", one.kernel, one.options)
    role = "transition" if one.kernel in subject.module.SUMMARY_WORK else "cut"
    return job_of(subject, arch, dtype, role, one.kernel, one.options)
