"""What a search found, as the table that is shipped (`rnnc.ops.tuned`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rnnc.codegen.resources import Configuration
from rnnc.codegen.tiling import ranked
from rnnc.codegen.tiling_record import Findings, TooLarge
from rnnc.codegen.work import Work
from rnnc.kernel_jobs import hardware_of, itemsize
from rnnc.tuning_record import Found, Target, findings_of


def entries(found: Found) -> dict[str, dict[str, Any]]:
    """What was found as entries of the table that is shipped (`rnnc.ops.tuned`): per kernel, length of a
    chunk and spacing, the best of what was compiled.
    """
    from rnnc.ops.tuned import class_of, key, row_of, triton_version

    target = found.target
    hardware, size = hardware_of(target.arch), itemsize(target.dtype)
    from rnnc.ops.triton_tiling import keeping_works

    works = dict(target.subject.module.WORK)
    for each in keeping_works(target.subject.module).values():
        works |= each
    made = {}
    for kernel, reports in found.kernels.items():
        findings = findings_of(reports)
        rows = []
        for chunk, spacing in sorted({(how.chunk, how.spacing) for how in findings}):
            best: Configuration | None
            if kernel in works:
                own = {how: what for how, what in findings.items() if how.spacing == spacing}
                best = _best(works[kernel], target, own, chunk, spacing)
            else:  # those that were compiled first are estimated to be faster
                here = [how for how in findings if (how.chunk, how.spacing) == (chunk, spacing)]
                best = min(here, key=lambda how: findings[how].stack)
            if best:
                rows.append([*row_of(best), *findings[best][:3]])
        made[key(target.subject.text, kernel, target.axes, size, hardware.name)] = {
            "kernel": kernel,
            "bytes": size,
            "sizes": class_of(target.axes),
            "triton": triton_version(),
            "found": rows,
        }
    return made


def _best(work: Work, target: Target, findings: Findings, chunk: int, spacing: int) -> Configuration | None:
    """The best of what was compiled of a kernel, if any fits the shared memory."""
    hardware, size = hardware_of(target.arch), itemsize(target.dtype)
    try:
        return ranked(work, target.axes, size, hardware, chunk, findings, spacing)[0].configuration
    except TooLarge:
        return None


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
