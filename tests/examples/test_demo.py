"""The demonstration runs, its files are short, and only the recurrence carries context."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rnnc
from rnnc.examples import demo
from rnnc.examples.character_model import CharacterModel, evaluate, reference_text, sample, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model() -> CharacterModel:
    torch.manual_seed(0)
    operator = rnnc.compile(demo.SPEC.read_text(encoding="utf-8"))
    return CharacterModel(operator, characters=11, d_model=16, num_heads=2)


@pytest.mark.smoke
def test_examples_are_short() -> None:
    lengths = {
        path.name: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "examples").glob("*.py")
    }
    assert max(lengths.values()) < 100, lengths


@pytest.mark.smoke
def test_text_is_large_and_without_repetition() -> None:
    paragraphs = reference_text().split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert len(reference_text()) > 300_000


def test_without_the_recurrence_a_token_knows_itself_alone(model: CharacterModel) -> None:
    tokens = torch.arange(10)[None].repeat(2, 1)
    tokens[1, :9] = 10
    for gain, mixes in ((1.0, True), (0.0, False)):
        first, second = model(tokens, gain=gain)[0][:, -1]
        assert torch.equal(first, second) is not mixes


def test_training_lowers_the_loss(model: CharacterModel) -> None:
    text = torch.arange(11).repeat(40)
    before = evaluate(model, text, T=32)
    losses = list(train(model, text, steps=30, B=4, T=32))
    assert len(losses) == 30
    assert evaluate(model, text, T=32) < before - 0.5


def test_sampling_continues_the_prompt(model: CharacterModel) -> None:
    tokens = sample(model, torch.tensor([1, 2, 3]))
    assert all(0 <= next(tokens) < 11 for _ in range(5))


def test_demo_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "reference_text", lambda: reference_text()[:30_000])
    demo.run(steps=2, output=tmp_path)
    printed = capsys.readouterr().out
    assert "held-out loss" in printed
    assert "all agree" in printed
    assert (tmp_path / "two_read_delta.py").is_file()
