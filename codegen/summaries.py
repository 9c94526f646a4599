"""What a stretch of tokens does to the state, as a kernel of its own: the schedule may split a sequence.

A stretch maps the state as S -> M S + N, and these maps compose: (M', N') after (M, N) is (M' M, M' N + N').
N is the stretch run from zero, which the scan does. M is the scan without what it writes: the terms of its
end that hold the start (each term holds it once). Run from the identity, with the columns of the identity
where the columns of the state were, it gives M; where M only scales the rows of the state, run from ones, in
one column, it gives that scale. The gradient goes the other way through the same maps: dS -> M^T dS + N'.
Where reads contract the second axis of the state, all of it is transposed: S -> S M + N.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Carry, Node, dependents, reachable

# What is linear in each argument: of these a term holds the state where one argument does.
LINEAR = (ir.Add, ir.Multiply, ir.Dot, ir.Rename, ir.Keep, ir.Sum, ir.Repeat, ir.OverSteps)
SCALING = (ir.Multiply, ir.Keep)


class NoSummary(ValueError):
    """Why sequences are not split."""


@dataclass(frozen=True, slots=True)
class Transition:
    """M as a program: the end of a chunk without what it writes. `scaling`: M only scales the rows of the
    state, so that one column tells it all; `kept`: M is the identity.
    """

    carry: Carry
    scaling: bool

    @property
    def kept(self) -> bool:
        return self.carry.end is self.carry.start


def transition(carry: Carry, builder: Builder, value_axis: str) -> Transition:
    """The linear part of a carry; raises NoSummary where it is no matrix over the other axis."""
    end = linear_part(carry.end, carry.start, builder)
    nodes = reachable([end])
    moving = dependents(nodes, [carry.start])
    for node in nodes:
        if node.number not in moving and value_axis in node.axes:
            raise NoSummary(f"what the state is multiplied by depends on '{value_axis}'")
    on_the_way = [node for node in nodes if node.number in moving and node is not carry.start]
    scaling = all(isinstance(node.op, SCALING) and node.axes == carry.start.axes for node in on_the_way)
    return Transition(Carry(carry.name, carry.start, end), scaling)


def linear_part(end: Node, start: Node, builder: Builder) -> Node:
    """The terms of an affine function of the start that hold it; raises NoSummary if it is not known to be
    one.
    """
    nodes = reachable([end])
    moving = dependents(nodes, [start])
    if end.number not in moving:
        raise NoSummary("the state at the end does not depend on that at the start")
    new: dict[Node, Node] = {start: start}
    for node in nodes:
        if node.number not in moving or node in new:
            continue
        held = [argument for argument in node.args if argument.number in moving]
        if not isinstance(node.op, LINEAR) or (len(held) > 1 and not isinstance(node.op, ir.Add)):
            raise NoSummary(f"the state passes through {type(node.op).__name__}")
        if isinstance(node.op, ir.Add):
            pairs = zip(node.op.coefficients, node.args, strict=True)
            new[node] = _sum([(c, new[a]) for c, a in pairs if a.number in moving], builder)
        else:
            args = [new.get(argument, argument) for argument in node.args]
            if any(a.axes != b.axes for a, b in zip(args, node.args, strict=True)):
                raise NoSummary("a term with the state is constant along an axis")
            new[node] = builder.node(node.op, args, node.axes)  # as it is: the operands are those of the scan
    return new[end]


def _sum(terms: Iterable[tuple[ir.Number, Node]], builder: Builder) -> Node:
    """The terms in their order, which is that of the kernels."""
    found = list(terms)
    if len(found) == 1:
        ((coefficient, node),) = found
        return node if coefficient == 1 else builder.multiply([node], coefficient)
    axes = builder.joined([node for _, node in found])
    return builder.node(ir.Add(tuple(c for c, _ in found)), [node for _, node in found], axes)
