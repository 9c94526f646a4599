"""Exact program -> the program that rounds well: where products of decays become exponents, and why.

A decay that is proven positive is carried as its base-2 logarithm: the exponent of a pair of tokens is the sum
of the logs between them, never a difference of two long sums. A decay whose range reaches 0 or below stays a
product: neither a logarithm nor a division, with exact values and gradients at 0.
"""

from __future__ import annotations

from dataclasses import replace

from rnnc.codegen import program as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program
from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal


def stabilise(program: Program, builder: Builder, normal: Normal, decay_range: Interval | None) -> Program:
    """The same mathematics with the numerics that the range of the decay asks for."""
    decision = describe(normal, decay_range)
    if normal.decay is None or decay_range is None or not excludes_zero(decay_range):
        return replace(program, decisions=(*program.decisions, *decision))
    return replace(rewrite(program, builder), decisions=(*program.decisions, *decision))


def excludes_zero(interval: Interval) -> bool:
    """Whether every value of the interval is positive."""
    return interval.low > 0 or (interval.low == 0 and interval.low_open)


def describe(normal: Normal, decay_range: Interval | None) -> tuple[str, ...]:
    """What was chosen for the decay and why, as sentences."""
    if normal.decay is None or decay_range is None:
        return ("no decay: scores are masked products, nothing is exponentiated",)
    shape = f"per channel of '{normal.key_axis}'" if normal.key_axis in normal.decay.axes else "scalar"
    if excludes_zero(decay_range):
        how = (
            "dyadic levels C/2, ..., 1, row exponents from the cut to i, column exponents from j to the cut"
            if normal.key_axis in normal.decay.axes
            else "a C x C matrix of segment sums, masked before exp2"
        )
        return (f"the decay ({shape}) lies in {decay_range}, above 0: base-2 logarithms; {how}",)
    how = "running products on dyadic levels" if normal.key_axis in normal.decay.axes else "a C x C matrix of products"
    return (f"the decay ({shape}) lies in {decay_range}, which reaches 0: {how}; no logarithm and no division",)


def rewrite(program: Program, builder: Builder) -> Program:
    """Every product of decays written as exp2 of a sum of logs."""
    new: dict[Node, Node] = {}
    for node in program.nodes():
        new[node] = _positive(node, [new[argument] for argument in node.args], builder)
    return replace(
        program,
        results={name: new[node] for name, node in program.results.items()},
        carries=tuple(replace(carry, end=new[carry.end]) for carry in program.carries),
    )


def _positive(node: Node, args: list[Node], build: Builder) -> Node:
    match node.op:
        case ir.Path(exclusive, strict):
            return build.apply("exp2", build.segment(log2(args[0], build), exclusive, strict))
        case ir.RunningProduct(direction, exclusive):
            return build.apply("exp2", build.running(log2(args[0], build), direction, exclusive))
        case ir.First():
            return build.first(args[0])
        case ir.DecayDot(axis, "product", exclusive, strict):
            op = ir.DecayDot(axis, "log", exclusive, strict)
            return build.node(op, [args[0], args[1], log2(args[2], build)], node.axes)
        case _:
            return node if list(node.args) == args else build.with_args(node, args)


def log2(value: Node, build: Builder) -> Node:
    """log2 of a positive value, written so that nothing overflows: through exp, sigmoid and products."""
    match value.op:
        case ir.Keep(1):
            return build.keep(log2(value.args[0], build), value.args[1], fill=0)
        case ir.Broadcast(axis):
            return build.broadcast(log2(value.args[0], build), axis)
        case ir.Apply("exp"):
            return build.apply("log2_exp", value.args[0])
        case ir.Apply("sigmoid"):
            return build.apply("log2_exp", build.apply("logsigmoid", value.args[0]))
        case ir.Apply("power", exponent) if exponent is not None and _positive_by_form(value.args[0]):
            return build.multiply([log2(value.args[0], build)], exponent)
        case ir.Multiply(coefficient) if coefficient > 0 and all(map(_positive_by_form, value.args)):
            terms = [(1, log2(argument, build)) for argument in value.args]
            if coefficient != 1:
                terms.append((1, build.apply("log2", coefficient)))
            return build.add(terms)
        case _:
            return build.apply("log2", value)


def _positive_by_form(value: Node) -> bool:
    match value.op:
        case ir.Apply("exp" | "sigmoid" | "softplus"):
            return True
        case ir.Apply("power"):
            return _positive_by_form(value.args[0])
        case _:
            return False


