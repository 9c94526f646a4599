"""What the README shows is what there is: spec, mistake, code, commands, files, the table of built-ins."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import rnnc.ops
from rnnc import cli
from rnnc.analysis import analyse_file
from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.parser import parse
from rnnc.files import builtin_specs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
SPEC = BLOCKS[0]


def table(first: str) -> list[list[str]]:
    """The rows of the table whose header begins with `first`."""
    lines = README[README.index(f"\n| {first} |") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.smoke
def test_the_spec_is_the_built_in_one_but_for_its_docstring() -> None:
    shown, kept = parse(SPEC), parse(builtin_specs()["gated_delta_net"].read_text("utf-8"))
    assert replace(shown, doc=kept.doc) == kept


@pytest.mark.smoke
def test_the_mistake_is_answered_as_shown() -> None:
    (shown,) = (block for block in BLOCKS if "error[" in block)
    with pytest.raises(SpecError) as caught:
        check(parse(SPEC.replace("(I - beta", "(I - bta"), "mine.rnn"))
    assert f"{caught.value}\n" == shown


@pytest.mark.smoke
def test_every_command_is_listed() -> None:
    assert {row[0].strip("`").split()[1] for row in table("command")} == set(cli.COMMANDS)


@pytest.mark.smoke
def test_every_file_that_is_named_exists() -> None:
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert links
    assert [name for name in links if not (ROOT / name).exists()] == []


def test_the_table_says_what_the_compiler_finds() -> None:
    rows = {row[0].strip("`"): row[1:] for row in table("model")}
    assert set(rows) == set(builtin_specs())
    for name, path in builtin_specs().items():
        facts = analyse_file(str(path), over_time=False).facts
        if "eigenvalues" in facts:  # one stage
            assert rows[name][2] == eigenvalues(facts["eigenvalues"]), name


def eigenvalues(fact: str) -> str:
    """As the table puts it: an interval, with three decimals."""
    for long, short in (("no bound was found", "no bound"), ("real, ", ""), ("in ", ""), ("of ", "")):
        fact = fact.replace(long, short)
    fact = re.sub(r"\d\.\d{4,}", lambda number: f"{float(number[0]):.3f}", fact)
    return fact.replace("[1, 1]", "1")


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gated_delta_net.rnn").write_text(SPEC, encoding="utf-8")
    B, T, H, K, V = 2, 70, 2, 8, 4
    scope = {name: torch.randn(B, T, H, size) for name, size in {"q": K, "k": K, "v": V}.items()}
    scope |= {name: torch.randn(B, T, H) for name in "ab"}
    scope |= {f"{name}1": value[:, 0] for name, value in scope.items()}
    scope |= {name: torch.rand(H) for name in ("A_log", "dt_bias")}
    (code,) = (block for block in BLOCKS if "import torch" in block)
    exec(code, scope)
    torch.testing.assert_close(
        scope["o"], scope["gdn"](*(scope[name] for name in scope["gdn"].signature.names))[0]
    )
    assert scope["gated_delta_net"] is rnnc.ops.gated_delta_net
