"""Lower triangular matrices between tokens: which are known to be such, and how they lie in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rnnc
from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.kernels import plan_kernels
from rnnc.codegen.lower_triangles import is_lower
from rnnc.codegen.operations import COLUMN, COLUMNS, MIDDLE, ROW, ROWS
from rnnc.codegen.program import Node
from rnnc.codegen.triangles import triangle_entries
from rnnc.codegen.triton_addresses import TRIANGLE

pytestmark = pytest.mark.smoke

OPS = Path(rnnc.__file__).parents[1] / "ops"
BUILD = Builder()
FULL = BUILD.load(ir.Load("m", "input"), (ROW, COLUMN))
LOWER = BUILD.mask(FULL, False)
DECAY = BUILD.load(ir.Load("g", "input"), (ROW,))


def chained(left: Node, right: Node) -> Node:
    inner = [BUILD.rename(left, COLUMN, MIDDLE), BUILD.rename(right, ROW, MIDDLE)]
    return BUILD.node(ir.Dot(MIDDLE), inner, (ROW, COLUMN))


def between(op: ir.Op, rows: str, columns: str) -> Node:
    return BUILD.node(op, [BUILD.load(ir.Load("p", "input"), (rows, columns))], (rows, columns))


def turned(matrix: Node) -> Node:
    """Its transpose."""
    rows = BUILD.node(ir.Rename(ROW, MIDDLE), [matrix], (MIDDLE, COLUMN))
    columns = BUILD.node(ir.Rename(COLUMN, ROW), [rows], (MIDDLE, ROW))
    return BUILD.node(ir.Rename(MIDDLE, COLUMN), [columns], (COLUMN, ROW))


@pytest.mark.parametrize(
    ("matrix", "lower"),
    [
        (FULL, False),
        (LOWER, True),
        (BUILD.mask(FULL, True), True),
        (BUILD.apply("exp2", BUILD.segment(DECAY, False, False)), True),
        (BUILD.segment(DECAY, False, False), False),
        (BUILD.multiply([FULL, LOWER, DECAY]), True),
        (BUILD.multiply([FULL, FULL, DECAY]), False),
        (BUILD.add([(1, LOWER), (-2, BUILD.mask(FULL, True))]), True),
        (BUILD.add([(1, LOWER), (1, FULL)]), False),
        (BUILD.apply("exp", LOWER), False),
        (chained(LOWER, BUILD.mask(FULL, True)), True),
        (chained(LOWER, FULL), False),
        (turned(LOWER), False),
        (between(ir.Inverse(), ROWS, COLUMNS), True),
        (BUILD.node(ir.Block(0, 1, 2), [between(ir.Inverse(), ROWS, COLUMNS)], (ROW, COLUMN)), True),
        (BUILD.node(ir.Block(0, 1, 2), [between(ir.Keep(1), ROWS, COLUMNS)], (ROW, COLUMN)), False),
        (between(ir.Mask(False), ROW, COLUMNS), True),
        (between(ir.Mask(False), ROWS, COLUMN), False),  # no kernel keeps such
        (between(ir.Repeat("n", COLUMN, COLUMNS), ROWS, COLUMNS), False),  # later steps of a token are above
    ],
)
def test_what_is_known_to_be_lower_triangular(matrix: Node, lower: bool) -> None:
    assert is_lower(matrix) is lower


@pytest.mark.parametrize("rows", [16, 32, 64, 128, 256])
def test_the_rows_fill_the_memory(rows: int) -> None:
    """Every entry of the triangle has a place, no two the same, and all begin at a multiple of 8."""
    names = {"o_c": np.arange(rows)}
    for text in TRIANGLE:
        exec(text.format("c", 1), names)
    lengths, starts = names["w_c"], names["l_c"]
    assert (lengths > np.arange(rows)).all()
    assert not (starts % 8).any()
    assert not (lengths % 8).any()
    places = [
        start + column for start, length in zip(starts, lengths, strict=True) for column in range(length)
    ]
    assert places == list(range(triangle_entries(rows, rows)))


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("gated_delta_net", {"triangle"}),
        ("kda", {"triangle", "matrix"}),  # sums over values are weights, of which the rest is not zero
        ("gated_delta_product", {"triangles"}),
        ("kimi_delta_product", {"triangles", "pairs"}),
        ("titans_linear", {"triangle"}),
    ],
)
def test_what_kernels_hand_on(name: str, places: set[str]) -> None:
    compiled = compile_text((OPS / f"{name}.rnn").read_text("utf-8"))
    kernels = [kernel for group in plan_kernels(compiled.forms[0], compiled.normal) for kernel in group]
    stored = [array for kernel in kernels for array in kernel.stores]
    matrices = [array for array in stored if len(array.node.axes) == 2 and set(array.node.axes) <= TIME]
    assert {array.place for array in matrices} == places
    assert all(is_lower(array.node) == array.place.startswith("triangle") for array in matrices)
    for kernel in kernels:
        for array in kernel.loads:
            written = {other.place for other in stored if other.name == array.name}
            assert written <= {array.place}


TIME = set(ir.TIME_AXES)


@pytest.mark.parametrize(("chunk", "entries"), [(16, 12 * 16), (64, 36 * 64), (32, 20 * 32)])
def test_bytes(chunk: int, entries: int) -> None:
    """What `pre` writes beside what it reads."""
    sizes = {"B": 1, "T": 1024, "H": 2, "K": 128, "V": 128}
    cost = rnnc.compile((OPS / "gated_delta_net.rnn").read_text("utf-8")).cost(chunk=chunk, **sizes)
    pre = next(kernel for kernel in cost.forward.kernels if kernel.role == "pre")
    given = 1024 * 2 * (128 * 2 + 2 * 4) + 2 * 2 * 4  # keys, gates in float32, parameters
    assert pre.bytes == given + 1024 // chunk * 2 * entries * 2
