"""Text of C -> a library in this process, by the user's compiler; kept on disk as generated modules are."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from rnnc.ops import cache

# Kernels run as quickly as after -O3, which takes nearly twice as long: what they need of it is peeled loops.
FLAGS = (
    "-std=gnu11",
    "-O2",
    "-ftree-vectorize",
    "-fpeel-loops",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fPIC",
    "-shared",
    "-w",
)
SECONDS = 120  # a compiler that takes longer is given up


class BuildError(Exception):
    """There is no library, and why."""


def load(name: str, spec: str, produce: Callable[[], str]) -> ctypes.CDLL:
    """The library of the C that is printed for `spec` (a text that stands for it); `produce` prints it if no
    process has compiled it yet. Raises BuildError, and what `produce` does.
    """
    compiler = find_compiler()
    parts = (cache.compiler_digest(), *compiler, _processor(), *FLAGS, name, spec)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    file = cache.directory().with_name("libraries") / f"{name}_{key}.so"
    try:
        if cache.read_private(file) is None:
            cache.write_private(file, _compiled(compiler[0], name, produce()))
    except OSError:
        return _unkept(name, _compiled(compiler[0], name, produce()))
    return _opened(file)


def _unkept(name: str, content: bytes) -> ctypes.CDLL:
    """Where nothing can be written to the user's cache: the library lives as long as the process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.so"
        file.write_bytes(content)
        return _opened(file)


def _opened(file: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(file))
    except OSError as error:
        raise BuildError(f"what the C compiler made cannot be loaded: {error}") from None


@functools.cache
def find_compiler() -> tuple[str, str]:
    """The C compiler's path and version: that of the variable CC, else `cc`. Raises BuildError."""
    wanted = os.environ.get("CC") or "cc"
    found = shutil.which(wanted)
    if found is None:
        raise BuildError(f"there is no C compiler ('{wanted}' was not found; the variable CC names another)")
    try:
        answer = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{found} --version: {error}") from None
    return found, answer.stdout.partition("\n")[0]


@functools.cache
def _processor() -> str:
    """What code for this processor depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kinds = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(kinds)}))


def _compiled(compiler: str, name: str, text: str) -> bytes:
    """The library, as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / f"{name}.c", Path(folder) / f"{name}.so"
        source.write_text(text, "utf-8")
        command = [compiler, *FLAGS, "-o", str(made), str(source), "-lm"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{compiler}: {error}") from None
        if answer.returncode:
            errors = [line for line in answer.stderr.splitlines() if "error" in line]
            raise BuildError(f"{compiler} failed: {(errors or [answer.stderr.strip()])[0]}")
        return made.read_bytes()
