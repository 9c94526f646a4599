"""What can be proven about the eigenvalues of the transition `A = Diag(D) + sum_r w_r f_r^T` of one token.

Each rule has a condition on the normal form, an enclosure of the eigenvalues and of the operator norm, and a
sentence that says why. The factor of a read that the key shares is found by comparing canonical polynomials,
so the rules do not depend on how the spec was spelled.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Literal

from rnnc.dsl.coupled_spectrum import coupled_spectrum
from rnnc.dsl.diagnostics import Diagnostic
from rnnc.dsl.interval import REAL, Interval, point
from rnnc.dsl.normal import Coupled, Normal
from rnnc.dsl.polynomial import UNIT, Polynomial
from rnnc.dsl.proportions import direction, ratio
from rnnc.dsl.ranges import environment, infer
from rnnc.dsl.transition import Pair, Transition, transition_of
from rnnc.dsl.witness import Witness, find_witness
from rnnc.dsl.writes import undecayed

Kind = Literal["diagonal", "symmetric", "real", "general"]
MAX_RANK = 6  # of the sums of eigenvalue bounds: two to the rank


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What is proven of one token's transition.

    Every real eigenvalue lies in `interval`, and so do r and -r for a non-real one of modulus r. `kind` says
    whether the matrix is diagonal, symmetric, has real eigenvalues only, or none of these is proven; `norm`
    bounds the operator norm, `decay` the entries of D; `reasons` are sentences. `factors` are the eigenvalues
    of M_1, M_2, ... along their keys and across them, where the transition is D M_1 M_2 ... or ... M_1 D with
    every M = I + c u u^T; with micro-steps the one given stands for all.
    """

    interval: Interval
    kind: Kind
    triangular: bool
    norm: float
    decay: Interval
    reasons: tuple[str, ...]
    factors: tuple[Interval, ...] = ()

    @property
    def real(self) -> bool:
        """Whether all eigenvalues are proven to be real."""
        return self.kind != "general"


def spectrum(normal: Normal) -> Spectrum:
    """The strongest enclosure of the eigenvalues that one of the rules proves."""
    if normal.coupled is not None:
        return _of_several(normal, normal.coupled)
    found = _of_key_side(normal)
    if normal.value_decay is None:
        return found
    column = infer(normal.value_decay, environment(normal.recurrence))
    reason = (
        f"each channel of '{normal.value_axis}' has a factor of its own, in {column}: {_times(found, column)}"
    )
    return replace(
        found,
        interval=found.interval * column,
        norm=found.norm * column.magnitude,
        decay=found.decay * column,
        reasons=(*found.reasons, reason),
    )


def _times(found: Spectrum, column: Interval) -> str:
    """The eigenvalues of all columns of the state, in words."""
    interval = found.interval * column
    if found.real:
        return f"all eigenvalues are real and lie in {interval}"
    return f"every eigenvalue's modulus is at most {interval.magnitude:.6g}"


def _of_key_side(normal: Normal) -> Spectrum:
    """The same without a decay over the value axis: of the matrix that all columns of the state share."""
    transition = transition_of(normal)
    if normal.micro is not None and transition.pairs:
        return _micro_steps(transition, normal.micro)
    for rule in (_diagonal, _symmetric, _symmetric_times_decay, _one_read_of_decayed, _one_read, _products):
        found = rule(transition)
        if found is not None:
            return found
    return _by_norm(transition)


def _of_several(normal: Normal, coupled: Coupled) -> Spectrum:
    found = coupled_spectrum(normal, coupled)
    real = () if not found.real else (_found(found.interval),)
    kind: Kind = "real" if found.real else "general"
    return Spectrum(found.interval, kind, False, found.norm, found.decay, (*found.reasons, *real))


def _diagonal(t: Transition) -> Spectrum | None:
    if t.pairs:
        return None
    decay = t.range(t.decay)
    reason = f"nothing reads the state: the eigenvalues are the entries of the decay, in {decay}"
    if t.decay == UNIT:
        reason = "nothing reads the state and nothing decays: every eigenvalue is 1"
    return Spectrum(decay, "diagonal", True, decay.magnitude, decay, (reason,))


def _symmetric(t: Transition) -> Spectrum | None:
    """Every read is parallel to its key: `D + sum_r c_r u_r u_r^T`."""
    squares = _squares(t, [ratio(f, direction(w, t.axis)[1], t.axis) for w, f in t.pairs])
    if squares is None or len(squares) > MAX_RANK:
        return None
    decay, interval = t.range(t.decay), t.reach(t.decay, squares)
    if len(squares) > 1:
        how = f"the decay, in {decay}, plus one square for each read; extreme eigenvalues add up at worst"
    elif t.scalar:
        along = t.decay + squares[0]
        how = f"{_where(t, decay)} across the key and {t.text(along)} along it, in {t.range(along)}"
    else:
        how = f"the decay, in {decay}, plus {t.text(squares[0])} along the key, in {t.range(squares[0])}"
    reasons = ("every read is parallel to its key: the transition is symmetric", how, _found(interval))
    factors = _factor(t, squares[0]) if t.scalar and len(squares) == 1 else ()
    return Spectrum(interval, "symmetric", False, interval.magnitude, decay, reasons, factors)


def _factor(t: Transition, square: Polynomial) -> tuple[Interval, ...]:
    """The eigenvalues of M where the transition is D M, D a scalar."""
    alone = square if t.decay == UNIT else undecayed(square, t.decay)
    return () if alone is None else (t.reach(UNIT, [alone]),)


def _symmetric_times_decay(t: Transition) -> Spectrum | None:
    """`M Diag(D)` or `Diag(D) M`, M = I + sum_r c_r u_r u_r^T; one of the two has no negative eigenvalue."""
    after = [ratio(f, t.decay * direction(w, t.axis)[1], t.axis) for w, f in t.pairs]
    squares = _squares(t, after)
    if squares is None:
        turned = replace(t, pairs=tuple((f, w) for w, f in t.pairs))
        before = [ratio(w, t.decay * direction(f, t.axis)[1], t.axis) for w, f in t.pairs]
        squares = _squares(turned, before)
    if squares is None or len(squares) > MAX_RANK:
        return None
    decay, inner = t.range(t.decay), t.reach(UNIT, squares)
    if decay.low < 0 and inner.low < 0:
        return None
    interval = inner * decay
    positive = "the decay has no negative entries" if decay.low >= 0 else "M has no negative eigenvalues"
    reasons = (
        "the reads see the decayed state through their keys: the transition is M Diag(D) with M symmetric",
        f"the eigenvalues of M lie in {inner}, D in {decay}",
        f"{positive}, so this is similar to a symmetric matrix and the eigenvalues are real",
        _found(interval),
    )
    factors = (inner,) if len(squares) == 1 else ()
    return Spectrum(interval, "real", False, inner.magnitude * decay.magnitude, decay, reasons, factors)


def _squares(t: Transition, scales: list[Polynomial | None]) -> list[Polynomial] | None:
    """c |u|^2 for every pair (s u, c/s ...): the eigenvalue that the pair adds along its key."""
    found = []
    for (w, _), scale in zip(t.pairs, scales, strict=True):
        if scale is None:
            return None
        strength, u = direction(w, t.axis)
        found.append(strength * scale * t.dot(u, u))
    return found


def _one_read_of_decayed(t: Transition) -> Spectrum | None:
    """`(I + w f'^T) Diag(D)` with D >= 0 and products w_i f'_i of one sign.

    Scaling the rows and columns makes w f'^T symmetric, and commutes with D.
    """
    if len(t.pairs) != 1:
        return None
    ((w, f),) = t.pairs
    read, decay = undecayed(f, t.decay), t.range(t.decay)
    if read is None or decay.low < 0:
        return None
    entries, trace = t.range(w * read), t.dot(w, read)
    if entries.low < 0 < entries.high:
        return None
    inner = t.reach(UNIT, [trace])
    interval = inner * decay
    reasons = (
        f"one read, of the decayed state, and its products with the key, {t.text(w * read)}, have one sign",
        f"similar to M Diag(D), M symmetric with eigenvalues in {inner}, D in {decay}, never negative",
        _found(interval),
    )
    return Spectrum(interval, "real", False, t.norm().high, decay, reasons)


def _one_read(t: Transition) -> Spectrum | None:
    """`D + w f^T` with a scalar D, or with entries w_i f_i of one sign."""
    if len(t.pairs) != 1:
        return None
    ((w, f),) = t.pairs
    decay, entries = t.range(t.decay), t.range(w * f)
    if not t.scalar and entries.low < 0 < entries.high:
        return None
    trace = t.dot(w, f)
    interval = t.reach(t.decay, [trace])
    if t.scalar:
        along = t.decay + trace
        how = (
            f"one read: the eigenvalues are {_where(t, decay)}, and {t.text(along)} for the key, "
            f"in {t.range(along)}"
        )
    else:
        how = (
            f"the products of the key and the read, {t.text(w * f)}, have one sign: similar to a symmetric "
            f"matrix, the decay, in {decay}, moved by at most {t.text(trace)}, in {t.range(trace)}"
        )
    reasons = (how, _found(interval))
    return Spectrum(interval, "real", False, t.norm().high, decay, reasons)


def _products(t: Transition) -> Spectrum | None:
    """Reads that each see the writes before them: a product of factors I + c u u^T, after the decay."""
    for order in itertools.permutations(t.pairs) if len(t.pairs) <= 3 else [t.pairs]:
        squares = _chain(t, order)
        if squares is None:
            continue
        decay = t.range(t.decay)
        factors = [t.reach(UNIT, [square]) for square in squares]
        norm = prod((abs(factor) for factor in factors), start=abs(decay))
        ranges = ", ".join(map(str, factors))
        reasons = (
            f"the transition is a product of {len(factors)} symmetric factors I + c u u^T after the decay",
            f"their eigenvalues lie in {ranges}, the decay in {decay}; those of the product may be complex",
            _modulus(norm),
        )
        return Spectrum(norm.hull(-norm), "general", False, norm.high, decay, reasons, tuple(factors))
    return None


def _micro_steps(t: Transition, axis: str) -> Spectrum:
    """A product of as many factors `I + w f^T` as the axis has entries, after the decay."""
    step = replace(t, decay=UNIT)
    squares = _squares(step, [ratio(f, direction(w, t.axis)[1], t.axis) for w, f in t.pairs])
    reach = None if squares is None else step.reach(UNIT, squares)
    factor = step.norm() if reach is None else abs(reach)
    decay = t.range(t.decay)
    if factor.high > 1:
        why = f"a micro-step's factor I + w f^T, one of {axis}, is not proven to have a norm of at most 1"
        return Spectrum(REAL, "general", False, inf, decay, (why,))
    norm = abs(decay)
    kind = "factors I + w f^T" if squares is None else "symmetric factors I + c u u^T"
    reasons = (
        f"the transition is a product of {axis} {kind} after the decay, in {decay}",
        "the norm of every factor is at most 1; the eigenvalues of the product may be complex",
        _modulus(norm),
    )
    factors = (reach,) if reach is not None and len(t.pairs) == 1 else ()
    return Spectrum(norm.hull(-norm), "general", False, norm.high, decay, reasons, factors)


def _chain(t: Transition, order: Iterable[Pair]) -> list[Polynomial] | None:
    """c |u|^2 of every factor where f_r = A_{r-1}^T c_r u_r, with A_r the transition of the first r pairs."""
    done: list[Pair] = []
    squares = []
    for w, f in order:
        strength, u = direction(w, t.axis)
        seen = sum((g * t.dot(v, u) for v, g in done), t.decay * u)
        scale = ratio(f, seen, t.axis)
        if scale is None:
            return None
        done.append((w, f))
        squares.append(strength * scale * t.dot(u, u))
    return squares


def _by_norm(t: Transition) -> Spectrum:
    decay, norm = t.range(t.decay), t.norm()
    if norm.high == inf:
        reason = "no rule applies: the keys and reads are not parallel, and their norms are not bounded"
        return Spectrum(REAL, "general", False, inf, decay, (reason,))
    reasons = (
        "no rule but the norm applies: the norm of the decay plus those of keys times reads",
        _modulus(norm),
    )
    return Spectrum(norm.hull(-norm), "general", False, norm.high, decay, reasons)


def _where(t: Transition, decay: Interval) -> str:
    text = t.text(t.decay)
    return text if decay == point(decay.low) else f"{text} (in {decay})"


def _found(interval: Interval) -> str:
    return f"all eigenvalues are real and lie in {interval}"


def _modulus(norm: Interval) -> str:
    how = "below" if norm.high_open else "at most"
    return f"the operator norm, and with it every eigenvalue's modulus, is {how} {norm.high:.6g}"


def check_claim(normal: Normal) -> list[Diagnostic]:
    """Nothing where the claim is proven, an error with a witness where it is wrong, else a warning."""
    claim = normal.recurrence.claim
    if claim is None or claim.interval.empty:
        return []
    found = spectrum(normal)
    if found.interval.within(claim.interval):
        return []
    hints: tuple[str, ...] = ()
    witness: Witness | None = None
    if normal.coupled is None:
        transition = transition_of(normal)
        hints = tuple(_hints(transition))
        witness = _constant_witness(transition, claim.interval, normal.micro)
    if witness is None:
        witness = find_witness(normal, environment(normal.recurrence), claim.interval)
    if witness is not None:
        message = f"the eigenvalues do not stay in {claim.interval}"
        label = f"refuted by {witness}"
        return [Diagnostic("eigenvalue-claim", message, claim.span, label, (), found.reasons, hints)]
    message = f"not proven that the eigenvalues lie in {claim.interval}"
    label = f"proven is {found.interval}"
    return [
        Diagnostic("eigenvalues-not-proven", message, claim.span, label, (), found.reasons, hints, "warning")
    ]


def _constant_witness(t: Transition, claim: Interval, micro: str | None) -> Witness | None:
    """A constant D is an eigenvalue wherever there are more rows than reads, whatever the inputs are."""
    decay = t.range(t.decay)
    if any(monomial for monomial, _ in t.decay.terms) or not decay.disjoint(claim):
        return None
    count = len(t.pairs) if micro is None or not t.pairs else micro
    return Witness((), f"{decay.low:.6g} is an eigenvalue for every input with {t.axis} > {count}")


def _hints(t: Transition) -> Iterator[str]:
    """What would bound the spectrum: keys of norm at most one, a decay within [-1, 1]."""
    for name in t.unbounded(part for pair in t.pairs for part in pair):
        if t.axis in t.axes_of(name):
            yield f"normalise {name}: let u = unit({name})"
    if t.range(t.decay).magnitude > 1:
        for name in t.unbounded([t.decay]):
            yield f"promise a range for {name}, as in `input {name} in (-inf, 0]`, or bound it by a function"
