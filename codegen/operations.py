"""The operations of tile programs: what a node computes of its arguments.

Time has the axes `ROW` and `COLUMN` (of size C; products of two matrices are summed over `MIDDLE`;
what is solved for over stacked rows may have a column for every token, `LAST`), stacked
rows of several reads, or of micro-steps, `ROWS` and `COLUMNS` (of size R * C); the remaining axes are the
spec's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

ROW, COLUMN = "@i", "@j"
MIDDLE = "@l"
ROWS, COLUMNS = "@m", "@n"
LAST = "@p"
TIME_AXES = (ROW, MIDDLE, COLUMN, ROWS, COLUMNS, LAST)
VALID = "@valid"  # the load that is 1 for tokens and 0 beyond the sequence; no name of a spec is like it
Number = Fraction | float
Direction = Literal["prefix", "suffix"]
Mode = Literal["log", "product"]


@dataclass(frozen=True, slots=True)
class Load:
    """A value given to the program; `kind` says where it comes from."""

    name: str
    kind: Literal["input", "param", "valid", "mark", "state", "cotangent"]


@dataclass(frozen=True, slots=True)
class Const:
    value: Number


@dataclass(frozen=True, slots=True)
class NamedConst:
    """ln 2 or log2 e: kept by name, so that they cancel and exact arithmetic can take both as 1."""

    name: Literal["ln2", "log2e"]


@dataclass(frozen=True, slots=True)
class AxisSize:
    """The size of an axis, as a number."""

    axis: str


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of coefficient * argument, broadcast by axis name."""

    coefficients: tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class Multiply:
    """coefficient * the product of the arguments, broadcast by axis name."""

    coefficient: Number


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise function of `rnnc.dsl.functions`; or `power`, with its exponent."""

    function: str
    exponent: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """The first argument where the second (the validity of a row) is 1, `fill` elsewhere."""

    fill: int


@dataclass(frozen=True, slots=True)
class Softmax:
    axis: str


@dataclass(frozen=True, slots=True)
class Rename:
    """The argument with one axis relabelled."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Sum:
    axis: str


@dataclass(frozen=True, slots=True)
class Max:
    """The largest value along an axis: introduced for kernels from Softmax, never differentiated."""

    axis: str


@dataclass(frozen=True, slots=True)
class Within:
    """The argument; in a tile that is longer than the axis, zero beyond it."""

    axis: str


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The argument repeated along an axis it lacks."""

    axis: str


@dataclass(frozen=True, slots=True)
class First:
    """The first row along ROW."""


@dataclass(frozen=True, slots=True)
class AtFirst:
    """The argument in the first row, zero in the others."""


@dataclass(frozen=True, slots=True)
class Dot:
    """sum over `axis` of left * right, whose other axes differ."""

    axis: str


@dataclass(frozen=True, slots=True)
class Running:
    """Running sums along ROW: of the tokens up to i (prefix) or from i (suffix), without i if exclusive."""

    direction: Direction
    exclusive: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """L[i, j] = sum of x[t], j < t <= i (exclusive: t < i); -inf above the diagonal (strict: and on it)."""

    exclusive: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class SegmentAdjoint:
    """dx[t] = sum of dL[i, j] over i >= t > j (exclusive: i > t)."""

    exclusive: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class Mask:
    """The lower triangle of [ROW, COLUMN] or [ROWS, COLUMNS], without the diagonal if strict.

    Of [ROW, COLUMNS]: the columns of the tokens up to i, without those of token i if strict.
    """

    strict: bool


@dataclass(frozen=True, slots=True)
class Path:
    """T[i, j] = product of d[t], j < t <= i (exclusive: t < i); 0 above the diagonal (strict: and on it)."""

    exclusive: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class PathAdjoint:
    """(d, dT) -> dd, without division."""

    exclusive: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class LinearScan:
    """(d, x) -> y along ROW, from zero: y[i] = d[i] y[i-1] + x[i]; suffix: y[i] = d[i+1] y[i+1] + x[i].

    Exclusive: y[i] = d[i-1] y[i-1] + x[i-1]; suffix: y[i] = d[i+1] y[i+1] + x[i+1].
    """

    direction: Direction
    exclusive: bool


@dataclass(frozen=True, slots=True)
class RunningProduct:
    """Running products along ROW, as `Running` is for sums."""

    direction: Direction
    exclusive: bool


@dataclass(frozen=True, slots=True)
class RunningProductAdjoint:
    """(d, out, dout) -> dd, without division."""

    direction: Direction
    exclusive: bool


@dataclass(frozen=True, slots=True)
class DecayDot:
    """(x[i,k], y[j,k], g[i,k]) -> A[i,j] = sum_k x[i,k] y[j,k] E[i,j,k], lower triangular (strict: below it).

    E is 2^(sum of g over j < t <= i) in log mode, the product of g in product mode (exclusive: t < i). x and
    y may be over rows of micro-steps; g is per token, and the triangle is that of `Mask`.
    """

    axis: str
    mode: Mode
    exclusive: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class DecayDotRows:
    """(M[i,j], y[j,k], g) -> sum_j M[i,j] y[j,k] E[i,j,k] over [i, k]."""

    axis: str
    mode: Mode
    exclusive: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class DecayDotColumns:
    """(M[i,j], x[i,k], g) -> sum_i M[i,j] x[i,k] E[i,j,k] over [j, k]."""

    axis: str
    mode: Mode
    exclusive: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class DecayDotDecay:
    """(M[i,j], x[i,k], y[j,k], g[t,k]) -> the gradient of sum(M * DecayDot) in g, without division."""

    axis: str
    mode: Mode
    exclusive: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class Solve:
    """(P, R) -> (I - P)^-1 R, P strictly lower triangular; transposed: (I - P)^-T R."""

    transposed: bool


@dataclass(frozen=True, slots=True)
class Inverse:
    """P -> (I - P)^-1, P strictly lower triangular: what the schedule makes of Solve, and decays weigh."""


@dataclass(frozen=True, slots=True)
class InverseAdjoint:
    """(X, dX) with X = (I - P)^-1 -> dP, the part of X^T dX X^T below the diagonal."""


@dataclass(frozen=True, slots=True)
class Interleave:
    """n arguments over (ROW, ...) stacked row by row over (ROWS, ...)."""


@dataclass(frozen=True, slots=True)
class Deinterleave:
    """Part `index` of `count` of an interleaved value."""

    index: int
    count: int


@dataclass(frozen=True, slots=True)
class Assemble:
    """n * n blocks over (ROW, COLUMN), row-major, interleaved into one matrix over (ROWS, COLUMNS)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Block (row, column) of an assembled matrix."""

    row: int
    column: int
    count: int


@dataclass(frozen=True, slots=True)
class Flatten:
    """(..., time, micro, ...) -> (..., rows, ...): the micro-steps of all tokens as rows, a token's together.

    `time` and `rows` are ROW and ROWS, or COLUMN and COLUMNS.
    """

    micro: str
    time: str
    rows: str


@dataclass(frozen=True, slots=True)
class Unflatten:
    """What `Flatten` flattened: (..., rows, ...) -> (..., time, micro, ...)."""

    micro: str
    time: str
    rows: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """A value per token as one for each of its rows: (..., time, ...) -> (..., rows, ...).

    This and the next two are introduced for kernels, where micro-steps are rows from the start.
    """

    micro: str
    time: str
    rows: str


@dataclass(frozen=True, slots=True)
class OverSteps:
    """The sum, or the largest, of the rows of each token: (..., rows, ...) -> (..., time, ...)."""

    micro: str
    time: str
    rows: str
    largest: bool = False


@dataclass(frozen=True, slots=True)
class OverTokens:
    """The sum over the tokens, for each of their micro-steps: (ROWS, ...) -> (micro, ...)."""

    micro: str


Op = (
    Load
    | Const
    | NamedConst
    | AxisSize
    | Add
    | Multiply
    | Apply
    | Keep
    | Softmax
    | Rename
    | Sum
    | Max
    | Within
    | Broadcast
    | First
    | AtFirst
    | Dot
    | Running
    | Segment
    | SegmentAdjoint
    | Mask
    | Path
    | PathAdjoint
    | LinearScan
    | RunningProduct
    | RunningProductAdjoint
    | DecayDot
    | DecayDotRows
    | DecayDotColumns
    | DecayDotDecay
    | Solve
    | Inverse
    | InverseAdjoint
    | Interleave
    | Deinterleave
    | Assemble
    | Block
    | Flatten
    | Unflatten
    | Repeat
    | OverSteps
    | OverTokens
)
