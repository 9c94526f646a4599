"""Loops of C around a line, and other layout of lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rnnc.codegen.c_target import Sizes
from rnnc.codegen.c_values import Index, Loop
from rnnc.dsl.expression import Axes

VARIABLES = "i j k l m".split()
Line = Callable[[Index, Loop], str]


def loops(
    sizes: Sizes, axes: Axes, line: Line, lower: bool = False, bounds: Mapping[str, str] | None = None
) -> list[str]:
    """Loops over the axes around a line; of `lower`, only over the lower triangle, in whole registers.

    `bounds` are the limits of axes that are not gone over to their end.
    """
    if not axes:
        return [line({}, Loop())]
    names = variables(axes)
    loop = Loop(names[axes[-1]])
    text = line(names, loop)
    limits = [(bounds or {}).get(axis, str(sizes.size(axis))) for axis in axes]
    heads = [for_(names[axis], limit) for axis, limit in zip(axes[:-1], limits, strict=False)]
    inner, row = loop.variable, names[axes[0]]
    if lower:
        body = [
            *loop.lines,
            f"for (long low = 0; low <= {row}; low += {sizes.target.lanes})",
            "    #pragma omp simd",
            f"    for (long {inner} = low; {inner} < low + {sizes.target.lanes}; {inner}++)",
            f"        {text}",
        ]
    else:
        body = [*loop.lines, "#pragma omp simd", for_(inner, limits[-1]), f"    {text}"]
    return nested(heads, body)


def variables(axes: Axes) -> dict[str, str]:
    """The variables of loops over the axes."""
    return dict(zip(axes, VARIABLES, strict=False))


def offset(index: Index, axes: Axes, strides: Sequence[int]) -> str:
    """Where an entry lies."""
    terms = (
        index[axis] if stride == 1 else f"{index[axis]} * {stride}"
        for axis, stride in zip(axes, strides, strict=True)
    )
    return " + ".join(terms) or "0"


def for_(variable: str, limit: str, start: str = "0") -> str:
    """The head of a loop."""
    return f"for (long {variable} = {start}; {variable} < {limit}; {variable}++)"


def nested(heads: Sequence[str], body: Sequence[str]) -> list[str]:
    """Loops around a block."""
    if not heads:
        return list(body)
    depth = len(heads)
    lines = ["    " * n + head + (" {" if n == depth - 1 else "") for n, head in enumerate(heads)]
    return [*lines, *("    " * depth + text for text in body), "    " * (depth - 1) + "}"]


def block(lines: Sequence[str]) -> tuple[str, ...]:
    """Lines whose names no others see."""
    return tuple(lines) if len(lines) == 1 else ("{", *indented(lines), "}")


def indented(lines: Sequence[str]) -> list[str]:
    """The lines one level further in."""
    return [f"    {text}" for text in lines]
