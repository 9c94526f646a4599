"""Exact program -> the program that rounds well: where products of decays become exponents, and why.

A decay that is proven positive is carried as its base-2 logarithm: the exponent of a pair of tokens is the
sum of the logs between them, never a difference of two long sums. A decay whose range reaches 0 or below,
or which may round to 0, stays a product: neither a logarithm nor a division, with exact values and
gradients at 0.
"""

from __future__ import annotations

from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.logarithms import excludes_zero, logarithm
from rnnc.codegen.lowering import Lowering
from rnnc.codegen.operations import ROW, VALID, Load
from rnnc.codegen.program import Node, Program
from rnnc.codegen.rewriting import rewritten
from rnnc.dsl.expression import Expression
from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal
from rnnc.dsl.ranges import environment


def stabilise(program: Program, builder: Builder, normal: Normal, decay_range: Interval | None) -> Program:
    """The same mathematics with the numerics that the range of the decay asks for."""
    decided = replace(program, decisions=(*program.decisions, *describe(normal, decay_range)))
    log = log_decay(normal, decay_range)
    if log is None:
        return decided
    value = builder.broadcast(Lowering(builder, normal.recurrence, ROW).lower(log), ROW)
    valid = builder.load(Load(VALID, "valid"), (ROW,))
    return rewrite(decided, builder, builder.keep(value, valid, fill=0))


def log_decay(normal: Normal, decay_range: Interval | None) -> Expression | None:
    """log2 of the decay; None where there is none, or products have to do."""
    if normal.decay is None or decay_range is None or not excludes_zero(decay_range):
        return None
    return logarithm(normal.decay, environment(normal.recurrence))


def describe(normal: Normal, decay_range: Interval | None) -> tuple[str, ...]:
    """What was chosen for the decay and why, as sentences."""
    if normal.decay is None or decay_range is None:
        return ("no decay: scores are masked products, nothing is exponentiated",)
    if normal.elementwise is not None:
        return (_scan_sentence(normal, decay_range),)
    channels = normal.key_axis in normal.decay.axes
    shape = f"per channel of '{normal.key_axis}'" if channels else "scalar"
    where = f"the decay ({shape}) lies in {decay_range}"
    if log_decay(normal, decay_range) is not None:
        levels = (
            "dyadic levels C/2, ..., 1, row exponents from the cut to i, column exponents from j to the cut"
        )
        how = levels if channels else "a C x C matrix of segment sums, masked before exp2"
        return (f"{where}, above 0: base-2 logarithms; {how}",)
    why = "but may round to 0" if excludes_zero(decay_range) else "which reaches 0"
    how = "running products on dyadic levels" if channels else "a C x C matrix of products"
    return (f"{where}, {why}: {how}; no logarithm and no division",)


def _scan_sentence(normal: Normal, decay_range: Interval) -> str:
    assert normal.decay is not None
    each = f"each entry of '{normal.key_axis}' its own" if normal.decay.axes else "scalar"
    logs = log_decay(normal, decay_range) is not None
    how = (
        "a scan of pairs (decay, value) in a chunk"
        if normal.decay.axes == normal.axes
        else "products in a chunk"
    )
    carried = "base-2 logarithms" if logs else "products"
    return f"the decay ({each}) lies in {decay_range}: {how}; from the start of a chunk to a token, {carried}"


def rewrite(program: Program, builder: Builder, log: Node) -> Program:
    """Every product of decays written as exp2 of a sum of logs; `log` is that of the decay in every row."""
    return rewritten(program, builder, lambda node, args, build: _positive(node, args, build, log))


def _positive(node: Node, args: list[Node], build: Builder, log: Node) -> Node:
    match node.op:
        case ir.Path(exclusive, strict):
            return build.apply("exp2", build.segment(log, exclusive, strict))
        case ir.RunningProduct(direction, exclusive):
            return build.apply("exp2", build.running(log, direction, exclusive))
        case ir.First():
            return build.first(args[0])
        case ir.DecayDot(axis, "product", exclusive, strict):
            op = ir.DecayDot(axis, "log", exclusive, strict)
            return build.node(op, [args[0], args[1], log], node.axes)
        case _:
            return node if list(node.args) == args else build.with_args(node, args)
