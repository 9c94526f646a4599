"""Exact program -> the program that rounds well: where products of decays become exponents, and why.

A decay that is proven positive is carried as its base-2 logarithm: the exponent of a pair of tokens is the
sum of the logs between them, never a difference of two long sums. A decay whose range reaches 0 or below,
or which may round to 0, stays a product: neither a logarithm nor a division, with exact values and
gradients at 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.logarithms import excludes_zero, logarithm
from rnnc.codegen.lowering import Lowering
from rnnc.codegen.operations import ROW, VALID, Load
from rnnc.codegen.program import Node, Program
from rnnc.codegen.rewriting import rewritten
from rnnc.dsl.expression import Constant, Expression
from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Coupled, Normal
from rnnc.dsl.ranges import environment, infer


def stabilise(program: Program, builder: Builder, normal: Normal, ranges: Sequence[Interval]) -> Program:
    """The same mathematics with the numerics that the ranges of the decays ask for."""
    decided = replace(program, decisions=(*program.decisions, *describe(normal, ranges)))
    valid = builder.load(Load(VALID, "valid"), (ROW,))
    lowering = Lowering(builder, normal.recurrence, ROW)

    def in_rows(value: Expression) -> Node:
        return builder.keep(builder.broadcast(lowering.lower(value), ROW), valid, fill=1)

    logs: dict[Node, Node] = {}
    for decay, log in _logarithms(normal, ranges):
        value = builder.broadcast(lowering.lower(log), ROW)
        logs[in_rows(decay)] = builder.keep(value, valid, fill=0)
    return rewrite(decided, builder, logs) if logs else decided


def _logarithms(normal: Normal, ranges: Sequence[Interval]) -> Iterator[tuple[Expression, Expression]]:
    """The decays that have a base-2 logarithm, with it."""
    if normal.coupled is not None:
        for _, decay in own_decays(normal.coupled):
            log = _logarithm_of(decay, normal)
            if log is not None:
                yield decay, log
        return
    for decay, decay_range in zip(normal.decays, ranges, strict=True):
        log = log_decay(normal, decay, decay_range)
        if log is not None:
            yield decay, log


def own_decays(coupled: Coupled) -> Iterator[tuple[str, Expression]]:
    """The states that keep some of their own value, and how much."""
    for number, name in enumerate(coupled.states):
        decay = coupled.mixing[number][number]
        if decay is not None:
            yield name, decay


def _logarithm_of(decay: Expression, normal: Normal) -> Expression | None:
    known = environment(normal.recurrence)
    return logarithm(decay, known) if excludes_zero(infer(decay, known)) else None


def log_decay(normal: Normal, decay: Expression, decay_range: Interval) -> Expression | None:
    """log2 of the decay; None where products have to do."""
    if not excludes_zero(decay_range):
        return None
    return logarithm(decay, environment(normal.recurrence))


def _describe_coupled(normal: Normal, coupled: Coupled) -> Iterator[str]:
    """What was chosen for each state's own decay, and how states reach each other."""
    known = environment(normal.recurrence)
    for name, decay in own_decays(coupled):
        if decay == Constant(Fraction(1)):
            yield f"the state '{name}' keeps all of its own value"
            continue
        where = f"the decay of '{name}' by itself lies in {infer(decay, known)}"
        if _logarithm_of(decay, normal) is not None:
            yield f"{where}, above 0: base-2 logarithms; a C x C matrix of segment sums, masked before exp2"
        else:
            yield f"{where}, which may be 0: a C x C matrix of products; no logarithm and no division"
    yield "from state to state: sums of products over the tokens between, no logarithm and no division"


def describe(normal: Normal, ranges: Sequence[Interval]) -> tuple[str, ...]:
    """What was chosen for the decays and why, as sentences."""
    if normal.coupled is not None:
        return tuple(_describe_coupled(normal, normal.coupled))
    if not normal.decays:
        return ("no decay: scores are masked products, nothing is exponentiated",)
    if normal.elementwise is not None:
        return tuple(_scan_sentence(normal, *each) for each in zip(normal.decays, ranges, strict=True))
    return tuple(
        _chosen(normal, decay, decay_range) for decay, decay_range in zip(normal.decays, ranges, strict=True)
    )


def _chosen(normal: Normal, decay: Expression, decay_range: Interval) -> str:
    channels = [axis for axis in normal.axes if axis in decay.axes]
    shape = f"per channel of '{channels[0]}'" if channels else "scalar"
    where = f"the decay ({shape}) lies in {decay_range}"
    if log_decay(normal, decay, decay_range) is not None:
        levels = (
            "dyadic levels C/2, ..., 1, row exponents from the cut to i, column exponents from j to the cut"
        )
        how = levels if channels else "a C x C matrix of segment sums, masked before exp2"
        return f"{where}, above 0: base-2 logarithms; {how}"
    why = "but may round to 0" if excludes_zero(decay_range) else "which reaches 0"
    how = "running products on dyadic levels" if channels else "a C x C matrix of products"
    return f"{where}, {why}: {how}; no logarithm and no division"


def _scan_sentence(normal: Normal, decay: Expression, decay_range: Interval) -> str:
    each = f"each entry of '{normal.key_axis}' its own" if decay.axes else "scalar"
    logs = log_decay(normal, decay, decay_range) is not None
    how = "a scan of pairs (decay, value) in a chunk" if decay.axes == normal.axes else "products in a chunk"
    carried = "base-2 logarithms" if logs else "products"
    return f"the decay ({each}) lies in {decay_range}: {how}; from the start of a chunk to a token, {carried}"


def rewrite(program: Program, builder: Builder, logs: Mapping[Node, Node]) -> Program:
    """Every product of decays that have a logarithm, over the rows, written as exp2 of a sum of logs."""
    return rewritten(program, builder, partial(_positive, logs))


def _positive(logs: Mapping[Node, Node], node: Node, args: list[Node], build: Builder) -> Node:
    log = logs.get(node.args[-1]) if node.args else None
    match node.op:
        case ir.Path(exclusive, strict) if log is not None:
            return build.apply("exp2", build.segment(log, exclusive, strict))
        case ir.RunningProduct(direction, exclusive) if log is not None:
            return build.apply("exp2", build.running(log, direction, exclusive))
        case ir.First():
            return build.first(args[0])
        case ir.DecayDot(axis, "product", exclusive, strict) if log is not None:
            return build.node(ir.DecayDot(axis, "log", exclusive, strict), [*args[:2], log], node.axes)
        case ir.DecayDotRows(axis, "product", exclusive, strict) if log is not None:
            return build.node(ir.DecayDotRows(axis, "log", exclusive, strict), [*args[:2], log], node.axes)
        case _:
            return node if list(node.args) == args else build.with_args(node, args)
