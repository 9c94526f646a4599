"""The benchmark on a CPU, at a size that takes no time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "run.py"


@pytest.mark.parametrize("model", ["gated_delta_net", "mamba2"])
def test_time_per_token(model: str, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    options = [f"--model={model}", "--size=16", "--H=2", "--threads=1", "--times=1", f"--json={out}"]
    command = [sys.executable, str(SCRIPT), *options, "--lengths", "32", "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert found["model"] == model
    assert [row["T"] for row in found["rows"]] == [32, 64]
    assert all(row["forward + backward, us per token"] > 0 for row in found["rows"])
