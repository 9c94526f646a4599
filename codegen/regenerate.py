"""The generated modules of the built-in models: written to `ops/generated`, or compared with those there."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from rnnc.codegen.compiler import compile_text


def generated_text(name: str) -> str:
    """The text of `ops/generated/<name>.py`."""
    spec = files("rnnc.ops").joinpath(f"{name}.rnn").read_text("utf-8")
    return compile_text(spec, f"{name}.rnn").source


def regenerate(check: bool = False) -> list[str]:
    """The names of the built-ins whose module differs byte for byte; rewrites those unless `check`.

    A module without a spec counts as different, and is removed.
    """
    folder = Path(str(files("rnnc.ops"))) / "generated"
    specs = {spec.stem for spec in folder.parent.glob("*.rnn")}
    texts = {name: generated_text(name).encode() for name in sorted(specs)}
    present = {file.stem: file.read_bytes() for file in folder.glob("*.py") if file.stem != "__init__"}
    differing = [name for name in sorted({*texts, *present}) if texts.get(name) != present.get(name)]
    for name in [] if check else differing:
        file = folder / f"{name}.py"
        if name in texts:
            file.write_bytes(texts[name])
        else:
            file.unlink()
    return differing
