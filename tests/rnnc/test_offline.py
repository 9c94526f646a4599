"""Reports of the GPU compilers: what they are kept under, and that those in the repository are current."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("triton")

from rnnc import offline, offline_worker
from rnnc.offline import all_jobs, file_of, jobs, reports, update
from rnnc.ops import kernel_sources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where reports are written instead of into the repository."""
    monkeypatch.setattr(offline, "FOLDER", tmp_path / "reports")
    return tmp_path


def test_keys_hold_all_that_counts(folder: Path) -> None:
    """Architecture and dtype too, but for kernels that know no dtype: those of stretches, in float32."""
    first = [job.key for job in jobs("linear_attention", "90", "bf16", folder)]
    (folder / "elsewhere").mkdir()
    assert [job.key for job in jobs("linear_attention", "90", "bf16", folder / "elsewhere")] == first
    others = [
        jobs("linear_attention", arch, dtype, folder) for arch, dtype in (("80", "bf16"), ("90", "fp32"))
    ]
    assert {job.key for job in others[0]}.isdisjoint(first)
    same = [job.task["kernel"] for job in others[1] if job.key in first]
    assert same == ["combine"]


def test_keys_follow_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a file of tile operations imports from another counts as its own text does."""
    monkeypatch.setattr(kernel_sources, "files", lambda package: tmp_path)
    texts = {
        "first": "from rnnc.ops.second import half\n",
        "second": "from rnnc.ops.third import one\nfrom rnnc.ops.first import more\n",
        "third": "import math\n",
        "fourth": "",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    module = "from rnnc.ops.first import more\nfrom rnnc.ops.fourth import other\n"
    assert kernel_sources._library(module, "x = more(y)") == [
        texts[name] for name in ("first", "second", "third")
    ]
    assert kernel_sources._library(module, "x = y") == []


def test_what_the_tuner_asked_is_not_compiled_again(folder: Path) -> None:
    """Its answers are by the same keys."""
    (job,) = (j for j in jobs("linear_attention", "90", "bf16", folder) if j.role == "reverse")
    said = {"registers": 1, "stack": 2, "shared": 3, "matrix": {}, "seconds": 4.0}
    found = update([job], "90", answers={job.key: said})
    assert found[job.key].items() >= (said | job.record).items()


def test_compiled_once(folder: Path) -> None:
    """The reverse kernel of linear attention: no spills, wgmma."""
    (job,) = (j for j in jobs("linear_attention", "90", "bf16", folder) if j.role == "reverse")
    found = update([job], "90")
    entry = found[job.key]
    assert entry["stack"] == 0
    assert entry["matrix"]["HGMMA"] > 0
    file_of("90").write_text(json.dumps({job.key: entry | {"seconds": -1}}), encoding="utf-8")
    assert update([job], "90")[job.key]["seconds"] == -1


def test_what_a_compiler_says_is_a_report(folder: Path) -> None:
    job = jobs("linear_attention", "90", "bf16", folder)[0]
    broken = {**job.task, "constants": {**job.task["constants"], "BK": 100}}
    assert "error" in offline_worker.report(broken)


def test_a_kernel_that_takes_too_long_says_so(folder: Path) -> None:
    job = jobs("linear_attention", "90", "bf16", folder)[0]
    found = update([job], "90", workers=1, seconds=0.1)
    assert found[job.key]["error"] == "the compiler was stopped after 0 seconds"


REPORTS = reports("90")  # `make offline` makes them


@pytest.mark.parametrize("model", sorted({e["model"] for e in REPORTS.values() if e["dtype"] == "bf16"}))
def test_reports_are_current(model: str, tmp_path: Path) -> None:
    each = all_jobs([model], "90", ["bf16"], tmp_path)
    stale = [job.task["kernel"] for job in each if job.key not in REPORTS]
    assert not stale, f"run make offline: {', '.join(stale)}"
