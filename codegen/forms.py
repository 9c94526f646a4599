"""Normal form -> tile programs: the recurrent form (one token) and the chunked form (C tokens).

With G[i] = D[1] ... D[i] inside a chunk that starts from S0,

    P[r,s][i,j] = f_r[i]^T (G[i-1] / G[j]) w_s[j]          j < i, reads r and s
    U_r         = (I - P)^-1 ( v_r + (f_r * G[i-1]) S0 + sum_p P[r,p] v_p )     p: the writes that do not read
    A_w[i,j]    = q[i]^T (G[i] / G[j]) w[j]                j <= i  (a readout of the old state: G[i-1], j < i)
    r           = sum_w A_w U_w + (q * G[i]) S0
    S_out       = G[C] * S0 + sum_w (w * G[C] / G)^T U_w

where f^T S[t-1] with f = D f' is f'^T (D S[t-1]): G[i-1] then becomes G[i] and f' takes the place of f.
The parallel form is the chunked one with a single chunk. Rows beyond the sequence have D = 1 and w = 0.

Micro-steps are rows of their own: n for each token, which share its decay and its readouts. They read the
state after the decay of their token, so that with t(m) the token of row m

    P[m,l]   = f[m]^T (G[t(m)] / G[t(l)]) w[l]         l < m
    A_w[i,l] = q[i]^T (G[i] / G[t(l)]) w[l]            t(l) <= i

and the recurrent form is the solve for the rows of one token, P[m,l] = f[m]^T w[l], from the state D S.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnnc.codegen.builder import Builder
from rnnc.codegen.coupled_forms import coupled_chunked, coupled_recurrent
from rnnc.codegen.elementwise import chunked_elementwise, recurrent_elementwise
from rnnc.codegen.lowering import Lowering
from rnnc.codegen.operations import COLUMN, COLUMNS, ROW, ROWS, VALID, DecayDot, Load, Path, RunningProduct
from rnnc.codegen.program import Carry, Node, Program
from rnnc.codegen.rows import solved
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
    old = build.load(Load(normal.state, "state"), normal.axes)
    terms = [old if normal.decay is None else build.multiply([lowering.lower(normal.decay), old])]
    for write in normal.writes:
        parts = [] if write.value is None else [build.broadcast(lowering.lower(write.value), value_axis)]
        if write.read is not None:
            parts.append(build.dot(build.broadcast(lowering.lower(write.read), key), old, key))
        written = build.add((1, part) for part in parts)
        terms.append(build.multiply([build.broadcast(lowering.lower(write.key), key), written]))
    new = build.add((1, term) for term in terms)
    for readout in normal.readouts:
        query = build.broadcast(lowering.lower(readout.query), key)
        lowering.names[readout.name] = build.dot(query, old if readout.old else new, key)
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


class _Chunk:
    def __init__(self, normal: Normal, builder: Builder) -> None:
        self.normal, self.build = normal, builder
        self.lowering = Lowering(builder, normal.recurrence, ROW)
        self.row, self.column = (ROW, COLUMN) if normal.micro is None else (ROWS, COLUMNS)
        self.valid = builder.load(Load(VALID, "valid"), (ROW,))
        self.start = builder.load(Load(normal.state, "state"), normal.axes)
        self.decay: Node | None = None
        if normal.decay is not None:
            decay = self._timed(normal.decay)
            self.decay = builder.keep(decay, self.valid, fill=1)

    def program(self) -> Program:
        rows = [self._row(write) for write in self.normal.writes]
        reading = [row for row in rows if row.read is not None]
        plain = [(row.key, row.value) for row in rows if row.read is None]
        written = [
            (row.key, update) for row, update in zip(reading, self._updates(reading, plain), strict=True)
        ]
        written += [(key, value) for key, value in plain if value is not None]
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
        return _Row(
            key=self._rows(self.build.multiply([self._timed(write.key, key), self.valid])),
            value=None if write.value is None else self._rows(self._timed(write.value, value)),
            read=None if read is None else self._rows(self._timed(read, key)),
            inclusive=write.read_of_decayed is not None or self.normal.micro is not None,
        )

    def _rows(self, value: Node, time: str = ROW) -> Node:
        """A value per token as one for every row."""
        return value if self.normal.micro is None else self.build.flatten(value, self.normal.micro, time)

    # U = (I - P)^-1 ( v + (f * G[i-1]) S0 + P_rp v_p )
    def _updates(self, reading: list[_Row], plain: list[tuple[Node, Node | None]]) -> list[Node]:
        build, count = self.build, len(reading)
        rights = []
        for row in reading:
            assert row.read is not None
            exclusive = not row.inclusive
            terms = [] if row.value is None else [row.value]
            terms.append(build.dot(self._from_start(row.read, exclusive), self.start, self.normal.key_axis))
            for key, value in plain:
                if value is not None:
                    scores = self._scores(row.read, key, exclusive, strict=True)
                    terms.append(build.dot(scores, build.rename(value, self.row, self.column), self.column))
            rights.append(build.add((1, term) for term in terms))
        blocks = [
            self._scores(row.read, other.key, not row.inclusive, strict=True)
            if count > 1
            else self._pairs(row.read, other.key, not row.inclusive)
            for row in reading
            if row.read is not None
            for other in reading
        ]
        return solved(build, blocks, rights, self.row, self.column)

    # r = sum_w A_w U_w + (q * G) S0
    def _readout(self, readout: Readout, written: list[tuple[Node, Node]]) -> Node:
        build = self.build
        query = self._timed(readout.query, self.normal.key_axis)
        terms = [build.dot(self._from_start(query, readout.old), self.start, self.normal.key_axis)]
        for key, update in written:
            scores = self._scores(query, key, readout.old, strict=readout.old)
            terms.append(build.dot(scores, build.rename(update, self.row, self.column), self.column))
        return build.add((1, term) for term in terms)

    # S_out = G[C] * S0 + sum_w (w * G[C] / G)^T U_w
    def _end(self, written: list[tuple[Node, Node]]) -> Node:
        build = self.build
        total, to_end = self._totals()
        terms = [self.start if total is None else build.multiply([total, self.start])]
        for key, update in written:
            scaled = key if to_end is None else build.multiply([key, self._rows(to_end)])
            terms.append(build.dot(scaled, update, self.row))
        return build.add((1, term) for term in terms)

    def _totals(self) -> tuple[Node | None, Node | None]:
        """G[C], and G[C] / G[i]."""
        if self.decay is None:
            return None, None
        suffix = self.build.node(RunningProduct("suffix", True), [self.decay], self.decay.axes)
        whole = self.build.node(RunningProduct("suffix", False), [self.decay], self.decay.axes)
        return self.build.first(whole), suffix

    def _from_start(self, value: Node, exclusive: bool) -> Node:
        """value * G[i], or G[i-1]."""
        if self.decay is None:
            return value
        running = self.build.node(RunningProduct("prefix", exclusive), [self.decay], self.decay.axes)
        return self.build.multiply([value, self._rows(running) if ROWS in value.axes else running])

    def _pairs(self, left: Node, key: Node, exclusive: bool) -> Node:
        """What a solve reads: as `_scores`, with no care for the diagonal and above."""
        build, axis = self.build, self.normal.key_axis
        if self.decay is None:
            return build.dot(left, build.rename(key, self.row, self.column), axis)
        strict = axis in self.decay.axes
        return self._scores(left, key, exclusive, strict, masked=strict or self.row == ROW)

    def _scores(self, left: Node, key: Node, exclusive: bool, strict: bool, masked: bool = True) -> Node:
        """left[i]^T (G[i] / G[j]) key[j], masked; exclusive: G[i-1], which leaves j < i alone."""
        build, axis = self.build, self.normal.key_axis
        right = build.rename(key, self.row, self.column)
        row = ROWS if ROWS in left.axes else ROW
        if self.decay is None:
            return build.mask(build.dot(left, right, axis), strict)
        if axis in self.decay.axes:
            op = DecayDot(axis, "product", exclusive, strict)
            return build.node(op, [left, right, self.decay], (row, self.column))
        path = build.node(Path(exclusive, strict and row == ROW), [self.decay], (ROW, COLUMN))
        scores = build.dot(left, right, axis)
        if row == ROWS:  # within a token, rows follow each other without a decay
            path, scores = self._rows(path), build.mask(scores, strict) if masked else scores
        return build.multiply([self._rows(path, COLUMN), scores])


class _Token:
    """The recurrent form with micro-steps: the rows are those of one token."""

    def __init__(self, normal: Normal, builder: Builder, micro: str) -> None:
        self.normal, self.build, self.micro = normal, builder, micro
        self.lowering = Lowering(builder, normal.recurrence, None)

    def program(self) -> Program:
        build, normal, lowering = self.build, self.normal, self.lowering
        old = build.load(Load(normal.state, "state"), normal.axes)
        state = old if normal.decay is None else build.multiply([lowering.lower(normal.decay), old])
        written = self._written(state)
        new = build.add([(1, state), *((1, build.dot(key, update, ROWS)) for key, update in written)])
        for readout in normal.readouts:
            query = build.broadcast(lowering.lower(readout.query), normal.key_axis)
            lowering.names[readout.name] = build.dot(query, old if readout.old else new, normal.key_axis)
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
