"""The normal form: decay plus low-rank writes, and what is read out (data only; see `normaliser`).

Within one token and head, for a state `S[K, V]`,

    S[t] = D[t] * S[t-1] + sum_r w[t,r] (v[t,r] + f[t,r]^T S[t-1])^T
    r[t] = q[t]^T S[t]   or   q[t]^T S[t-1]
    o[t] = expression of the readouts r[t] and of values free of the state

With micro-steps (a loop over the axis n) the decay comes first, and the writes follow one after the other,
each reading the state that those before it left:

    S[t,0] = D[t] * S[t-1,n]
    S[t,i] = S[t,i-1] + sum_r w[t,i,r] (v[t,i,r] + f[t,i,r]^T S[t,i-1])^T

Several states S_1, ..., S_m over the same axes mix by scalars, and share their writes:

    S_a[t] = sum_b D_ab[t] S_b[t-1] + sum_r w_a[t,r] (v[t,r] + sum_b f_b[t,r]^T S_b[t-1])^T

Reads contract the *key axis*: the first axis of the state or, where it is read from the right,
`(S f) w^T`, the second: then all of this is said of S^T. With a decay over the value axis, H, there is
H * S[t-1] in the place of S[t-1], in the update and in its reads; readouts may contract either axis.

All expressions are in canonical order and free of the state and of lets.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnnc.dsl.expression import Axes, Expression, names
from rnnc.dsl.recurrence import Recurrence


@dataclass(frozen=True, slots=True)
class Write:
    """`w (v + f^T S)^T`: `w[K]`; `value[V]` or None; `read[K]` (of the old state) or None.

    Where the read is of the decayed state, f = D f', `read_of_decayed` is f': the decay then cancels against
    the running product of the chunked form.
    """

    key: Expression
    value: Expression | None
    read: Expression | None
    read_of_decayed: Expression | None = None


@dataclass(frozen=True, slots=True)
class Readout:
    """`name = query^T S`, over the axis `over` of S after the update, or before it if `old`."""

    name: str
    query: Expression
    over: str
    old: bool = False
    state: str = ""


@dataclass(frozen=True, slots=True)
class CoupledWrite:
    """`w_a (v + sum_b f_b^T S_b)^T`, added to every state a: a key and a read per state, None where none."""

    keys: tuple[Expression | None, ...]
    value: Expression | None
    reads: tuple[Expression | None, ...]

    @property
    def reading(self) -> bool:
        """Whether it reads any of the old states."""
        return any(read is not None for read in self.reads)


@dataclass(frozen=True, slots=True)
class Coupled:
    """Several states that mix: `mixing[a][b]` is the scalar D_ab, None for 0."""

    states: tuple[str, ...]
    mixing: tuple[tuple[Expression | None, ...], ...]
    writes: tuple[CoupledWrite, ...]

    def transition(self) -> list[Expression]:
        """What the new states take from the old: all but the values that are written."""
        reads = [write for write in self.writes if write.reading]
        vectors = [vector for write in reads for vector in (*write.keys, *write.reads)]
        entries = [entry for row in self.mixing for entry in row]
        return [part for part in (*entries, *vectors) if part is not None]


@dataclass(frozen=True, slots=True)
class Elementwise:
    """`h[t] = D[t] * h[t-1] + v[t]`, a state over `axes` (one or none) that outputs read as it is.

    `added` is v, None for 0. The decay is over the axes of the state, or over none.
    """

    axes: Axes
    added: Expression | None

    @staticmethod
    def new(state: str) -> str:
        """The name under which outputs read the state after the update."""
        return f"{state}.new"

    @staticmethod
    def old(state: str) -> str:
        """The name under which outputs read the state before it."""
        return f"{state}.old"


@dataclass(frozen=True, slots=True)
class Normal:
    """A recurrence in normal form. `decay` is None for D = 1, else over () or (key_axis,).

    `value_decay` is None for H = 1, else over (value_axis,). `micro` is the axis of the micro-steps, which
    keys, values and reads then may have. Of several states `state` is the first; what they do stands in
    `coupled`, `decay` and `writes` are empty. Of a state without a key axis, what is added stands in
    `elementwise`; its own axis is both axes.
    """

    recurrence: Recurrence
    state: str
    key_axis: str
    value_axis: str
    decay: Expression | None
    writes: tuple[Write, ...]
    readouts: tuple[Readout, ...]
    outputs: tuple[tuple[str, Expression], ...]
    micro: str | None = None
    coupled: Coupled | None = None
    elementwise: Elementwise | None = None
    value_decay: Expression | None = None

    @property
    def axes(self) -> Axes:
        """Those of the state."""
        if self.elementwise is not None:
            return self.elementwise.axes
        return (self.key_axis, self.value_axis)

    @property
    def state_axes(self) -> Axes:
        """The axes of the state as it is declared."""
        return next(state.axes for state in self.recurrence.states if state.name == self.state)

    @property
    def decays(self) -> tuple[Expression, ...]:
        """What scales the old state, the factor over the key axis first; or several states."""
        entries = ((self.decay, self.value_decay),) if self.coupled is None else self.coupled.mixing
        return tuple(entry for row in entries for entry in row if entry is not None)

    @property
    def gates(self) -> frozenset[str]:
        """The names that the decay is made of."""
        return frozenset().union(*map(names, self.decays))

    @property
    def reads(self) -> tuple[Write, ...]:
        """The writes that read the old state."""
        return tuple(write for write in self.writes if write.read is not None)
