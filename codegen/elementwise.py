"""Forms of a state whose entries do not mix: one token, and C tokens as a scan.

With G[i] = D[1] ... D[i] inside a chunk that starts from h0, entry by entry,

    h[i]  = G[i] h0 + u[i],     u[i] = D[i] u[i-1] + v[i],  u[0] = 0
    h_out = G[C] h0 + sum_j (G[C] / G[j]) v[j]

u is a scan of the pairs (D, v) where every entry has its own decay, and a product of matrices,
u[i] = sum_j (G[i] / G[j]) v[j], where one decay scales a vector. Rows beyond the sequence have D = 1, v = 0.
"""

from __future__ import annotations

from rnnc.codegen.builder import Builder
from rnnc.codegen.lowering import Lowering
from rnnc.codegen.operations import COLUMN, ROW, VALID, LinearScan, Load, Path, RunningProduct
from rnnc.codegen.program import Carry, Node, Program
from rnnc.dsl.expression import Expression, names
from rnnc.dsl.normal import Elementwise, Normal


def recurrent_elementwise(normal: Normal, build: Builder) -> Program:
    """One token: h_out = D * h + v."""
    lowering = Lowering(build, normal.recurrence, None)
    old = build.load(Load(normal.state, "state"), normal.axes)
    terms = [old if normal.decay is None else build.multiply([lowering.lower(normal.decay), old])]
    assert normal.elementwise is not None
    if normal.elementwise.added is not None:
        terms.append(_spread(lowering.lower(normal.elementwise.added), normal, build))
    new = build.add((1, term) for term in terms)
    lowering.names[Elementwise.new(normal.state)] = new
    lowering.names[Elementwise.old(normal.state)] = old
    results = {name: lowering.lower(value) for name, value in normal.outputs}
    return Program("recurrent", results, (Carry(normal.state, old, new),))


def chunked_elementwise(normal: Normal, build: Builder) -> Program:
    """C tokens at once."""
    return _Chunk(normal, build).program()


def _spread(value: Node, normal: Normal, build: Builder) -> Node:
    """The value along the axes of the state."""
    for axis in normal.axes:
        value = build.broadcast(value, axis)
    return value


class _Chunk:
    def __init__(self, normal: Normal, build: Builder) -> None:
        assert normal.elementwise is not None
        self.normal, self.build = normal, build
        self.lowering = Lowering(build, normal.recurrence, ROW)
        valid = build.load(Load(VALID, "valid"), (ROW,))
        self.start = build.load(Load(normal.state, "state"), normal.axes)
        self.decay: Node | None = None
        if normal.decay is not None:
            self.decay = build.keep(self._timed(normal.decay), valid, fill=1)
        self.added: Node | None = None
        if normal.elementwise.added is not None:
            added = _spread(self._timed(normal.elementwise.added), normal, build)
            self.added = build.multiply([added, valid])

    def program(self) -> Program:
        normal, build = self.normal, self.build
        read = frozenset().union(*(names(value) for _, value in normal.outputs))
        for name, exclusive in (
            (Elementwise.new(normal.state), False),
            (Elementwise.old(normal.state), True),
        ):
            if name in read:
                self.lowering.names[name] = self._tokens(exclusive)
        results = {name: self._timed(value) for name, value in normal.outputs}
        terms = [self._scaled(self.start, RunningProduct("suffix", False), first=True)]
        if self.added is not None:
            left = self._scaled(self.added, RunningProduct("suffix", True))
            terms.append(build.sum(left, ROW))
        end = build.add((1, term) for term in terms)
        return Program("chunked", results, (Carry(normal.state, self.start, end),))

    def _timed(self, expression: Expression) -> Node:
        return self.build.broadcast(self.lowering.lower(expression), ROW)

    # h[i] = G[i] h0 + u[i]; exclusive: G[i-1], u[i-1]
    def _tokens(self, exclusive: bool) -> Node:
        """The state after every token, or before it."""
        build = self.build
        start = build.broadcast(self.start, ROW)
        terms = [self._scaled(start, RunningProduct("prefix", exclusive))]
        if self.added is not None:
            terms.append(self._written(self.added, exclusive))
        return build.add((1, term) for term in terms)

    def _written(self, added: Node, exclusive: bool) -> Node:
        """The state that starts at zero."""
        build = self.build
        if self.decay is None:
            return build.running(added, "prefix", exclusive)
        if self.decay.axes == added.axes:
            return build.node(LinearScan("prefix", exclusive), [self.decay, added], added.axes)
        path = build.node(Path(exclusive, exclusive), [self.decay], (ROW, COLUMN))
        return build.dot(path, build.rename(added, ROW, COLUMN), COLUMN)

    def _scaled(self, value: Node, product: RunningProduct, first: bool = False) -> Node:
        """The value times products of decays in every row, or the one in the first row."""
        if self.decay is None:
            return value
        factor = self.build.node(product, [self.decay], self.decay.axes)
        return self.build.multiply([self.build.first(factor) if first else factor, value])
