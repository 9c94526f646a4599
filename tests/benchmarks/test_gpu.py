"""The run on a GPU, as far as it goes without one: `--dry`, results that are taken up again, lost workers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rnnc.ops

ROOT = Path(__file__).parents[2]
pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def dry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """A run, and what it prints; its worker is a process of its own."""
    from benchmarks.gpu.__main__ import main

    monkeypatch.setenv("RNNC_CACHE_DIR", str(tmp_path / "cache"))

    def run() -> str:
        assert main(["--dry", "--cores=1", f"--out={tmp_path}", "--models", "linear_attention"]) == 0
        return capsys.readouterr().out

    return run


def entries(out: Path, kind: str) -> list[dict[str, Any]]:
    report = json.loads((out / "dry_run.json").read_text("utf-8"))
    assert report["stamp"]["device"] == "dry run"
    return [entry for entry in report["entries"] if entry["kind"] == kind]


@pytest.mark.slow
def test_dry_run_from_end_to_end_and_again(tmp_path: Path, dry: Callable[[], str]) -> None:
    assert "errors against float64" in dry()
    compared = [e for e in entries(tmp_path, "error") if e["dtype"] != "bf16"]
    assert [e["answer"]["status"] for e in compared] == ["ok"] * 4  # one of them by the recurrent form
    assert all(e["answer"]["deterministic"] for e in compared)
    for entry in entries(tmp_path, "time"):
        answer = entry["answer"]
        if entry["who"] == "rnnc":
            assert answer["status"] == "ok"
            assert answer["forward_ms"] is answer["both_ms"] is None  # an interpreter's times are no times
        else:
            assert answer["status"] == "not run"
            assert "fla" in answer["reason"]
    lines = (tmp_path / "dry_run.jsonl").read_text("utf-8").splitlines()
    dry()
    more = (tmp_path / "dry_run.jsonl").read_text("utf-8").splitlines()[len(lines) :]
    again = {line["entry"]["kind"] for line in map(json.loads, more) if line["answer"]["status"] == "ok"}
    assert not again


def test_results_of_another_commit_and_torn_lines_are_left(tmp_path: Path) -> None:
    from benchmarks.entries import Call, Entry
    from benchmarks.results import Results

    entry = Entry("error", "gla", "bf16", Call(1, 5, 2, (3, 4), lengths=(2, 3)))
    first = Results(tmp_path, {"commit": "a", "device": "X 1"})
    first.add(entry, {"status": "ok"})
    with (tmp_path / "x_1.jsonl").open("a") as file:
        file.write('{"stamp": {"comm')
    for stamp, done in (("a", True), ("b", False)):
        results = Results(tmp_path, {"commit": stamp, "device": "X 1"})
        results.read()
        assert results.done(entry) is done
    assert Entry.of(json.loads(entry.key)) == entry


def test_a_worker_that_ends_or_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import pool

    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, sys, time\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    if request == 'end': os._exit(3)\n"
        "    if request == 'hang': time.sleep(60)\n"
        "    print(json.dumps({'status': 'ok', 'pid': os.getpid()}), flush=True)\n"
    )

    def start(worker: pool.Worker) -> Any:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, str(script)], **pipes)

    monkeypatch.setattr(pool.Worker, "_start", start)
    workers = pool.Pool("cpu", 1, tmp_path / "log")
    requests = [(name, name) for name in ("one", "end", "two", "hang", "three")]
    found = dict(workers.run(requests, 1, time.monotonic() + 60, 2.0))
    late = dict(workers.run([("late", "late")], 1, time.monotonic() - 1, 2.0))
    workers.close()
    assert [found[name]["status"] for name, _ in requests] == ["ok", "error", "ok", "error", "ok"]
    assert "status 3" in found["end"]["reason"]
    assert "ended after" in found["hang"]["reason"]
    assert late["late"] == {"status": "not run", "reason": "no time was left"}


def test_micro_steps_are_few() -> None:
    from benchmarks.entries import Call  # importable only with the fixture's path

    call = Call(1, 8, 1, (64, 32))
    assert call.axes(rnnc.ops.delta_product.recurrence) == {"n": 2, "K": 64, "V": 32}


def test_the_kernels_of_every_stage_are_compiled() -> None:
    """With the arguments of real calls: products are handed on like vectors, all else in float32."""
    from benchmarks.calls import form  # importable only with the fixture's path
    from benchmarks.entries import Call
    from benchmarks.gpu.compilation import launches

    call = Call(1, 20, 1, (16, 16))
    found = {launch.kernel: launch for _, launch in launches("preconditioned_delta", "bf16", call)}
    assert {"preconditioned_delta_1_chunked_scan", "preconditioned_delta_2_chunked_scan"} <= found.keys()
    scan = found["preconditioned_delta_2_chunked_scan"].options
    assert "k" not in scan
    assert str(scan["h_read"].dtype) == "torch.bfloat16"
    found = {launch.kernel: launch for _, launch in launches("gsa", "bf16", call)}
    assert str(found["gsa_2_chunked_pre"].options["p"].dtype) == "torch.float32"
    assert form("preconditioned_delta", call) == "chunked"
    assert form("gla", call) == "chunked"


@pytest.mark.smoke
def test_checks_and_measurements_are_entries() -> None:
    from benchmarks.entries import Entry, checks, measures

    models = ["gla", "gated_delta_net"]
    for dry in (True, False):
        found = [*checks(models, models, dry), *measures(models, dry)]
        assert len(set(found)) == len(found)
        assert all(Entry.of(json.loads(entry.key)) == entry for entry in found)
        kinds = {entry.kind for entry in found}
        assert kinds == {"traced", "large", "sanitizer", "demo", "ceilings", "step", "warps"}
    (big,) = (entry.call for entry in found if entry.kind == "large")
    assert big.B * big.T * big.H * big.sizes[0] > 2**31


def test_few_models_have_kernels_of_all_roles() -> None:
    from benchmarks.calls import operator, parts
    from benchmarks.gpu.checks import _roles, cover

    models = ["linear_attention", "gla", "gated_delta_net", "mlstm"]
    models = [model for model in models if model in rnnc.ops.builtin_names()]
    found = cover(models)
    roles = {model: set().union(*map(_roles, parts(operator(model)))) for model in models}
    assert set().union(*(roles[model] for model in found)) == set().union(*roles.values())
    assert len(found) < len(models)


def test_how_near_a_time_is_to_that_of_a_copy() -> None:
    from benchmarks.gpu.tables import fractions

    answer = {"forward_ms": 2.0, "both_ms": None, "least_bytes": [4_000_000_000, 9]}
    assert fractions(answer, 4e12) == ["50%", ""]
    assert fractions(answer, None) == ["", ""]
