"""What all tests share: goldens, and the option that writes them anew."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# Read when triton is first imported: kernels run in its interpreter, unless a run for a GPU says 0.
os.environ.setdefault("TRITON_INTERPRET", "1")

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
def patched_once() -> Iterator[None]:
    """Triton's interpreter puts its own functions in the place of the language's for every launch, and then
    again, to no effect, for every call of one kernel function by another: a third of a launch's time.
    """
    interpreter = sys.modules.get("triton.runtime.interpreter")
    if not hasattr(interpreter, "_LangPatchScope"):  # not imported, or another version
        yield
        return
    from triton import language

    patch = interpreter._patch_lang

    @cache
    def modules(function: Callable[..., Any]) -> list[Any]:
        values = function.__globals__.values()
        return [x for x in (language, language.core) if any(x is value for value in values)]

    def once(function: Callable[..., Any]) -> Any:
        replaced = not any(language.core.is_builtin(module.load) for module in modules(function))
        return interpreter._LangPatchScope() if replaced else patch(function)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(interpreter, "_patch_lang", once)
        yield


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
