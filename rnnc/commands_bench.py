"""`rnnc bench`: times of a spec's operator on this machine, beside other libraries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from rnnc.commands_evidence import axis_sizes
from rnnc.commands_spec import Json, SpecFile
from rnnc.console import err, out, say_json
from rnnc.dsl.diagnostics import SpecError
from rnnc.files import builtin_specs, read_spec
from rnnc.refusal import Refusal

# On a CPU, what takes a second or so; on a GPU, a long sequence with the heads of a large layer.
DEFAULTS = {
    "cpu": {"B": 1, "T": 1024, "H": 4, "axis": 64},
    "cuda": {"B": 1, "T": 8192, "H": 96, "axis": 128},
}


def bench(
    file: SpecFile,
    sizes: Annotated[
        list[str] | None, typer.Argument(metavar="[AXIS=SIZE ...]", help="B=1 T=8192 H=96 K=128 V=128")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the vector inputs: bf16, fp16, fp32.")] = None,
    as_json: Json = False,
) -> None:
    """Times on this machine's device against installed peers, forward and backward; errors of the outputs.

    A built-in model is compared with the libraries that have it, any other spec with the naive loop.
    """
    import torch

    import rnnc
    from rnnc.measurement import DTYPES, measure
    from rnnc.ops.arguments import Sizes
    from rnnc.threads import settle_threads

    text, path = read_spec(file)
    try:
        operator = rnnc.compile(text + "\n")
    except SpecError as error:
        raise SpecError(error.diagnostics, error.source, path) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = dtype or ("bf16" if device == "cuda" else "fp32")
    if dtype not in DTYPES:
        raise Refusal(f"bench: dtype: expected {', '.join(DTYPES)}, got '{dtype}'")
    given = _sizes(operator.recurrence.axes, axis_sizes("bench", sizes or ()), DEFAULTS[device])
    builtin = any(spec.read_text("utf-8") == text for spec in builtin_specs().values())
    if device == "cpu":
        settle_threads()
    axes = {axis: given[axis] for axis in operator.recurrence.axes}
    shape = Sizes(given["B"], given["T"], given["H"], axes)
    with err.status("measuring"):
        rows = list(measure(operator, builtin, shape, dtype, device))
    if as_json:
        record = {"path": path, "name": operator.name, "device": device, "dtype": dtype, "sizes": given}
        say_json(record | {"torch": torch.__version__, "rows": [row.as_dict() for row in rows]})
        return
    title = " ".join(f"{name}={size}" for name, size in given.items())
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    out.print(_table(f"{operator.name}: {title}, {dtype}, {where}", rows))


def _sizes(axes: Iterable[str], given: dict[str, int], default: dict[str, int]) -> dict[str, int]:
    """B, T, H and every axis. Raises Refusal for others, and for 0."""
    known = {name: default[name] for name in "BTH"} | dict.fromkeys(axes, default["axis"])
    for name, size in given.items():
        if name not in known:
            raise Refusal(f"bench: {name} is no axis: sizes are {', '.join(known)}")
        if size < 1:
            raise Refusal(f"bench: {name}: expected a size of at least 1, got {size}")
    return known | given


def _table(title: str, rows: Iterable[Any]) -> Any:
    from rich.table import Table

    table = Table("", "forward, ms", "forward + backward, ms", "error", "", title=title, title_justify="left")
    for row in rows:
        times = ["" if x is None else f"{x:.2f}" for x in (row.forward_ms, row.both_ms)]
        table.add_row(row.name, *times, "" if row.error is None else f"{row.error:.1e}", row.note)
    return table
