"""The elementwise functions of `rnnc.dsl.functions`, and `power`, on Python floats; constants."""

from __future__ import annotations

import math
from collections.abc import Callable

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: float) -> float:
    return math.exp(-_softplus(-x))


FLOAT_FUNCTIONS: dict[str, Callable[..., float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: x**-0.5,
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "max": max,
    "min": min,
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "softplus": _softplus,
    "logsigmoid": lambda x: -_softplus(-x),
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "erf": math.erf,
    "sin": math.sin,
    "cos": math.cos,
    "step": lambda x: float(x > 0),
    "select": lambda m, x, y: x if m > 0 else y,
    "reciprocal": lambda x: 1 / x,
    "exp2": lambda x: 2.0**x,
    "log2": lambda x: math.log2(x) if x > 0 else -math.inf,
    "log2_exp": lambda x: x / math.log(2),
    "power": lambda x, e: float(x) ** float(e),
}
NUMBERS = {"ln2": math.log(2), "log2e": 1 / math.log(2)}


def constant(node: Node, size: Callable[[str], int]) -> float:
    """The value of what is formed of numbers and the sizes of axes alone."""
    args = [constant(argument, size) for argument in node.args]
    match node.op:
        case ir.Const(value):
            return float(value)
        case ir.NamedConst(name):
            return NUMBERS[name]
        case ir.AxisSize(axis):
            return float(size(axis))
        case ir.Multiply(coefficient):
            return math.prod(args, start=float(coefficient))
        case ir.Add(coefficients):
            return sum(float(c) * value for c, value in zip(coefficients, args, strict=True))
        case ir.Apply("power", exponent):
            assert exponent is not None
            return FLOAT_FUNCTIONS["power"](*args, exponent)
        case ir.Apply(function):
            return float(FLOAT_FUNCTIONS[function](*args))
        case _:
            raise AssertionError(node.op)
