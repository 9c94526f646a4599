"""Products of a matrix of pairs of tokens with rows of tokens: scaled and summed as matrices of pairs.

    s[i] sum_j l[i,j] r[j,k]                            =  sum_j (s[i] l[i,j]) r[j,k]
    sum_j l[i,j] r[j,k]  +  sum_j r[j,k] m[j,i]         =  sum_j (l[i,j] + m[j,i]) r[j,k]

A pass over pairs is one of C entries per token, a pass over rows one of the whole feature axis; and one sum
that takes a product alone adds it as it is formed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.program import Node, Program
from rnnc.codegen.schedule import needed
from rnnc.codegen.torch_sums import is_number, plain

Users = Counter[Node]


def gather_pair_products(program: Program, given: Iterable[Node], builder: Builder) -> Program:
    """The program with scales of such products on their matrices, and sums of them as one; `given` stay."""
    atoms = frozenset(given)
    roots = [*program.results.values(), *(carry.end for carry in program.carries)]
    nodes = needed(roots, atoms)
    users = Counter(argument for node in nodes for argument in node.args)
    users.update([*roots, *atoms])
    new = {node: node for node in atoms}
    for node in nodes:
        new[node] = _scaled(node, users, new, builder) or _same(node, new, builder)
        users[new[node]] = users[node]
        if isinstance(node.op, ir.Add):
            new[node] = _summed(new[node], users, builder)
    return replace(
        program,
        results={name: new[value] for name, value in program.results.items()},
        carries=tuple(replace(carry, end=new[carry.end]) for carry in program.carries),
    )


def _same(node: Node, new: dict[Node, Node], builder: Builder) -> Node:
    args = [new[argument] for argument in node.args]
    return node if args == list(node.args) else builder.node(node.op, args, node.axes)


@dataclass(frozen=True, slots=True)
class PairProduct:
    """sum over `column` of left[row, column] * right[column, feature]."""

    left: Node
    right: Node
    row: str
    column: str
    axes: tuple[str, ...]


def _pair_product(node: Node, users: Users, builder: Builder) -> PairProduct | None:
    """The node as such a product, if nothing else needs it; relabelled, its axes of time change places."""
    product = plain(node)
    if not isinstance(product.op, ir.Dot) or any(users[each] != 1 for each in _chain(node)):
        return None
    (left, right), column = product.args, product.op.axis
    if set(right.axes) <= set(ir.TIME_AXES):
        left, right = right, left
    pairs = len(left.axes) == 2 and set(left.axes) <= set(ir.TIME_AXES)
    if not pairs or len(right.axes) != 2 or right.axes[0] != column or is_number(left):
        return None
    (row,) = set(left.axes) - {column}
    wanted = node.axes[0]
    if product.axes[0] != row or node.axes[1:] != product.axes[1:]:
        return None
    if row != wanted:
        if wanted != column or ir.LAST in left.axes:
            return None
        for old, new in ((row, ir.LAST), (column, row), (ir.LAST, column)):
            left = _relabelled(left, old, new, builder)
        right = builder.rename(right, column, row)
        row, column = column, row
    return PairProduct(left, right, row, column, node.axes)


def _chain(node: Node) -> list[Node]:
    """The node and what it relabels."""
    found = [node]
    while isinstance(found[-1].op, ir.Rename):
        found.append(found[-1].args[0])
    return found


def _relabelled(node: Node, old: str, new: str, builder: Builder) -> Node:
    """The array itself under another name of an axis, whatever it is computed from."""
    axes = tuple(new if axis == old else axis for axis in node.axes)
    return builder.node(ir.Rename(old, new), [node], axes)


def _formed(product: PairProduct, left: Node, builder: Builder) -> Node:
    return builder.node(ir.Dot(product.column), [left, product.right], product.axes)


def _scaled(node: Node, users: Users, new: dict[Node, Node], builder: Builder) -> Node | None:
    """A product with scales by row, with its matrix scaled."""
    if not isinstance(node.op, ir.Multiply) or len(node.axes) != 2:
        return None
    args = [new[argument] for argument in node.args]
    for position, argument in enumerate(node.args):
        if argument.axes != node.axes:
            continue
        product = _pair_product(args[position], users, builder)
        scales = [each for number, each in enumerate(args) if number != position]
        by_row = product is not None and all(set(each.axes) <= {product.row} for each in scales)
        if product is not None and by_row and any(not is_number(each) for each in scales):
            scaled = builder.node(node.op, [*scales, product.left], product.left.axes)
            return _formed(product, scaled, builder)
    return None


def _summed(node: Node, users: Users, builder: Builder) -> Node:
    """A sum in which products with the same rows are one."""
    assert isinstance(node.op, ir.Add)
    terms: list[tuple[ir.Number, Node]] = []
    found: dict[tuple[Node, str], list[tuple[ir.Number, PairProduct]]] = {}
    for coefficient, argument in zip(node.op.coefficients, node.args, strict=True):
        product = _pair_product(argument, users, builder) if argument.axes == node.axes else None
        if product is None:
            terms.append((coefficient, argument))
        else:
            found.setdefault((product.right, product.row), []).append((coefficient, product))
    if not found:
        return node
    for products in found.values():
        (coefficient, first), lefts = products[0], [product.left for _, product in products]
        if len(products) > 1:
            total = ir.Add(tuple(each for each, _ in products))
            axes = lefts[0].axes
            coefficient, left = Fraction(1), builder.node(total, lefts, axes)
        else:
            left = lefts[0]
        term = _formed(first, left, builder)
        users[term] = 1
        terms.append((coefficient, term))
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]
    return builder.node(ir.Add(tuple(c for c, _ in terms)), [t for _, t in terms], node.axes)
