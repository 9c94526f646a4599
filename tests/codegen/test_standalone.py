"""Standalone files: alone with only torch and triton, equal to the operator, holes all filled."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2.meta
import pytest
import torch

import rnnc.ops
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.layer_printer import LayerText
from rnnc.codegen.scalars import scalar
from rnnc.codegen.standalone import StandaloneText, standalone
from rnnc.codegen.steps_holes import StepsBackContext, StepsContext
from rnnc.codegen.templating import environment
from rnnc.dsl.expression import Add, Call, Constant, Multiply, Power, Size
from rnnc.ops import builtin_names, cache
from rnnc.ops.random_cases import Case, draw_arguments
from rnnc.ops.trial import cotangent, draw_trial

FOLDER = Path(str(rnnc.ops.__file__)).parent
AWKWARD = r'''
recurrence apply[K, V]:
    'Three quotes """, a backslash \, {{ braces }} and a quote "'

    input q[K], k[K], v[V], form
    param scale = K**-0.5
    param shift[V] shared ~ normal(0, 1)
    param S0[K, V]

    state S[K, V] = S0
    S <- sigmoid(form) * S + k @ v.T

    output tiles[V]
    tiles <- scale * S.T @ q + shift

    layer:
        q, k, v, form = linear(x)
        y = linear(tiles)
'''

LEFT_OUT = """recurrence left_out[K, V]:
    input q[K]
    input scale = K**-0.5
    input k[K], v[V]
    state S[K, V]
    S <- S + k @ v.T
    output o[V]
    o <- scale * S.T @ q
    layer:
        q, k, v = linear(x)
        y = linear(o)
"""

# Delays, stages, a state of one axis, states that mix, micro-steps, a default, a learned start, a layer.
EVERYTHING = """recurrence everything[n, K, V]:
    input q[K], z[V]
    input k[n, K], v[n, V]
    input a, f
    param scale = K**-0.5
    param h0[K] ~ normal(0, 1)
    let u = unit(q)
    state h[K] = h0
    state S[K, V], M[K, V]
    h <- sigmoid(f) * h + prev(u) * sigmoid(prev(f))
    M <- sigmoid(a) * M - 0.1 * u @ (z - S.T @ tanh(h)).T
    S <- 0.9 * S + M
    output w[V], o[V]
    w <- S.T @ delay(u, 2) + prev(z)
    state P[K, V]
    P <- sigmoid(prev(a)) * P
    for i in n:
        let y = unit(k[i])
        P <- P + y @ (v[i] - P.T @ y).T
    o <- P.T @ u * scale

    layer:
        q, z, k, v = silu(linear(x))
        a, f = linear(x)
        y = linear(o + w)
"""
ALONE = {"everything": EVERYTHING, "gsa": "gsa"}


def text_of(name: str) -> str:
    return standalone(compile_text((FOLDER / f"{name}.rnn").read_text("utf-8"), f"{name}.rnn"))


def execute(name: str, text: str) -> ModuleType:
    """The module, its lines known to those who look for them (the kernels' decorator does)."""
    return cache.execute(name, text, f"<{name}>")


@pytest.fixture(scope="module")
def build() -> Callable[[str], ModuleType]:
    return lambda name: execute(f"alone_{name}", text_of(name))


def test_imports_only_torch_and_the_standard_library() -> None:
    imported = set()
    for node in ast.walk(ast.parse(text_of("gated_delta_net"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"torch", "triton"}


RUN_KERNELS = """
import sys, torch
blocked = sys.argv[1].split(",")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from my_layer import gated_delta_net, gated_delta_net_step
vectors = [torch.randn(2, 37, 2, 5) for _ in range(3)]
given = [*vectors, torch.randn(2, 37, 2), torch.randn(2, 37, 2), torch.rand(2), torch.rand(2) - 3]
results = []
for options in ({"backend": "torch"}, {"form": "chunked"}, {"form": "recurrent"}):
    leaves = [x.clone().requires_grad_() for x in given]
    call = {"backend": "triton", "output_final_state": True} | options
    o, state = gated_delta_net(*leaves, **call)
    results.append([o, state, *torch.autograd.grad(o.sin().sum() + state.sin().sum(), leaves)])
for other in results[1:]:
    for one, two in zip(results[0], other, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
token = [x[:, 0] for x in given[:5]] + given[5:]
steps = [gated_delta_net_step(*token, backend=backend) for backend in ("torch", "triton")]
for one, two in zip(*steps, strict=True):
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
print("equal")
"""


@pytest.mark.parametrize("triton", [True, False])
def test_kernels_run_alone(tmp_path: Path, triton: bool) -> None:
    """With nothing of this package; and without triton, where they say that it is not there."""
    if triton:
        pytest.importorskip("triton")
    (tmp_path / "my_layer.py").write_text(text_of("gated_delta_net"), "utf-8")
    (tmp_path / "run.py").write_text(RUN_KERNELS, "utf-8")
    blocked = "rnnc,lark,jinja2,rich,typer" + ("" if triton else ",triton")
    command = [sys.executable, "run.py", blocked]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    if triton:
        assert done.stdout == "equal\n", done.stderr
    else:
        assert "triton is not installed: use backend='torch'" in done.stderr


@pytest.mark.parametrize("name", ["gated_oja", "gsa", "preconditioned_delta"])
def test_is_imported_without_triton(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the functions are that the kernels of a spec call."""
    text, given = text_of(name), getattr(rnnc.ops, name).recurrence.inputs
    monkeypatch.setitem(sys.modules, "triton", None)
    function = getattr(execute(f"alone_{name}", text), name)
    arguments = [torch.ones(1, 2, 1, *(3 for _ in each.axes)) for each in given]
    assert function(*arguments)[0].shape == (1, 2, 1, 3)
    with pytest.raises(NotImplementedError, match="triton is not installed: use backend='torch'"):
        function(*arguments, backend="triton")


RUN_ALL = """
import importlib, sys, torch
blocked = ["rnnc", "lark", "jinja2", "rich", "typer"]
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
for name, calls in torch.load("calls.pt").items():
    function = getattr(importlib.import_module(name), name)
    for arguments, states, options, cotangents, expected in calls:
        for x in (*arguments, *states):
            x.requires_grad_()
        start = states[0] if len(states) == 1 else states
        for how in ({"backend": "torch", "form": "parallel"}, {"backend": "triton"}):
            out, final = function(*arguments, initial_state=start, output_final_state=True, **options, **how)
            parts = [(x,) if isinstance(x, torch.Tensor) else x for x in (out, final)]
            found = [x for part in parts for x in part]
            total = sum((x * c).sum() for x, c in zip(found, cotangents, strict=True))
            leaves = [*arguments, *states]
            found += torch.autograd.grad(total, leaves, materialize_grads=True, allow_unused=True)
            for number, (one, two) in enumerate(zip(found, expected, strict=True)):
                torch.testing.assert_close(
                    one, two, rtol=1e-3, atol=1e-4, msg=lambda m: f"{name} {how} {number}: {m}"
                )
print("equal")
"""


def test_what_has_everything_runs_alone(tmp_path: Path) -> None:
    """Every form and back end in a file of its own, against the token loop of the package: with gradients."""
    pytest.importorskip("triton")
    calls: dict[str, Any] = {}
    for name, text in ALONE.items():
        text = text if "\n" in text else (FOLDER / f"{text}.rnn").read_text("utf-8")
        (tmp_path / f"{name}.py").write_text(standalone(compile_text(text)), "utf-8")
        op = rnnc.compile(text)
        for lengths, packed in (((5, 5), False), ((0, 4, 1), True)):
            sizes = dict.fromkeys(op.recurrence.axes, 3) | {"n": 2}
            case = Case(3, lengths, packed, 2, sizes, {}, True, packed, 16)
            trial = draw_trial(op, case).to(torch.float32)
            options = {"cu_seqlens": case.cu_seqlens, "reverse": packed}
            expected = list(trial.expected.values())
            count = len(op.recurrence.outputs) + len(trial.states)
            cotangents = [cotangent(x, number) for number, x in enumerate(expected[:count])]
            record = (list(trial.arguments), list(trial.states), options, cotangents, expected)
            calls.setdefault(name, []).append(record)
    torch.save(calls, tmp_path / "calls.pt")
    (tmp_path / "run.py").write_text(RUN_ALL, "utf-8")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "equal\n", done.stderr


def test_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "my_layer.py").write_text(text_of("gated_delta_net"), "utf-8")
    script = """
import sys, torch
sys.modules["rnnc"] = None
from my_layer import GatedDeltaNetLayer
layer = GatedDeltaNetLayer(d_model=16, num_heads=2)
y, state = layer(torch.randn(2, 9, 16), return_state=True)
y.square().sum().backward()
with torch.no_grad():
    y, state = layer(torch.randn(2, 1, 16), state=state, return_state=True)
print(list(y.shape), list(state.recurrence.shape), layer.q_linear.weight.grad.isfinite().all().item())
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[2, 1, 16] [2, 2, 8, 8] True\n", "")


@pytest.mark.parametrize("name", builtin_names())
def test_layer_equals_the_layer_of_the_package(name: str, build: Callable[[str], ModuleType]) -> None:
    operator = getattr(rnnc.ops, name)
    torch.manual_seed(0)
    layer = operator.Layer(d_model=12, num_heads=2)
    other = getattr(build(name), operator.Layer.__name__)(d_model=12, num_heads=2)
    other.load_state_dict(layer.state_dict())
    bounds = torch.tensor([0, 3, 3, 11])
    for dtype in (torch.float64, torch.bfloat16):
        x = torch.randn(1, 11, 12, dtype=dtype)
        results = [each.to(dtype)(x, cu_seqlens=bounds, return_state=True) for each in (layer, other)]
        torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=0)
        torch.testing.assert_close(tuple(results[0][1]), tuple(results[1][1]), rtol=0, atol=0)


def test_refuses_by_name(build: Callable[[str], ModuleType]) -> None:
    module = build("gla")
    q = torch.randn(1, 4, 2, 3)
    with pytest.raises(ValueError, match=r"k: expected \[B, T, H, K\] = \[1, 4, 2, 3\], got \[1, 4, 2, 5\]"):
        module.gla(q, torch.randn(1, 4, 2, 5), q, q)
    with pytest.raises(NotImplementedError, match="triton has no parallel form of gla"):
        module.gla(q, q, q, q, backend="triton", form="parallel")


def test_has_no_c() -> None:
    """Of one function, of stages, with delays; `auto` is torch where a call is worth compiling for."""
    text = (FOLDER / "linear_attention.rnn").read_text("utf-8")
    delayed = text.replace("phi_k @ v.T", "prev(phi_k) @ v.T")
    for name, spec in (
        ("plain", text),
        ("delayed", delayed),
        ("staged", (FOLDER / "gsa.rnn").read_text("utf-8")),
    ):
        compiled = compile_text(spec)
        module, recurrence = execute(f"alone_{name}_torch", standalone(compiled)), compiled.declared
        assert not hasattr(module, "C_TYPES")
        sizes = dict.fromkeys(recurrence.axes, 64)
        case = Case(0, (1024,), False, 2, sizes, {}, False, False, None)
        call, given = getattr(module, recurrence.name), draw_arguments(recurrence, case)
        with pytest.raises(NotImplementedError, match="c: a file that rnnc compile made has none: use"):
            call(*given, backend="c")
        assert torch.equal(call(*given)[0], call(*given, backend="torch")[0])
        layer = next(value for key, value in vars(module).items() if key.endswith("Layer"))(8, 2)
        with pytest.raises(NotImplementedError, match="c: a file that rnnc compile made"):
            layer(torch.randn(1, 9, 8), backend="c")


def test_inputs_that_are_left_out() -> None:
    module = execute("alone_left_out", standalone(compile_text(LEFT_OUT)))
    q, k, v = (torch.randn(2, 5, 2, 4) for _ in range(3))
    expected, _ = rnnc.compile(LEFT_OUT)(q, torch.full((2, 5, 2), 0.5), k, v)
    torch.testing.assert_close(module.left_out(q, None, k, v)[0], expected)
    layer: Any = rnnc.compile(LEFT_OUT).Layer(8, 2)
    other = module.LeftOutLayer(8, 2)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(other(x), layer(x))


def test_awkward_names_docstrings_defaults_and_learned_states() -> None:
    compiled = compile_text(AWKWARD)
    text = standalone(compiled)
    assert text == standalone(compiled)
    module = execute("alone_awkward", text)
    torch.manual_seed(0)
    layer: Any = rnnc.compile(AWKWARD).Layer(d_model=12, num_heads=2)
    other = module.ApplyLayer(d_model=12, num_heads=2)
    torch.nn.init.normal_(layer.S0)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(other(x), layer(x))
    assert "scale" not in layer.state_dict()


@pytest.mark.parametrize(
    ("template", "context"),
    [
        ("standalone.py.jinja", StandaloneText),
        ("layer.py.jinja", LayerText),
        ("triton_steps.py.jinja", StepsContext),
        ("triton_steps_back.py.jinja", StepsBackContext),
    ],
)
def test_every_hole_has_its_field(template: str, context: Any) -> None:
    loader = environment().loader
    assert loader is not None
    text, _, _ = loader.get_source(environment(), template)
    holes = jinja2.meta.find_undeclared_variables(environment().parse(text))
    assert holes == {entry.name for entry in fields(context)}


def test_kernels_of_every_kind() -> None:
    """Names that several modules of the runtime define are told apart, or there are none."""
    example = FOLDER.parent / "examples" / "two_read_delta.rnn"
    for path in (example, FOLDER / "kda.rnn", FOLDER / "gla_signed.rnn"):
        compile(standalone(compile_text(path.read_text("utf-8"))), path.name, "exec")


def test_scalars() -> None:
    size, two, half = Size("K"), Constant(Fraction(2)), Constant(Fraction(-1, 2))
    assert scalar(Power(size, Fraction(-1, 2))) == 'size["K"] ** -0.5'
    assert scalar(Multiply((half, Power(size, Fraction(2))))) == '(-0.5) * (size["K"] ** 2)'
    assert scalar(Call("exp", (Add((size, two)),))) == 'math.exp((size["K"] + 2))'
