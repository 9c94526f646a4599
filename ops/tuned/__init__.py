"""What is known of kernels: what compilers made of them, found without a GPU by `rnnc tune --offline` and
shipped, one file per architecture; and what `rnnc tune` measured on a device of the user's, in a file of its
own per device, which goes before.

An entry holds for one kernel (its text and that of what it calls), the bytes of an entry of a vector, a class
of sizes and a version of Triton: those of several versions lie side by side in one file, each added by a run
of `rnnc tune --offline` where that version is installed. For each length of a chunk and each spacing of
states it has the best configuration that was found: its fields, then registers, stack and shared memory,
then, if it was measured, the seconds for a token and head; `wrong` are configurations that gave wrong results
on the device. Of two kernels in turn that are one launch a tile is that of each.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import Configuration, cover
from rnnc.codegen.tiling_record import Findings, Measured
from rnnc.ops.cache import directory
from rnnc.ops.kernel_sources import fingerprint

if TYPE_CHECKING:
    from rnnc.codegen.compiler import Compiled

Entry = dict[str, Any]
FIELDS = len(Configuration._fields) - 1  # of a row: the two tiles are one


def findings(
    text: str, kernels: Iterable[str], sizes: Mapping[str, int], size: int, hardware: Hardware
) -> dict[str, Findings]:
    """What is known of the kernels in the text of a module, by name; nothing of those that have no entry."""
    tables = (table(hardware.name), measured(hardware.device))
    if not any(tables):
        return {}
    found: dict[str, Findings] = {}
    for kernel in kernels:
        known = key(text, kernel, sizes, size, hardware.name)
        entries = [entries[known] for entries in tables if known in entries]
        if entries:
            found[kernel] = said(entries[-1])
    return found


def digest(hardware: Hardware) -> str:
    """Of all entries for a device, as they are on the disk now."""
    shipped = files("rnnc.ops.tuned").joinpath(f"{hardware.name}.json")
    found = hashlib.sha256(shipped.read_bytes() if shipped.is_file() else b"")
    with suppress(OSError):
        found.update(measured_file(hardware.device).read_bytes() if hardware.device else b"")
    return found.hexdigest()


def said(entry: Entry) -> dict[Configuration, Measured]:
    """What an entry says of configurations."""
    found = {_configuration(row): Measured(*row[FIELDS:]) for row in entry["found"]}
    return found | {_configuration(row): Measured(wrong=True) for row in entry.get("wrong", ())}


def row_of(how: Configuration) -> list[Any]:
    """A configuration as an entry has it."""
    chunk, tile, *rest, second = how
    return [chunk, [tile, second] if second else tile, *rest]


def _configuration(row: Sequence[Any]) -> Configuration:
    chunk, tile, *rest = row[:FIELDS]
    one, other = tile if isinstance(tile, list) else (tile, 0)
    return Configuration(chunk, one, *rest)._replace(second=other)


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


def measured(device: str) -> dict[str, Entry]:
    """The entries for a device, by key, as they are on the disk now; none where it has no name."""
    if not device:
        return {}
    file = measured_file(device)
    try:
        return _read(file, file.stat().st_mtime_ns)
    except OSError:
        return {}


def measured_file(device: str) -> Path:
    """Where the entries for a device lie: in the user's cache."""
    return directory().parent / "measured" / (re.sub(r"\W+", "_", device).strip("_").lower() + ".json")


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> dict[str, Entry]:
    try:
        found: dict[str, Entry] = json.loads(file.read_text("utf-8"))
    except ValueError:  # as good as none
        return {}
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
