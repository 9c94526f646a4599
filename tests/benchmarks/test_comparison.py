"""`python -m benchmarks` at a size that takes no time: measured, taken up again, rendered, the README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rnnc.peers import PEERS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def bench(out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a run prints; its worker is a process of its own."""
    from benchmarks.__main__ import main

    options = ["--tiny", "--threads=1", "--models", "mamba2", "--device=cpu", f"--out={out}"]
    assert main(options) == 0
    return capsys.readouterr().out


def test_measured_taken_up_again_and_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = bench(tmp_path, capsys)
    (path,) = tmp_path.glob("*.json")
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    assert {"commit", "device", "torch", "python"} <= set(report["stamp"])
    own = [e["answer"] for e in report["entries"] if e["who"] == "rnnc"]
    assert [a["status"] for a in own] == ["ok"] * 3  # one beside peers, two lengths
    assert all(min(a["forward_ms"], a["both_ms"]) > 0 for a in own)
    assert all(max(a["errors"].values()) < 1e-5 for a in own)
    peers = [e["answer"] for e in report["entries"] if e["who"] != "rnnc"]
    assert all(a["status"] == "ok" or "transformers" in a["reason"] for a in peers)
    table = path.with_suffix(".md").read_text("utf-8")
    assert table in printed
    assert "| `mamba2` 1 x 40 x 2 x 8, fp32 | rnnc |" in table
    assert "T = 64" in table
    assert "<svg" in path.with_suffix(".svg").read_text("utf-8")
    done = path.with_suffix(".jsonl").read_text("utf-8")
    bench(tmp_path, capsys)
    assert path.with_suffix(".jsonl").read_text("utf-8") == done


@pytest.mark.smoke
def test_every_operator_with_a_peer_is_compared_at_every_shape() -> None:
    from benchmarks.comparisons import LENGTHS, compared, entries, is_growth
    from benchmarks.entries import SHAPES, Entry

    for device in ("cpu", "cuda"):
        models = compared(device)
        found = entries(models, device)
        assert len(set(found)) == len(found)
        assert all(Entry.of(json.loads(entry.key)) == entry for entry in found)
        for model in models:
            grown = {e.call.T for e in found if e.model == model and e.who == "rnnc" and is_growth(e)}
            assert grown == set(LENGTHS[device])
            names = {e.who for e in found if e.model == model}
            assert {"rnnc", *(peer.name for peer in PEERS[model] if peer.device == device)} <= names
    mine = [e for e in found if e.model == "kda" and e.who == "rnnc" and not is_growth(e)]
    assert [(e.call.B, e.call.T) for e in mine] == [(B, T) for B, T, *_ in SHAPES]


@pytest.mark.smoke
def test_the_compiled_chunked_form_is_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import rnnc.ops
    from benchmarks import calls, candidates
    from benchmarks.entries import Call, Entry

    monkeypatch.setattr(torch, "compile", lambda function: function)
    entry = Entry("time", "gated_delta_net", "fp32", Call(2, 70, 2, (5, 6)), candidates.COMPILED)
    tensors = calls.draw(entry.model, entry.call, "fp32", "cpu")
    (found,) = candidates.function(entry, "torch")(*tensors.arguments)
    expected = rnnc.ops.gated_delta_net(*tensors.arguments)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_readme_is_made_from_the_results(tmp_path: Path) -> None:
    from benchmarks.report import with_section

    readme = (ROOT / "README.md").read_text("utf-8")
    assert with_section(readme, ROOT / "benchmarks" / "results") == readme, "python -m benchmarks --render"
    assert "No measurement" in with_section(readme, tmp_path)
    with pytest.raises(ValueError, match="no place"):
        with_section("", tmp_path)
