"""Factors of matrix products on the side of the values."""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.operations import COLUMN, ROW, Load
from rnnc.codegen.program import Node, Program
from rnnc.codegen.value_operands import scale_values

BUILD = Builder(("K", "V"))


def given(name: str, *axes: str) -> Node:
    return BUILD.load(Load(name, "input"), axes)


def moved(result: Node) -> Node:
    return scale_values(Program("p", {"o": result}, ()), BUILD, "V").results["o"]


def over_rows(*factors: Node) -> Node:
    """The product, computed over ROW, where all factors are over COLUMN."""
    product = BUILD.multiply([BUILD.rename(factor, COLUMN, ROW) for factor in factors])
    return BUILD.node(ir.Rename(ROW, COLUMN), [product], (COLUMN, *product.axes[1:]))


def test_a_factor_of_columns_goes_to_the_values() -> None:
    matrix, scale, values = given("a", ROW, COLUMN), given("s", COLUMN), given("v", COLUMN, "V")
    left = BUILD.multiply([matrix, scale])
    result = moved(BUILD.node(ir.Dot(COLUMN), [left, values], (ROW, "V")))
    assert result.args == (matrix, over_rows(scale, values))


def test_a_renamed_matrix() -> None:
    """As the scans have it: keys scaled over ROW, read over COLUMN."""
    keys, scale, values = given("k", ROW, "K"), given("s", ROW), given("v", COLUMN, "V")
    scaled = BUILD.multiply([keys, scale])
    renamed = BUILD.node(ir.Rename(ROW, COLUMN), [scaled], (COLUMN, "K"))
    result = moved(BUILD.node(ir.Dot(COLUMN), [renamed, values], ("K", "V")))
    assert result.args[0] == BUILD.rename(keys, ROW, COLUMN)
    assert result.args[1] == over_rows(BUILD.rename(scale, ROW, COLUMN), values)


def test_several_matrices_are_one_operand() -> None:
    decay, matrix, scale = given("e", ROW, COLUMN), given("a", ROW, COLUMN), given("s", COLUMN)
    values = given("v", COLUMN, "V")
    product = BUILD.node(ir.Dot(COLUMN), [BUILD.multiply([decay, scale, matrix]), values], (ROW, "V"))
    assert moved(product).args == (BUILD.multiply([decay, matrix]), over_rows(scale, values))


def test_other_factors_stay() -> None:
    matrix, rows, values = given("a", ROW, COLUMN), given("s", ROW), given("v", COLUMN, "V")
    result = BUILD.node(ir.Dot(COLUMN), [BUILD.multiply([matrix, rows]), values], (ROW, "V"))
    assert moved(result) is result
    keys = BUILD.multiply([given("k", COLUMN, "K"), given("s", COLUMN)])
    square = BUILD.node(ir.Dot(COLUMN), [matrix, keys], (ROW, "K"))
    assert moved(square) is square
