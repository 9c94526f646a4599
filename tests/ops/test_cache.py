"""The cache is private, atomic, self-healing, and never in the way."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import pytest

from rnnc.ops import cache

pytestmark = pytest.mark.usefixtures("folder")
TEXT = "VALUE = 42\n\n\ndef fail():\n    raise RuntimeError(VALUE)\n"


def never() -> str:
    raise AssertionError("printed again")


def test_is_found_again(folder):
    module, source = cache.load("m", "spec", lambda: TEXT)
    again, _ = cache.load("m", "spec", never)
    assert module.VALUE == again.VALUE == 42
    assert source == TEXT
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cache.load("m", "another spec", lambda: "VALUE = 1\n")[0].VALUE == 1


def test_tracebacks_show_the_source():
    module, _ = cache.load("m", "spec", lambda: TEXT)
    try:
        module.fail()
    except RuntimeError:
        assert "raise RuntimeError(VALUE)" in traceback.format_exc()


@pytest.mark.parametrize("damage", [b"", b"VALUE = 13\n", b"\xff\x00", TEXT.encode()])
def test_a_damaged_file_is_replaced(folder, damage):
    cache.load("m", "spec", lambda: TEXT)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    assert cache.load("m", "spec", lambda: TEXT)[0].VALUE == 42
    assert file.read_bytes() == whole


def test_files_of_others_are_not_executed(folder, monkeypatch):
    cache.load("m", "spec", lambda: "VALUE = 13\n")
    (file,) = folder.iterdir()
    file.chmod(0o622)  # anyone could have written it
    assert cache.load("m", "spec", lambda: TEXT)[0].VALUE == 42
    if hasattr(os, "getuid"):
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        with pytest.warns(RuntimeWarning, match="owned by another user"):
            assert cache.load("m", "spec", lambda: "VALUE = 7\n")[0].VALUE == 7


def test_a_loose_directory_is_closed(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    cache.load("m", "spec", lambda: TEXT)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_directory_at_all(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RNNC_CACHE_DIR", str(tmp_path / "file" / "below"))
    with pytest.warns(RuntimeWarning, match=r"below/modules cannot be used \(Not a directory\)") as caught:
        assert cache.load("m", "spec", lambda: TEXT)[0].VALUE == 42
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert cache.load("m", "spec", lambda: TEXT)[0].VALUE == 42


def test_a_full_disk_leaves_nothing_half_written(folder, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert cache.load("m", "spec", lambda: TEXT)[0].VALUE == 42
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory(folder):
    folder.mkdir(parents=True, mode=0o500)
    with pytest.warns(RuntimeWarning, match="Permission denied"):
        assert cache.load("m", "spec", lambda: TEXT)[0].VALUE == 42


def test_two_processes_at_once(folder):
    program = (
        "import time; from rnnc.ops import cache\n"
        "def slow():\n    time.sleep(0.3)\n    return 'VALUE = 42\\n' * 20000\n"
        "for n in range(3): assert cache.load('m', f'spec {n}', slow)[0].VALUE == 42\n"
    )
    running = [subprocess.Popen([sys.executable, "-W", "error", "-c", program]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert len(list(folder.iterdir())) == 3


def test_the_key_covers_the_compiler(folder, monkeypatch):
    cache.load("m", "spec", lambda: TEXT)
    monkeypatch.setattr(cache, "compiler_digest", lambda: "another compiler")
    assert cache.load("m", "spec", lambda: "VALUE = 1\n")[0].VALUE == 1


def test_directory(monkeypatch):
    assert cache.directory().name == "modules"
    monkeypatch.delenv("RNNC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.directory() == Path("/somewhere/rnnc/modules")
