"""Sums, and largest values, along an axis -> statements of C."""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.c_body import Body
from rnnc.codegen.c_loops import Line, for_, indented, loops, nested, variables
from rnnc.codegen.c_values import Index, Loop
from rnnc.codegen.program import Node
from rnnc.dsl.expression import Axes


def add_reduction(body: Body, node: Node, axis: str) -> None:
    """The sum along an axis of a value, or of the product of two of which one is a vector; or the largest."""
    axes, lower = node.args[0].axes, False
    if isinstance(node.op, ir.Dot):
        axes = max((argument.axes for argument in node.args), key=len)
        axes = axes if set(axes) == {*node.axes, axis} else (*node.axes, axis)
    else:
        lower = node.args[0] in body.values.lower

    def value(index: Index, loop: Loop) -> str:
        return " * ".join(body.values.text(argument, index, loop) for argument in node.args)

    bounds = {axes[1]: f"{variables(axes)[axes[0]]} + 1"} if lower else {}
    if axes[-1] == axis:
        _along_rows(body, node, axes, value, bounds)
    else:
        _onto_rows(body, node, axes, value, bounds)


def _along_rows(body: Body, node: Node, axes: Axes, value: Line, bounds: dict[str, str]) -> None:
    """Of the last axis: one number after the other."""
    names = variables(axes)
    loop, largest = Loop(names[axes[-1]]), isinstance(node.op, ir.Max)
    text = value(names, loop)
    name = body.place(node, names) if node.axes else body.values.called[node]
    inside = [
        *loop.lines,
        f"real total = {'-INFINITY' if largest else '0'};",
        f"#pragma omp simd reduction({'max' if largest else '+'} : total)",
        for_(loop.variable, bounds.get(axes[-1], str(body.sizes.size(axes[-1])))),
        f"    total = {text} > total ? {text} : total;" if largest else f"    total += {text};",
        f"{name} = total;",
    ]
    heads = [for_(names[axis], str(body.sizes.size(axis))) for axis in axes[:-1]]
    if node.axes:
        body.formed(node, nested(heads, inside))
    else:
        body.formed(node, [f"real {name};", "{", *indented(inside), "}"])


def _onto_rows(body: Body, node: Node, axes: Axes, value: Line, bounds: dict[str, str]) -> None:
    """Of another axis: row by row onto what is summed so far."""
    largest = isinstance(node.op, ir.Max)

    def line(index: Index, loop: Loop) -> str:
        place, text = body.place(node, index), value(index, loop)
        return f"{place} = {text} > {place} ? {text} : {place};" if largest else f"{place} += {text};"

    clear = f"    {body.values.called[node]}[i] = {'-INFINITY' if largest else '0'};"
    first = [for_("i", str(body.sizes.room(node.axes))), clear]
    body.formed(node, [*first, *loops(body.sizes, axes, line, bounds=bounds)])
