"""Tuning on a device, in Triton's interpreter: what is wrong is never chosen, what is right is timed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import rnnc
import rnnc.ops
from rnnc.cli import main
from rnnc.codegen.hardware import SM_90
from rnnc.codegen.resources import Configuration
from rnnc.codegen.tiling import choose
from rnnc.codegen.tiling_record import Measured
from rnnc.device_tuning import DeviceSearch, tune_functions
from rnnc.ops import tuned
from rnnc.ops.triton_tiling import tiled, tiling
from rnnc.probing import Probe

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"loads": ((1, 40),), "length": 40}
AXES = {"K": 16, "V": 32}


def probe(model: str = "linear_attention", dtype: str = "fp32") -> Probe:
    return Probe(getattr(rnnc.ops, model), AXES, dtype, CPU, **SMALL)


@pytest.mark.parametrize("model", ["linear_attention", "gated_delta_net", "gla_signed"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_right_kernels_are_right(model: str, dtype: str) -> None:
    found = probe(model, dtype)
    how = tiled(tiling(found.kernels.available[0], AXES, 4 if dtype == "fp32" else 2, SM_90), SM_90)
    assert found.wrong(how) == ""


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("there", [True, False])
def test_calls_with_and_without_states_are_compared(there: bool) -> None:
    """They run different binaries: each is wrong here by itself."""
    found = probe()
    module, name = found.kernels.available[0], "linear_attention_chunked_scan"
    right = getattr(module, name)

    class Wrong:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda **options: options["HAS_START"] is there or right[grid](**options)

    setattr(module, name, Wrong())
    how = tiled(tiling(module, AXES, 4, SM_90), SM_90)._replace(joined={})
    assert "error nan" in found.wrong(how)


def test_every_kernel_is_timed() -> None:
    found = probe()
    how = tiled(tiling(found.kernels.available[0], AXES, 4, SM_90), SM_90)._replace(joined={})
    times = found.seconds(how)
    assert set(times) == set(found.works)
    assert all(seconds > 0 for seconds in times.values())
    assert set(found.seconds(how, {"linear_attention_chunked_grads"})) == {"linear_attention_chunked_grads"}


def scan_writes(found: Probe) -> str:
    launches = {launch.kernel: launch for launch in found.kernels.available[0].FORWARD}
    return next(
        argument for key, argument, *_ in launches["linear_attention_chunked_scan"].writes if key == "o"
    )


def search(found: Probe, known: Any = None, seconds: float = 1e9) -> Any:
    nothing = {kernel: {} for kernel in found.works}
    return DeviceSearch(found, SM_90, 4, known or nothing, time.monotonic() + seconds).run()


def test_what_is_wrong_is_recorded_and_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnc.device_tuning.CHUNKS", (16,))
    monkeypatch.setattr("rnnc.device_tuning.TRIES", 2)
    found = probe()
    name, output = "linear_attention_chunked_scan", scan_writes(found)
    watched = getattr(found.kernels.available[0], name)
    real = watched.kernel
    first = tiling(found.kernels.available[0], AXES, 4, SM_90, 16).kernels[name].configuration

    class Spoilt:
        """Writes nonsense in the configuration that is tried first."""

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            def launch(**options: Any) -> None:
                real[grid](**options)
                if (options["num_warps"], options["num_stages"]) == (first.warps, first.stages):
                    options[output].mul_(2)

            return launch

    object.__setattr__(watched, "kernel", Spoilt())
    measured = search(found)
    assert measured.done
    scan = measured.kernels[name]
    assert scan[first].wrong
    right = {how: said for how, said in scan.items() if not said.wrong}
    assert right
    assert all(said.seconds for said in right.values())
    assert any(name in reason and "output 'o': error" in reason for reason in measured.reasons)
    for other in set(found.works) - {name}:
        assert not any(said.wrong for said in measured.kernels[other].values())
    choice = choose(found.works, AXES, 4, SM_90, None, measured.kernels)
    assert choice.measured
    assert choice.kernels[name].configuration in right


def test_kernels_as_one_launch_are_compared_before_they_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks beside each other where nothing is kept, and kernels in turn; none that is wrong, or slower."""
    monkeypatch.setattr("rnnc.device_tuning.CHUNKS", (16,))
    monkeypatch.setattr("rnnc.device_tuning.TRIES", 1)
    monkeypatch.setattr("rnnc.device_tuning.spacings", lambda works: (1,))
    found = probe("gla", "fp32")
    module = found.kernels.available[0]
    walks, turns = sorted(module.JOINED, key=lambda joint: not joint.beside)
    watched = getattr(module, turns.kernel)
    real, asked = watched.kernel, []

    class Spoilt:
        """Writes nonsense."""

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            def launch(**options: Any) -> None:
                asked.append(grid)
                real[grid](**options)
                options["dq"].mul_(2)

            return launch

    object.__setattr__(watched, "kernel", Spoilt())
    measured = search(found)
    assert measured.done
    assert asked
    assert {said.wrong for said in measured.kernels[turns.kernel].values()} == {True}
    (right,) = measured.kernels[walks.kernel].values()
    assert right.seconds
    for seconds, chosen in ((1e-30, {walks.kernel}), (1.0, set())):
        known = dict(measured.kernels)
        known[walks.kernel] = dict.fromkeys(known[walks.kernel], right._replace(seconds=seconds))
        assert set(choose(found.works, AXES, 4, SM_90, None, known, module.JOINED).joined) == chosen


def test_a_kernel_that_does_not_run_is_wrong() -> None:
    found = probe()
    watched = found.kernels.available[0].linear_attention_chunked_grads
    object.__setattr__(watched, "kernel", SimpleNamespace())
    how = tiled(tiling(found.kernels.available[0], AXES, 4, SM_90), SM_90)
    assert "TypeError" in found.wrong(how)


def test_without_time_nothing_is_done_and_nothing_lost() -> None:
    measured = search(probe(), seconds=0)
    assert not measured.done
    assert not any(measured.kernels.values())


def test_the_fastest_of_what_was_measured_is_chosen() -> None:
    works = probe().works
    slow, fast, wrong = (Configuration(32, 16, warps, 1) for warps in (4, 8, 16))
    said = {slow: Measured(seconds=2e-9), fast: Measured(seconds=1e-9), wrong: Measured(wrong=True)}
    found = choose(works, AXES, 4, SM_90, None, dict.fromkeys(works, said))
    assert {choice.configuration for choice in found.kernels.values()} == {fast}
    assert found.chunk == 32
    estimate = choose(works, AXES, 4, SM_90)
    bad = {
        kernel: {choice.configuration: Measured(wrong=True)} for kernel, choice in estimate.kernels.items()
    }
    other = choose(works, AXES, 4, SM_90, estimate.chunk, bad)
    assert not other.measured
    for kernel, choice in other.kernels.items():
        assert choice.configuration != estimate.kernels[kernel].configuration


def test_the_table_of_a_device_is_read_and_makes_calls_take_the_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnc.device_tuning.CHUNKS", (32,))
    monkeypatch.setattr("rnnc.device_tuning.TRIES", 1)
    monkeypatch.setenv("RNNC_CACHE_DIR", str(tmp_path))
    hardware = SM_90._replace(device="A Device (1)")
    for module in ("rnnc.device_tuning", "rnnc.ops.triton_choices"):
        monkeypatch.setattr(f"{module}.hardware_of", lambda device: hardware)
    run = list(tune_functions(["linear_attention"], [16], ["fp32"], CPU, time.monotonic() + 1e9, **SMALL))
    assert [(each["done"], each["wrong"]) for each in run] == [(True, 0)]
    table = tmp_path / "measured" / "a_device_1.json"
    assert {entry["device"] for entry in json.loads(table.read_text()).values()} == {"A Device (1)"}
    assert tuned.measured("A Device (1)")
    assert not tuned.measured("another")
    operator = rnnc.compile(rnnc.ops.linear_attention.spec + "\n")
    how = operator.kernels.choices.tiled({"K": 16, "V": 16}, 4, CPU, 1000)
    assert how.validated
    assert how.chunk == 32
    assert not operator.kernels.choices.tiled({"K": 64, "V": 16}, 4, CPU, 1000).validated
    again = list(tune_functions(["linear_attention"], [16], ["fp32"], CPU, time.monotonic() + 1e9, **SMALL))
    assert again[0]["right"] == run[0]["right"]
    assert not again[0]["reasons"]


def test_a_broken_table_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNC_CACHE_DIR", str(tmp_path))
    file = tuned.measured_file("x")
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert tuned.measured("x") == {}


def test_without_a_gpu_there_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        main(["tune", "linear_attention"])
    assert stopped.value.code == 2
    assert "no GPU that torch can use: give --offline" in capsys.readouterr().err
