"""Reading specs and writing results: every way a path can be wrong ends in one sentence."""

from __future__ import annotations

import os
import sys
import tempfile
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from rnnc.dsl.spec_text import SPEC_BYTES, decode
from rnnc.refusal import Refusal


def builtin_specs() -> dict[str, Path]:
    """The specs of the built-in models by name, in alphabetical order."""
    folder = Path(str(files("rnnc.ops")))
    return {path.stem: path for path in sorted(folder.glob("*.rnn"))}


def read_spec(name: str) -> tuple[str, str]:
    """The text, and the path for messages, of a spec: a file, `-` (standard input) or a built-in name.

    Raises Refusal where there is no such file, SpecError where it cannot be a spec.
    """
    if name == "-":
        return decode(sys.stdin.buffer.read(SPEC_BYTES + 1), "<stdin>"), "<stdin>"
    if not name:
        raise Refusal("no spec was named: expected a file, - or a built-in model")
    path = Path(name)
    try:
        if not path.exists() and name in builtin_specs():
            path = builtin_specs()[name]
        if path.is_dir():
            raise Refusal(f"{name}: is a directory, expected a spec file")
        with path.open("rb") as file:
            data = file.read(SPEC_BYTES + 1)
    except FileNotFoundError:
        raise Refusal(f"{name}: no such file, nor a built-in model; {_suggestion(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise Refusal(f"{name!r}: cannot be read: {_reason(error)}") from None
    return decode(data, name), name


def _suggestion(path: Path) -> str:
    """What may have been meant by a path that is not there: a file beside it, or a built-in model."""
    known = {name: name for name in builtin_specs()}
    known |= {beside.stem: str(beside) for beside in path.parent.glob("*.rnn")}
    meant = get_close_matches(path.stem, known, 1)
    return f"did you mean '{known[meant[0]]}'?" if meant else "`rnnc list` names those"


def write_text(path: Path, text: str) -> None:
    """Writes `text` beside `path` and renames it into place: the file is whole or untouched.

    Raises Refusal where that is impossible.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise Refusal(f"{path}: is not a regular file, nothing was written")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise Refusal(f"{path}: cannot be written: {_reason(error)}") from None


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, where there is none. Raises Refusal where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"{path}: cannot be made: {_reason(error)}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else str(error)
    return (text or type(error).__name__).lower()
