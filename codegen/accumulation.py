"""Factors of matrix products that are added up move into an operand.

    s[i] (sum_v x[i,v] y[k,v]) + ...  =  sum_v (s[i] x[i,v]) y[k,v] + ...

Then a sum of matrix products needs one accumulator, and no product exists beside it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.operations import Number
from rnnc.codegen.program import Node, Program
from rnnc.codegen.torch_sums import plain


def fold_factors(program: Program, builder: Builder) -> Program:
    """The program with the terms of its results, where they are matrix products that nothing else needs,
    scaled by their operands.
    """
    nodes = [node for node in program.nodes() if not isinstance(node.op, ir.Rename)]
    uses = Counter(plain(argument) for node in nodes for argument in set(node.args))
    results = {name: _folded(node, uses, builder) for name, node in program.results.items()}
    return replace(program, results=results)


def _folded(total: Node, uses: Counter[Node], builder: Builder) -> Node:
    node = plain(total)
    if not isinstance(node.op, ir.Add) or len(node.axes) != 2:
        return total
    coefficients, terms = list(node.op.coefficients), list(node.args)
    for index, (coefficient, term) in enumerate(zip(coefficients, terms, strict=True)):
        scaled = _scaled(coefficient, term, uses, builder)
        if scaled is not None:
            coefficients[index], terms[index] = Fraction(1), scaled
    return builder.node(ir.Add(tuple(coefficients)), terms, node.axes)


def _scaled(coefficient: Number, term: Node, uses: Counter[Node], builder: Builder) -> Node | None:
    """A term that is a matrix product times vectors as one matrix product; None if it is none."""
    factors = [term]
    if isinstance(term.op, ir.Multiply):
        coefficient, factors = coefficient * term.op.coefficient, list(term.args)
    products = [f for f in factors if is_product(plain(f))]
    if len(products) != 1 or uses[plain(products[0])] > 1 or (factors != [term] and uses[term] > 1):
        return None
    vectors = [f for f in factors if f is not products[0]]
    dot, renamed = plain(products[0]), products[0].axes
    time = [axis for axis in renamed if axis in ir.TIME_AXES]
    if len(time) != 1 or any(set(vector.axes) - set(time) for vector in vectors):
        return None
    (row,) = (axis for axis in dot.axes if axis in ir.TIME_AXES)
    side = next(i for i, operand in enumerate(dot.args) if row in operand.axes)
    weight = builder.node(ir.Multiply(coefficient), vectors, builder.joined(vectors)) if vectors else None
    if weight is not None and coefficient == 1 and len(vectors) == 1:
        weight = vectors[0]
    if weight is not None and row not in weight.axes and weight.axes:
        weight = builder.node(ir.Rename(time[0], row), [weight], (row,))
    operands = list(dot.args)
    if weight is not None:
        operands[side] = builder.node(ir.Multiply(1), [operands[side], weight], operands[side].axes)
    elif coefficient != 1:
        operands[side] = builder.node(ir.Multiply(coefficient), [operands[side]], operands[side].axes)
    result = builder.node(dot.op, operands, dot.axes)
    return result if dot.axes == renamed else builder.node(ir.Rename(row, time[0]), [result], renamed)


def is_product(node: Node) -> bool:
    """Whether a value is a matrix product over tokens and channels."""
    two = len(node.axes) == 2 and all(len(argument.axes) == 2 for argument in node.args)
    return isinstance(node.op, ir.Dot) and two and sum(axis in ir.TIME_AXES for axis in node.axes) == 1
