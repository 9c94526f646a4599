"""The printed C: its template, its text, where values lie in the workspace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from importlib.resources import files
from itertools import pairwise

import jinja2.meta
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnc.codegen.c_body import Statement
from rnnc.codegen.c_memory import arranged
from rnnc.codegen.c_program import WalkContext, included, walk_source
from rnnc.codegen.c_target import Target
from rnnc.codegen.compiler import Compiled, compile_text
from rnnc.codegen.templating import environment

LANES = 16
TARGET = Target(64, (("K", 100), ("V", 20)), "float")


def spec(name: str) -> Compiled:
    found = compile_text(files("rnnc.ops").joinpath(f"{name}.rnn").read_text("utf-8"))
    assert isinstance(found, Compiled)
    return found


@pytest.mark.smoke
def test_template_has_the_holes_of_its_context() -> None:
    text = files("rnnc.templates").joinpath("walk.c.jinja").read_text("utf-8")
    holes = jinja2.meta.find_undeclared_variables(environment().parse(text))
    assert holes == {entry.name for entry in fields(WalkContext)}


@pytest.mark.smoke
def test_files_are_included_once() -> None:
    text = included('#include "tiles.h"\n#include "arrays.h"\n#include "tiles.h"\n')
    assert '#include "' not in text
    assert text.count("void gemm(") == text.count("bf16 write_bf16(") == 1


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_equations_stand_above_their_lines(which: str) -> None:
    text = walk_source(spec("gated_delta_net"), which, TARGET)
    lines = [line.strip() for line in text.splitlines()]
    assert "// inv = (I - P)^-1" in lines
    assert lines[lines.index("// inv = (I - P)^-1") + 1] == "inverse(b_inv, 64, b_P, 64, 64);"


def test_rows_begin_at_cache_lines() -> None:
    text = walk_source(spec("gated_delta_net"), "forward", TARGET)
    places = [int(at) for at in re.findall(r"= work \+ (\d+);", text)]
    assert places
    assert all(at % LANES == 0 for at in places)
    assert "b_k[i * 112 + j]" in text, "100 channels, in whole registers"


def test_the_text_is_the_same_whatever_the_seed_of_hashes() -> None:
    code = (
        "from importlib.resources import files\n"
        "from rnnc.codegen.c_program import walk_source\n"
        "from rnnc.codegen.c_target import Target\n"
        "from rnnc.codegen.compiler import compile_text\n"
        "found = compile_text(files('rnnc.ops').joinpath('kda.rnn').read_text('utf-8'))\n"
        "print(walk_source(found, 'backward', Target(64, (('K', 100), ('V', 20)), 'float')))\n"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


@pytest.mark.smoke
@given(st.lists(st.tuples(st.integers(1, 100), st.lists(st.integers(0, 30), max_size=3)), max_size=30))
def test_places_that_are_in_use_do_not_overlap(drawn: list[tuple[int, list[int]]]) -> None:
    """Statement n makes place n and reads some of those before; one place is there all the way."""
    reads = [[f"b_{n % number}" for n in used] if number else [] for number, (_, used) in enumerate(drawn)]
    statements = [
        Statement((f"f(b_{number}, {', '.join(reads[number])});",), ((f"b_{number}", size),))
        for number, (size, _) in enumerate(drawn)
    ]
    lines, room = arranged(statements, {"lasting": 40}, LANES)
    at = {
        m[1]: int(m[2]) for line in lines if (m := re.fullmatch(r"real \*const (\w+) = work \+ (\d+);", line))
    }
    assert len(at) == len(drawn) + 1
    sizes = {f"b_{n}": size for n, (size, _) in enumerate(drawn)} | {"lasting": 40}
    assert all(at[name] % LANES == 0 and at[name] + sizes[name] <= room for name in at)
    for number in range(len(drawn)):
        later = {name for each in reads[number:] for name in each}
        used = {f"b_{number}", "lasting", *(f"b_{n}" for n in range(number) if f"b_{n}" in later)}
        spans = sorted((at[name], at[name] + sizes[name]) for name in used)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
