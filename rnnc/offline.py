"""`python -m rnnc.offline`: what the GPU compilers make of the built-in models' kernels; no GPU is needed.

For every kernel, with the arguments that the operator launches it with: registers, stack (what did not fit
into registers), shared memory, matrix instructions. The reports lie in `benchmarks/offline`, one file per
architecture, each under a hash of all that the result depends on: only what changed is compiled again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from rnnc.compiler_answers import answers_file, answers_of
from rnnc.compiler_processes import Report, processes
from rnnc.console import say, say_table
from rnnc.kernel_jobs import HEAD_SIZES, MICRO_STEPS, SIZE, TARGETS, Job, Subject, chosen, recorded, subjects
from rnnc.progress import track
from rnnc.side_kernels import side_jobs

FOLDER = Path(__file__).parents[1] / "benchmarks" / "offline"
SECONDS = 300.0  # for one kernel
__all__ = ["HEAD_SIZES", "MICRO_STEPS", "Job", "all_jobs", "file_of", "jobs", "reports", "update"]


def jobs(name: str, arch: str, dtype: str, folder: Path) -> list[Job]:
    """The kernels of a built-in model as they are chosen to run; modules are written into `folder`.

    Raises UnsupportedOnGpu.
    """
    text = files("rnnc.ops").joinpath(f"{name}.rnn").read_text("utf-8")
    found = subjects(name, text, folder)
    size = HEAD_SIZES.get(name, SIZE)
    return [job for subject in found for job in _jobs(subject, arch, dtype, subject.axes(size))]


def _jobs(subject: Subject, arch: str, dtype: str, axes: Mapping[str, int]) -> list[Job]:
    how = chosen(subject, arch, dtype, axes) if subject.module.FORWARD else None
    each = [] if how is None else recorded(subject, arch, dtype, axes, how)
    each += [] if how is None else side_jobs(subject, arch, dtype, axes, how)
    steps = recorded(subject, arch, dtype, axes, None) if subject.module.FORWARD_STEPS else []
    return each + steps


def file_of(arch: str) -> Path:
    """Where the reports for an architecture lie."""
    return FOLDER / f"{arch if arch.startswith('gfx') else f'sm_{arch}'}.json"


def reports(arch: str) -> dict[str, Report]:
    """The reports for an architecture by key; none if there are none."""
    file = file_of(arch)
    found: dict[str, Report] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return found


def all_jobs(names: Sequence[str], arch: str, dtypes: Sequence[str], folder: Path) -> list[Job]:
    """The kernels of all models that have kernels."""
    from rnnc.codegen.kernel_record import UnsupportedOnGpu

    found = []
    for name in names:
        for dtype in dtypes:
            try:
                found += jobs(name, arch, dtype, folder)
            except (UnsupportedOnGpu, NotImplementedError) as reason:
                say(f"{name}: no kernels: {reason}", "yellow")
    return found


def builtin_names() -> list[str]:
    """The built-in models."""
    return sorted(
        path.name.removesuffix(".rnn") for path in files("rnnc.ops").iterdir() if path.name.endswith(".rnn")
    )


def update(
    todo: Sequence[Job],
    arch: str,
    workers: int = 2,
    seconds: float = SECONDS,
    answers: Mapping[str, Report] | None = None,
) -> dict[str, Report]:
    """Compiles what has no report yet, writes the file, and returns the reports of the jobs by key.

    A kernel that takes longer than `seconds` has that for a report. Reports of other models and dtypes stay;
    those of these that no job has are dropped. What is in `answers` by its key is not compiled again.
    """
    answers = answers or {}
    known = reports(arch)
    missing = [job for job in todo if job.key not in known]
    with processes(workers, seconds) as compile_one, ThreadPoolExecutor(workers) as threads:
        done = threads.map(lambda job: (job, answers.get(job.key) or compile_one(job.task)), missing)
        for job, result in track(done, f"compiling for {arch}", len(missing)):
            known[job.key] = job.record | result
            _write(arch, known)
    scope, keys = {(job.model, job.dtype) for job in todo}, {job.key for job in todo}
    kept = {k: r for k, r in known.items() if k in keys or (r["model"], r["dtype"]) not in scope}
    _write(arch, kept)
    return {job.key: kept[job.key] for job in todo}


def _write(arch: str, found: Mapping[str, Report]) -> None:
    file = file_of(arch)
    file.parent.mkdir(parents=True, exist_ok=True)
    ordered = dict(
        sorted(found.items(), key=lambda item: (item[1]["model"], item[1]["dtype"], item[1]["kernel"]))
    )
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in ordered.items())
    beside = file.with_suffix(".part")
    beside.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    beside.replace(file)


def table(found: Mapping[str, Report]) -> None:
    """Prints the reports."""
    rows = []
    for entry in found.values():
        start = [entry["model"], entry["dtype"], entry["role"], f"{entry['num_warps']}/{entry['num_stages']}"]
        if "error" in entry:
            rows.append([*start, "", "", "", entry["error"], ""])
            continue
        matrix = " ".join(f"{name} {count}" for name, count in entry["matrix"].items())
        numbers = [str(entry[name]) for name in ("registers", "stack", "shared")]
        rows.append([*start, *numbers, matrix, f"{entry['seconds']:.0f} s"])
    if rows:
        header = [
            "model",
            "dtype",
            "role",
            "warps/stages",
            "registers",
            "stack",
            "shared",
            "matrix",
            "compiled in",
        ]
        say_table(header, rows)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Built-in models; all if none is given.")] = None,
    arch: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(TARGETS)}.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="bf16, fp16, fp32.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that compile.")] = 2,
    seconds: Annotated[float, typer.Option(help="The most that one kernel may take.")] = SECONDS,
) -> None:
    """Compiles what changed and prints all reports."""
    for target in arch or TARGETS:
        if target not in TARGETS:
            raise typer.BadParameter(f"expected one of {', '.join(TARGETS)}, got '{target}'")
        with tempfile.TemporaryDirectory() as folder:
            todo = all_jobs(names or builtin_names(), target, dtype or ["bf16"], Path(folder))
            say(f"{file_of(target).stem}:", "bold")
            answers = answers_of(answers_file(file_of(target).stem))  # of `rnnc tune --offline`
            table(update(todo, target, workers, seconds, answers))


if __name__ == "__main__":
    typer.run(main)
