"""What nodes are to the order of work in a kernel: sums of terms, large values, what a loop comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.accumulation import is_product
from rnnc.codegen.arrays import Array
from rnnc.codegen.phases import in_order, is_accumulated, is_heavy
from rnnc.codegen.program import Node
from rnnc.codegen.torch_sums import plain


def products_of_one_sum(body: Sequence[Node], stores: Iterable[Array]) -> set[Node]:
    """The matrix products that a stored sum is the only one to need."""
    uses = Counter(plain(argument) for node in body for argument in node.args)
    totals = [plain(array.node) for array in stores if is_large(array.node)]
    terms = [plain(arg) for total in totals if isinstance(total.op, ir.Add) for arg in _unit_terms(total)]
    return {term for term in terms if is_product(term) and uses[term] == 1}


def _unit_terms(total: Node) -> Iterator[Node]:
    """The terms of a sum whose coefficient is 1."""
    assert isinstance(total.op, ir.Add)
    yield from (arg for c, arg in zip(total.op.coefficients, total.args, strict=True) if c == 1)


def lasting_values(body: Sequence[Node], sources: Mapping[Node, set[Node]]) -> set[Node]:
    """What stays when a phase ends: sums over tiles and what is made of them, and what costs much."""
    found: set[Node] = set()
    for node in body:
        if sources.get(node) or is_heavy(node) or any(plain(argument) in found for argument in node.args):
            found.add(node)
    return found


def is_square(node: Node) -> bool:
    """Whether a value is a matrix between tokens."""
    return len(node.axes) == 2 and all(axis in ir.TIME_AXES for axis in node.axes)


def matrix_count(node: Node) -> int:
    """Of how many matrices between tokens a value has the size, where a token has two micro-steps."""
    steps = sum(axis in (ir.ROWS, ir.COLUMNS) for axis in node.axes)
    return 2**steps if is_square(node) else 0


def is_large(node: Node) -> bool:
    """Whether a value is over tokens, or channels, and channels."""
    return len(node.axes) == 2 and not all(axis in ir.TIME_AXES for axis in node.axes)


def crosses(node: Node, axis: str) -> bool:
    """Whether a tile over the axis is a sum over another one, of values or channels."""
    summed = {name for argument in node.args for name in argument.axes} - {*node.axes, *ir.TIME_AXES}
    return axis in node.axes and bool(summed)


def is_alone(node: Node) -> bool:
    """Whether a sum over tiles has a loop of its own: products under decays fill the registers."""
    return isinstance(node.op, ir.DecayDot)


def solved(body: Iterable[Node]) -> set[Node]:
    """The triangular inverses and what depends on them."""
    found: set[Node] = set()
    for node in body:
        if isinstance(node.op, ir.Inverse) or any(plain(argument) in found for argument in node.args):
            found.add(node)
    return found


def loop_sources(body: Iterable[Node], memory: Mapping[Node, Array], axis: str) -> dict[Node, set[Node]]:
    """The sums over tiles that each value is computed from."""
    found: dict[Node, set[Node]] = {}
    for node, args in in_order(node for node in body if node not in memory):
        found[node] = set().union(*(found.get(a, set()) for a in args))
        if is_accumulated(node, axis):
            found[node].add(node)
    return found
