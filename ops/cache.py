"""Generated modules on disk, found again by the content they were made from.

A directory that only the user can write to; files appear whole or not at all; a file that is not the
user's, or whose digest does not match its text, is never executed. Where nothing can be written, modules
live in memory, and one warning says why.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import linecache
import os
import stat
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from importlib.resources.abc import Traversable
from pathlib import Path

_DIGEST = "\n# sha256 "
_warned: set[str] = set()


def load(name: str, spec: str, produce: Callable[[], str]) -> tuple[types.ModuleType, str]:
    """The module generated from the text `spec`, and its text; `produce` prints it if no process has yet."""
    key = hashlib.sha256(f"{compiler_digest()}\n{name}\n{spec}".encode()).hexdigest()[:32]
    folder = directory()
    file = folder / f"{name}_{key}.py"
    try:
        _prepare(folder)
        text = _read(file)
    except OSError as error:
        _warn(folder, error)
        text = produce()
        return execute(f"rnnc_{name}_{key}", text, f"<rnnc {name} {key}>"), text
    if text is None:
        text = produce()
        try:
            _write(file, text.encode())
        except OSError as error:
            _warn(folder, error)
    return execute(f"rnnc_{name}_{key}", text, str(file)), text


def execute(name: str, text: str, filename: str) -> types.ModuleType:
    """The module of a text under a name of its own; tracebacks through it show its lines."""
    module = sys.modules[name] = types.ModuleType(name)  # tracing and pickling look modules up by name
    module.__file__ = filename
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), module.__dict__)
    return module


def directory() -> Path:
    """Where modules are kept: below RNNC_CACHE_DIR, else below the user's cache directory."""
    chosen = os.environ.get("RNNC_CACHE_DIR")
    if chosen:
        return Path(chosen) / "modules"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (never raises)
    return Path(home) / "rnnc" / "modules"


def compiler_digest() -> str:
    """A digest of the compiler's own sources: another compiler, another module."""
    return digest("rnnc.dsl", "rnnc.codegen", "rnnc.templates")


@functools.cache
def digest(*packages: str) -> str:
    """A digest of the sources of packages."""
    found = hashlib.sha256()
    for package in packages:
        files = sorted(importlib.resources.files(package).iterdir(), key=lambda file: file.name)
        for file in files:
            if file.name.endswith((".py", ".lark", ".jinja", ".h")):
                found.update(_entry(file))
    return found.hexdigest()


def _entry(file: Traversable) -> bytes:
    content = file.read_bytes()
    return f"{file.name} {len(content)}\n".encode() + content


def read_private(file: Path) -> bytes | None:
    """What `write_private` wrote, if it is there, whole, and the user's own. Raises OSError."""
    _prepare(file.parent)
    return _content(file)


def write_private(file: Path, content: bytes) -> None:
    """Writes a file that only the user can write to, with its digest at the end. Raises OSError."""
    _prepare(file.parent)
    _write(file, content)


def _prepare(folder: Path) -> None:
    """Makes the directory, or raises OSError if it is not private to the user."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError("not a directory")
    if not _own(found):
        raise OSError("owned by another user")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _own(found: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or found.st_uid == os.getuid()


def _read(file: Path) -> str | None:
    """The text of a file if it is there, whole, and the user's own."""
    content = _content(file)
    return None if content is None else content.decode()


def _content(file: Path) -> bytes | None:
    """The same, as bytes."""
    try:
        with file.open("rb") as stream:
            found = os.fstat(stream.fileno())
            if not _own(found) or found.st_mode & 0o022:
                return None
            content = stream.read()
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        return None
    body, mark, digest = content.rpartition(_DIGEST.encode())
    if not mark or hashlib.sha256(body).hexdigest().encode() != digest.strip():
        return None
    return body


def _write(file: Path, body: bytes) -> None:
    """Writes beside the file and moves into place, so that no reader sees a part."""
    content = body + f"{_DIGEST}{hashlib.sha256(body).hexdigest()}\n".encode()
    handle, beside = tempfile.mkstemp(prefix=file.stem, suffix=".tmp", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(beside, file)  # noqa: PTH105
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _warn(folder: Path, error: OSError) -> None:
    reason = error.strerror or str(error)
    message = f"the cache directory {folder} cannot be used ({reason}): modules are kept in memory only"
    if str(folder) not in _warned:
        _warned.add(str(folder))
        warnings.warn(message, RuntimeWarning, stacklevel=4)
