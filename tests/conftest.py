"""What all tests share: goldens, and the option that writes them anew."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

# Read when triton is first imported: kernels run in its interpreter, unless a run for a GPU says 0.
os.environ.setdefault("TRITON_INTERPRET", "1")

with suppress(ImportError):  # a machine with a GPU may be without it
    from hypothesis import HealthCheck, settings

    # Whether examples are drawn quickly says how busy the machine is.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the goldens anew instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a text with the file that holds it; with --update-golden, writes the file."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path} is missing: run with --update-golden and read what it writes"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(autouse=True, scope="session")
def own_interpreter() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Kernels are interpreted with less to do for every operation (see `quick_interpreter.py`).

    The value makes contexts in which Triton's own interpreter is as it was.
    """
    path = Path(__file__).with_name("quick_interpreter.py")
    spec = importlib.util.spec_from_file_location("quick_interpreter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    interpreted = "triton.runtime.interpreter" in sys.modules  # else no kernel is launched
    with pytest.MonkeyPatch.context() as patch:

        @contextmanager
        def original() -> Iterator[None]:
            patch.undo()
            yield
            module.quicken(patch)

        if interpreted:
            module.quicken(patch)
        yield original


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """New arrays of torch are full of NaN."""
    torch = pytest.importorskip("torch")

    def poison(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **options: Any) -> Any:
            x = make(*args, **options)
            return x.fill_(torch.nan) if x.is_floating_point() else x

        return made

    monkeypatch.setattr(torch, "empty", poison(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poison(torch.empty_like))


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled modules of a test module stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
