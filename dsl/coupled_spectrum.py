"""What can be proven about the eigenvalues of one token's transition of states that mix.

On the states stacked, the transition is `D x I + sum_r w_r f_r^T` with the m x m matrix D of scalars. Across
all keys it is D. Where there is one read, and key and read are the same vector u for all states, scaled by
c_a and d_b, it maps the multiples of u among themselves: by D + |u|^2 c d^T, another m x m matrix. These two
have all the eigenvalues; of 2 x 2 matrices, trace and determinant say where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from rnnc.dsl.algebra import contract
from rnnc.dsl.expression import Expression
from rnnc.dsl.inference import Inference
from rnnc.dsl.interval import REAL, Interval, hull, point
from rnnc.dsl.normal import Coupled, Normal
from rnnc.dsl.polynomial import ONE, UNIT, ZERO, Polynomial
from rnnc.dsl.proportions import direction, ratio
from rnnc.dsl.ranges import inference

Matrix = Sequence[Sequence[Polynomial]]
MODULUS = Interval(-1, 1)


@dataclass(frozen=True, slots=True)
class Found:
    """An enclosure of the eigenvalues; whether they are all real; a bound of the norm; why."""

    interval: Interval
    real: bool
    norm: float
    decay: Interval
    reasons: tuple[str, ...]


def coupled_spectrum(normal: Normal, coupled: Coupled) -> Found:
    """The enclosure that one of the rules proves, else that by the norm."""
    known = inference(normal.recurrence)

    def canonical(expression: Expression | None) -> Polynomial:
        found = ZERO if expression is None else known.canonical(expression)
        assert found is not None, "the normal form is a sum of products"
        return found

    mixing = [[canonical(entry) for entry in row] for row in coupled.mixing]
    vectors = [
        ([canonical(key) for key in write.keys], [canonical(read) for read in write.reads])
        for write in coupled.writes
        if write.reading
    ]
    decay = hull(known.polynomial(row[a]) for a, row in enumerate(mixing))
    norm = _norm(known, normal.key_axis, mixing, vectors)
    parts: list[tuple[str, Matrix]] = [("D", mixing)]
    if vectors:
        along = _along(known, normal.key_axis, mixing, *vectors[0]) if len(vectors) == 1 else None
        if along is None:
            return _by_norm(norm, decay, "the reads of the states are not parallel to one key")
        parts.append(("D + |u|^2 c d^T", along))
    enclosures = [(name, _enclosed(known, matrix)) for name, matrix in parts]
    if any(found is None for _, found in enclosures):
        return _by_norm(norm, decay, "the matrix by which the states mix is not triangular")
    reasons = ["the states stacked, the transition is D across the key, the matrix by which they mix"]
    if vectors:
        reasons.append("along the key u it is D + |u|^2 c d^T, with c u the keys and d u the reads")
    intervals, real = [], True
    for name, found in enclosures:
        assert found is not None
        interval, is_real, why = found
        intervals.append(interval)
        real = real and is_real
        reasons.append(f"{name}: {why}")
    interval = hull(intervals)
    if norm < interval.magnitude:
        interval = interval.intersect(Interval(-norm, norm))
        reasons.append(f"the operator norm, and with it every eigenvalue's modulus, is at most {norm:.6g}")
    return Found(interval, real, norm, decay, tuple(reasons))


def _along(
    known: Inference, axis: str, mixing: Matrix, keys: Sequence[Polynomial], reads: Sequence[Polynomial]
) -> Matrix | None:
    """D + |u|^2 c d^T; None where keys or reads are not multiples of one vector u."""
    _, u = direction(next(key for key in keys if key.terms), axis)
    scales = [ZERO if not v.terms else ratio(v, u, axis) for v in (*keys, *reads)]
    if any(scale is None for scale in scales):
        return None
    square, count = contract(u * u, (axis,)), len(keys)
    found = [scale for scale in scales if scale is not None]
    return [
        [entry + square * found[a] * found[count + b] for b, entry in enumerate(row)]
        for a, row in enumerate(mixing)
    ]


def _enclosed(known: Inference, matrix: Matrix) -> tuple[Interval, bool, str] | None:
    """Where the eigenvalues of a small matrix are, whether they are real, and why."""
    diagonal = hull(known.polynomial(row[a]) for a, row in enumerate(matrix))
    if _triangular(matrix):
        return diagonal, True, f"triangular: the eigenvalues are the entries of its diagonal, in {diagonal}"
    if len(matrix) != 2:
        return None
    (a, b), (c, d) = matrix
    product = known.polynomial(b * c)
    if product.low >= 0:
        spread = product**0.5
        interval = hull([diagonal + spread, diagonal - spread])
        return interval, True, f"2 x 2, its other entries have one sign: real eigenvalues, in {interval}"
    determinant, trace = a * d + (b * c).scaled(-ONE), a + d
    ends = [UNIT + determinant + trace.scaled(sign) for sign in (ONE, -ONE)]
    if known.polynomial(determinant).within(MODULUS) and all(known.polynomial(end).low >= 0 for end in ends):
        why = "2 x 2 with determinant p and trace s, |p| <= 1 and |s| <= 1 + p: no modulus is above 1"
        return MODULUS, False, why
    return REAL, False, "2 x 2, and neither real eigenvalues nor a bound of their modulus are proven"


def _triangular(matrix: Matrix) -> bool:
    """Whether the states can be put in an order in which each takes only from those before it."""
    waiting = set(range(len(matrix)))
    while waiting:
        free = {a for a in waiting if not any(matrix[a][b].terms for b in waiting - {a})}
        if not free:
            return False
        waiting -= free
    return True


def _norm(
    known: Inference,
    axis: str,
    mixing: Matrix,
    vectors: Sequence[tuple[Sequence[Polynomial], Sequence[Polynomial]]],
) -> float:
    """A bound of the operator norm: of the matrix of bounds of the blocks, by its rows and columns."""

    def length(vector: Polynomial) -> Interval:
        return known.polynomial(contract(vector * vector, (axis,))) ** 0.5 if vector.terms else point(0)

    bounds = [[known.polynomial(entry).magnitude if entry.terms else 0.0 for entry in row] for row in mixing]
    for keys, reads in vectors:
        for a, key in enumerate(keys):
            for b, read in enumerate(reads):
                if key.terms and read.terms:
                    bounds[a][b] += (length(key) * length(read)).magnitude
    rows, columns = (max(map(sum, each)) for each in (bounds, zip(*bounds, strict=True)))
    return inf if inf in (rows, columns) else float((rows * columns) ** 0.5)


def _by_norm(norm: float, decay: Interval, why: str) -> Found:
    if norm == inf:
        return Found(REAL, False, norm, decay, (f"{why}, and the norms are not bounded: nothing is proven",))
    reason = f"{why}: the operator norm, and with it every eigenvalue's modulus, is at most {norm:.6g}"
    return Found(Interval(-norm, norm), False, norm, decay, (reason,))
