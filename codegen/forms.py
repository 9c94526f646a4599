"""Normal form -> tile programs: the recurrent form (one token) and the chunked form (C tokens).

With G[i] = D[1] ... D[i] inside a chunk that starts from S0,

    P[r,s][i,j] = f_r[i]^T (G[i-1] / G[j]) w_s[j]          j < i, reads r and s
    U_r         = (I - P)^-1 ( v_r + (f_r * G[i-1]) S0 + sum_p P[r,p] v_p )     p: the writes that do not read
    A_w[i,j]    = q[i]^T (G[i] / G[j]) w[j]                j <= i  (a readout of the old state: G[i-1], j < i)
    r           = sum_w A_w U_w + (q * G[i]) S0
    S_out       = G[C] * S0 + sum_w (w * G[C] / G)^T U_w

where f^T S[t-1] with f = D f' is f'^T (D S[t-1]): G[i-1] then becomes G[i] and f' takes the place of f.
The parallel form is the chunked one with a single chunk. Rows beyond the sequence have D = 1 and w = 0.

K is the axis that reads contract, V the other. A decay over V as well, with H[i] its product, leaves
S[i] / H[i] to the equations above, if the reads see the state after it: then

    R       = v_r + sum_p sum_l P[r,p][.,l] (H[.] / H[l]) v_p[l]
    U_r[i]  = sum_j (I - P)^-1[i,j] (H[i] / H[j]) R[j] + H[i] ( (I - P)^-1 (f_r * G) S0 )[i]
    r[i]    = sum_w,j A_w[i,j] (H[i] / H[j]) U_w[j] + H[i] (q * G[i]) S0
    S_out   = G[C] * H[C] * S0 + sum_w (w * G[C] / G)^T (U_w * H[C] / H)

and a readout over V gives sum_w,j (G[i] / G[j]) w[j] (q[i]^T (H[i] / H[j]) U_w[j]) + G[i] S0 (q[i] * H[i]).

Micro-steps are rows of their own: n for each token, which share its decay and its readouts. They read the
state after the decay of their token, so that with t(m) the token of row m

    P[m,l]   = f[m]^T (G[t(m)] / G[t(l)]) w[l]         l < m
    A_w[i,l] = q[i]^T (G[i] / G[t(l)]) w[l]            t(l) <= i

and the recurrent form is the solve for the rows of one token, P[m,l] = f[m]^T w[l], from the state D S.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rnnc.codegen.builder import Builder
from rnnc.codegen.coupled_forms import coupled_chunked, coupled_recurrent
from rnnc.codegen.elementwise import chunked_elementwise, recurrent_elementwise
from rnnc.codegen.lowering import Lowering
from rnnc.codegen.operations import COLUMN, COLUMNS, ROW, ROWS, VALID, Inverse, Load
from rnnc.codegen.program import Carry, Node, Program
from rnnc.codegen.rows import solved
from rnnc.codegen.sides import Side
from rnnc.dsl.expression import Expression
from rnnc.dsl.normal import Normal, Readout, Write


def recurrent_form(normal: Normal, builder: Builder) -> Program:
    """One token: S_out = D * S + sum_r w_r (v_r + f_r^T S)^T."""
    if normal.coupled is not None:
        return coupled_recurrent(normal, normal.coupled, builder)
    if normal.elementwise is not None:
        return recurrent_elementwise(normal, builder)
    if normal.micro is not None:
        return _Token(normal, builder, normal.micro).program()
    build, key, value_axis = builder, normal.key_axis, normal.value_axis
    lowering = Lowering(builder, normal.recurrence, None)
    old = build.load(Load(normal.state, "state"), normal.state_axes)
    terms = [build.multiply([*map(lowering.lower, normal.decays), old])]
    for write in normal.writes:
        parts = [] if write.value is None else [build.broadcast(lowering.lower(write.value), value_axis)]
        if write.read is not None:
            read = build.dot(build.broadcast(lowering.lower(write.read), key), old, key)
            if normal.value_decay is not None:
                read = build.multiply([lowering.lower(normal.value_decay), read])
            parts.append(read)
        written = build.add((1, part) for part in parts)
        terms.append(build.multiply([build.broadcast(lowering.lower(write.key), key), written]))
    new = build.add((1, term) for term in terms)
    for readout in normal.readouts:
        query = build.broadcast(lowering.lower(readout.query), readout.over)
        lowering.names[readout.name] = build.dot(query, old if readout.old else new, readout.over)
    results = {name: lowering.lower(value) for name, value in normal.outputs}
    return Program("recurrent", results, (Carry(normal.state, old, new),))


def chunked_form(normal: Normal, builder: Builder) -> Program:
    """C tokens at once, exactly: decays stand as products (`Path`, `RunningProduct`, `DecayDot`)."""
    if normal.coupled is not None:
        return coupled_chunked(normal, normal.coupled, builder)
    if normal.elementwise is not None:
        return chunked_elementwise(normal, builder)
    return _Chunk(normal, builder).program()


@dataclass(frozen=True)
class _Row:
    """A write on the rows of the chunk: key w, value v (None where it only reads), read f and whether f is
    f'.
    """

    key: Node
    value: Node | None
    read: Node | None
    inclusive: bool


@dataclass(frozen=True)
class _Written:
    """What is written along a key: U = value + H * carried, either of which may be missing."""

    key: Node
    value: Node | None
    carried: Node | None = None


class _Chunk:
    def __init__(self, normal: Normal, builder: Builder) -> None:
        self.normal, self.build = normal, builder
        self.lowering = Lowering(builder, normal.recurrence, ROW)
        self.valid = builder.load(Load(VALID, "valid"), (ROW,))
        self.start = builder.load(Load(normal.state, "state"), normal.state_axes)
        self.key = self._side(normal.key_axis, normal.decay)
        self.value = self._side(normal.value_axis, normal.value_decay)

    def _side(self, axis: str, decay: Expression | None) -> Side:
        node = None if decay is None else self.build.keep(self._timed(decay), self.valid, fill=1)
        return Side(self.build, axis, node, self.normal.micro)

    def program(self) -> Program:
        rows = [self._row(write) for write in self.normal.writes]
        reading = [row for row in rows if row.read is not None]
        plain = [_Written(row.key, row.value) for row in rows if row.read is None and row.value is not None]
        written = [*self._updates(reading, plain), *plain]
        for readout in self.normal.readouts:
            self.lowering.names[readout.name] = self._readout(readout, written)
        results = {name: self._timed(value) for name, value in self.normal.outputs}
        carry = Carry(self.normal.state, self.start, self._end(written))
        return Program("chunked", results, (carry,))

    def _timed(self, expression: Expression, axis: str | None = None) -> Node:
        """The expression's value in every row, and along the axis where it is constant along it."""
        value = self.lowering.lower(expression)
        return self.build.broadcast(value if axis is None else self.build.broadcast(value, axis), ROW)

    def _row(self, write: Write) -> _Row:
        key, value = self.normal.axes
        read = write.read if write.read_of_decayed is None else write.read_of_decayed
        rows = self.key.rows
        return _Row(
            key=rows(self.build.multiply([self._timed(write.key, key), self.valid])),
            value=None if write.value is None else rows(self._timed(write.value, value)),
            read=None if read is None else rows(self._timed(read, key)),
            inclusive=write.read_of_decayed is not None or self.normal.micro is not None,
        )

    # U = (I - P)^-1 ( v + (f * G[i-1]) S0 + P_rp v_p );  with H, U/H and v/H take the places of U and v
    def _updates(self, reading: list[_Row], plain: list[_Written]) -> list[_Written]:
        if not reading:
            return []
        given: list[Node | None] = []
        stored = []
        for row in reading:
            stored.append(self._of_start(row))
            given.append(self._sum([row.value, *(self._of_plain(row, other) for other in plain)]))
        blocks = self._blocks(reading)
        keys = [row.key for row in reading]
        if self.value.decay is None:
            rights = [self._sum(pair) or pair[1] for pair in zip(given, stored, strict=True)]
            return [_Written(*pair) for pair in zip(keys, self._solved(blocks, rights), strict=True)]
        values = self._weighted_by_inverse(blocks, given)
        return [_Written(*each) for each in zip(keys, values, self._solved(blocks, stored), strict=True)]

    def _sum(self, terms: Iterable[Node | None]) -> Node | None:
        found = [term for term in terms if term is not None]
        return self.build.add((1, term) for term in found) if found else None

    def _of_start(self, row: _Row) -> Node:
        """What a read sees of the incoming state, without H."""
        assert row.read is not None
        read = self.key.from_start(row.read, not row.inclusive)
        return self.build.dot(read, self.start, self.normal.key_axis)

    def _of_plain(self, row: _Row, other: _Written) -> Node:
        """What a read sees of the writes that do not read."""
        assert row.read is not None
        assert other.value is not None
        scores = self.key.scores(row.read, other.key, not row.inclusive, strict=True)
        return self.value.weighted(scores, other.value, exclusive=False, strict=True)

    def _blocks(self, reading: list[_Row]) -> list[Node]:
        """P: what every read sees of the writes that read, row-major."""
        pairs = [(row, other) for row in reading for other in reading]
        form = self.key.pairs if len(reading) == 1 else partial(self.key.scores, strict=True)
        return [form(row.read, other.key, exclusive=not row.inclusive) for row, other in pairs if row.read]

    def _solved(self, blocks: Sequence[Node], rights: Sequence[Node]) -> list[Node]:
        row, column = (ROW, COLUMN) if self.normal.micro is None else (ROWS, COLUMNS)
        return solved(self.build, blocks, rights, row, column)

    def _weighted_by_inverse(
        self, blocks: Sequence[Node], rights: Sequence[Node | None]
    ) -> list[Node | None]:
        """The sum over j of (I - P)^-1[i,j] (H[i] / H[j]) R[j], of the reads one by one."""
        build, count = self.build, len(rights)
        if not any(rights):
            return [None] * count
        matrix = blocks[0] if count == 1 else build.assemble(blocks)
        inverse = build.node(Inverse(), [matrix], matrix.axes)
        given = [build.constant(0) if right is None else right for right in rights]
        right = given[0] if count == 1 else build.interleave(given)
        found = self.value.weighted(inverse, right, exclusive=False, strict=False)
        return [found] if count == 1 else [build.deinterleave(found, n, count) for n in range(count)]

    # over K:  r = sum_w A_w U_w + (q * G) S0,          A_w[i,j] = q[i]^T (G[i]/G[j]) w[j],  times H[i]/H[j]
    # over V:  r = sum_w B_w w + ((q * H) S0^T) * G,    B_w[i,j] = q[i]^T (H[i]/H[j]) U_w[j],  times G[i]/G[j]
    def _readout(self, readout: Readout, written: list[_Written]) -> Node:
        read, kept = (self.key, self.value) if readout.over == self.key.axis else (self.value, self.key)
        moved = read.from_start(self._timed(readout.query, read.axis), readout.old)
        carried: list[Node | None] = [self.build.dot(moved, self.start, read.axis)]
        known: list[Node | None] = []
        for each in written:
            if read is self.value:
                known.append(kept.weighted(self._matched(readout, each), each.key, readout.old, readout.old))
                continue
            masked = kept.decay is None or each.carried is not None
            scores = read.scores(
                self._timed(readout.query, read.axis), each.key, readout.old, readout.old, masked
            )
            if each.carried is not None:
                carried.append(self.build.dot(scores, *kept.columns(each.carried)))
            if each.value is not None:
                known.append(kept.weighted(scores, each.value, readout.old, readout.old))
        of_start = self._sum(carried)
        assert of_start is not None
        return self._sum([kept.from_start(of_start, readout.old), *known]) or of_start

    def _matched(self, readout: Readout, each: _Written) -> Node:
        """B: a query over the value axis with what is written."""
        build, old, side = self.build, readout.old, self.value
        query = self._timed(readout.query, side.axis)
        terms = [] if each.value is None else [side.scores(query, each.value, old, old, masked=False)]
        if each.carried is not None:
            terms.append(build.dot(side.from_start(query, old), side.columns(each.carried)[0], side.axis))
        scores = build.add((1, term) for term in terms)
        return build.mask(scores, old) if self.key.decay is None else scores

    # S_out = G[C] * H[C] * S0 + sum_w (w * G[C]/G)^T (U_w * H[C]/H)
    def _end(self, written: list[_Written]) -> Node:
        build, row = self.build, ROW if self.normal.micro is None else ROWS
        keys = [self.key.to_end(each.key) for each in written]
        carried: list[Node | None] = [self.key.total(self.start)]
        known: list[Node | None] = []
        for key, each in zip(keys, written, strict=True):
            if each.carried is not None:
                carried.append(build.dot(key, each.carried, row))
            if each.value is not None:
                known.append(build.dot(key, self.value.to_end(each.value), row))
        of_start = self._sum(carried)
        assert of_start is not None
        return self._sum([self.value.total(of_start), *known]) or of_start


class _Token:
    """The recurrent form with micro-steps: the rows are those of one token."""

    def __init__(self, normal: Normal, builder: Builder, micro: str) -> None:
        self.normal, self.build, self.micro = normal, builder, micro
        self.lowering = Lowering(builder, normal.recurrence, None)

    def program(self) -> Program:
        build, normal, lowering = self.build, self.normal, self.lowering
        old = build.load(Load(normal.state, "state"), normal.state_axes)
        state = build.multiply([*map(lowering.lower, normal.decays), old])
        written = self._written(state)
        new = build.add([(1, state), *((1, build.dot(key, update, ROWS)) for key, update in written)])
        for readout in normal.readouts:
            query = build.broadcast(lowering.lower(readout.query), readout.over)
            lowering.names[readout.name] = build.dot(query, old if readout.old else new, readout.over)
        results = {name: lowering.lower(value) for name, value in normal.outputs}
        return Program("recurrent", results, (Carry(normal.state, old, new),))

    def _rows(self, expression: Expression, axis: str) -> Node:
        value = self.build.broadcast(self.lowering.lower(expression), axis)
        return self.build.rename(self.build.broadcast(value, self.micro), self.micro, ROWS)

    # U = (I - P)^-1 ( v + f S + P_rp v_p )
    def _written(self, state: Node) -> list[tuple[Node, Node]]:
        """Keys and what they write; at most one of them reads."""
        build, (axis, value_axis) = self.build, self.normal.axes
        rows = [(self._rows(w.key, axis), w) for w in self.normal.writes]
        plain = [(key, self._rows(w.value, value_axis)) for key, w in rows if not w.read and w.value]
        found = []
        for key, write in rows:
            if write.read is None:
                continue
            read = self._rows(write.read, axis)
            terms = [] if write.value is None else [self._rows(write.value, value_axis)]
            terms.append(build.dot(read, state, axis))
            for other, value in plain:
                scores = build.mask(self._against(read, other), strict=True)
                terms.append(build.dot(scores, build.rename(value, ROWS, COLUMNS), COLUMNS))
            right = build.add((1, term) for term in terms)
            found.append((key, build.solve(self._against(read, key), build.rename(right, ROWS, COLUMNS))))
        return [*found, *plain]

    def _against(self, read: Node, key: Node) -> Node:
        return self.build.dot(read, self.build.rename(key, ROWS, COLUMNS), self.normal.key_axis)
