"""Coupled states -> tile programs: the recurrent and the chunked form of states that mix by scalars.

With T[i,j] and G[i] the products of the small matrices (see `mixing`), in a chunk that starts from S_a0,

    P[i,j] = sum_ba f_b[i]^T w_a[j] T_ba[i-1,j]                     j < i
    U      = (I - P)^-1 ( v + sum_ba G_ba[i-1] f_b[i]^T S_a0 + P_rp v_p )
    A[i,j] = sum_a q[i]^T w_a[j] T_sa[i,j]                          j <= i, a readout of state s
    r      = sum_w A_w U_w + sum_a G_sa[i] q[i]^T S_a0
    S_a_out = sum_b G_ab[C] S_b0 + sum_w (sum_b T_ab[C,j] w_b[j])^T U_w

The keys and the reads of one write are the same vector for all states, scaled, more often than not: then
there is one matrix f^T w, and the scales go to the products of the small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnnc.codegen.builder import Builder
from rnnc.codegen.lowering import Lowering
from rnnc.codegen.mixing import products
from rnnc.codegen.operations import COLUMN, ROW, VALID, Const, Dot, Load, Multiply
from rnnc.codegen.program import Carry, Node, Program
from rnnc.codegen.rows import solved
from rnnc.dsl.expression import Expression
from rnnc.dsl.normal import Coupled, CoupledWrite, Normal, Readout

Parts = tuple[Node | None, ...]  # one for each state


def coupled_recurrent(normal: Normal, coupled: Coupled, builder: Builder) -> Program:
    """One token: S_a_out = sum_b D_ab S_b + sum_r w_a (v + sum_b f_b^T S_b)^T."""
    build, (key, value_axis) = builder, normal.axes
    lowering = Lowering(builder, normal.recurrence, None)
    old = {name: build.load(Load(name, "state"), normal.axes) for name in coupled.states}
    updates: list[tuple[CoupledWrite, Node]] = []
    for write in coupled.writes:
        parts = [] if write.value is None else [build.broadcast(lowering.lower(write.value), value_axis)]
        for name, read in zip(coupled.states, write.reads, strict=True):
            if read is not None:
                parts.append(build.dot(build.broadcast(lowering.lower(read), key), old[name], key))
        updates.append((write, build.add((1, part) for part in parts)))
    new = {}
    for a, name in enumerate(coupled.states):
        terms = [
            build.multiply([lowering.lower(entry), old[source]])
            for source, entry in zip(coupled.states, coupled.mixing[a], strict=True)
            if entry is not None
        ]
        for write, update in updates:
            own = write.keys[a]
            if own is not None:
                terms.append(build.multiply([build.broadcast(lowering.lower(own), key), update]))
        new[name] = build.add((1, term) for term in terms)
    for readout in normal.readouts:
        query = build.broadcast(lowering.lower(readout.query), key)
        state = (old if readout.old else new)[readout.state]
        lowering.names[readout.name] = build.dot(query, state, key)
    results = {name: lowering.lower(value) for name, value in normal.outputs}
    return Program("recurrent", results, tuple(Carry(name, old[name], new[name]) for name in coupled.states))


def coupled_chunked(normal: Normal, coupled: Coupled, builder: Builder) -> Program:
    """C tokens at once, exactly."""
    return _Chunk(normal, coupled, builder).program()


@dataclass(frozen=True)
class _Row:
    """A write in every token of the chunk."""

    keys: Parts
    value: Node | None
    reads: Parts

    @property
    def reading(self) -> bool:
        return any(read is not None for read in self.reads)


class _Chunk:
    def __init__(self, normal: Normal, coupled: Coupled, builder: Builder) -> None:
        self.normal, self.coupled, self.build = normal, coupled, builder
        self.lowering = Lowering(builder, normal.recurrence, ROW)
        self.valid = builder.load(Load(VALID, "valid"), (ROW,))
        self.starts = [builder.load(Load(name, "state"), normal.axes) for name in coupled.states]
        self.products = products(builder, [self._entries(a) for a in range(len(coupled.states))])

    def _entries(self, a: int) -> list[Node | None]:
        """The row of D in every token: of tokens that are not there, the identity's."""
        found: list[Node | None] = []
        for b, entry in enumerate(self.coupled.mixing[a]):
            if a == b:
                found.append(mixing_decay(self.lowering, entry, self.valid))
            elif entry is None:
                found.append(None)
            else:
                found.append(self.build.multiply([self._timed(entry), self.valid]))
        return found

    def program(self) -> Program:
        rows = [self._row(write) for write in self.coupled.writes]
        reading, plain = [row for row in rows if row.reading], [row for row in rows if not row.reading]
        written = [
            (row.keys, update) for row, update in zip(reading, self._updates(reading, plain), strict=True)
        ]
        written += [(row.keys, row.value) for row in plain if row.value is not None]
        for readout in self.normal.readouts:
            self.lowering.names[readout.name] = self._readout(readout, written)
        results = {name: self._timed(value) for name, value in self.normal.outputs}
        carries = tuple(
            Carry(name, self.starts[a], self._end(a, written)) for a, name in enumerate(self.coupled.states)
        )
        return Program("chunked", results, carries)

    def _timed(self, expression: Expression, axis: str | None = None) -> Node:
        value = self.lowering.lower(expression)
        return self.build.broadcast(value if axis is None else self.build.broadcast(value, axis), ROW)

    def _row(self, write: CoupledWrite) -> _Row:
        key, value = self.normal.axes

        def part(vector: Expression | None, *factors: Node) -> Node | None:
            if vector is None:
                return None
            return self.build.multiply([self._timed(vector, key), *factors])

        return _Row(
            keys=tuple(part(each, self.valid) for each in write.keys),
            value=None if write.value is None else self._timed(write.value, value),
            reads=tuple(part(each) for each in write.reads),
        )

    # U = (I - P)^-1 ( v + sum_ba G_ba[i-1] f_b S_a0 + P_rp v_p )
    def _updates(self, reading: list[_Row], plain: list[_Row]) -> list[Node]:
        build, rights = self.build, []
        for row in reading:
            terms = [] if row.value is None else [row.value]
            terms += self._from_start(row.reads, exclusive=True)
            for other in plain:
                scores = self._scores(row.reads, other.keys, exclusive=True)
                if other.value is not None and scores is not None:
                    terms.append(build.dot(scores, build.rename(other.value, ROW, COLUMN), COLUMN))
            rights.append(build.add((1, term) for term in terms))
        zero = build.constant(0)
        blocks = [
            self._scores(row.reads, other.keys, exclusive=True) or zero
            for row in reading
            for other in reading
        ]
        return solved(build, blocks, rights)

    # r = sum_w A_w U_w + sum_a G_sa[i] q S_a0
    def _readout(self, readout: Readout, written: list[tuple[Parts, Node]]) -> Node:
        build = self.build
        query = self._timed(readout.query, self.normal.key_axis)
        left = tuple(query if name == readout.state else None for name in self.coupled.states)
        terms = self._from_start(left, readout.old)
        for keys, update in written:
            scores = self._scores(left, keys, readout.old)
            if scores is not None:
                terms.append(build.dot(scores, build.rename(update, ROW, COLUMN), COLUMN))
        return build.add((1, term) for term in terms)

    # S_a_out = sum_b G_ab[C] S_b0 + sum_w (sum_b T_ab[C,j] w_b[j])^T U_w
    def _end(self, a: int, written: list[tuple[Parts, Node]]) -> Node:
        build, terms = self.build, []
        for b, start in enumerate(self.starts):
            whole = self.products.whole(a, b)
            if whole is not None:
                terms.append(build.multiply([whole, start]))
        for keys, update in written:
            factors = [self.products.to_end(a, b) for b in range(len(keys))]
            pairs = zip(keys, factors, strict=True)
            scaled = [build.multiply([key, f]) for key, f in pairs if key is not None and f is not None]
            if scaled:
                terms.append(build.dot(build.add((1, each) for each in scaled), update, ROW))
        return build.add((1, term) for term in terms)

    def _from_start(self, left: Parts, exclusive: bool) -> list[Node]:
        """sum_ba G_ba[i] left_b[i]^T S_a0, or of G[i-1]: a term for each state."""
        build, terms = self.build, []
        for a, start in enumerate(self.starts):
            factors = [self.products.from_start(b, a, exclusive) for b in range(len(left))]
            pairs = zip(left, factors, strict=True)
            scaled = [build.multiply([part, f]) for part, f in pairs if part is not None and f is not None]
            if scaled:
                vector = build.add((1, each) for each in scaled)
                terms.append(build.dot(vector, start, self.normal.key_axis))
        return terms

    def _scores(self, left: Parts, keys: Parts, exclusive: bool) -> Node | None:
        """sum_ba left_b[i]^T key_a[j] T_ba[i,j], or of T[i-1,j]; None for 0."""
        build = self.build
        weights: dict[Node, list[Node]] = {}
        for b, part in enumerate(left):
            for a, key in enumerate(keys):
                product = self.products.between(b, a, exclusive)
                if part is None or key is None or product is None:
                    continue
                dot = build.dot(part, build.rename(key, ROW, COLUMN), self.normal.key_axis)
                core, scale = _split(build, dot)
                weights.setdefault(core, []).append(build.multiply([scale, product]))
        if not weights:
            return None
        terms = (build.multiply([core, build.add((1, w) for w in each)]) for core, each in weights.items())
        return build.add((1, term) for term in terms)


def mixing_decay(lowering: Lowering, entry: Expression | None, valid: Node) -> Node:
    """A diagonal entry of D in every token, 1 where there is no token; the constant 1 if it always is."""
    build = lowering.builder
    value = build.constant(0) if entry is None else lowering.lower(entry)
    if isinstance(value.op, Const) and value.op.value == 1:
        return value
    return build.keep(build.broadcast(value, ROW), valid, fill=1)


def _split(build: Builder, dot: Node) -> tuple[Node, Node]:
    """The matrix product of a scaled one, and the scale."""
    if not isinstance(dot.op, Multiply):
        return dot, build.constant(1)
    cores = [factor for factor in dot.args if isinstance(factor.op, Dot) and len(factor.axes) == 2]
    if len(cores) != 1:
        return dot, build.constant(1)
    scale = build.multiply([f for f in dot.args if f is not cores[0]], dot.op.coefficient)
    return cores[0], scale
