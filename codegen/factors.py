"""The factors of a product: which of them is large, which go together, which cancel."""

from __future__ import annotations

from collections.abc import Sequence

from rnnc.codegen.operations import TIME_AXES, Broadcast, Multiply, NamedConst
from rnnc.codegen.program import Node
from rnnc.dsl.expression import Axes

TYPICAL_SIZE = dict.fromkeys(TIME_AXES, 64)
TYPICAL_FEATURES = 128


def typical_size(axes: Axes) -> int:
    """How many entries a value has, at common sizes: what the placement of a factor is decided by."""
    size = 1
    for axis in axes:
        size *= TYPICAL_SIZE.get(axis, TYPICAL_FEATURES)
    return size


def largest_factor(node: Node) -> tuple[Node, list[Node]]:
    """The factor with all axes of a product, if there is just one, and the others; else the node itself."""
    if not isinstance(node.op, Multiply) or node.op.coefficient != 1:
        return node, []
    large = [factor for factor in node.args if len(factor.axes) == len(node.axes)]
    if len(large) != 1:
        return node, []
    return large[0], [factor for factor in node.args if factor is not large[0]]


def without_broadcasts(factors: list[Node]) -> list[Node]:
    """The factors with those repeated along an axis that another factor has anyway taken as they were."""
    result = list(factors)
    for index, factor in enumerate(factors):
        while isinstance(factor.op, Broadcast):
            others = (other for i, other in enumerate(result) if i != index)
            if not any(factor.op.axis in other.axes for other in others):
                break
            factor = factor.args[0]
            result[index] = factor
    return result


def without_inverses(factors: list[Node]) -> list[Node]:
    """The factors without pairs of ln 2 and log2 e."""
    named = [f for f in factors if isinstance(f.op, NamedConst)]
    first = [f for f in named if f.op == NamedConst("ln2")]
    second = [f for f in named if f.op == NamedConst("log2e")]
    pairs = min(len(first), len(second))
    if not pairs:
        return factors
    rest = [f for f in factors if not isinstance(f.op, NamedConst)]
    return rest + first[pairs:] + second[pairs:]


def components(factors: Sequence[Node], axis: str) -> list[list[Node]]:
    """The factors grouped so that different groups share no axis but the given one."""
    groups: list[tuple[set[str], list[Node]]] = []
    lone: list[Node] = []
    for factor in factors:
        own = set(factor.axes) - {axis}
        if not own:
            lone.append(factor)
            continue
        joined = [group for group in groups if group[0] & own]
        rest = [group for group in groups if not group[0] & own]
        axes = own.union(*(group[0] for group in joined))
        groups = [*rest, (axes, [n for group in joined for n in group[1]] + [factor])]
    if not groups:
        return [lone]
    groups.sort(key=lambda group: min(node.number for node in group[1]))
    smallest = min(groups, key=lambda group: typical_size(tuple(group[0])))
    smallest[1].extend(lone)
    return [group[1] for group in groups]
