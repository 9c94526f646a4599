"""Refuting a claim about eigenvalues: inputs within their ranges whose transition has an eigenvalue outside.

Values are tried at the ends of their ranges, with K = 2. A witness counts only if interval arithmetic proves
it: every operation on the tried values is rounded outward, and the eigenvalue's interval misses the claim.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rnnc.dsl.enclosures import image
from rnnc.dsl.expression import (
    Add,
    Axes,
    Call,
    Constant,
    Delay,
    Expression,
    Identity,
    Multiply,
    Name,
    Power,
    Rename,
    Select,
    Size,
    Sum,
    walk,
)
from rnnc.dsl.functions import UNIT_EPSILON
from rnnc.dsl.interval import REAL, Interval, point
from rnnc.dsl.normal import Coupled, Normal

SIZE = 2  # of every axis
TRIALS = 120

Place = Mapping[str, int]
Array = dict[tuple[int, ...], float]
Values = Mapping[str, Array]
Matrix = tuple[tuple[Interval, Interval], tuple[Interval, Interval]]


@dataclass(frozen=True, slots=True)
class Witness:
    """Values by name, and what they do."""

    values: tuple[tuple[str, str], ...]
    eigenvalue: str

    def __str__(self) -> str:
        given = ", ".join(f"{name} = {value}" for name, value in self.values)
        return f"{given}: {self.eigenvalue}" if given else self.eigenvalue


def find_witness(normal: Normal, ranges: Mapping[str, Interval], claim: Interval) -> Witness | None:
    """Inputs with a proven eigenvalue outside the claim, or None where the search finds none."""
    names = transition_names(normal)
    for values in trials(names, ranges):
        found = _outside(transition_at(normal, values), claim)
        if found is not None:
            return witness(normal, values, found)
    return None


def witness(normal: Normal, values: Values, said: str) -> Witness:
    """The tried values as text, and what is said of their transition."""
    shown = tuple((name, _shown(array)) for name, array in values.items())
    axes = [normal.key_axis] if normal.micro is None else [normal.key_axis, normal.micro]
    return Witness((*((axis, str(SIZE)) for axis in axes), *shown), said)


def transition_at(normal: Normal, values: Values) -> Matrix:
    """The transition of one column of the state for given inputs, entry by entry, as proven intervals."""
    if normal.coupled is not None:
        return _coupled_at(normal.coupled, normal.key_axis, values)
    key = normal.key_axis
    zero, one = point(0), point(1)
    decay = [one if normal.decay is None else evaluate(normal.decay, values, {key: i}) for i in range(SIZE)]
    matrix: Matrix = (decay[0], zero), (zero, decay[1])
    if normal.micro is None:
        matrix = _plus_reads(matrix, normal, values, {})
    for step in range(0 if normal.micro is None else SIZE):
        assert normal.micro is not None
        factor = _plus_reads(((one, zero), (zero, one)), normal, values, {normal.micro: step})
        matrix = _product(factor, matrix)
    if normal.value_decay is None:
        return matrix
    column = evaluate(normal.value_decay, values, {normal.value_axis: 0})
    return _product(((column, zero), (zero, column)), matrix)


def _coupled_at(coupled: Coupled, key: str, values: Values) -> Matrix:
    """How two states mix in the first channel, where keys and reads are zero in the other; else nothing."""

    def entry(expression: Expression | None, channel: int = 0) -> Interval:
        return point(0) if expression is None else evaluate(expression, values, {key: channel})

    reads = [write for write in coupled.writes if write.reading]
    vectors = [vector for write in reads for vector in (*write.keys, *write.reads)]
    if len(coupled.states) != 2 or any(entry(vector, 1) != point(0) for vector in vectors):
        return (REAL, REAL), (REAL, REAL)

    def block(a: int, b: int) -> Interval:
        pairs = (entry(write.keys[a]) * entry(write.reads[b]) for write in reads)
        return sum(pairs, entry(coupled.mixing[a][b]))

    return (block(0, 0), block(0, 1)), (block(1, 0), block(1, 1))


def _plus_reads(matrix: Matrix, normal: Normal, values: Values, place: Place) -> Matrix:
    """The matrix plus the keys times the reads, of one micro-step."""

    def entries(expression: Expression | None) -> list[Interval]:
        assert expression is not None
        return [evaluate(expression, values, {**place, normal.key_axis: i}) for i in range(SIZE)]

    pairs = [(entries(write.key), entries(write.read)) for write in normal.reads]

    def entry(i: int, j: int) -> Interval:
        return sum((key[i] * read[j] for key, read in pairs), matrix[i][j])

    return (entry(0, 0), entry(0, 1)), (entry(1, 0), entry(1, 1))


def _product(left: Matrix, right: Matrix) -> Matrix:
    def entry(i: int, j: int) -> Interval:
        return left[i][0] * right[0][j] + left[i][1] * right[1][j]

    return (entry(0, 0), entry(0, 1)), (entry(1, 0), entry(1, 1))


def eigenvalues(matrix: Matrix) -> tuple[Interval, Interval] | None:
    """The eigenvalues of a 2 x 2 matrix where they are certainly real."""
    (a, b), (c, d) = matrix
    if b == c == point(0):
        return a, d
    middle, discriminant = (a + d) / 2, ((a - d) / 2) ** 2 + b * c
    if discriminant.low < 0:
        return None
    spread = discriminant**0.5
    return middle - spread, middle + spread


def rotation(matrix: Matrix) -> Interval | None:
    """The modulus of the eigenvalues of a 2 x 2 matrix where they are certainly not real."""
    (a, b), (c, d) = matrix
    return (a * d - b * c) ** 0.5 if (((a - d) / 2) ** 2 + b * c).high < 0 else None


def _outside(matrix: Matrix, claim: Interval) -> str | None:
    """An eigenvalue of a 2 x 2 matrix that certainly misses the claim, in words."""
    modulus = rotation(matrix)
    if modulus is not None:
        missed = modulus.disjoint(claim) or (-modulus).disjoint(claim)
        return f"complex eigenvalues of modulus {modulus.low:.6g}" if missed else None
    for root in eigenvalues(matrix) or ():
        if root.disjoint(claim):
            return f"an eigenvalue is {(root.low + root.high) / 2 if root.finite else root.low:.6g}"
    return None


def transition_names(normal: Normal) -> dict[str, Axes]:
    """The inputs and parameters that the transition depends on, with their axes."""
    parts: list[Expression] = list(normal.decays)
    if normal.coupled is not None:
        parts += normal.coupled.transition()
    parts += [part for write in normal.reads for part in (write.key, write.read) if part is not None]
    return {node.name: node.axes for part in parts for node in walk(part) if isinstance(node, Name)}


def trials(names: Mapping[str, Axes], ranges: Mapping[str, Interval]) -> Iterator[dict[str, Array]]:
    """Choices of values: all where they are few, else a fixed random sample."""
    choices = {name: list(_arrays(ranges.get(name, REAL), axes)) for name, axes in names.items()}
    if math.prod(map(len, choices.values())) <= TRIALS:
        for chosen in itertools.product(*choices.values()):
            yield dict(zip(choices, chosen, strict=True))
        return
    pick = random.Random(0)
    for _ in range(TRIALS):
        yield {name: pick.choice(found) for name, found in choices.items()}


def _arrays(promised: Interval, axes: Axes) -> Iterator[Array]:
    """Arrays of tried values: the same everywhere, or different in one entry."""
    places = list(itertools.product(range(SIZE), repeat=len(axes)))
    tried = _numbers(promised)
    for first in tried:
        for other in tried if axes else [first]:
            yield {place: first if not any(place) else other for place in places}


def _numbers(promised: Interval) -> list[float]:
    """Values in the range, its ends or close to them first."""
    if promised.finite:
        width = promised.high - promised.low
        low = promised.low + (width / 1024 if promised.low_open else 0.0)
        high = promised.high - (width / 1024 if promised.high_open else 0.0)
        found = [high, low, promised.low + width / 2]
    elif math.isfinite(promised.low):
        found = [promised.low + step for step in (0.0, 1.0, 20.0)]
    elif math.isfinite(promised.high):
        found = [promised.high - step for step in (0.0, 1.0, 20.0)]
    else:
        found = [1.0, 0.0, -1.0, 20.0, -20.0]
    return [value for value in dict.fromkeys(found) if value in promised]


def _shown(array: Array) -> str:
    texts = [f"{value:.6g}" for value in array.values()]
    if len(texts) == 1:
        return texts[0]
    rows = [texts[i : i + SIZE] for i in range(0, len(texts), SIZE)]
    inner = [f"[{', '.join(row)}]" for row in rows]
    return inner[0] if len(inner) == 1 else f"[{', '.join(inner)}]"


def evaluate(expression: Expression, values: Mapping[str, Array], place: Place) -> Interval:
    """One entry of the expression's value, as a proven interval; inputs are the same at every token."""
    match expression:
        case Add(terms):
            return sum((evaluate(term, values, place) for term in terms), point(0))
        case Multiply(factors):
            return math.prod((evaluate(factor, values, place) for factor in factors), start=point(1))
        case Power(base, exponent):
            return evaluate(base, values, place) ** exponent
        case Sum(body, axis):
            entries = (evaluate(body, values, {**place, axis: i}) for i in range(SIZE))
            return sum(entries, point(0))
        case Rename(body, old, new):
            return evaluate(body, values, {**place, old: place[new]})
        case Select(body, axis, _):
            return evaluate(body, values, {**place, axis: 0})
        case Delay(body):
            return evaluate(body, values, place)
        case Call():
            return _call(expression, values, place)
        case _:
            return _leaf(expression, values, place)


def _leaf(expression: Expression, values: Mapping[str, Array], place: Place) -> Interval:
    match expression:
        case Constant(value):
            return point(value)
        case Size():
            return point(SIZE)
        case Identity():
            first, second = (place[axis] for axis in expression.axes)
            return point(int(first == second))
        case Name(name, axes):
            return point(values[name][tuple(place[axis] for axis in axes)])
        case _:
            return REAL


def _call(call: Call, values: Mapping[str, Array], place: Place) -> Interval:
    if call.function not in ("unit", "softmax"):
        return image(call.function, *(evaluate(argument, values, place) for argument in call.arguments))
    (argument,) = call.arguments
    axis = call.axis or argument.axes[0]
    own = evaluate(argument, values, place)
    entries = [evaluate(argument, values, {**place, axis: i}) for i in range(SIZE)]
    if call.function == "unit":
        return own / (sum((entry**2 for entry in entries), point(0)) + UNIT_EPSILON) ** 0.5
    return 1 / sum((image("exp", entry - own) for entry in entries), point(0))
