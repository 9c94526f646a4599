"""The command line: what it prints, its exit status, and that wrong input ends in a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from rnnc import cli, commands_models
from rnnc.codegen import regenerate
from rnnc.commands_models import SKELETON
from rnnc.files import builtin_specs, write_text
from rnnc.refusal import Refusal

SPEC = SKELETON.format(name="trial")


def rnnc(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    code = exit_.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "trial.rnn"
    path.write_text(SPEC, encoding="utf-8")
    return path


@pytest.mark.smoke
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = rnnc(capsys, command, "--help")
    assert status == 0
    assert f"Usage: rnnc {command}" in out


@pytest.mark.smoke
def test_check(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = rnnc(capsys, "check", str(spec))
    assert (status, err) == (0, "")
    assert "trial" in out
    assert "alpha" in out


def test_check_json(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = rnnc(capsys, "check", str(spec), "--json")
    record = json.loads(out)
    assert (status, record["ok"], record["name"], record["diagnostics"]) == (0, True, "trial", [])
    assert record["ranges"]["beta"]["from"] == "inferred"


@pytest.mark.smoke
def test_check_of_a_wrong_spec(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec.write_text(SPEC.replace("beta * u @ (u.T", "bta * u @ (u.T"), encoding="utf-8")
    status, out, err = rnnc(capsys, "check", str(spec))
    assert (status, out) == (1, "")
    assert f"{spec}:15:23: error[unknown-name]: 'bta' is not declared" in err
    status, out, _ = rnnc(capsys, "check", str(spec), "--json")
    assert status == 1
    assert [finding["code"] for finding in json.loads(out)["diagnostics"]][:1] == ["unknown-name"]


def test_explain_and_prove(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = rnnc(capsys, "explain", str(spec))
    assert status == 0
    assert "S" in out
    status, out, _ = rnnc(capsys, "prove", str(spec))
    assert status == 0
    assert out
    status, out, _ = rnnc(capsys, "prove", str(spec), "--json")
    assert json.loads(out)["proven"] is True


def test_property_tests(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = rnnc(capsys, "test", str(spec), "-n", "2")
    assert status == 0
    assert "2 cases" in out
    status, out, _ = rnnc(capsys, "test", str(spec), "-n", "1", "--seed", "5", "--json")
    assert json.loads(out)["passed"] is True


def test_compiled_file_needs_only_torch(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = spec.with_name("module.py")
    status, _, err = rnnc(capsys, "compile", str(spec), "-o", str(target))
    assert status == 0
    assert str(target) in err
    program = "import sys; sys.modules['rnnc'] = sys.modules['triton'] = None; import module"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=target.parent)


def test_compile_leaves_no_half_written_file(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnc.codegen.standalone.standalone", lambda compiled: f"# {compiled}\n")
    for target in (spec.parent, spec.parent / "absent" / "module.py", Path(os.devnull), spec / "module.py"):
        status, _, err = rnnc(capsys, "compile", str(spec), "-o", str(target))
        assert status == 2
        assert err.startswith("rnnc: ")
    assert [path.name for path in spec.parent.iterdir()] == ["trial.rnn"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "module.py"
    target.write_text("old", encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(Refusal, match="no space left"):
        write_text(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["module.py"]
    assert target.read_text(encoding="utf-8") == "old"


BAD_TEXTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n\n   \n",
    "binary": bytes(range(256)) * 4,
    "null": b"recurrence\0x",
    "ten megabytes": b"# a comment\n" * 900_000,
    "nested": b"recurrence x[K]:\n    let a = " + b"(" * 5000 + b"1" + b")" * 5000,
    "keyword": b"recurrence class[K, V]:\n    input import[K]\n",
    "file": SPEC.replace("sigmoid(b)", "open('/etc/passwd')").encode(),
    "foreign function": SPEC.replace("sigmoid(b)", "__import__(b)").encode(),
    "power tower": SPEC.replace("sigmoid(b)", "9**9**9**9 * sigmoid(b)").encode(),
    "unfinished": SPEC[:400].encode(),
}


@pytest.mark.smoke
@pytest.mark.parametrize("kind", BAD_TEXTS)
def test_bad_specs_fail(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.rnn"
    path.write_bytes(BAD_TEXTS[kind])
    status, out, err = rnnc(capsys, "check", str(path))
    assert (status, out) == (1, "")
    assert err.startswith(f"{path}:")
    assert ": error[" in err.splitlines()[0]
    status, out, _ = rnnc(capsys, "check", "--json", str(path))
    assert status == 1
    assert json.loads(out)["ok"] is False


@pytest.mark.smoke
@pytest.mark.parametrize("command", ["check", "explain", "prove", "test"])
@pytest.mark.parametrize("name", ["absent.rnn", ".", "", "a\0b", "x" * 5000])
def test_bad_paths_are_wrong_usage(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = rnnc(capsys, command, name)
    assert (status, out) == (2, "")
    assert err.startswith("rnnc: ")


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("name", "meant"),
    [("mine", "mine.rnn"), ("mien.rnn", "mine.rnn"), ("gated_delta", "gated_delta_net"), ("gla.rnn", "gla")],
)
def test_what_may_have_been_meant(
    name: str,
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.rnn").touch()
    _, _, err = rnnc(capsys, "check", name)
    assert err == f"rnnc: {name}: no such file, nor a built-in model; did you mean '{meant}'?\n"


@pytest.mark.smoke
def test_the_list_of_commands_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = rnnc(capsys, "--help")
    assert status == 0
    assert "..." not in out.partition("Commands:")[2]
    assert "the backward pass is the derivative" in " ".join(out.split())


@pytest.mark.smoke
def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["chek"],
        ["check"],
        ["check", "--wrong", "x"],
        ["test", "x.rnn", "-n", "0"],
        ["compile", "x"],
    ):
        assert rnnc(capsys, *arguments)[0] == 2


def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("B=1", "T=9", "H=1", "K=4", "V=4")
    status, out, _ = rnnc(capsys, "bench", "gla", *sizes, "--json")
    assert status == 0
    rows = {row["name"]: row for row in json.loads(out)["rows"]}
    for name in ("rnnc, torch", "naive loop"):
        assert rows[name]["forward_ms"] > 0
        assert rows[name]["both_ms"] > 0
        assert rows[name]["error"] < 1e-5
    (peer,) = (row for name, row in rows.items() if name.startswith("fla-core"))
    assert peer["forward_ms"] is None
    assert peer["note"]
    for wrong in (("X=1",), ("T=0",), ("T",), ("--dtype", "fp8")):
        assert rnnc(capsys, "bench", "gla", *wrong)[0] == 2


def test_cost(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("B=1", "T=128", "H=2", "K=32", "V=32")
    status, out, _ = rnnc(capsys, "cost", "linear_attention", *sizes)
    assert status == 0
    assert "forward" in out
    status, out, _ = rnnc(capsys, "cost", "linear_attention", *sizes, "--dtype", "fp32", "--json")
    assert json.loads(out)["backward"]["launches"] == 2
    for wrong in (
        sizes[:-1],
        (*sizes, "X=1"),
        (*sizes[:-1], "V=0"),
        (*sizes[:-1], "V=x"),
        (*sizes, "dtype=1"),
        (*sizes, "B=2"),
        (*sizes, "--chunk", "100"),
    ):
        status, _, err = rnnc(capsys, "cost", "linear_attention", *wrong)
        assert status == 2
        assert err.startswith("rnnc: cost: ")
        assert "V=x" not in wrong or err.endswith("got 'V=x'\n")
        assert "B=2" not in wrong or err.endswith("B is given twice\n")
        assert "100" not in wrong or err.endswith("chunk: expected a power of two, got 100\n")


@pytest.mark.smoke
def test_explain_refuses_an_architecture_first(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = rnnc(capsys, "explain", "gla", "--arch", "sm_1")
    assert (status, out) == (2, "")
    assert err.startswith("rnnc: explain: --arch: expected sm_80, ")


@pytest.mark.smoke
@pytest.mark.parametrize("command", [("check",), ("prove",), ("test",), ("cost", "B=1"), ("equiv", "gla")])
def test_a_wrong_spec_as_json(
    command: tuple[str, ...], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text(SPEC.replace("let beta ", "let bta "), encoding="utf-8")
    first, *rest = command
    status, out, _ = rnnc(capsys, first, str(spec), *rest, "--json")
    record = json.loads(out)
    assert (status, record["ok"], record["path"]) == (1, False, str(spec))
    assert {found["code"] for found in record["diagnostics"]} >= {"unknown-name"}


@pytest.mark.smoke
def test_the_demo_names_a_folder_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    status, out, err = rnnc(capsys, "demo", "-o", str(tmp_path / "file" / "folder"))
    assert (status, out) == (2, "")
    assert "cannot be made: not a directory" in err


def test_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert rnnc(capsys, "new", "mine")[0] == 0
    assert rnnc(capsys, "check", "mine.rnn")[::2] == (0, "")
    assert rnnc(capsys, "new", "mine")[0] == 2
    for name in ("class", "a b", "../mine", "9lives"):
        assert rnnc(capsys, "new", name)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.rnn"]


def test_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_models, "analyse_file", cache(commands_models.analyse_file))
    status, out, _ = rnnc(capsys, "list")
    assert status == 0
    assert all(name in out for name in builtin_specs())
    records = json.loads(rnnc(capsys, "list", "--json")[1])
    assert [record["name"] for record in records] == list(builtin_specs())
    assert all(record["ok"] for record in records)


def test_generated_modules_that_differ_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they do is what the tests of the compiler look at."""
    folder = builtin_specs()["gla"].parent / "generated"
    texts = {name: (folder / f"{name}.py").read_text("utf-8") for name in builtin_specs()}
    monkeypatch.setattr(regenerate, "generated_text", lambda name: texts[name])
    assert rnnc(capsys, "regenerate", "--check")[::2] == (0, "all generated modules are up to date\n")
    texts["gla"] += "\n"
    status, _, err = rnnc(capsys, "regenerate", "--check")
    assert (status, err) == (1, "gla: differ from what their specs give\n")


def test_module_and_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rnnc", "check", "-"], input=SPEC, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_output_that_is_full() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rnnc", "check", "gla"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "rnnc: the output cannot be written: no space left on device\n",
    )
