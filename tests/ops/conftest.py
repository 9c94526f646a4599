"""What the tests of this folder share."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def stand_in() -> ModuleType:
    """A recurrence and a generated module, both made by hand: see `stand_in.py`."""
    spec = importlib.util.spec_from_file_location("stand_in", Path(__file__).with_name("stand_in.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["stand_in"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled modules of a test run stay out of the user's cache; what one worker compiled all have."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    monkeypatch.setenv("RNNC_CACHE_DIR", str(folder / "cache"))


@pytest.fixture
def folder(private_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the modules of a cache of the test's own lie, which has warned of nothing yet."""
    from rnnc.ops import cache

    monkeypatch.setenv("RNNC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path / "cache" / "modules"
