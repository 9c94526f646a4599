"""A figure of a file of results: times beside the peers', and the time per token over the length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.candidates import OWN
from benchmarks.entries import Entry


def plot(path: Path, stamp: dict[str, Any], timed: Sequence[tuple[Entry, dict[str, Any]]]) -> None:
    """Writes the figure; nothing where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.hashsalt": "rnnc", "font.size": 8}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
        _ratios(left, timed)
        _growth(right, timed)
        figure.suptitle(f"{stamp['device']}, torch {stamp['torch']}")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _ratios(axes: Any, timed: Sequence[tuple[Entry, dict[str, Any]]]) -> None:
    """Bars: how many times as long as the project's own, forward and backward."""
    own = {(e.model, e.call): a["both_ms"] for e, a in timed if e.who == OWN}
    bars = [
        (f"{e.model} {e.call}\n{e.who}", a["both_ms"] / own[e.model, e.call])
        for e, a in timed
        if e.who != OWN and (e.model, e.call) in own
    ]
    axes.barh([name for name, _ in bars][::-1], [ratio for _, ratio in bars][::-1])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("forward and backward, times as long as rnnc")


def _growth(axes: Any, timed: Sequence[tuple[Entry, dict[str, Any]]]) -> None:
    """Lines: microseconds per token over the length of the sequences."""
    for model, who in dict.fromkeys((e.model, e.who) for e, _ in timed):
        heads = [e.call.H for e, _ in timed if (e.model, e.who) == (model, who)]
        usual = max(set(heads), key=heads.count)
        points = sorted(
            (e.call.T, a["both_ms"] * 1000 / (e.call.B * e.call.T))
            for e, a in timed
            if (e.model, e.who, e.call.H) == (model, who, usual)
        )
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), marker="o", label=f"{model}, {who}")
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens in a sequence")
    axes.set_ylabel("microseconds per token, forward and backward")
    if axes.lines:
        axes.legend()
