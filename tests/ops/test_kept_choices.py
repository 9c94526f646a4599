"""How kernels run is chosen once: another process finds it on disk, and nobody takes what is not its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

import rnnc
import rnnc.ops
from rnnc.codegen.hardware import SM_80, SM_90
from rnnc.codegen.tiling_record import TooLarge
from rnnc.measurement import draw
from rnnc.ops import cache, kept_choices, triton_choices, tuned
from rnnc.ops.arguments import Sizes
from rnnc.ops.operator import Operator

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("folder")

CHOOSING = ("tiling", "map_choices", "forward_alone")


def again() -> Operator:
    """An operator as another process has it: with nothing in memory."""
    return rnnc.compile(rnnc.ops.linear_attention.spec)


def choose(operator: Operator) -> tuple[Any, ...]:
    """Everything that is chosen for a call: with gradients, in stretches, without."""
    choices, sizes = operator.kernels.choices, dict.fromkeys(operator.recurrence.axes, 40)
    device = torch.device("cpu")
    how = choices.tiled(sizes, 2, device, 8192)
    inputs = draw(operator.recurrence, Sizes(1, 8192, 1, sizes), torch.bfloat16, "cpu")
    bound = operator.signature.bind(inputs, {}, (), time=True)
    return how, choices.split(bound, 8192, True, how), choices.alone(sizes, 2, device, 8192, how)


def never(*_: object) -> NoReturn:
    raise AssertionError("chosen again")


@pytest.fixture
def no_choosing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on nothing is chosen anew."""

    def forbid() -> None:
        for name in CHOOSING:
            monkeypatch.setattr(triton_choices, name, never)

    return forbid


def test_another_process_chooses_nothing(no_choosing: Callable[[], None]) -> None:
    first = choose(again())
    no_choosing()
    assert choose(again()) == first
    assert first[1].parts > 1


@pytest.mark.parametrize("damage", [b"", b"CHOSEN = None\n"])
def test_a_damaged_choice_is_made_again(folder: Path, damage: bytes) -> None:
    first = choose(again())
    files = {file: file.read_bytes() for file in folder.glob("choice_*")}
    assert len(files) == 4
    for file in files:
        file.write_bytes(damage)
    assert choose(again()) == first
    assert {file: file.read_bytes() for file in folder.glob("choice_*")} == files


def test_without_a_cache_choices_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = choose(again())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RNNC_CACHE_DIR", str(tmp_path / "file" / "below"))
    with pytest.warns(RuntimeWarning, match="cannot be used"):
        assert choose(again()) == first


def test_a_choice_is_found_by_all_that_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []

    def kept(text: str = "text", given: tuple[object, ...] = (1,), hardware: Any = SM_90) -> int:
        return kept_choices.kept(text, given, hardware, lambda: chosen.append(1) or len(chosen))

    assert kept() == kept() == 1
    assert kept(text="another") == 2
    assert kept(given=(2,)) == 3
    assert kept(hardware=SM_80) == 4
    assert kept(hardware=SM_90._replace(processors=78)) == 5
    for number, (module, name) in enumerate(((tuned, "digest"), (tuned, "triton_version"))):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *_: "another")
            assert kept() == 6 + number
    with monkeypatch.context() as patch:
        patch.setattr(cache, "digest", lambda *_: "another")
        assert kept() == 8
    assert kept() == 1


def test_the_entries_of_a_device_are_part_of_the_digest() -> None:
    device = SM_90._replace(device="A Device")
    before = tuned.digest(device)
    file = tuned.measured_file("A Device")
    file.parent.mkdir(parents=True)
    file.write_text("{}\n", encoding="utf-8")
    assert tuned.digest(device) != before
    assert tuned.digest(SM_90) == before != tuned.digest(SM_80)


def test_that_nothing_fits_is_kept_too() -> None:
    def none() -> NoReturn:
        raise TooLarge("chunks of 16 tokens do not fit 'it'")

    for choice in (none, never):
        with pytest.raises(TooLarge, match=r"do not fit 'it'$"):
            kept_choices.kept("text", (), SM_90, choice)
