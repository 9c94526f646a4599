"""What `state_tracking` found: kept in a file from run to run, and drawn as accuracy over length."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from torch import Tensor


def kept(path: Path | None, settings: dict[str, float]) -> dict[str, dict[str, list[float]]]:
    """What was found before by "task, model": accuracies by position, and seconds; settings must be equal."""
    if path is None or not path.exists():
        return {}
    saved = json.loads(path.read_text("utf-8"))
    if saved["settings"] != settings:
        raise typer.BadParameter(f"{path} is of other settings: {saved['settings']}, not {settings}")
    return dict(saved["found"])


def plot(found: dict[tuple[str, str], Tensor], path: Path) -> None:
    """Accuracy over length, a panel for each task; needs matplotlib (`pip install rnnc[plot]`)."""
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(task for task, _ in found))
    figure, panels = pyplot.subplots(1, len(tasks), figsize=(5 * len(tasks), 4), squeeze=False, sharey=True)
    for panel, task in zip(panels[0], tasks, strict=True):
        for (other, name), right in found.items():
            if other == task:
                panel.plot(range(8, len(right) + 1), right.unfold(0, 8, 1).mean(-1), label=name)
        panel.axvline(40, color="grey", linestyle=":")
        panel.set(title=task, xlabel="length", ylabel="accuracy, mean of 8 positions")
    panels[0][0].legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")
