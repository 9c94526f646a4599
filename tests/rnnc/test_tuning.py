"""The search for configurations, with a made-up compiler; the table that it writes, and who reads it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

import rnnc.ops
from rnnc.cli import main
from rnnc.codegen.hardware import SM_90
from rnnc.codegen.resources import Configuration
from rnnc.codegen.tiling import CHUNKS, STANDS, suiting
from rnnc.codegen.tiling_record import Measured, Tiling
from rnnc.compiler_answers import Answers
from rnnc.kernel_jobs import Subject, subjects
from rnnc.ops import tuned
from rnnc.ops.triton_tiling import launched, tiling
from rnnc.tuning import search
from rnnc.tuning_record import Found, Target, findings_of
from rnnc.tuning_table import entries, merged, written

SIZES = {"K": 128, "V": 128}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    text = rnnc.ops.linear_attention.spec
    (found,) = subjects("linear_attention", text, tmp_path_factory.mktemp("modules"))
    return found


class Compiler:
    """Says that whatever has fewer than 8 warps spills, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(task)
        stack = 0 if task["options"]["num_warps"] >= 8 else 80
        return {"registers": 200, "stack": stack, "shared": 40_000, "matrix": {"HGMMA": 4}, "seconds": 0.1}


def found_by(compiler: Any, subject: Subject, folder: Path, deadline: float = float("inf")) -> Found:
    target = Target(subject, "sm_90", "bf16", SIZES)
    (found,) = search([target], Answers(folder / "answers.jsonl", compiler), 1, deadline)
    return found


def test_what_spills_is_dropped_and_what_is_cheapest_is_kept(subject: Subject, tmp_path: Path) -> None:
    found = found_by(Compiler(), subject, tmp_path)
    assert found.done
    assert set(found.kernels) == set(launched(subject.module))
    table = entries(found)
    assert len(table) == len(launched(subject.module))
    for entry in table.values():
        assert entry["sizes"] == "K=128 V=128"
        for chunk, _, warps, _, _, _, stack, _ in entry["found"]:
            assert stack == 0, entry
            assert warps >= 8
            assert chunk in (16, 32, 64, 128, 256)
    assert {row["kernel"] for row in found.rows()} == set(found.kernels)


def test_the_search_ends_with_the_first_plan_that_fits(subject: Subject, tmp_path: Path) -> None:
    """It has the chunks that the estimate chooses; of these, and of each shorter one, one configuration of
    each kernel, and this with the spacing that it runs with, if another stood for that.
    """

    class Generous(Compiler):
        def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
            return super().__call__(task) | {"stack": 0}

    compiler = Generous()
    found = found_by(compiler, subject, tmp_path)
    assert found.done
    longest = tiling(subject.module, SIZES, 2, SM_90).chunk
    lengths = [chunk for chunk in CHUNKS if chunk <= longest]
    assert set(found.kernels) == set(launched(subject.module))
    for reports in found.kernels.values():
        assert sorted(how.chunk for how in reports if how.spacing <= STANDS) == lengths
        apart = {how for how in reports if how.spacing > STANDS}
        assert {how._replace(spacing=STANDS) for how in apart} <= set(reports)
    assert len(compiler.asked) == sum(map(len, found.kernels.values()))


def test_short_sequences_run_by_what_compilers_have_seen(subject: Subject, tmp_path: Path) -> None:
    """In chunks that are no longer than they need; what runs for long ones stays as it was."""
    found = found_by(Compiler(), subject, tmp_path)
    known = {kernel: findings_of(reports) for kernel, reports in found.kernels.items()}

    def chosen(chunk: int | None) -> Tiling:
        return tiling(subject.module, SIZES, 2, SM_90, chunk, known)

    usual = chosen(None)
    for length in (1, 16, 17, 40, 64, 10_000):
        suited = suiting(length, chosen)
        assert suited.chunk == min(usual.chunk, max(16, 1 << (length - 1).bit_length()))
        assert suited.compiled
        assert suited.fits
    only = {
        kernel: {how: what for how, what in each.items() if how.chunk == usual.chunk}
        for kernel, each in known.items()
    }
    assert tiling(subject.module, SIZES, 2, SM_90, None, only) == usual


def test_what_compilers_have_seen_goes_before_what_they_have_not(subject: Subject) -> None:
    chosen = tiling(subject.module, SIZES, 2, SM_90)
    other = 16
    assert chosen.chunk != other
    slow = tiling(subject.module, SIZES, 2, SM_90, other)
    known = {name: {choice.configuration: Measured(200, 0, 40_000)} for name, choice in slow.kernels.items()}
    assert tiling(subject.module, SIZES, 2, SM_90, None, known).chunk == other
    del known[next(iter(known))]
    assert tiling(subject.module, SIZES, 2, SM_90, None, known).chunk == chosen.chunk


class Crowded(Compiler):
    """Says that gradients spill where a state is kept for four chunks, with fewer than 16 warps."""

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(task)
        four = task["constants"].get("SPACING") == 4 and task["options"]["num_warps"] < 16
        stack = 200 if four and task["kernel"].endswith("grads") else 0
        return {"registers": 200, "stack": stack, "shared": 40_000, "matrix": {}, "seconds": 0.1}


def test_what_runs_is_compiled_with_its_own_spacing(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What compilers said of a smaller one goes for it no more."""
    table = entries(found_by(Crowded(), subject, tmp_path))
    monkeypatch.setattr(tuned, "table", lambda name: table)
    known = tuned.findings(subject.text, launched(subject.module), SIZES, 2, SM_90)
    seen = [how for how, said in known["linear_attention_chunked_grads"].items() if said.stack]
    assert {how.spacing for how in seen} == {4}
    for chunk in (None, *{how.chunk for how in seen}):
        chosen = tiling(subject.module, SIZES, 2, SM_90, chunk, known)
        assert chosen.compiled
        assert chosen.fits
        assert all(choice.configuration in known[kernel] for kernel, choice in chosen.kernels.items())


class Apart(Compiler):
    """Says that two kernels as one launch spill with fewer than `enough` warps, and nothing else does."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.enough = enough

    def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
        said = super().__call__(task)
        joint = task["kernel"].endswith(("walks", "grads_channels"))
        return said | {"stack": 280 * (joint and task["options"]["num_warps"] < self.enough)}


@pytest.fixture(scope="module")
def two_joints(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    (found,) = subjects("gla", rnnc.ops.gla.spec, tmp_path_factory.mktemp("modules"))
    assert {joint.beside for joint in found.module.JOINED} == {True, False}
    return found


@pytest.mark.parametrize("enough", [4, 8, 64])
def test_kernels_are_one_launch_only_if_that_does_not_spill(
    two_joints: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: int
) -> None:
    """As compiled: in another configuration where the likeliest spills; apart where all do."""
    found = found_by(Apart(enough), two_joints, tmp_path)
    assert found.done
    table = json.loads(written(entries(found)))
    monkeypatch.setattr(tuned, "table", lambda name: table)
    module = two_joints.module
    known = tuned.findings(two_joints.text, launched(module), SIZES, 2, SM_90)
    assert set(known) == set(launched(module))
    chosen = tiling(module, SIZES, 2, SM_90, None, known)
    assert set(chosen.joined) == ({joint.kernel for joint in module.JOINED} if enough < 64 else set())
    for choice in itertools.chain(*chosen.joined.values()):
        assert choice.measured
        assert choice.measured.stack == 0
        assert choice.configuration.warps >= enough


def test_kernels_that_are_known_are_one_launch_only_where_that_is_known(
    two_joints: Subject, tmp_path: Path
) -> None:
    module, found = two_joints.module, found_by(Apart(4), two_joints, tmp_path)
    known = {kernel: findings_of(reports) for kernel, reports in found.kernels.items()}
    apart = {kernel: said for kernel, said in known.items() if kernel in module.WORK}
    assert tiling(module, SIZES, 2, SM_90, None, known).joined
    assert not tiling(module, SIZES, 2, SM_90, None, apart).joined
    assert tiling(module, SIZES, 2, SM_90).joined


def test_what_two_kernels_are_as_one_has_a_key_of_both(two_joints: Subject) -> None:
    """The text of either is in it."""
    joint = next(joint for joint in two_joints.module.JOINED if not joint.beside)
    keys = {
        tuned.key(text, joint.kernel, SIZES, 2, "sm_90")
        for kernel in ("", joint.first, joint.second)
        for head, line, tail in [two_joints.text.partition(f"def {kernel}(\n")]
        for text in [head + line + tail.replace("o_t = ", "o_t = 1 + ", 1 if kernel else 0)]
    }
    assert len(keys) == 3


def test_another_run_asks_for_nothing_again(subject: Subject, tmp_path: Path) -> None:
    first, second = Compiler(), Compiler()
    once, again = (found_by(compiler, subject, tmp_path) for compiler in (first, second))
    assert first.asked
    assert not second.asked
    assert once.kernels == again.kernels


def test_a_run_that_is_stopped_goes_on(subject: Subject, tmp_path: Path) -> None:
    assert not found_by(Compiler(), subject, tmp_path, deadline=0).done

    class Stopped(Compiler):
        def __call__(self, task: Mapping[str, Any]) -> dict[str, Any]:
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().__call__(task)

    with pytest.raises(KeyboardInterrupt):
        found_by(Stopped(), subject, tmp_path)
    whole, rest = Compiler(), Compiler()
    assert found_by(rest, subject, tmp_path).done
    (tmp_path / "answers.jsonl").unlink()
    found_by(whole, subject, tmp_path)
    assert len(rest.asked) == len(whole.asked) - 2


def test_errors_of_the_compiler_are_no_configurations(subject: Subject, tmp_path: Path) -> None:
    found = found_by(lambda task: {"error": "out of something"}, subject, tmp_path)
    assert found.done
    assert all(not entry["found"] for entry in entries(found).values())


def test_tables_are_merged(subject: Subject, tmp_path: Path) -> None:
    table = entries(found_by(Compiler(), subject, tmp_path))
    older = {f"old{index}": entry for index, entry in enumerate(table.values())}
    other = {"other": {**next(iter(table.values())), "sizes": "K=64 V=64"}}
    together = merged(older | other, table)
    assert set(together) == {*table, "other"}
    assert json.loads(written(together)) == together


def test_what_was_found_is_taken_before_the_estimate(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the class of sizes, the width of entries and the architecture that it was found for."""
    table = entries(found_by(Compiler(), subject, tmp_path))
    monkeypatch.setattr(tuned, "table", lambda name: table if name == "sm_90" else {})
    names = launched(subject.module)
    known = tuned.findings(subject.text, names, SIZES, 2, SM_90)
    assert set(known) == set(names)
    assert not tuned.findings(subject.text, names, SIZES, 4, SM_90)
    assert not tuned.findings(subject.text, names, {"K": 100, "V": 128}, 2, SM_90)
    assert not tuned.findings(subject.text + "\n", names, SIZES, 2, SM_90._replace(name="sm_80"))
    changed = subject.text.replace("tl.dot(", "tl.dot (").replace("b_S = tl.zeros", "b_S = 1 + tl.zeros")
    assert len(tuned.findings(changed, names, SIZES, 2, SM_90)) < len(names)
    for choice in tiling(subject.module, SIZES, 2, SM_90, None, known).kernels.values():
        assert choice.measured is not None
        assert choice.configuration.warps >= 8


def test_versions_of_triton_lie_side_by_side(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each finds its own entries in the one table of an architecture, and no other's."""
    table: dict[str, Any] = {}
    monkeypatch.setattr(tuned, "table", lambda name: table)
    for release, registers in (("3.6.0", 150), ("3.9.0", 160)):
        monkeypatch.setattr(tuned, "triton_version", lambda release=release: release)

        def compiled(task: Mapping[str, Any], registers: int = registers) -> dict[str, Any]:
            return Compiler()(task) | {"registers": registers}

        table = merged(table, entries(found_by(compiled, subject, tmp_path / release)))
    names = launched(subject.module)
    for release, expected in (("3.6.0", {150}), ("3.9.0", {160}), ("3.7.0", set())):
        monkeypatch.setattr(tuned, "triton_version", lambda release=release: release)
        known = tuned.findings(subject.text, names, SIZES, 2, SM_90)
        assert {said.registers for each in known.values() for said in each.values()} == expected


def test_without_an_entry_the_estimate_decides(subject: Subject) -> None:
    chosen = tiling(subject.module, SIZES, 2, SM_90)
    known = {"nothing": {Configuration(16, 16, 4, 1): Measured(1, 0, 1)}}
    assert tiling(subject.module, SIZES, 2, SM_90, None, known) == chosen
    assert all(choice.measured is None for choice in chosen.kernels.values())


def test_shipped_tables_are_whole() -> None:
    """Every entry says what it is for; a row has a configuration and what was said of it."""
    for name in ("sm_80", "sm_90", "sm_100", "gfx942"):
        for entry in tuned.table(name).values():
            assert {"kernel", "bytes", "sizes", "triton", "found"} <= set(entry)
            assert all(len(row) in (8, 9) for row in entry["found"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--offline", "--arch", "sm_1"], "--arch: expected sm_80"),
        (["--offline", "--dtype", "bf17"], "--dtype: expected bf16"),
        (["--offline", "--sizes", "12,x"], "--sizes: expected whole numbers"),
        (["--offline", "no_such_model"], "no such file"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["tune", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_explain_and_cost_say_how_kernels_run(capsys: pytest.CaptureFixture[str]) -> None:
    main_quietly(["explain", "linear_attention", "--arch", "sm_90"])
    told = capsys.readouterr().out
    assert "Kernels on sm_90, bf16, K=128 V=128: chunks of" in told
    assert "linear_attention_chunked_scan: tiles of" in told
    assert "bound by" in told
    main_quietly(
        ["cost", "linear_attention", "B=1", "T=64", "H=1", "K=16", "V=16", "--arch", "gfx942", "--json"]
    )
    kernels = json.loads(capsys.readouterr().out)["forward"]["kernels"]
    said = {"tile", "warps", "stages", "registers", "shared", "fits", "bound", "dropped"}
    assert said <= set(kernels[-1]["how"])
    with pytest.raises(SystemExit):
        main(["explain", "linear_attention", "--arch", "sm_9"])
    assert "arch: expected sm_80" in capsys.readouterr().err


def main_quietly(arguments: list[str]) -> None:
    """The command, whose exit status is 0."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
