"""Sums that another order of summation has formed already.

    sum_v x[i,v] (sum_j y[i,j] z[j,v])  =  sum_j y[i,j] (sum_v x[i,v] z[j,v])

Where a program forms the matrix product on the right anyway, the left side costs a row sum instead of a
matrix product: the derivative by a factor of rows is found in that by what it multiplies. And

    sum_k y[i,k] (sum_v x[i,v] z[k,v])  =  sum_v x[i,v] (sum_k y[i,k] z[k,v])

leaves a large product free to be added to others as it is formed.

A product with a sum of matrices between tokens is distributed: pairs of its factors are multiplied anyway.
"""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.operands import is_matrix
from rnnc.codegen.program import Node, Program, reachable
from rnnc.codegen.rewriting import rewritten


def reassociate(program: Program, builder: Builder, value_axis: str) -> Program:
    """The program with such sums taken of the products that it forms for other results."""
    formed = {node for node in program.nodes() if isinstance(node.op, ir.Dot)}

    def rule(node: Node, args: list[Node], build: Builder) -> Node | None:
        value = node if list(node.args) == args else build.with_args(node, args)
        return _reordered(value, formed, build, value_axis) or _distributed(value, build)

    return rewritten(program, builder, rule)


def _distributed(node: Node, builder: Builder) -> Node | None:
    """f (a + b) as f a + f b, for matrices between tokens."""
    sums = [f for f in node.args if isinstance(f.op, ir.Add) and is_matrix(f)]
    if not isinstance(node.op, ir.Multiply) or len(sums) != 1 or len(node.args) < 2:
        return None
    total, rest = sums[0], [factor for factor in node.args if factor is not sums[0]]
    assert isinstance(total.op, ir.Add)
    terms = [builder.multiply([*rest, term], node.op.coefficient) for term in total.args]
    return builder.add(zip(total.op.coefficients, terms, strict=True))


def _reordered(node: Node, formed: set[Node], builder: Builder, value_axis: str) -> Node | None:
    """The sum in the other order, if the matrix products that it takes are formed."""
    if not isinstance(node.op, ir.Sum) or not isinstance(node.args[0].op, ir.Multiply):
        return None
    axis = node.op.axis
    if axis in ir.TIME_AXES:
        return None
    factors = node.args[0].args
    if len(factors) != 2:
        return None
    for other, product in (factors, factors[::-1]):
        if not isinstance(product.op, ir.Dot) or other.axes != product.axes:
            continue
        if product.op.axis not in ir.TIME_AXES and (product.op.axis != value_axis or axis == value_axis):
            continue
        inner, (left, right) = product.op.axis, product.args
        rows, columns = (right, left) if axis in left.axes else (left, right)
        already = builder.dot(other, columns, axis)
        if {n for n in reachable([already]) if isinstance(n.op, ir.Dot)} <= formed:
            coefficient = node.args[0].op.coefficient
            return builder.sum(builder.multiply([rows, already], coefficient), inner)
    return None
