"""What a transition is proven to do over long sequences, and which states theory says it can track.

Every statement carries its source and the conditions under which the source proves it. `no` means that the
source excludes it, `yes` that it gives a construction, `open` that neither is known of this transition. The
theorems say which weights exist, not what training finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Literal

from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal
from rnnc.dsl.samples import Samples
from rnnc.dsl.spectrum import Spectrum

Verdict = Literal["yes", "no", "open"]

GRAZZI = "Grazzi et al. 2024, arXiv:2411.12537"
SARROF = "Sarrof et al. 2024, arXiv:2405.17394"
MERRILL = "Merrill et al. 2024, arXiv:2404.08819"
SIEMS = "Siems et al. 2025, arXiv:2502.10297"
NORMS = "norms of products"

LAYERS = "finite precision, any number of layers of this kind"
SATURATED = "finite precision, gates that saturate"
TABLE = "a table of the last tokens between the layers"
UNKNOWN = "which values earlier stages hand on, and at which tokens, is not known"


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing said of a transition: on what, the verdict, in words, under which conditions, by whom."""

    topic: str
    verdict: Verdict
    text: str
    conditions: str
    source: str

    def __str__(self) -> str:
        return f"{self.text}; {self.conditions} [{self.source}]"


def tracking(normal: Normal, found: Spectrum) -> tuple[Statement, ...]:
    """Stability, parity, counting, groups and regular languages, as far as something is proven.

    A construction chooses the transition of every token. Where an earlier stage hands on what transitions
    are made of, none is claimed: what holds for all values still does.
    """
    samples = Samples(normal)
    parity = _nonnegative(found) or _signed(found, samples)
    statements = [_stability(found, samples), parity, _counting(normal, found, samples)]
    if found.triangular and found.real:
        statements += _diagonal(normal, found, samples.handed)
    elif reflections(found) and not samples.handed:
        statements += _reflecting(normal, found)
    return tuple(statement for statement in statements if statement is not None)


def signs(normal: Normal, found: Spectrum) -> str:
    """In a few words: whether transitions commute, and whether eigenvalues are real, negative or complex."""
    family = "diagonal, any two commute" if found.triangular else "not triangular, two of them do not commute"
    if found.real and found.interval.low >= 0:
        return f"{family}; eigenvalues real, none negative"
    samples = Samples(normal)
    where = "values that are handed on" if samples.handed else "inputs"
    kind = "real" if found.real else f"complex for some {where}" if samples.rotates() else "real or complex"
    negative = f", negative for some {where}" if samples.negative() else ""
    return f"{family}; eigenvalues {kind}{negative}"


def _stability(found: Spectrum, samples: Samples) -> Statement:
    topic, norm = "stability", found.norm
    if norm <= 1:
        text = "stable: the norm of a transition is at most 1, no product of them amplifies the state"
        return Statement(topic, "yes", text, "every input, any length", NORMS)
    grows = samples.grows()
    if grows is not None and samples.handed:
        return Statement(topic, "open", f"not proven stable: {grows}", UNKNOWN, "its powers")
    if grows is not None:
        text = f"not stable for every input: {grows}"
        return Statement(
            topic, "no", text, "that token repeated: the state grows geometrically", "its powers"
        )
    if norm == inf:
        text = "not proven stable: the norm of a transition has no bound"
    else:
        most = f"{norm:.6g}" if f"{norm:.6g}" != "1" else f"{norm!r}"
        text = f"not proven stable: the norm of a transition is at most {most}, over T tokens {most}**T"
    return Statement(topic, "open", text, "tokens that differ, whatever their eigenvalues are", NORMS)


def _nonnegative(found: Spectrum) -> Statement | None:
    if not found.real or found.interval.low < 0:
        return None
    source = f"{SARROF}; {GRAZZI}" if found.triangular else GRAZZI
    text = "no parity at every length: all eigenvalues are real and none is negative"
    return Statement("parity", "no", text, LAYERS, source)


def _signed(found: Spectrum, samples: Samples) -> Statement:
    flips = samples.flips() if _reaches(found.interval, -1) and not samples.handed else None
    if flips is not None:
        turn, keep = flips
        text = f"parity in one layer: at {turn}; at {keep}"
        condition = "finite precision, in which the gates saturate there"
        return Statement("parity", "yes", text, condition, GRAZZI)
    negative = samples.negative()
    text = "parity is not excluded: it is not proven that all eigenvalues are real and not negative"
    if negative is not None:
        text = f"parity is not excluded: at {negative}"
    condition = "no token was found that turns a sign and leaves its size, beside one that keeps the state"
    condition = UNKNOWN if samples.handed and negative is not None else condition
    return Statement("parity", "open", text, condition, GRAZZI)


def _counting(normal: Normal, found: Spectrum, samples: Samples) -> Statement | None:
    topic = "counting modulo 3"
    if found.triangular and found.real:
        text = "no counting modulo 3 at every length: no product of transitions has complex eigenvalues"
        return Statement(topic, "no", text, LAYERS, GRAZZI)
    count = 0 if samples.handed else reflections(found)
    if count >= 2 or (count and normal.micro):
        text = "counting modulo every number in one layer: two reflections make a rotation by any angle"
        condition = f"{SATURATED}, {normal.micro} of at least 2" if normal.micro else SATURATED
        return Statement(topic, "yes", text, condition, GRAZZI)
    if found.real:
        text = "no counting modulo 3 at every length in one layer: all eigenvalues are real"
        condition = "finite precision; more layers are not excluded, products of transitions may rotate"
        return Statement(topic, "no", text, condition, GRAZZI)
    rotates = samples.rotates()
    if rotates is None:
        return None
    text = f"counting modulo 3 is not excluded: at {rotates}"
    condition = UNKNOWN if samples.handed else "a rotation that fades or grows does not count"
    return Statement(topic, "open", text, condition, GRAZZI)


def _diagonal(normal: Normal, found: Spectrum, handed: bool) -> Iterator[Statement]:
    text = "no word problem of a group that is not solvable, such as A5 or S5"
    condition = "logarithmic precision, any fixed number of layers, unless TC0 = NC1"
    yield Statement("groups", "no", text, condition, MERRILL)
    if found.interval.low < 0:
        return
    topic, text = "regular languages", "no regular language that is not star-free"
    yield Statement(topic, "no", text, LAYERS, SARROF)
    inputs = {declared.name for declared in normal.recurrence.inputs}
    if normal.gates & inputs and not handed and _reaches(found.decay, 0, 1):
        text = "every star-free regular language"
        yield Statement(topic, "yes", text, f"{SATURATED}, as many layers as it takes", SARROF)


def _reflecting(normal: Normal, found: Spectrum) -> Iterator[Statement]:
    count = reflections(found)
    each = normal.micro or str(count)
    if count > 1 or normal.micro:
        more = f"{normal.micro} + 1" if normal.micro else str(count + 1)
        text = f"the word problem of the permutations of {more} in one layer"
        condition = f"{SATURATED}, keys of length one, at least {more} channels of the key"
        yield Statement("groups", "yes", text, condition, GRAZZI)
    text = "the word problem of every symmetric group in a few layers"
    condition = f"{SATURATED}, keys of length one, {TABLE}"
    yield Statement("groups", "yes", text, condition, SIEMS)
    if _reaches(found.decay, 0, 1):
        text, source = "every regular language", f"{GRAZZI}; {SIEMS}"
        condition = f"{SATURATED}, keys of length one, as many layers as it takes, {TABLE}"
        yield Statement("regular languages", "yes", text, condition, source)
        return
    text = "every regular language, with as many factors per token and layers as it takes"
    condition = f"{SATURATED}, keys of length one; a token has {each} here"
    yield Statement("regular languages", "open", text, condition, GRAZZI)


def reflections(found: Spectrum) -> int:
    """How many factors I + c u u^T are known, if all of them reach a reflection and the identity."""
    if not _reaches(found.decay, 1) or found.norm > 1:
        return 0
    return len(found.factors) if all(_reaches(factor, -1, 1) for factor in found.factors) else 0


def _reaches(interval: Interval, *values: int) -> bool:
    """Whether the values lie in the interval, open ends included: where a gate rounds to its end."""
    return all(interval.low <= value <= interval.high for value in values)
