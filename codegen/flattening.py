"""Micro-steps as rows: a program over (time, micro, ...) becomes one over (rows, ...).

Row n * i + s is micro-step s of token i. What a token has for each of its micro-steps is a value over ROWS
from the start, as it is read from memory; so the kernels know no axis of micro-steps beside time:

    Flatten, Unflatten      nothing
    a value per token       repeated for its rows where it meets them
    a sum over micro-steps  the sum over the rows of each token
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.operands import is_zero_beyond
from rnnc.codegen.operations import COLUMN, COLUMNS, ROW, ROWS, VALID, Load
from rnnc.codegen.program import Node, Program, reachable

ELEMENTWISE = (ir.Add, ir.Multiply, ir.Apply, ir.Keep)
ROWS_OF = {ROW: ROWS, COLUMN: COLUMNS}
VALID_TOKENS = Load(VALID, "valid")


def flatten(programs: Sequence[Program], builder: Builder, micro: str) -> list[Program]:
    """The programs with rows in the place of tokens and micro-steps.

    Raises NotImplementedError for what has no such form.
    """
    rows = _Rows(builder, micro)
    return [
        replace(
            program,
            results={name: rows.result(node) for name, node in program.results.items()},
            carries=tuple(replace(carry, end=rows.result(carry.end)) for carry in program.carries),
        )
        for program in programs
    ]


class _Rows:
    """What each value becomes, made once."""

    def __init__(self, builder: Builder, micro: str) -> None:
        self.build, self.micro = builder, micro
        self._whole: dict[Node, Node] = {}
        self._rows: dict[tuple[Node, str], Node] = {}

    def result(self, root: Node) -> Node:
        """A result of a program."""
        for node in reachable([root]):
            if not self._split(node):
                self.whole(node)
        return self.rows(root, ROW) if self._split(root) else self.whole(root)

    def _split(self, node: Node) -> bool:
        """Whether a value is over tokens and micro-steps."""
        return self.micro in node.axes and not {ROW, COLUMN}.isdisjoint(node.axes)

    def whole(self, node: Node) -> Node:
        """A value that is over tokens or micro-steps, not over both."""
        if node not in self._whole:
            self._whole[node] = self._rebuilt(node)
        return self._whole[node]

    def _rebuilt(self, node: Node) -> Node:
        build = self.build
        match node.op:
            case ir.Flatten(_, time, _):
                return self.rows(node.args[0], time)
            case ir.Sum(self.micro) if self._split(node.args[0]):
                return self.over_steps(node.args[0])
            case ir.Max(self.micro) if self._split(node.args[0]):
                return self._reduced(node.args[0], largest=True)
            case ir.Dot(self.micro) if any(map(self._split, node.args)):
                return self.over_steps(build.multiply(node.args))
            case ir.Sum(axis) if axis in ROWS_OF and self.micro in node.axes:
                value = self.rows(node.args[0], axis)
                axes = tuple(self.micro if a == ROWS_OF[axis] else a for a in value.axes)
                return build.node(ir.OverTokens(self.micro), [value], axes)
            case ir.Load():
                return node
            case _:
                self._refuse(node)
                return self._with_args(node, [self.whole(argument) for argument in node.args])

    def _refuse(self, node: Node) -> None:
        if any(map(self._split, node.args)):
            raise NotImplementedError(f"{type(node.op).__name__} over the micro-steps of a token")

    def _with_args(self, node: Node, args: Sequence[Node]) -> Node:
        if list(node.args) == args:
            return node
        if isinstance(node.op, ir.Broadcast):
            return self.build.broadcast(args[0], node.op.axis)
        if isinstance(node.op, ir.Apply | ir.Keep):
            return self.build.node(node.op, args, self.build.joined(args))
        return self.build.with_args(node, args)

    def over_steps(self, value: Node) -> Node:
        """The sum over the micro-steps of each token."""
        build = self.build
        if self.micro not in value.axes:
            return build.multiply([self.whole(value), build.node(ir.AxisSize(self.micro), (), ())])
        if isinstance(value.op, ir.Add):
            terms = (self.over_steps(argument) for argument in value.args)
            return build.add(zip(value.op.coefficients, terms, strict=True))
        return self._reduced(value)

    def _reduced(self, value: Node, largest: bool = False) -> Node:
        time = self._time(value)
        rows = self.rows(value, time)
        op = ir.OverSteps(self.micro, time, ROWS_OF[time], largest)
        axes = tuple(time if axis == op.rows else axis for axis in rows.axes)
        return self.build.node(op, [rows], axes)

    def _time(self, value: Node) -> str:
        """Which of its axes of tokens a value's micro-steps belong to."""
        if isinstance(value.op, ir.Unflatten):
            return value.op.time
        if isinstance(value.op, ELEMENTWISE):
            inner = [a for a in value.args if self.micro in a.axes]
            return next((t for t in map(self._time, inner) if t == COLUMN), ROW)
        return ROW if ROW in value.axes else COLUMN

    def rows(self, value: Node, time: str) -> Node:
        """A value over the micro-steps of the tokens along `time`, or one for each token, over their rows."""
        key = (value, time)
        if key not in self._rows:
            self._rows[key] = self._as_rows(value, time)
        return self._rows[key]

    def _as_rows(self, value: Node, time: str) -> Node:
        if time not in value.axes and self.micro not in value.axes:
            return self.whole(value)
        if time == COLUMN and not {ROW, ROWS} & set(value.axes):  # as rows, relabelled
            made = self.rows(self.build.rename(value, COLUMN, ROW), ROW)
            return self.build.rename(made, ROWS, COLUMNS)
        if self.micro not in value.axes:
            return self._repeated(value, time)
        return self._flat(value, time)

    def _repeated(self, value: Node, time: str) -> Node:
        """A value per token. What is zero beyond the sequence is so for rows that are no micro-steps."""
        rows = ROWS_OF[time]
        valid = self.build.load(VALID_TOKENS, (rows,))
        if value.op == VALID_TOKENS:
            return valid
        inner = self.whole(value)
        axes = tuple(rows if axis == time else axis for axis in inner.axes)
        repeated = self.build.node(ir.Repeat(self.micro, time, rows), [inner], axes)
        return self.build.multiply([repeated, valid]) if is_zero_beyond(value, time) else repeated

    def _flat(self, value: Node, time: str) -> Node:
        build = self.build
        match value.op:
            case Load():
                axes = (axis for axis in value.axes if axis not in (time, self.micro))
                return build.load(value.op, (ROWS_OF[time], *axes))
            case ir.Unflatten(_, own, _) if own == time:
                return self.whole(value.args[0])
            case ir.Broadcast(self.micro) | ir.Within(self.micro):  # sums leave out rows that are no steps
                return self.rows(value.args[0], time)
            case ir.Broadcast(axis):
                inner = self.rows(value.args[0], time)
                return inner if axis == time else build.broadcast(inner, axis)
            case ir.Rename(old, new) if old not in ir.TIME_AXES:
                return build.rename(self.rows(value.args[0], time), old, new)
            case ir.Add() | ir.Multiply() | ir.Apply() | ir.Keep():
                return self._with_args(value, [self.rows(argument, time) for argument in value.args])
            case ir.Sum(axis) if axis not in ir.TIME_AXES:
                return build.sum(self.rows(value.args[0], time), axis)
            case ir.Dot(axis) if axis not in ir.TIME_AXES:
                left, right = (self.rows(argument, time) for argument in value.args)
                return build.dot(left, right, axis)
            case _:
                raise NotImplementedError(f"{type(value.op).__name__} over the micro-steps of a token")
