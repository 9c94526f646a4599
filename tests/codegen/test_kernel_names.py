"""Kernels of mixtures: decays over either axis, reads and readouts from either side, micro-steps.

That they are right is the interpreter's to show, which takes long; here, that every combination has kernels
whose names are all defined, those too that only some calls launch.
"""

from __future__ import annotations

import ast
import builtins

import pytest

from rnnc.codegen.compiler import analyse
from rnnc.codegen.triton_module import triton_source

SPEC = """recurrence r[K, V, n]:
    input q[K], k[K], w[K], z[K], x[n, K], g[K], p[V], v[V], y[n, V], h[V], b, c[n]
    let u = unit(k)
    let e = unit(v)
    state S[K, V]
    output f[K], o[V]
    {}
"""
LEFT, RIGHT = "S <- S + sigmoid(b) * u @ (v - S.T @ u).T", "S <- S + sigmoid(b) * (k - S @ e) @ e.T"
STEPS = ["for i in n:", "    S <- S + c[i] * x[i] @ y[i].T"]
BOTH = ["o <- S.T @ q", "f <- S @ p"]
UPDATES = {
    "a decay over K, read out over both": ["S <- sigmoid(g) * S + k @ v.T", *BOTH],
    "steps that read nothing": ["f <- S @ p", "S <- sigmoid(g) * S", *STEPS, "o <- S.T @ q"],
    "left under a decay over V": ["S <- sigmoid(h) * S", LEFT, "f <- S @ p", "o <- v"],
    "right under a decay over K": ["S <- tanh(g) * S", RIGHT, "o <- S.T @ q", "f <- q"],
    "right under decays over both": ["S <- sigmoid(g) * sigmoid(h) * S", RIGHT, "o <- S.T @ q", "f <- q"],
    "two reads, one without a value": ["S <- sigmoid(h) * S", LEFT + " + 0.2 * w @ (z.T @ S)", *BOTH],
    "two reads before the readouts": [LEFT + " + 0.2 * w @ (z.T @ S)", *BOTH],
}


@pytest.mark.parametrize("name", UPDATES)
def test_every_name_is_defined(name: str) -> None:
    (stage,) = analyse(SPEC.format("\n    ".join(UPDATES[name]))).stages
    source = triton_source(stage)
    assert 'NO_CHUNKS = ""' in source
    assert not undefined(ast.parse(source))


def undefined(module: ast.Module) -> set[str]:
    """The names that functions read and nothing assigns, in them or around them."""
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    around = {name for node in module.body if node not in functions for name in _assigned(node)}
    known = {*dir(builtins), *around, *(each.name for each in functions)}
    return set().union(*(_read(each) - known - _assigned(each) for each in functions))


def _assigned(node: ast.AST) -> set[str]:
    found: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                found |= {alias.asname or alias.name for alias in aliases}
    return found


def _read(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
