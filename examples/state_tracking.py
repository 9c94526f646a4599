"""Which recurrences can track a state? Trained on words of 40 tokens, tested on words of up to 256.

After Grazzi et al. 2024, arXiv:2411.12537: the best of three seeds. `python -m rnnc.examples.state_tracking`
runs parity for two pairs of models, eigenvalues in [0, 1] against [-1, 1]; `--all` runs everything.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

import rnnc.ops
from rnnc.examples.state_tracking_results import kept, plot
from rnnc.examples.state_tracking_tasks import TASKS, accuracy, tracker, train
from rnnc.files import write_text
from rnnc.progress import bar
from rnnc.threads import settle_threads

PAIRS = ("mamba2", "mamba2_signed", "delta_net", "delta_net_signed")
PRODUCTS = ("delta_product n=1", "delta_product n=2", "delta_product n=4")
LENGTHS = (40, 64, 128, 256)
SOLVED = 0.99  # at the greatest length: no further seed is tried

console = Console()


def best_of(task: str, name: str, steps: int, seeds: int, rate: float, layers: int) -> Tensor:
    """The accuracies by position of the seed that is best at the last one."""
    operator, table = getattr(rnnc.ops, name.partition(" ")[0]), TASKS[task]()
    width = 32 if len(table) < 10 else 128
    sizes = dict.fromkeys(operator.recurrence.axes, 16)
    if "=" in name:
        sizes["n"] = int(name.partition("=")[2])
    best = torch.zeros(max(LENGTHS))
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = tracker(operator, len(table), width, layers, **sizes)
        with bar("loss") as progress:
            row = progress.add_task(f"{task}, {name}, seed {seed}", total=steps, loss=float("nan"))
            for loss in train(model, table, steps, rate):
                progress.update(row, advance=1, loss=loss)
        best = max(best, accuracy(model, table, max(LENGTHS)), key=lambda found: float(found[-1]))
        if best[-1] >= SOLVED:
            break
    return best


def run(
    everything: Annotated[bool, typer.Option("--all", help="All tasks and models: hours on a CPU.")] = False,
    steps: Annotated[int, typer.Option(min=1)] = 800,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 0.02,
    layers: Annotated[int, typer.Option(min=1)] = 1,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Where to draw accuracy over length.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Where to keep what is found, model by model; what is there is not run again."),
    ] = None,
) -> None:
    """Trains and tests; prints a table, and draws a plot where one is asked for."""
    settle_threads()
    found: dict[tuple[str, str], Tensor] = {}
    settings = {"steps": steps, "seeds": seeds, "rate": rate, "layers": layers}
    saved = kept(results, settings)
    rows = Table(
        "task", "model", "chance", *(f"at {T}" for T in LENGTHS), "s", title="share of right answers"
    )
    for task in TASKS if everything else ("parity",):
        for name in (*PAIRS, *PRODUCTS) if everything else PAIRS:
            if (key := f"{task}, {name}") not in saved:
                start = time.perf_counter()
                right = best_of(task, name, steps, seeds, rate, layers)
                seconds = time.perf_counter() - start
                saved[key] = {"accuracy": [round(share, 4) for share in right.tolist()], "seconds": [seconds]}
                if results is not None:
                    write_text(results, json.dumps({"settings": settings, "found": saved}, indent=1) + "\n")
            right = found[task, name] = torch.tensor(saved[key]["accuracy"])
            cells = [f"{right[T - 1]:.3f}" for T in LENGTHS]
            rows.add_row(
                task, name, f"{1 / len(TASKS[task]()):.3f}", *cells, f"{saved[key]['seconds'][0]:.0f}"
            )
    console.print(rows)
    if picture is not None:
        plot(found, picture)
        console.print(f"drew {picture}")


if __name__ == "__main__":
    typer.run(run)
