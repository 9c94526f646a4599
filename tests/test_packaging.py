"""The wheel holds every folder and resource, and works from where it lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
RESOURCES = (".lark", ".jinja", ".h", ".rnn", ".json")


def sources(suffixes: tuple[str, ...]) -> dict[str, str]:
    """Path in the wheel -> path in the repository, of the files that belong in a wheel."""
    return {
        f"{package.replace('.', '/')}/{path.name}": str(path.relative_to(ROOT))
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder).iterdir()
        if path.suffix in suffixes
    }


@pytest.mark.smoke
def test_every_folder_is_listed() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == set(PACKAGES)
    tops = {Path(folder).parts[0] for folder in PACKAGES.values()}
    found = {
        str(path.parent.relative_to(ROOT))
        for top in tops
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", *RESOURCES)
    }
    assert found == set(PACKAGES.values())
    assert all((ROOT / folder / "__init__.py").is_file() for folder in PACKAGES.values())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the unpacked wheel, built from a copy: building leaves files behind."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("out")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for top in {Path(folder).parts[0] for folder in PACKAGES.values()}:
        shutil.copytree(ROOT / top, copy / top, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    zipfile.ZipFile(built).extractall(out / "unpacked")
    return out / "unpacked"


def test_wheel_is_complete(wheel: Path) -> None:
    missing = [path for path in sources((".py", ".typed", *RESOURCES)) if not (wheel / path).is_file()]
    assert not missing


def test_wheel_works(wheel: Path, tmp_path: Path) -> None:
    program = "import rnnc.cli; print(rnnc.__file__); rnnc.cli.main(['check', 'gated_delta_net'])"
    environment = os.environ | {"PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(wheel))
