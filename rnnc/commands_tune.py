"""`rnnc tune`: the fastest right configurations of kernels on the GPU that is there, or, without one, those
that compile without spills.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from rnnc.commands_spec import Json
from rnnc.console import err, say, say_json, say_table
from rnnc.files import builtin_specs, read_spec, write_text
from rnnc.refusal import FAILED, Refusal

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "gfx942")
DTYPES = ("bf16", "fp16", "fp32")
SECONDS = 60.0  # for one kernel: what takes longer is no candidate


def tune(
    specs: Annotated[list[str] | None, typer.Argument(help="Models or files; all models if none.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="By compiling alone, without a GPU.")] = False,
    arch: Annotated[str, typer.Option(help=f"Offline: {', '.join(ARCHITECTURES)}.")] = "sm_90",
    sizes: Annotated[str, typer.Option(help="Of all axes, one after the other.")] = "128,64",
    dtype: Annotated[str, typer.Option(help="bf16, fp16, fp32, one or several.")] = "bf16",
    budget: Annotated[float, typer.Option(min=1, help="Seconds, at most about so many.")] = 660.0,
    workers: Annotated[int, typer.Option(min=1, help="Offline: processes that compile.")] = os.cpu_count()
    or 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The table; the user's own, offline that of the package."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Runs the best candidates of every kernel on the GPU, compares each with the reference, forward and
    backward, and keeps the fastest of those that are right; what is wrong is never chosen.

    With --offline: compiles them and keeps those that fit without spills. What was done is remembered: a run
    that the budget ended goes on when it is started again.
    """
    begin = time.monotonic()
    if arch not in ARCHITECTURES:
        raise Refusal(f"tune: --arch: expected {', '.join(ARCHITECTURES)}, got '{arch}'")
    dtypes = dtype.split(",")
    if unknown := [each for each in dtypes if each not in DTYPES]:
        raise Refusal(f"tune: --dtype: expected {', '.join(DTYPES)}, got '{unknown[0]}'")
    numbers = sizes.split(",")
    if wrong := [each for each in numbers if not each.isdecimal() or int(each) < 1]:
        raise Refusal(f"tune: --sizes: expected whole numbers above 0, got '{wrong[0]}'")
    if not offline:
        _on_device(
            specs or list(builtin_specs()), list(map(int, numbers)), dtypes, begin + budget, output, as_json
        )
        return
    table = output or Path(str(files("rnnc.ops.tuned").joinpath(f"{arch}.json")))
    with tempfile.TemporaryDirectory() as folder:
        targets = _targets(
            specs or list(builtin_specs()), arch, list(map(int, numbers)), dtypes, Path(folder)
        )
        found = _run(targets, arch, workers, begin + budget, table)
    rows = [row for each in found for row in each.rows()]
    if as_json:
        say_json({"table": str(table), "done": all(each.done for each in found), "compiled": rows})
    else:
        _show(rows)
    left = len(targets) - sum(each.done for each in found)
    if left:
        say(f"{left} of {len(targets)} not finished: the same command goes on", "yellow", console=err)


def _on_device(
    specs: Sequence[str],
    sizes: Sequence[int],
    dtypes: Sequence[str],
    deadline: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """What `tune` does on a GPU."""
    import torch

    from rnnc.device_tuning import tune_functions
    from rnnc.progress import track

    if not torch.cuda.is_available():
        raise Refusal("tune: no GPU that torch can use: give --offline to compile alone")
    device = torch.device("cuda", torch.cuda.current_device())
    results = tune_functions(specs, sizes, dtypes, device, deadline, output)
    count = len(specs) * len(sizes) * len(dtypes)
    found = list(track(results, f"tuning on {torch.cuda.get_device_name(device)}", count))
    left = sum(not each["done"] for each in found)
    if as_json:
        say_json({"done": not left, "measured": found})
        return
    for each in found:
        say(f"{each['name']} {each['dtype']} {each['sizes']}: {each['right']} right, {each['wrong']} wrong")
        for reason in each["reasons"]:
            say(f"  {reason}", "yellow")
    if left:
        say(f"{left} of {len(found)} not finished: the same command goes on", "yellow", console=err)


def _targets(
    specs: Sequence[str], arch: str, sizes: Sequence[int], dtypes: Sequence[str], folder: Path
) -> list[Any]:
    """What is searched for, the first size and dtype of all specs first."""
    from rnnc.codegen.kernel_record import UnsupportedOnGpu
    from rnnc.kernel_jobs import subjects
    from rnnc.tuning_record import Target

    found = []
    for name in specs:
        text, path = read_spec(name)
        try:
            found += subjects(Path(path).stem, text, folder)
        except (UnsupportedOnGpu, NotImplementedError) as reason:
            say(f"{name}: no kernels: {reason}", "yellow", console=err)
    chunked = [subject for subject in found if subject.module.FORWARD]
    return [
        Target(subject, arch, dtype, subject.axes(size))
        for dtype in dtypes
        for size in sizes
        for subject in chunked
    ]


def _run(targets: Sequence[Any], arch: str, workers: int, deadline: float, table: Path) -> list[Any]:
    """The search, until a time of the monotonic clock; the table is written as it goes."""
    import json

    from rnnc.compiler_answers import Answers, answers_file
    from rnnc.compiler_processes import processes
    from rnnc.progress import track
    from rnnc.tuning import search
    from rnnc.tuning_table import entries, merged, written

    done = []
    with processes(workers, SECONDS) as compile_one:
        answers = Answers(answers_file(arch), compile_one)
        results = search(targets, answers, workers, deadline)
        for found in track(results, f"tuning for {arch}", len(targets)):
            done.append(found)
            if found.kernels:
                old = json.loads(table.read_text("utf-8")) if table.is_file() else {}
                write_text(table, written(merged(old, entries(found))))
    say(f"{answers.compiled} kernels compiled; {table}", console=err)
    if not any(found.kernels for found in done):
        raise Refusal("tune: nothing was compiled: more --budget?", FAILED)
    return done


def _show(rows: Sequence[dict[str, Any]]) -> None:
    numbers = ("chunk", "tile", "warps", "stages", "registers", "stack", "shared")
    lines = []
    for row in rows:
        sizes = " ".join(f"{axis}={size}" for axis, size in row["sizes"].items())
        matrix = " ".join(f"{name} {count}" for name, count in row.get("matrix", {}).items())
        found = (str(row.get(name, "")) for name in numbers)
        lines.append((row["kernel"], sizes, row["dtype"], *found, row.get("error", matrix)))
    say_table(("kernel", "sizes", "dtype", *numbers, ""), lines)
