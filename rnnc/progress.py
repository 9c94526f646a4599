"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rnnc.console import err

Item = TypeVar("Item")


def bar(*fields: str) -> Progress:
    """A progress bar; `fields` are the names of values shown beside it (task fields, floats)."""
    columns = [TextColumn(f"{name} {{task.fields[{name}]:.3f}}") for name in fields]
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """The items, with a progress bar that advances as they are taken."""
    with bar() as progress:
        yield from progress.track(items, total=total, description=description)
