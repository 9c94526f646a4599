"""Kernels with the arguments that a call launches them with, as tasks for a compiler without a GPU."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from rnnc.codegen.hardware import KNOWN, Hardware
from rnnc.compiler_processes import Report
from rnnc.dsl.recurrence import Recurrence

TARGETS: dict[str, tuple[str, int | str, int]] = {
    "80": ("cuda", 80, 32),
    "90": ("cuda", 90, 32),
    "100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
POINTERS = {
    "torch.bfloat16": "bf16",
    "torch.float16": "fp16",
    "torch.float32": "fp32",
    "torch.int32": "i32",
    "torch.int64": "i64",
}
KINDS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
LENGTH = 8192  # tokens of the calls whose launches are compiled
SIZE = 128  # of every axis
HEAD_SIZES = {"rwkv7": 64}  # where the published models have smaller heads
MICRO_STEPS = 2  # of a token
DEFAULTS = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}  # what a launch that says nothing gets


@dataclass(frozen=True)
class Subject:
    """The kernels of a recurrence: their module, its text and the file that it lies in.

    `wide`: what is float32 beside vectors of lower precision.
    """

    name: str
    recurrence: Recurrence
    text: str
    path: Path
    module: ModuleType
    wide: frozenset[str] = frozenset()

    def axes(self, size: int) -> dict[str, int]:
        """Every axis of that size, few micro-steps."""
        axes = dict.fromkeys(self.recurrence.axes, size)
        return axes | dict.fromkeys(self.recurrence.loops, MICRO_STEPS)


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


def subjects(name: str, text: str, folder: Path) -> list[Subject]:
    """The stages of a spec; their modules are written into `folder`. Raises UnsupportedOnGpu, SpecError."""
    from rnnc.codegen.compiler import compile_text
    from rnnc.codegen.triton_module import triton_source
    from rnnc.offline_worker import load

    found = []
    compiled = compile_text(text, name)
    stages = list(compiled.stages)
    if len(stages) == 1 and not isinstance(stages[0].inside, str):
        stages.append(stages[0].inside)
    for number, stage in enumerate(stages):
        path = folder / f"offline_{name}{number or ''}.py"
        source = triton_source(stage)
        path.write_text(source, encoding="utf-8")
        found.append(Subject(name, stage.recurrence, source, path, load(str(path)), stage.in_float32))
    return found


def hardware_of(arch: str) -> Hardware:
    """What is known of a target."""
    return KNOWN[arch if arch in KNOWN else f"sm_{arch}"]


def chosen(subject: Subject, arch: str, dtype: str, axes: Mapping[str, int]) -> Any:
    """How the chunked kernels run on an architecture, as the operator chooses it."""
    from rnnc.ops.triton_tiling import launched, tiled, tiling
    from rnnc.ops.tuned import findings

    hardware, size = hardware_of(arch), itemsize(dtype)
    known = findings(subject.text, launched(subject.module), axes, size, hardware)
    return tiled(tiling(subject.module, axes, size, hardware, None, known), hardware)


def itemsize(dtype: str) -> int:
    """Bytes of an entry."""
    return 4 if dtype == "fp32" else 2


def recorded(
    subject: Subject,
    arch: str,
    dtype: str,
    axes: Mapping[str, int],
    how: Any | None,
    only: str | None = None,
) -> list[Job]:
    """The kernels of the chunked form, run in that way, or, without one, of the recurrent form; with `only`,
    that one.
    """
    import torch

    from rnnc.ops.triton_recording import Shapes, record

    module = subject.module
    kind = getattr(torch, KINDS[dtype])
    form = "chunked" if how else "recurrent"
    forward = module.CUTS[how.cut] if how and how.cut else module.FORWARD
    groups = (forward, module.BACKWARD) if how else (module.FORWARD_STEPS, module.BACKWARD_STEPS)
    roles = {launch.kernel: launch.role for group in groups for launch in group}
    shapes = Shapes(1, LENGTH, 96, 96, axes)
    joined = {pair.kernel for pair in module.JOINED} if how and how.joined else set()
    roles |= dict.fromkeys(joined, "joined")
    apart = how._replace(joined={}) if how else None
    options: dict[str, Any] = {"states": True, "form": form, "wide": subject.wide}
    launches: list[Any] = []
    for keep, way in ((True, apart), (False, how), (True, how)) if joined else ((True, apart),):
        passes = record(module, subject.recurrence, shapes, kind, keep=keep, how=way, **options)
        before = {one.kernel for one in launches}
        found = [one for group in passes for one in group if one.kernel not in before]
        launches += [one for one in found if way is apart or one.kernel in joined]
    # Without the launch that sums gradients.
    launches = [one for one in launches if one.kernel in ({only} if only else roles)]
    return [job_of(subject, arch, dtype, roles[one.kernel], one.kernel, one.options) for one in launches]


def job_of(
    subject: Subject, arch: str, dtype: str, role: str, kernel: str, arguments: Mapping[str, Any]
) -> Job:
    """The task for a kernel in the text of a subject with the arguments that it is launched with."""
    from rnnc.ops.kernel_sources import kernel_of, sources

    signature, constants, aligned = _signature(kernel_of(subject.text, kernel), arguments)
    options = {option: arguments.get(option, default) for option, default in DEFAULTS.items()}
    configuration = {
        "kernel": kernel,
        "signature": signature,
        "constants": constants,
        "aligned": aligned,
        "options": options,
        "target": TARGETS[arch.removeprefix("sm_")],
    }
    parts = [*sources(subject.text, kernel), json.dumps(configuration, sort_keys=True), version("triton")]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    return Job(subject.name, dtype, role, key, configuration | {"module": str(subject.path)})


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
