"""The exact check of what a split of sequences rests on: a stretch maps the state as S -> M S + N.

On the programs that kernels are planned from, at random fractions. M is the program of the transition run
from the identity (or, where it only scales rows, from ones), N the chunk run from zero; of two chunks, one
after the other, the maps compose; and the gradient of the state goes back through the transposes. Where reads
contract the second axis of the state, the transposed state is meant.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rnnc.codegen.compiler import Compiled
from rnnc.codegen.evaluators import evaluate
from rnnc.codegen.exact import Oracle, random_fraction, rationals
from rnnc.codegen.kernel_record import UnsupportedOnGpu
from rnnc.codegen.kernels import check_stretches, kernel_programs
from rnnc.codegen.operations import ROW, ROWS
from rnnc.codegen.points import Point, Values
from rnnc.codegen.program import Program
from rnnc.codegen.summaries import NoSummary, Transition, transition


def composition(compiled: Compiled, sizes: Mapping[str, int], tokens: int, length: int) -> str | None:
    """What differs, empty if nothing does; None where sequences are not split.

    Two chunks of `tokens` tokens, of which the second has `length`.
    """
    form = next(form for form in compiled.forms if form.name == "chunked")
    normal = compiled.normal
    try:
        forward, backward, _ = kernel_programs(form, normal)
        check_stretches(forward, normal)
        found = transition(forward.carries[0], form.builder, normal.value_axis)
    except (NoSummary, UnsupportedOnGpu, NotImplementedError):
        return None
    columns = 1 if found.scaling else sizes[normal.key_axis]
    wide = {**sizes, normal.value_axis: columns}
    draw, oracle = random.Random(tokens * 8 + length), rationals(length)
    chunks = [
        _Chunk(compiled, Point(compiled.recurrence, sizes, tokens, count, _fractions(draw)), oracle)
        for count in (tokens, length)
    ]
    maps = [_matrix(chunk.transition(found, wide, columns), found.scaling) for chunk in chunks]
    return _forward(chunks, maps, forward) or _backward(chunks, maps, backward)


def _fractions(draw: random.Random) -> Any:
    return lambda name, index: random_fraction(draw)


def _matrix(found: Any, scaling: bool) -> Any:
    """M as a matrix."""
    return np.diag(found[:, 0]) if scaling else found


def _forward(chunks: list[_Chunk], maps: list[Any], program: Program) -> str:
    """S -> M S + N, and (M', N') after (M, N) is (M' M, M' N + N')."""
    name = program.carries[0].name
    start = chunks[0].given(chunks[0].point.states[name])
    zero = np.full(start.shape, chunks[0].oracle.number(0))
    middle = chunks[0].end(program, start)
    first, second = (chunk.end(program, zero) for chunk in chunks)
    if (maps[0] @ start + first != middle).any():
        return ": the state is not M S + N"
    together = maps[1] @ maps[0] @ start + (maps[1] @ first + second)
    return "" if (chunks[1].end(program, middle) == together).all() else ": two stretches do not compose"


def _backward(chunks: list[_Chunk], maps: list[Any], program: Program) -> str:
    """dS -> M^T dS + N'."""
    for chunk, matrix in zip(chunks, maps, strict=True):
        (end,) = map(chunk.given, chunk.point.ends.values())
        zero = np.full(end.shape, chunk.oracle.number(0))
        given, added = (chunk.end(program, cotangent) for cotangent in (end, zero))
        if (matrix.T @ end + added != given).any():
            return ": the gradient of the state is not M^T dS + N"
    return ""


@dataclass(frozen=True)
class _Chunk:
    """A chunk with values for all that it is given but the state."""

    compiled: Compiled
    point: Point
    oracle: Oracle

    def end(self, program: Program, start: Any) -> Any:
        """The carried state, or its gradient, after the chunk."""
        (carry,) = program.carries
        given = {**self._loads(), carry.name: self.given(start)}
        return self._carried(replace(program, results={}), given, self.point.sizes)

    def transition(self, found: Transition, sizes: Mapping[str, int], columns: int) -> Any:
        """M, or, in one column, what it scales rows by."""
        size, number = sizes[self.compiled.normal.key_axis], self.oracle.number
        start = np.full((size, columns), number(1 if found.scaling else 0))
        for i in range(0 if found.scaling else size):
            start[i, i] = number(1)
        given = {**self._loads(), found.carry.name: self.given(start)}
        return self._carried(Program("chunked_transition", {}, (found.carry,)), given, sizes)

    def _carried(self, program: Program, given: Values, sizes: Mapping[str, int]) -> Any:
        found = evaluate(program, given, {**sizes, ROW: self.point.tokens}, self.oracle.program_arithmetic())
        return self.given(np.asarray(found[program.carries[0].name], dtype=object))

    def given(self, state: Any) -> Any:
        """The state with the axis that reads contract in front, or what is so as the state."""
        normal = self.compiled.normal
        return state if normal.axes == normal.state_axes else state.T

    def _loads(self) -> Values:
        """What is loaded, the micro-steps of all tokens as rows too."""
        loads = self.point.loads(self.oracle)
        loads |= {f"d'{name}": value for name, value in self.point.cotangents.items()}
        micro, tokens = self.compiled.normal.micro, self.point.tokens
        if micro is None:
            return loads
        steps = self.point.sizes[micro]
        rows = {
            f"{name}{ROWS}": np.repeat(value, steps, 0) for name, value in loads.items() if np.ndim(value)
        }
        for item in self.compiled.recurrence.inputs:
            if micro in item.axes:
                value = np.moveaxis(loads[item.name], 1 + item.axes.index(micro), 1)
                rows[f"{item.name}{ROWS}"] = value.reshape(tokens * steps, *value.shape[2:])
        return loads | rows
