"""Typed expressions -> nodes of a tile program."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, assert_never

from rnnc.codegen.builder import Builder
from rnnc.codegen.operations import AxisSize, Load, Softmax
from rnnc.codegen.program import Node
from rnnc.dsl.expression import (
    Add,
    Call,
    Constant,
    Delay,
    Expression,
    Final,
    Identity,
    Multiply,
    Name,
    Power,
    Rename,
    Select,
    Size,
    Sum,
)
from rnnc.dsl.functions import UNIT_EPSILON
from rnnc.dsl.recurrence import Recurrence


class Lowering:
    """Lowers expressions of one recurrence; inputs get the axis `time` (None: one token, no time axis)."""

    def __init__(self, builder: Builder, recurrence: Recurrence, time: str | None) -> None:
        self.builder = builder
        self.names: dict[str, Node] = {}
        marks = {each.name for each in recurrence.earlier if each.kind == "mark"}
        for declared in recurrence.inputs:
            axes = declared.axes if time is None else (time, *declared.axes)
            kind: Literal["input", "mark"] = "mark" if declared.name in marks else "input"
            self.names[declared.name] = builder.load(Load(declared.name, kind), axes)
        for param in recurrence.params:
            self.names[param.name] = builder.load(Load(param.name, "param"), param.axes)

    def lower(self, expression: Expression) -> Node:
        """The node that computes the expression."""
        build = self.builder
        match expression:
            case Constant(value):
                return build.constant(value)
            case Size(axis):
                return build.node(AxisSize(axis), (), ())
            case Name(name):
                return self.names[name]
            case Add((Constant(one), Multiply((Constant(two), Call("sigmoid", (gate,)))))) if (
                one == -1 and two == 2
            ):
                # Near 0 the difference would keep few of the sigmoid's digits.
                half = build.multiply([build.constant(Fraction(1, 2)), self.lower(gate)])
                return build.apply("tanh", half)
            case Add(terms):
                return build.add((1, self.lower(term)) for term in terms)
            case Multiply(factors):
                return build.multiply(self.lower(factor) for factor in factors)
            case Power(base, exponent):
                return build.power(self.lower(base), exponent)
            case Call("unit", (argument,), axis):
                assert axis is not None
                vector = self.lower(argument)
                square = build.sum(build.multiply([vector, vector]), axis)
                norm = build.add([(1, square), (1, build.constant(UNIT_EPSILON))])
                return build.multiply([vector, build.power(norm, Fraction(-1, 2))])
            case Call("softmax", (argument,), axis):
                assert axis is not None
                scores = self.lower(argument)
                return build.node(Softmax(axis), [scores], scores.axes)
            case Call(function, arguments):
                return build.apply(function, *map(self.lower, arguments))
            case Sum(body, axis):
                return build.sum(self.lower(body), axis)
            case Rename(body, old, new):
                return build.rename(self.lower(body), old, new)
            case Identity() | Select() | Delay() | Final():
                raise AssertionError(f"the normaliser leaves no {type(expression).__name__}")
            case _:
                assert_never(expression)
