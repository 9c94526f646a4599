"""State tracking: the tasks are groups, the words their products, and the example runs on a tiny budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import rnnc.ops
from rnnc.examples import state_tracking
from rnnc.examples.state_tracking_tasks import TASKS, accuracy, tracker, train, words

ORDERS = {"parity": 2, "modulo 3": 3, "S3": 6, "A5": 60}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_a_group(task: str) -> None:
    table = TASKS[task]()
    elements = torch.arange(ORDERS[task])
    assert table.shape == (ORDERS[task],) * 2
    assert torch.equal(table[0], elements)  # 0 is the identity
    assert torch.equal(table[:, 0], elements)
    assert torch.equal(table.sort(1).values, elements.expand_as(table))  # every row is a permutation
    a, b, c = torch.randint(len(elements), (3, 200), generator=torch.Generator().manual_seed(0))
    assert torch.equal(table[table[a, b], c], table[a, table[b, c]])
    assert torch.equal(table, table.T) == (task in ("parity", "modulo 3"))


def test_words_and_their_products() -> None:
    table = TASKS["modulo 3"]()
    tokens, answers = words(table, 5, 20, torch.Generator().manual_seed(2))
    assert tokens.shape == answers.shape == (5, 21)
    assert torch.equal(tokens[:, 0], torch.full((5,), 3))
    assert torch.equal(answers[:, 0], torch.zeros(5, dtype=torch.long))
    assert torch.equal(answers[:, 1:], tokens[:, 1:].cumsum(1) % 3)


@pytest.mark.parametrize("name", [*state_tracking.PAIRS, "delta_product"])
def test_a_model_learns_and_is_measured(name: str) -> None:
    torch.manual_seed(0)
    operator = getattr(rnnc.ops, name)
    model = tracker(operator, 2, 32, 1, **dict.fromkeys(operator.recurrence.axes, 4))
    losses = list(train(model, TASKS["parity"](), 12, 0.03, B=16))
    assert losses[-1] < losses[0]
    found = accuracy(model, TASKS["parity"](), T=50, B=8)
    assert found.shape == (50,)
    assert bool(((found >= 0) & (found <= 1)).all())


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = state_tracking.typer.Typer()
    app.command()(state_tracking.run)
    drawn: list[Path] = []
    monkeypatch.setattr(state_tracking, "plot", lambda found, path: drawn.append(path))
    picture, results = tmp_path / "accuracy.png", tmp_path / "found.json"
    options = ["--steps", "2", "--seeds", "1", "--plot", str(picture), "--results", str(results)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert drawn == [picture]
    # What was kept is not run again, under the same settings alone.
    monkeypatch.setattr(state_tracking, "best_of", lambda *of: pytest.fail("trained again"))
    again = CliRunner().invoke(app, options)
    assert again.exit_code == 0, again.output
    other = CliRunner().invoke(app, ["--steps", "3", "--results", str(results)])
    assert other.exit_code == 2
    assert "of other settings" in " ".join(other.output.replace("│", " ").split())


def test_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curves: dict[tuple[str, str], Tensor] = {
        (task, name): torch.rand(256) for task in ("parity", "S3") for name in state_tracking.PAIRS
    }
    state_tracking.plot(curves, tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.png").stat().st_size > 1000
