"""What values are called in generated text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import rnnc
from rnnc.codegen.compiler import Spec, compile_text
from rnnc.codegen.triton_module import triton_source

SPECS = sorted((Path(rnnc.__file__).parents[1] / "ops").glob("*.rnn"))
TAKEN = """recurrence taken[K, V]:
    input q[K], k[K], v[V], G, P, A, U, D
    let inv = sigmoid(G)
    let rnorm_k = sigmoid(P) * sigmoid(A) * sigmoid(U) * sigmoid(D)
    state S[K, V]
    output o[V], o_rows[V], S_new[V]
    S <- inv * (S - rnorm_k * unit(k) @ (unit(k).T @ S)) + k @ v.T
    o <- S.T @ q
    o_rows <- 2 * v
    S_new <- 3 * v
"""


def kernels(text: str) -> dict[str, str]:
    """The text of each kernel of a module."""
    parts = re.split(r"^@triton\.jit.*\ndef (\w+)\(", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_words_and_equations(
    path: Path, analysed: Callable[[Path], Spec], printed: Callable[[Path], tuple[str, ...]]
) -> None:
    """No value is a number only, every kernel says what it is for, and equations stand above lines."""
    for name, text in (found for source in printed(path) for found in kernels(source).items()):
        assert not re.search(r"\bb_\d", text), name
        assert '"""' in text, name
        equations = re.findall(r"^ +# (\w+) ([-+]?|max)= (.+)$", text, flags=re.MULTILINE)
        assert equations or calls_others(text) or name.endswith("_transition"), name  # one product alone
        assert all(len(right) < 110 and right.count("(") == right.count(")") for _, _, right in equations)
        made = set(re.findall(r"\bb_(\w+) (?:[-+]?=|= tl.maximum)", text))
        assert {left for left, _, _ in equations} <= made, name
    assert not re.search(r"\bx\d+\b", analysed(path).source)


def calls_others(text: str) -> bool:
    """Whether a kernel is two others in one launch: it computes nothing itself."""
    return len(re.findall(r"^ +\w+_chunked_\w+\($", text, flags=re.MULTILINE)) == 2


def test_names_of_the_field(printed: Callable[[Path], tuple[str, ...]]) -> None:
    (text,) = printed(next(path for path in SPECS if path.stem == "gated_delta_net"))
    found = kernels(text)
    scan = found["gated_delta_net_chunked_scan"]
    for equation in ("G = 2^(sum(log2_D[t], t <= i))", "U = inv (v - rnorm_k * G * kS)"):
        assert f"# {equation}\n" in scan
    steps = found["gated_delta_net_recurrent_steps"]
    for equation in (
        "q_ = K^-0.5 * 1/|q| * q",
        "f = -alpha * rnorm_k * k",
        "u_ = v + S^T f",
        "o = S_new^T q_",
    ):
        assert f"# {equation}\n" in steps


def test_names_of_the_user_stay_theirs() -> None:
    """Inputs and lets keep theirs where the compiler has others of the same name."""
    compiled = compile_text(TAKEN)
    for text in (triton_source(compiled), compiled.source):
        compile(text, "<generated>", "exec")
    pre = kernels(triton_source(compiled))["taken_chunked_pre"]
    assert re.search(r"\bb_P_ = ", pre)
    assert "b_G = tl.load(G " in pre
    assert "def chunked_forward" in compiled.source
