"""`python -m rnnc.offline`: what the GPU compilers make of the built-in models' kernels; no GPU is needed.

For every kernel, with the arguments that the operator launches it with: registers, stack (what did not fit
into registers), shared memory, matrix instructions. The reports lie in `benchmarks/offline`, one file per
architecture, each under a hash of all that the result depends on: only what changed is compiled again.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any

import typer

from rnnc.codegen.hardware import KNOWN
from rnnc.console import say, say_table
from rnnc.progress import track

FOLDER = Path(__file__).parents[1] / "benchmarks" / "offline"
TARGETS: dict[str, tuple[str, int | str, int]] = {
    "80": ("cuda", 80, 32),
    "90": ("cuda", 90, 32),
    "100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
POINTERS = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32", "torch.int32": "i32"}
SIZE = 128  # of every axis
HEAD_SIZES = {"rwkv7": 64}  # where the published models have smaller heads
MICRO_STEPS = 2  # of a token
SECONDS = 300.0  # for one kernel
DEFAULTS = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}  # what a launch that says nothing gets
Report = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One kernel with its arguments, for one architecture; `key` hashes all that the result depends on."""

    model: str
    dtype: str
    role: str
    key: str
    task: Mapping[str, Any]

    @property
    def record(self) -> Report:
        kernel, options = self.task["kernel"], self.task["options"]
        return {"model": self.model, "dtype": self.dtype, "role": self.role, "kernel": kernel, **options}


def jobs(name: str, arch: str, dtype: str, folder: Path) -> list[Job]:
    """The kernels of a built-in model; its module is written into `folder`. Raises UnsupportedOnGpu."""
    from rnnc.codegen.compiler import compile_text
    from rnnc.codegen.triton_module import triton_source

    compiled = compile_text(files("rnnc.ops").joinpath(f"{name}.rnn").read_text("utf-8"))
    found = []
    for number, stage in enumerate(compiled.stages):
        path = folder / f"offline_{name}{number or ''}.py"
        text = triton_source(stage)
        path.write_text(text, encoding="utf-8")
        launches = _launches(path, stage.recurrence, HEAD_SIZES.get(name, SIZE), dtype, arch)
        found += [_job(name, arch, dtype, path, text, launch) for launch in launches]
    return found


def _launches(
    path: Path, recurrence: Any, size: int, dtype: str, arch: str
) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Kernel, role and arguments of every launch."""
    import torch

    from rnnc.offline_worker import load
    from rnnc.ops.triton_recording import Shapes, record
    from rnnc.ops.triton_tiling import tiled, tiling

    module = load(str(path))
    axes = dict.fromkeys(recurrence.axes, size)
    axes |= dict.fromkeys(recurrence.loops, MICRO_STEPS)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    shapes = Shapes(1, 8192, 96, 96, axes)
    found = []
    for form, groups in (
        ("chunked", (module.FORWARD, module.BACKWARD)),
        ("recurrent", (module.FORWARD_STEPS, module.BACKWARD_STEPS)),
    ):
        roles = {launch.kernel: launch.role for group in groups for launch in group}
        if roles:
            hardware = KNOWN[file_of(arch).stem]
            how = (
                tiled(tiling(module, axes, kind.itemsize, hardware), hardware) if form == "chunked" else None
            )
            forward, backward = record(module, recurrence, shapes, kind, states=True, form=form, how=how)
            launches = [one for one in (*forward, *backward) if one.kernel in roles]  # not the sums
            found += [(one.kernel, roles[one.kernel], one.options) for one in launches]
    return found


def _job(
    name: str, arch: str, dtype: str, path: Path, text: str, launch: tuple[str, str, Mapping[str, Any]]
) -> Job:
    kernel, role, arguments = launch
    function = _function(text, kernel)
    signature, constants, aligned = _signature(function, arguments)
    options = {option: arguments.get(option, default) for option, default in DEFAULTS.items()}
    configuration = {
        "kernel": kernel,
        "signature": signature,
        "constants": constants,
        "aligned": aligned,
        "options": options,
        "target": TARGETS[arch],
    }
    source = ast.unparse(function)
    parts = [source, *_library(text, source), json.dumps(configuration, sort_keys=True), version("triton")]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    return Job(name, dtype, role, key, configuration | {"module": str(path)})


def _function(text: str, name: str) -> ast.FunctionDef:
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise AssertionError(f"no kernel {name}")


def _signature(
    function: ast.FunctionDef, arguments: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """The types of the arguments, the values of the constants, and which arguments are multiples of 16."""
    types, constants, aligned = {}, {}, []
    unspecialised = re.findall(r'"(\w+)"|\'(\w+)\'', " ".join(map(ast.unparse, function.decorator_list)))
    for argument in function.args.args:
        name, value = argument.arg, arguments[argument.arg]
        if argument.annotation is not None:
            types[name] = "constexpr"
            constants[name] = f"tl.{value}" if type(value).__name__ == "dtype" else value
        elif value is None:  # an array that nobody wants
            types[name], constants[name] = "constexpr", None
        elif isinstance(value, int):
            types[name] = "i32"
            if value % 16 == 0 and all(name not in names for names in unspecialised):
                aligned.append(name)
        else:
            types[name] = f"*{POINTERS[str(value.dtype)]}"
            aligned.append(name)
    # tl.bfloat16 prints as bf16
    long = {"tl.bf16": "tl.bfloat16", "tl.fp16": "tl.float16", "tl.fp32": "tl.float32"}
    return types, {k: long.get(v, v) if isinstance(v, str) else v for k, v in constants.items()}, aligned


def _library(text: str, source: str) -> list[str]:
    """The texts of the files of tile operations that a kernel calls, and of those that these import."""
    waiting = [
        file
        for file, names in _imports(text).items()
        if any(re.search(rf"\b{name}\(", source) for name in names)
    ]
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop(0)
        if file not in found:
            found[file] = files("rnnc.ops").joinpath(f"{file}.py").read_text("utf-8")
            waiting += _imports(found[file])
    return list(found.values())


def _imports(text: str) -> dict[str, list[str]]:
    """The files of `rnnc.ops` that a module imports from, and the names that it takes from each."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rnnc.ops."):
            file = (node.module or "").removeprefix("rnnc.ops.")
            found.setdefault(file, []).extend(alias.name for alias in node.names)
    return found


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
    from rnnc.codegen.kernels import UnsupportedOnGpu

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


def update(todo: Sequence[Job], arch: str, workers: int = 2, seconds: float = SECONDS) -> dict[str, Report]:
    """Compiles what has no report yet, writes the file, and returns the reports of the jobs by key.

    A kernel that takes longer than `seconds` has that for a report. Reports of other models and dtypes stay;
    those of these that no job has are dropped.
    """
    known = reports(arch)
    missing = [job for job in todo if job.key not in known]
    with _pool(workers, seconds) as compile_one, ThreadPoolExecutor(workers) as threads:
        done = threads.map(lambda job: (job, compile_one(job.task)), missing)
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


@contextmanager
def _pool(workers: int, seconds: float) -> Iterator[Any]:
    """A function that compiles a task in one of several processes without Triton's interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_ALWAYS_COMPILE"] = "1"  # the seconds are those of the compiler, not of its cache
    command = [sys.executable, "-W", "ignore", "-m", "rnnc.offline_worker"]
    idle: SimpleQueue[Any] = SimpleQueue()

    def start() -> Any:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def compile_one(task: Mapping[str, Any]) -> Report:
        process = idle.get() or start()
        begin = time.monotonic()
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        process.stdin.write(json.dumps(dict(task)) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        timer.cancel()
        if not answer:
            idle.put(None)
            status = process.wait()
            if time.monotonic() - begin >= seconds:
                return {"error": f"the compiler was stopped after {seconds:.0f} seconds"}
            return {"error": f"the compiler ended with status {status}"}
        idle.put(process)
        result: Report = json.loads(answer)
        return result

    for _ in range(workers):
        idle.put(None)
    try:
        yield compile_one
    finally:
        while not idle.empty():
            process = idle.get()
            if process is not None:
                process.communicate()


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
            table(update(todo, target, workers, seconds))


if __name__ == "__main__":
    typer.run(main)
