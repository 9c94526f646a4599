"""An expression as the text of a Python function on tensors, by the operations of `rnnc.ops.reference`.

`a` is the arithmetic and `x` has the values by name; what is delayed is made of such formulas where a file
stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from rnnc.codegen.line_breaks import broken
from rnnc.codegen.templating import comment, literal
from rnnc.dsl.expression import (
    Add,
    Axes,
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
from rnnc.dsl.pretty import pretty


def formula(name: str, value: Expression) -> str:
    """The function of that name that computes the value."""
    title = comment(f"{pretty(value)}, over {list(value.axes)}" if value.axes else pretty(value))
    lines = [f"def {name}(a: TorchArithmetic, x: Values) -> Tensor:", f'    """{title}"""']
    return broken("\n".join([*lines, f"    return {_text(value)}"]))


def _text(e: Expression) -> str:
    match e:
        case Constant(value=value):
            return f"a.constant({value!r})"
        case Size(axis=axis):
            return f"a.constant(Fraction(a.extent({literal(axis)})))"
        case Identity(axis=axis):
            return f"a.identity({literal(axis)})"
        case Name(name=name):
            return f"x[{literal(name)}]"
        case Add(terms=terms):
            return f"a.add({_operands(terms)}, {literal(e.axes)})"
        case Multiply(factors=factors):
            return f"a.multiply({_operands(factors)}, {literal(e.axes)})"
        case Sum(body=Multiply(factors=factors), axis=axis):
            return f"a.contract({_operands(factors)}, {literal(axis)}, {literal(e.axes)})"
        case Sum(body=body, axis=axis):
            return f"a.sum({_text(body)}, {literal(body.axes)}, {literal(axis)})"
        case Power(base=base, exponent=exponent):
            return f"a.power({_text(base)}, {exponent!r})"
        case Call(function=function, arguments=parts, axis=along):
            last = "None" if along is None else literal(along)
            return f"a.call({literal(function)}, {_operands(parts)}, {literal(e.axes)}, {last})"
        case Rename(body=body):  # the order of the dimensions stays
            return _text(body)
        case Select() | Delay() | Final():
            raise ValueError(f"no formula of the inputs of one token: {pretty(e)}")
        case _:
            assert_never(e)


def _operands(parts: Sequence[Expression]) -> str:
    """The values, and the axes of each."""
    axes: list[Axes] = [part.axes for part in parts]
    values = ", ".join(map(_text, parts))
    return f"[{values}], [{', '.join(map(literal, axes))}]"
