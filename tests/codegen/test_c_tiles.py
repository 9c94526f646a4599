"""The tile functions in C against those in torch, in float64, on arrays whose rows are padded with NaN."""

from __future__ import annotations

import ctypes
import itertools
import math
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rnnc.ops import tiles

TEMPLATES = Path(__file__).parents[2] / "templates"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
FLAGS = (
    "-O2 -shared -fPIC -std=gnu11 -Wall -Wextra -Werror -ffp-contract=fast -fno-math-errno -fno-trapping-math"
)
LANES = 16  # as many as any register has: rows are padded to a multiple
# by name of the type: what C calls it, and the largest error in units of the largest value
TYPES = {"float": (torch.float32, ctypes.c_float, 3e-6), "double": (torch.float64, ctypes.c_double, 1e-12)}
FUNCTIONS = (
    "exp log sqrt rsqrt abs sign sigmoid tanh relu silu gelu softplus logsigmoid elu erf sin cos step "
    "reciprocal exp2 log2"
).split()
WIDEST = ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []
FLAG_PAIRS = list(itertools.product((False, True), (False, True)))
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


class Library:
    """Calls of the functions: of an array its address, of a matrix the row stride too."""

    def __init__(self, real: str, path: Path) -> None:
        self.dtype, self.c_type, self.tolerance = TYPES[real]
        self.functions = ctypes.CDLL(str(path))

    def __call__(self, name: str, *arguments: object) -> None:
        values: list[object] = []
        for argument in arguments:
            match argument:
                case Tensor():
                    values.append(ctypes.c_void_p(argument.data_ptr()))
                    if argument.ndim == 2:
                        values.append(ctypes.c_long(argument.stride(0)))
                case bool():
                    values.append(ctypes.c_int(argument))
                case int():
                    values.append(ctypes.c_long(argument))
                case float():
                    values.append(self.c_type(argument))
                case _:
                    values.append(argument)
        self.functions[name].restype = None
        self.functions[name](*values)

    def empty(self, *shape: int) -> Tensor:
        """NaN, with as much room in every row as functions may use."""
        *rows, columns = shape
        padded = -columns % LANES
        return torch.full((*rows, columns + padded), math.nan, dtype=self.dtype)[..., :columns]

    def array(self, x: Tensor) -> Tensor:
        """A copy of x with room in its rows."""
        copy = self.empty(*x.shape)
        copy.copy_(x)
        return copy

    def vector(self, x: Tensor) -> Tensor:
        """A copy of x [C] without room: a column with the stride 1."""
        return x.to(self.dtype).clone()

    def scratch(self, size: int) -> Tensor:
        return torch.full((size,), math.nan, dtype=self.dtype)

    def close(self, found: Tensor, expected: Tensor, sizes: Tensor | None = None) -> None:
        """Errors are measured by the largest of `sizes`, else of what is expected."""
        expected = expected.double()
        assert found.shape == expected.shape
        assert torch.equal(found.isinf(), expected.isinf())
        finite = ~expected.isinf()
        size = (expected if sizes is None else sizes)[finite].abs().max().item() if finite.any() else 0
        error = (found.double() - expected)[finite].abs()
        assert not error.isnan().any()
        assert not error.numel() or error.max() <= self.tolerance * size


SOURCE = """
#define REAL {real}
#define TILE
#include "tiles.h"
{loops}
void loop_max(real *out, const real *x, const real *y, long n) {{
    for (long i = 0; i < n; i++) out[i] = apply_max(x[i], y[i]);
}}
void loop_min(real *out, const real *x, const real *y, long n) {{
    for (long i = 0; i < n; i++) out[i] = apply_min(x[i], y[i]);
}}
void loop_select(real *out, const real *x, const real *y, const real *z, long n) {{
    for (long i = 0; i < n; i++) out[i] = apply_select(x[i], y[i], z[i]);
}}
void loop_power(real *out, const real *x, real e, long n) {{
    for (long i = 0; i < n; i++) out[i] = apply_power(x[i], e);
}}
long scratch_of_decays(long tokens, long n, long m, long ldk) {{ return decay_scratch(tokens, n, m, ldk); }}
"""
LOOP = """
void loop_{name}(real *out, const real *x, long n) {{
    for (long i = 0; i < n; i++) out[i] = apply_{name}(x[i]);
}}"""


@pytest.fixture(scope="module", params=["float", "double", "float of the plainest machine"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    assert COMPILER
    folder = tmp_path_factory.mktemp("tiles")
    real, *plain = request.param.split(maxsplit=1)
    text = SOURCE.format(real=real, loops="\n".join(LOOP.format(name=name) for name in FUNCTIONS))
    (folder / "tiles.c").write_text(text, encoding="utf-8")
    machine = [] if plain else WIDEST
    command = [COMPILER, *FLAGS.split(), *machine, f"-I{TEMPLATES}", "tiles.c", "-o", "tiles.so", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Library(real, folder / "tiles.so")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def decays(*shape: int) -> Tensor:
    """Of any sign, with zeros: whole tokens, and single ones."""
    d = randn(*shape, seed=9).sigmoid() * randn(*shape, seed=8).sign()
    d.view(-1)[::7] = 0
    if shape[0] > 2:
        d[shape[0] // 2] = 0
    return d.float().double()


def garble(x: Tensor, kept: Tensor) -> Tensor:
    return x.where(kept, math.nan)


def lower(rows: int, columns: int) -> Tensor:
    return torch.ones(rows, columns, dtype=torch.bool).tril()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("a_shape", [0, 1, 2])
@pytest.mark.parametrize("c_shape", [0, 1])
def test_gemm(library: Library, turned: bool, accumulate: bool, a_shape: int, c_shape: int) -> None:
    sizes = [(1, 1, 1), (3, 7, 5), (16, 33, 16), (64, 100, 64), (13, 49, 30), (30, 17, 13)]
    for m, n, k in sizes:
        a, b, c = randn(m, k), randn(k, n, seed=1).float().double(), randn(m, n, seed=2).float().double()
        a = a.float().double()
        kept = {0: torch.ones(m, k, dtype=torch.bool), 1: lower(m, k), 2: lower(k, m).mT}[a_shape]
        expected = 0.75 * (a * kept) @ b + (c if accumulate else 0)
        out = library.array(c) if accumulate else library.empty(m, n)
        given = garble(a, kept)
        given = library.array(given.mT) if turned else library.array(given)
        strides = (1, given.stride(0)) if turned else (given.stride(0), 1)
        shapes = ctypes.c_int(a_shape), ctypes.c_int(c_shape)
        pointer = ctypes.c_void_p(given.data_ptr())
        library("gemm", out, pointer, *strides, library.array(b), m, n, k, 0.75, accumulate, *shapes)
        wanted = lower(m, n) if c_shape else torch.ones(m, n, dtype=torch.bool)
        library.close(out[wanted], expected[wanted])


@pytest.mark.parametrize("rows", [1, 5, 16, 33, 64])
@pytest.mark.parametrize("columns", [1, 3, 16, 33, 100])
def test_transpose(library: Library, rows: int, columns: int) -> None:
    x, out = library.array(randn(rows, columns)), library.empty(columns, rows)
    library("transpose", out, x, rows, columns)
    assert torch.equal(out, x.mT)


@pytest.mark.parametrize("columns", [0, 1, 7, 33])  # 0: a vector
@pytest.mark.parametrize("rows", [1, 2, 16, 64])
@pytest.mark.parametrize(("suffix", "exclusive"), FLAG_PAIRS)
def test_running(library: Library, rows: int, columns: int, suffix: bool, exclusive: bool) -> None:
    def given(x: Tensor) -> Tensor:
        return library.array(x) if columns else library.vector(x[:, 0])

    def call(name: str, *arguments: Tensor) -> Tensor:
        out = given(torch.full((rows, max(columns, 1)), math.nan))
        arrays = [out, *map(given, arguments)]
        pairs = [(ctypes.c_void_p(x.data_ptr()), x.stride(0)) for x in arrays]
        library(name, *itertools.chain(*pairs), rows, max(columns, 1), suffix, exclusive)
        return out if columns else out[:, None]

    x, d = randn(rows, max(columns, 1)).float().double(), decays(rows, max(columns, 1))
    direction = "suffix" if suffix else "prefix"
    library.close(call("running_sum", x), (tiles.suffix_sum if suffix else tiles.prefix_sum)(x, 0, exclusive))
    reset = x.clone()
    reset[rows // 2] = -math.inf
    sums = (tiles.suffix_sum if suffix else tiles.prefix_sum)(reset, 0, exclusive)
    library.close(call("running_sum", reset), sums)
    library.close(call("running_product", d), tiles.running_product(d, 0, direction, exclusive))
    grad = tiles.running_product_grad(d, x, 0, direction, exclusive)
    library.close(call("running_product_grad", d, x), grad)
    library.close(call("linear_scan", d, x), tiles.linear_scan(d, x, 0, suffix, exclusive))


@pytest.mark.parametrize("tokens", [1, 2, 16, 19, 64])
@pytest.mark.parametrize(("exclusive", "strict"), FLAG_PAIRS)
def test_segments(library: Library, tokens: int, exclusive: bool, strict: bool) -> None:
    x = -randn(tokens).abs().float().double()
    x[tokens // 3] = -math.inf
    x[tokens // 2] = -1000.0
    out, dx = library.empty(tokens, tokens), library.empty(tokens)
    library("segment_sum", out, library.array(x), tokens, exclusive, strict)
    expected = tiles.segment_sum(x, exclusive, strict)
    assert torch.equal(out.isneginf(), expected.isneginf())
    kept = ~expected.isneginf()
    torch.testing.assert_close(out[kept], expected[kept].to(out.dtype), rtol=1e-6, atol=1e-9)
    grad = randn(tokens, tokens).float().double()
    garbled = library.array(garble(grad, lower(tokens, tokens).tril(-1)))
    library("segment_sum_grad", dx, garbled, tokens, exclusive)
    library.close(dx, tiles.segment_sum_grad(grad, exclusive))


@pytest.mark.parametrize("tokens", [1, 2, 16, 64])
@pytest.mark.parametrize(("exclusive", "strict"), FLAG_PAIRS)
def test_paths(library: Library, tokens: int, exclusive: bool, strict: bool) -> None:
    d, grad = decays(tokens), randn(tokens, tokens).float().double()
    out, dd = library.empty(tokens, tokens), library.empty(tokens)
    library("path", out, library.array(d), tokens, exclusive, strict)
    library.close(out, tiles.path(d, exclusive, strict))
    garbled = library.array(garble(grad, lower(tokens, tokens).tril(-1)))
    scratch = library.scratch((tokens + 1) * (tokens + LANES))
    library("path_grad", dd, library.array(d), garbled, tokens, exclusive, scratch)
    library.close(dd, tiles.path_grad(d, grad, exclusive))


@pytest.mark.parametrize("size", [1, 2, 7, 16, 33, 64, 100])
def test_inverse(library: Library, size: int) -> None:
    p = (randn(size, size) / math.sqrt(size)).float().double()
    x, dp = library.empty(size, size), library.empty(size, size)
    expected = tiles.inverse(p)
    library("inverse", x, library.array(garble(p, lower(size, size).tril(-1))), size)
    library.close(x, expected)
    assert not x.triu(1).any()
    grad = randn(size, size, seed=1).float().double()
    scratch = library.scratch(2 * size * (size + LANES))
    x, grad = garble(expected, lower(size, size)), garble(grad, lower(size, size))
    library("inverse_grad", dp, library.array(x), library.array(grad), size, scratch)
    library.close(dp, tiles.inverse_grad(expected, grad.nan_to_num()))


CHANNELS = [1, 7, 16, 33, 100]


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("tokens", [1, 2, 16, 64])
@pytest.mark.parametrize("log", [False, True])
def test_decay_dots(library: Library, tokens: int, n: int, m: int, log: bool) -> None:
    for channels, (exclusive, strict) in zip(CHANNELS, (*FLAG_PAIRS, (False, False)), strict=True):
        _check_decay_dots(library, tokens, n, m, channels, exclusive, strict, log)
    for exclusive, strict in FLAG_PAIRS:
        _check_decay_dots(library, tokens, n, m, 3, exclusive, strict, log)


def _check_decay_dots(
    library: Library, tokens: int, n: int, m: int, channels: int, exclusive: bool, strict: bool, log: bool
) -> None:
    x = randn(tokens * n, channels).float().double()
    y = randn(tokens * m, channels, seed=1).float().double()
    a = randn(tokens * n, tokens * m, seed=2).float().double()
    if log:
        g = -randn(tokens, channels, seed=3).abs()
        g[::5] *= 300
        g.view(-1)[::11] = -math.inf
        d = g.exp2().float().double()
        f = tiles.decay_factors(d.log2(), exclusive)
    else:
        d = decays(tokens, channels)
        f = tiles.product_factors(d, exclusive)
    flags = tokens, n, m, channels, exclusive, strict
    ldk = channels + -channels % LANES
    size = library.functions.scratch_of_decays
    size.restype = ctypes.c_long
    scratch = library.scratch(size(*map(ctypes.c_long, (tokens, n, m, ldk))))
    out, dx, dy = library.empty(tokens * n, tokens * m), library.empty(*x.shape), library.empty(*y.shape)
    dd, padded = library.empty(tokens, channels), [library.array(each) for each in (x, y, d)]
    library("decay_dot", out, *padded, *flags, scratch)
    expected = tiles.decay_dot(x, y, f, strict)
    strong = f if log else tiles.product_factors(d.abs(), exclusive)
    library.close(out, expected, tiles.decay_dot(x.abs(), y.abs(), strong))
    every = tiles.decay_dot(
        torch.ones_like(x), torch.ones_like(y), tiles.product_factors(torch.ones_like(d), exclusive), strict
    )
    kept = every != 0
    assert not out[~kept].any()
    given = library.array(garble(a, kept))
    library("decay_dot_rows", dx, given, *padded[1:], *flags, scratch)
    library("decay_dot_columns", dy, given, padded[0], padded[2], *flags, scratch)
    library("decay_dot_decay", dd, given, *padded, *flags, log, scratch)
    shared = [library.empty(*each.shape) for each in (dx, dy, dd)]
    library("decay_dot_grads", *shared, given, *padded, *flags, log, scratch)
    assert all(map(torch.equal, shared, (dx, dy, dd)))
    grads = tiles.decay_dot_grads(a * kept, x, y, f, strict)
    sizes = tiles.decay_dot_grads(a.abs(), x.abs(), y.abs(), strong)
    for found, wanted, size in zip((dx, dy, dd), grads, sizes, strict=True):
        library.close(found, wanted, size)


NUMBERS = [
    0.0,
    1e-30,
    1e-8,
    1e-3,
    0.1,
    0.3,
    0.5,
    0.7,
    1.0,
    1.5,
    2.5,
    5.0,
    9.0,
    20.0,
    60.0,
    87.0,
    88.5,
    127.5,
    300.0,
    1e30,
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(library: Library, name: str) -> None:
    sizes = torch.tensor([*NUMBERS, math.inf], dtype=library.dtype)
    x = torch.cat(
        (sizes, -sizes, torch.tensor([math.nan, -126, -127], dtype=library.dtype), 4 * randn(500))
    ).to(library.dtype)
    if name in ("sin", "cos"):
        x = x[x.abs() < 1e3]
    out = torch.empty_like(x)
    library(f"loop_{name}", out, x, x.numel())
    expected = _reference(name, x.double()).to(library.dtype)
    tiny = torch.finfo(library.dtype).tiny
    flushed = (expected.abs() < tiny) & (out.abs() <= 2 * tiny)
    expected = out.where(flushed, expected)
    absolute = 4 * torch.finfo(library.dtype).eps if name in ("gelu", "sin", "cos") else 0
    relative = 4 * torch.finfo(library.dtype).eps
    torch.testing.assert_close(out, expected, rtol=relative, atol=absolute, equal_nan=True)


def _reference(name: str, x: Tensor) -> Tensor:
    functional = torch.nn.functional
    match name:
        case "silu" | "gelu" | "elu" | "logsigmoid":
            return getattr(functional, name)(x)
        case "softplus" | "step":
            return getattr(tiles, name)(x)
        case _:
            return getattr(torch, name)(x)


def test_functions_of_several(library: Library) -> None:
    values = [math.nan, -math.inf, -2.0, 0.0, 3.0, math.inf]
    x, y = (
        torch.tensor(each, dtype=library.dtype)
        for each in zip(*itertools.product(values, values), strict=True)
    )
    out, z = torch.empty_like(x), torch.full_like(x, 7)
    for name, function in (("max", torch.maximum), ("min", torch.minimum)):
        library(f"loop_{name}", out, x, y, x.numel())
        torch.testing.assert_close(out, function(x, y), equal_nan=True)
    library("loop_select", out, x, y, z, x.numel())
    torch.testing.assert_close(out, y.where(x > 0, z), equal_nan=True)
    library("loop_power", out, x, 3.0, x.numel())
    torch.testing.assert_close(out, x**3, equal_nan=True)
