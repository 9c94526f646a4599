"""Compiles Triton kernels for GPUs that need not be there: lines of JSON in, lines of JSON out.

Runs as a process of its own: Triton's interpreter must be off before Triton is imported.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

MATRIX = ("HGMMA", "HMMA", "UTCHMMA", "v_mfma")  # wgmma, mma, tcgen05, and what gfx has


def report(job: dict[str, Any]) -> dict[str, Any]:
    """Registers, stack and shared memory in bytes, matrix instructions, seconds; or the error."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(load(job["module"]), job["kernel"])
    constants = {name: _constant(value) for name, value in job["constants"].items()}
    names = list(job["signature"])
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in job["aligned"]}
    target = GPUTarget(*job["target"])
    triton.runtime.driver.set_active(SimpleNamespace(get_current_target=lambda: target))
    start, spent = time.perf_counter(), _allow(job.get("seconds"))
    try:
        source = ASTSource(function, job["signature"], constants, attributes)
        compiled = triton.compile(source, target=target, options=job["options"])
    except Exception as error:  # whatever the compiler says is the report
        if "seconds" in job and sum(os.times()[:4]) - spent >= job["seconds"]:
            return {"error": f"the compiler was stopped after {job['seconds']:.0f} seconds"}
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return {"error": " | ".join(lines[-3:])[-600:] or type(error).__name__}
    seconds = round(time.perf_counter() - start, 1)
    found = _cuda(compiled.asm["cubin"]) if target.backend == "cuda" else _hip(compiled.asm["amdgcn"])
    return found | {"shared": compiled.metadata.shared, "seconds": seconds}


def _allow(seconds: float | None) -> float:
    """Seconds of a processor that this process and those that it ended have had; of so many more, it, and
    each that it starts, is stopped, where the system can do that.
    """
    spent = sum(os.times()[:4])
    if seconds is not None:
        with suppress(ImportError):
            import resource

            own, (_, most) = math.ceil(sum(os.times()[:2]) + seconds), resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (own if most < 0 else min(own, most), most))
    return spent


@cache
def load(path: str) -> ModuleType:
    """The generated module in a file."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _constant(value: Any) -> Any:
    import triton.language as tl

    return (
        getattr(tl, value.removeprefix("tl."))
        if isinstance(value, str) and value.startswith("tl.")
        else value
    )


def _cuda(binary: bytes) -> dict[str, Any]:
    import triton

    tool = str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage, text = (
            subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "--dump-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    return {"registers": int(found[1]), "stack": int(found[2]), "matrix": _matrix(text)}


def _hip(text: str) -> dict[str, Any]:
    def entry(name: str) -> int:
        found = re.search(rf"\.{name}:\s*(\d+)", text)
        return int(found[1]) if found else 0

    stack = entry("private_segment_fixed_size")
    return {"registers": entry("vgpr_count"), "stack": stack, "matrix": _matrix(text)}


def _matrix(text: str) -> dict[str, int]:
    counts = {name: len(re.findall(rf"\b{name}", text)) for name in MATRIX}
    return {name: count for name, count in counts.items() if count}


def main() -> None:
    """Answers every line of standard input with one of standard output."""
    for text in sys.stdin:
        print(json.dumps(report(json.loads(text))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
