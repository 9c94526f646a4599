"""Products with sums of tiles, as sums of products that are there anyway."""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.compiler import analyse
from rnnc.codegen.distribution import distribute
from rnnc.codegen.forms import chunked_form
from rnnc.codegen.numerics import stabilise
from rnnc.codegen.program import Program

SPEC = """recurrence corrected[K, V]:
    input q[K], k[K], v[V], x[K]
    let u = unit(k)
    state S[K, V]
    S <- S - {read} @ (u.T @ S) + u @ v.T
    output o[V]
    o <- S.T @ (q - {correction})
"""


def _programs(correction: str, read: str = "u") -> tuple[Program, Program]:
    compiled = analyse(SPEC.format(correction=correction, read=read))
    builder = Builder(("K", "V"))
    before = stabilise(chunked_form(compiled.normal, builder), builder, compiled.normal, ())
    return before, distribute(before, builder)


def _products(program: Program) -> int:
    two = (node for node in program.nodes() if isinstance(node.op, ir.Dot) and len(node.axes) == 2)
    return sum(all(len(argument.axes) == 2 for argument in node.args) for node in two)


def _summed(program: Program) -> int:
    """The products that have a sum for an operand."""
    dots = [node for node in program.nodes() if isinstance(node.op, ir.Dot)]
    return sum(any(isinstance(a.op, ir.Add) and len(a.axes) == 2 for a in node.args) for node in dots)


def test_a_query_corrected_by_the_key_takes_the_products_of_the_key() -> None:
    before, after = _programs("2 * u")
    assert _summed(before) == 2
    assert _summed(after) == 0
    assert _products(after) == _products(before)


def test_a_product_that_nothing_else_has_stays() -> None:
    before, after = _programs("x")
    assert _summed(before) == 2
    assert {*after.results.values()} == {*before.results.values()}
