"""`rnnc equiv`: exit status, what is printed, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from rnnc.cli import app
from rnnc.refusal import Refusal

GLA = """recurrence mine[K, V]:
    input q[K], k[K], v[V]
    input {gate}
    state M[K, V]
    M <- {decay} * M
    M <- M + k @ v.T
    output y[V]
    y <- M.T @ q * K**-0.5
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["equiv", *arguments])


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.rnn"
    path.write_text(GLA.format(gate="g[K] in (-inf, 0]", decay="exp(g)"), encoding="utf-8")
    return str(path)


def test_equal(mine: str) -> None:
    names = ("--rename", "S=M", "--rename", "o=y")
    found = run("gla", mine, *names, "--let", "g=logsigmoid(gk) / 16")
    assert (found.exit_code, found.stdout.splitlines()[0]) == (0, "gla and mine: equal")


def test_different(mine: str) -> None:
    names = ("--rename", "S=M", "--rename", "o=y")
    found = run("gla", mine, *names, "--let", "g=logsigmoid(gk) / 8", "--json")
    record = json.loads(found.stdout)
    assert (found.exit_code, record["verdict"]) == (1, "different")
    assert record["counterexample"]["sizes"] == {"K": 1, "V": 1}
    assert set(record["counterexample"]["values"]) >= {"q", "k", "v", "gk"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "the inputs differ"),
        (("--rename", "S"), "--rename: expected NAME=NAME, got 'S'"),
        (("--rename", "T=M"), "'T' cannot be renamed"),
        (("--let", "g="), "--let: expected NAME=EXPRESSION"),
        (("--let", "x=1"), "--let x: expected an input or parameter of one of the two specs"),
        (("--let", "k=q"), "--let k: both specs have 'k'"),
        (("--let", "g=nothing(gk)"), "equiv: there is no function 'nothing'"),
        (("--let", "g=nothing"), "equiv: 'nothing' is not declared"),
    ],
)
def test_wrong_usage(mine: str, options: tuple[str, ...], said: str) -> None:
    found = run("gla", mine, *options)
    assert isinstance(found.exception, Refusal)
    assert found.exception.status == 2
    assert said in str(found.exception)
