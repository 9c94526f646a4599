"""Generated modules: the same text every time, readable, and equal to the programs they were printed from."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from rnnc.codegen.compiler import Compiled, Spec, analyse
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.operations import ROW, VALID
from rnnc.codegen.torch_module import stage_prefix
from rnnc.dsl.functions import FUNCTIONS

ROOT = Path(__file__).parents[2]
SPECS = sorted([*ROOT.glob("ops/*.rnn"), *ROOT.glob("examples/*.rnn")])
every = pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
SIZES, C, N, H = (3, 2), 4, 2, 2

PRINT = """
import hashlib, pathlib, sys
from rnnc.codegen.compiler import compile_text
for path in sys.argv[1:]:
    print(hashlib.sha256(compile_text(pathlib.Path(path).read_text()).source.encode()).hexdigest())
"""


def test_the_same_text_for_every_hash_seed(analysed: Callable[[Path], Spec]) -> None:
    """Under another seed than this process has."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    command = [sys.executable, "-c", PRINT, *map(str, SPECS)]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    texts = [analysed(path).source for path in SPECS]
    assert done.stdout.split() == [hashlib.sha256(text.encode()).hexdigest() for text in texts]


@every
def test_the_text(path: Path, analysed: Callable[[Path], Spec]) -> None:
    """Valid Python of moderate size; nothing is assigned and not used, and no path is in it."""
    found = analysed(path)
    tree = ast.parse(found.source)
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    numbers = range(1, len(found.stages) + 1) if len(found.stages) > 1 else ()
    assert names == [
        f"{stage}{form}_{what}"
        for stage in (map(stage_prefix, numbers) if numbers else [""])
        for form in ("chunked", "recurrent")
        for what in ("forward", "states", "backward")
    ]
    assert f'"""{found.recurrence.name}: generated from its spec by rnnc; do not edit.' in found.source
    assert str(ROOT) not in found.source
    assert len(found.source.splitlines()) < 1500
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"math", "torch", "torch.nn.functional"}


def loaded(found: Compiled) -> ModuleType:
    module = ModuleType("generated")
    exec(compile(found.source, "<generated>", "exec"), module.__dict__)
    return module


@every
def test_module_and_program_agree(path: Path, analysed: Callable[[Path], Spec]) -> None:
    """One chunk in float64: the printed passes against the evaluator, for every row of the batch and head."""
    for found in analysed(path).stages:
        check_module(found)


def check_module(found: Compiled) -> None:
    module, recurrence, form = loaded(found), found.recurrence, found.forms[0]
    state = SIZES[: len(found.normal.state_axes)]
    sizes = dict.fromkeys(recurrence.axes, 3) | dict(zip(found.normal.state_axes, state, strict=True))
    torch.manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, dtype=torch.float64) * 0.8 + 0.1

    inputs = [draw(N, H, C, *(sizes[a] for a in d.axes)) for d in recurrence.inputs]
    params = [draw(1, H, *(sizes[a] for a in d.axes)) for d in recurrence.params]
    valid = torch.ones(N, 1, C, dtype=torch.float64)
    valid[1, :, 2:] = 0
    names = [state.name for state in recurrence.states]
    h0, dht = (tuple(draw(N, H, *state) for _ in names) for _ in range(2))

    def args() -> tuple[torch.Tensor, ...]:  # a pass may use up its arguments
        return tuple(x.clone() for x in (*inputs, *params))

    with torch.no_grad():
        outputs, ht, kept = module.chunked_forward(args(), valid, h0, [(0, N)], True)
        douts = tuple(draw(*x.shape) for x in outputs)
        gradients = [
            module.chunked_backward(args(), valid, h0, [(0, N)], given, douts, dht) for given in (kept, None)
        ]
    for n, h in np.ndindex(N, H):
        loads = {d.name: x[n, h].numpy() for d, x in zip(recurrence.inputs, inputs, strict=True)}
        loads |= {d.name: x[0, h].numpy() for d, x in zip(recurrence.params, params, strict=True)}
        loads |= {name: x[n, h].numpy() for name, x in zip(names, h0, strict=True)}
        loads[VALID] = valid[n, 0].numpy()
        loads |= {f"d'{d.name}": x[n, h].numpy() for d, x in zip(recurrence.outputs, douts, strict=True)}
        loads |= {f"d'{name}": x[n, h].numpy() for name, x in zip(names, dht, strict=True)}
        forward = evaluate(form.forward.program, loads, {**sizes, ROW: C}, FLOAT64)
        for d, x in zip(recurrence.outputs, outputs, strict=True):
            np.testing.assert_allclose(x[n, h].numpy(), forward[d.name], rtol=1e-9, atol=1e-12)
        for name, x in zip(names, ht, strict=True):
            np.testing.assert_allclose(x[n, h].numpy(), forward[name], rtol=1e-9, atol=1e-12)
        backward = evaluate(form.backward.program, loads, {**sizes, ROW: C}, FLOAT64)
        for dargs, dh0 in gradients:
            for d, x in zip((*recurrence.inputs, *recurrence.params), dargs, strict=True):
                expected = backward[f"d'{d.name}"]
                got = np.zeros_like(expected) if x is None else x[min(n, len(x) - 1), h].numpy()
                np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-11, err_msg=d.name)
            for name, x in zip(names, dh0, strict=True):
                np.testing.assert_allclose(x[n, h].numpy(), backward[f"d'{name}"], rtol=1e-8, atol=1e-11)


def test_functions_of_numbers() -> None:
    """Every function may be applied to a constant or a size; the module computes it once, as a number."""
    calls = [f"{f.name}({'K' if f.arity == 1 else 'K, 0.3'})" for f in FUNCTIONS.values() if f.public]
    text = "recurrence r[K, V]:\n    input q[K], k[K], v[V]\n    state S[K, V]\n    output o[V]\n"
    text += f"    S <- sigmoid(2) * S + k @ v.T\n    o <- ({' + '.join(calls)}) * S.T @ q\n"
    found = analyse(text)
    tokens = [torch.rand(1, 1, C, size, dtype=torch.float64) for size in (3, 3, 2)]
    valid, h0 = torch.ones(1, 1, C, dtype=torch.float64), torch.zeros(1, 1, 3, 2, dtype=torch.float64)
    (out,), _, _ = loaded(found).chunked_forward(tuple(tokens), valid, (h0,), [(0, 1)], False)
    loads = {name: x[0, 0].numpy() for name, x in zip("qkv", tokens, strict=True)}
    loads |= {"S": np.zeros((3, 2)), VALID: np.ones(C)}
    expected = evaluate(found.forms[0].forward.program, loads, {"K": 3, "V": 2, ROW: C}, FLOAT64)
    np.testing.assert_allclose(out[0, 0].numpy(), expected["o"], rtol=1e-9)
