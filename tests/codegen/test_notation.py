"""Values as formulas, and lines under the equations that they implement."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.notation import Notation
from rnnc.codegen.operations import COLUMN, ROW
from rnnc.codegen.paragraphs import Line, Paragraphs
from rnnc.codegen.program import Node, reachable
from rnnc.codegen.torch_sums import plain

pytestmark = pytest.mark.smoke
BUILD = Builder(("K", "V"))


def load(name: str, *axes: str) -> Node:
    return BUILD.load(ir.Load(name, "input"), axes)


Q, K, V, G = load("q", ROW, "K"), load("k", ROW, "K"), load("v", ROW, "V"), load("g", ROW)
S, E = load("S", "K", "V"), load("e", "K")
PAIRS = BUILD.dot(Q, BUILD.rename(K, ROW, COLUMN), "K")
SEGMENT = BUILD.segment(G, exclusive=False, strict=False)


def unit(x: Node) -> Node:
    square = BUILD.sum(BUILD.multiply([x, x]), "K")
    return BUILD.power(BUILD.add([(1, square), (1, BUILD.constant(1e-6))]), Fraction(-1, 2))


@pytest.mark.parametrize(
    ("node", "formula"),
    [
        (PAIRS, "q k^T"),
        (BUILD.dot(Q, S, "K"), "q S"),
        (BUILD.dot(K, V, ROW), "k^T v"),
        (BUILD.dot(V, S, "V"), "v S^T"),
        (BUILD.dot(E, S, "K"), "S^T e"),
        (BUILD.multiply([E, load("u", "V")], 2), "2 e u^T"),
        (BUILD.add([(1, S), (-2, load("N", "K", "V"))]), "S - 2 N"),
        (BUILD.multiply([PAIRS, G, BUILD.rename(G, ROW, COLUMN)]), "g[i] * g[j] * q k^T"),
        (BUILD.multiply([BUILD.add([(1, G), (1, load("h", ROW))]), Q]), "(g + h) * q"),
        (BUILD.apply("exp2", SEGMENT), "2^(sum(g[t], j < t <= i))"),
        (BUILD.running(G, "suffix", True), "sum(g[t], t > i)"),
        (BUILD.mask(PAIRS, strict=True), "tril(q k^T, -1)"),
        (BUILD.node(ir.Inverse(), [PAIRS], PAIRS.axes), "(I - q k^T)^-1"),
        (unit(Q), "1/|q|"),
        (BUILD.multiply([BUILD.node(ir.AxisSize("K"), (), ()), G], Fraction(1, 2)), "0.5 K * g"),
        (BUILD.keep(G, load("@valid", ROW)), "g"),
    ],
)
def test_formulas(node: Node, formula: str) -> None:
    inside = {inner for inner in map(plain, reachable([node])) if not isinstance(inner.op, ir.Load)}
    notation = Notation(lambda load: load.op.name if isinstance(load.op, ir.Load) else "?")
    assert notation.formula(node, inside) == formula


def lines_of(*nodes: Node) -> list[Line]:
    """A line for each value; a load uses nothing."""
    return [Line((f"b{n.number} = ...",), tuple(map(plain, n.args)), n) for n in nodes]


def test_a_paragraph_holds_what_nothing_else_needs() -> None:
    """What two values need has a paragraph of its own; a read stands with the first line that needs it."""
    shared = BUILD.multiply([G, load("h", ROW)])
    first, second = BUILD.multiply([PAIRS, SEGMENT]), BUILD.dot(Q, S, "K")
    uses = [BUILD.node(ir.Multiply(1), [shared, value], value.axes) for value in (first, second)]
    names = {G: "g", load("h", ROW): "h", Q: "q", K: "k", S: "S", SEGMENT: "L", shared: "w"}
    names |= {uses[0]: "A", uses[1]: "o", PAIRS: "?", first: "?", second: "?"}
    lines = lines_of(G, load("h", ROW), shared, SEGMENT, Q, K, PAIRS, first, uses[0], S, second, uses[1])
    texts = Paragraphs(lambda node: names[plain(node)], lambda node: node is SEGMENT).texts(lines)
    equations = [text for text in texts if text.startswith("#")]
    assert equations == ["# L = sum(g[t], j < t <= i)", "# A = w[i] * q k^T * L", "# o = w * q S"]
    assert texts.index("# o = w * q S") == texts.index(f"b{S.number} = ...") - 1


def test_terms_that_are_added() -> None:
    term = BUILD.dot(Q, S, "K")
    total = BUILD.add([(1, V), (-1, term)])
    (text, *_) = Paragraphs(
        lambda node: "q S o".split()[[Q, S, total].index(node)], lambda node: False
    ).texts([Line(("b_o -= ...",), (Q, S), total, adds=term, factor=-1, sign="+=")])
    assert text == "# o -= q S"
