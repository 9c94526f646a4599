"""What compilers made of kernels, found without a GPU by `rnnc tune` and shipped: one file per architecture.

An entry holds for one kernel (its text and that of what it calls), the bytes of an entry of a vector, a class
of sizes and a version of Triton; for each length of a chunk it has the best configuration that was found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import Configuration, cover
from rnnc.codegen.tiling import Findings, Measured
from rnnc.ops.kernel_sources import fingerprint

if TYPE_CHECKING:
    from rnnc.codegen.compiler import Compiled

Entry = dict[str, Any]


def findings(
    text: str, kernels: Iterable[str], sizes: Mapping[str, int], size: int, hardware: Hardware
) -> dict[str, Findings]:
    """What is known of the kernels in the text of a module, by name; nothing of those that have no entry."""
    entries = table(hardware.name)
    if not entries:
        return {}
    found: dict[str, Findings] = {}
    for kernel in kernels:
        entry = entries.get(key(text, kernel, sizes, size, hardware.name))
        if entry is not None:
            found[kernel] = {Configuration(*row[:4]): Measured(*row[4:]) for row in entry["found"]}
    return found


def of_spec(
    compiled: Compiled, kernels: Iterable[str], sizes: Mapping[str, int], size: int, hardware: Hardware
) -> dict[str, Findings]:
    """What is known of the kernels of a spec."""
    from rnnc.codegen.triton_module import triton_source

    if not table(hardware.name):
        return {}
    return findings(triton_source(compiled), kernels, sizes, size, hardware)


@cache
def table(name: str) -> dict[str, Entry]:
    """The entries for an architecture, by key."""
    file = files("rnnc.ops.tuned").joinpath(f"{name}.json")
    found: dict[str, Entry] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return found


def key(text: str, kernel: str, sizes: Mapping[str, int], size: int, name: str) -> str:
    """What an entry is found by."""
    parts = (_fingerprint(text, kernel), class_of(sizes), str(size), name, triton_version())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def class_of(sizes: Mapping[str, int]) -> str:
    """Sizes of one class make the same tiles, and the same masks."""
    each = {axis: (cover(size), size == cover(size)) for axis, size in sizes.items()}
    return " ".join(f"{axis}{'=' if full else '<'}{tile}" for axis, (tile, full) in each.items())


@cache
def triton_version() -> str:
    """The installed version; empty without one."""
    try:
        return version("triton")
    except PackageNotFoundError:
        return ""


@cache
def _fingerprint(text: str, kernel: str) -> str:
    return fingerprint(text, kernel)
