"""Form -> the form that kernels are planned from: what a GPU has no single tile operation for, in terms of
others.

Stacked rows become values of their own (`unstacking`), a softmax an exponential divided by its sum, so that
an axis can be walked tile by tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rnnc.codegen import program as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program
from rnnc.codegen.torch_module import Form, scheduled
from rnnc.codegen.unstacking import is_stacked, unstack


def kernel_form(form: Form) -> Form:
    """The form itself where there is nothing to do."""
    builder = form.builder
    programs = [form.forward.program, form.backward.program]
    nodes = [node for program in programs for node in program.nodes()]
    softmax, stacked = any(isinstance(n.op, ir.Softmax) for n in nodes), any(map(is_stacked, nodes))
    if softmax:
        programs = [_rewritten(program, builder, _without_softmax) for program in programs]
    if stacked:
        programs = unstack(programs, builder)
    return scheduled(programs, builder) if softmax or stacked else form


def _without_softmax(node: Node, args: list[Node], build: Builder) -> Node | None:
    """exp(x - max x) / sum exp(x - max x), which overflows nowhere."""
    if not isinstance(node.op, ir.Softmax):
        return None
    axis, (x,) = node.op.axis, args
    largest = build.node(ir.Max(axis), [x], tuple(a for a in x.axes if a != axis))
    raised = build.apply("exp", build.add([(1, x), (-1, largest)]))
    raised = build.node(ir.Within(axis), [raised], raised.axes)
    return build.multiply([raised, build.apply("reciprocal", build.sum(raised, axis))])


def _rewritten(
    program: Program, builder: Builder, rule: Callable[[Node, list[Node], Builder], Node | None]
) -> Program:
    """The program with the nodes that the rule replaces replaced."""
    new: dict[Node, Node] = {}
    for node in program.nodes():
        args = [new[argument] for argument in node.args]
        made = rule(node, args, builder)
        if made is None:
            made = node if list(node.args) == args else builder.with_args(node, args)
        new[node] = made
    return replace(
        program,
        results={name: new[node] for name, node in program.results.items()},
        carries=tuple(replace(carry, end=new[carry.end]) for carry in program.carries),
    )
