"""Single lines of a printed layer, and what they are made from."""

from __future__ import annotations

from itertools import accumulate

from rnnc.codegen.templating import comment
from rnnc.dsl.recurrence import Initialiser, Param, Recurrence
from rnnc.dsl.syntax import LayerBinary, LayerCall, LayerExpression, LayerName, LayerNegate


def title(recurrence: Recurrence) -> str:
    """The first line of the spec's docstring, or its name."""
    return comment((recurrence.doc.strip() or recurrence.name).splitlines()[0])


def assignment(name: str, code: str) -> str:
    """`name = code`, the argument of the outermost call on a line of its own where one line is too long."""
    function, _, argument = code.partition("(")
    depth = list(accumulate((c == "(") - (c == ")") for c in argument[:-1]))
    if (
        len(name) + len(code) < 98
        or not function.replace(".", "").isidentifier()
        or not code.endswith(")")
        or min(depth) < 0
    ):
        return f"{name} = {code}"
    return f"{name} = {function}(\n            {argument[:-1]}\n        )"


def started(recurrence: Recurrence) -> list[Param]:
    """The parameters that a layer has: all but those left at their default."""
    return [p for p in recurrence.params if p.default is None or p.initialiser is not None]


def initial(start: Initialiser, shape: str) -> str:
    """The call that makes the values: sources take the shape, the others what another made."""
    nested = any(isinstance(argument, Initialiser) for argument in start.arguments)
    arguments = [initial(a, shape) if isinstance(a, Initialiser) else repr(a) for a in start.arguments]
    return f"init_{start.name}({', '.join([*arguments, *([] if nested else [shape])])})"


def names(value: LayerExpression) -> set[str]:
    """The names that a value reads."""
    match value:
        case LayerName(name=name):
            return {name}
        case LayerBinary(left=left, right=right):
            return names(left) | names(right)
        case LayerNegate(operand=operand):
            return names(operand)
        case LayerCall(arguments=arguments):
            return set().union(*map(names, arguments))
        case _:
            return set()
