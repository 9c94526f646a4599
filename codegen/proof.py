"""The exact checks: every scheduled form equals the token loop, and its backward pass the loop's derivative.

Two kinds. *Symbolic*, at C = 3 tokens and axes of size 2: outputs, final state and every gradient are
compared as polynomials in all inputs, the incoming state, the cotangents and the unknown values of the
functions. *Rational*, at larger and odd sizes and with rows beyond the sequence: as fractions at random
points, the gradient along random directions. A chunk starts from any state, so that equality for one chunk
is equality for sequences of chunks. Of a recurrence in stages each is checked in both ways, and all of them,
one after the other, on random fractions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from rnnc.codegen.compiler import Compiled, Spec
from rnnc.codegen.exact import random_fraction, rationals
from rnnc.codegen.points import Chain, Point, Values
from rnnc.codegen.polynomials import Polynomials, polynomials
from rnnc.codegen.summary_proof import composition
from rnnc.codegen.torch_module import Form
from rnnc.dsl.delays import delayed
from rnnc.dsl.recurrence import Recurrence


@dataclass(frozen=True, slots=True)
class Check:
    """One identity that was checked; `failure` names what differs, or is empty.

    `stage` says of which stages, where there are several.
    """

    form: str
    kind: str
    sizes: str
    what: str
    failure: str = ""
    stage: str = ""


@dataclass(frozen=True)
class Proof:
    """The result of `prove`: true when everything holds; its text is the statement and its limits."""

    name: str
    checks: tuple[Check, ...]
    seconds: float
    given: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(not check.failure for check in self.checks)

    def __str__(self) -> str:
        verdict = "proven" if self else "NOT proven"
        lines = [f"{self.name}: {verdict} ({len(self.checks)} identities, {self.seconds:.1f} s)", ""]
        width = max((len(check.stage) + 1 for check in self.checks if check.stage), default=0)
        for check in self.checks:
            mark = "FAILED" if check.failure else "ok"
            who = f"{check.stage:{width}}{check.form:9} {check.kind:8}"
            lines.append(f"  {mark:6} {who} {check.sizes:22} {check.what}{check.failure}")
        lines += [
            "",
            "Stated: for every input and incoming state, the scheduled program of one chunk (or token) gives",
            "the outputs and the state of the declared statements run token by token, and its backward",
            "program the derivatives of both. Symbolic checks are identities of polynomials; rational checks",
            "are equalities at random fractions. Values of exp, sigmoid and the like are unknowns that",
            "depend on their argument alone, with derivatives from the compiler's table.",
            "Of stretches: the programs that kernels are planned from, over one chunk and over two.",
            "Not covered: rounding, the printed text and the libraries that run it (property tests compare",
            "those).",
        ]
        if self.given:
            lines.append(f"Delayed values are given to the programs: {', '.join(self.given)}.")
        return "\n".join(lines)


def prove(compiled: Spec) -> Proof:
    """Check all identities of a compiled recurrence: of every stage, and of all of them together."""
    begin = time.perf_counter()
    if isinstance(compiled, Compiled):
        checks = _stage_checks(compiled)
    else:
        checks = [
            replace(check, stage=f"stage {number}")
            for number, stage in enumerate(compiled.stages, 1)
            for check in _stage_checks(stage)
        ]
        checks += _together(compiled)
    given = tuple(each.name for each in delayed(compiled.declared))
    return Proof(compiled.recurrence.name, tuple(checks), time.perf_counter() - begin, given)


def _stage_checks(compiled: Compiled) -> list[Check]:
    checks: list[Check] = []
    for form in compiled.forms:
        for tokens, steps in _symbolic_sizes(compiled.recurrence, form):
            checks += _symbolic(compiled.recurrence, form, tokens, steps)
    checks += (*_rational_checks(compiled), *_stretches(compiled))
    checks.sort(key=lambda check: [form.name for form in compiled.forms].index(check.form))
    return checks


def rational_checks(compiled: Spec) -> Iterator[Check]:
    """The quick part of a proof: identities at random fractions."""
    for stage in compiled.stages:
        yield from _rational_checks(stage)
    if len(compiled.stages) > 1:
        yield from _together(compiled)


def _together(compiled: Spec) -> Iterator[Check]:
    """The stages one after the other against the token loop of the whole recurrence."""
    for name, shapes in (("chunked", ((5, 5), (4, 3))), ("recurrent", ((1, 1),))):
        chain = Chain(name, tuple((stage.recurrence, _form(stage, name)) for stage in compiled.stages))
        for tokens, length in shapes:
            for check in _rational(compiled.recurrence, chain, tokens, length):
                yield replace(check, stage="all")


def _rational_checks(compiled: Compiled) -> Iterator[Check]:
    for form in compiled.forms:
        for tokens, length in ((5, 5), (4, 3)) if form.name == "chunked" else ((1, 1),):
            chain = Chain(form.name, ((compiled.recurrence, form),))
            yield from _rational(compiled.recurrence, chain, tokens, length)


def _stretches(compiled: Compiled) -> Iterator[Check]:
    """What a split of sequences on a GPU rests on, where they can be split."""
    tokens, length = (2, 1) if compiled.recurrence.loops else (4, 3)
    sizes = _sizes(compiled.recurrence, 4, 4, 4)
    failure = composition(compiled, sizes, tokens, length)
    if failure is not None:
        where = _describe("chunked", tokens, length, sizes)
        what = "stretches map the state as S -> M S + N, compose, and go back by M^T"
        yield Check("chunked", "rational", where, what, failure)


def _form(compiled: Compiled, name: str) -> Form:
    """The form of that name."""
    return next(form for form in compiled.forms if form.name == name)


def _sizes(recurrence: Recurrence, first: int, second: int, steps: int) -> dict[str, int]:
    """`second` for the value axis of the state, `steps` for that of a loop, `first` for all others."""
    sizes = dict.fromkeys(recurrence.axes, first) | dict.fromkeys(recurrence.states[0].axes[-1:], second)
    return sizes | dict.fromkeys(recurrence.loops, steps)


def _symbolic_sizes(recurrence: Recurrence, form: Form) -> Iterator[tuple[int, int]]:
    """Tokens and micro-steps: enough of each to meet each other, with at most four rows in a row."""
    tokens = 3 if form.name == "chunked" else 1
    if not recurrence.loops:
        yield tokens, 1
    else:
        yield from ((tokens, 1), (2, 2)) if tokens > 1 else ((1, 3),)


def _symbolic(recurrence: Recurrence, form: Form, tokens: int, steps: int) -> Iterator[Check]:
    for unknowns in (64, 128, 256, 512, 1024):
        try:
            yield from _symbolic_in(polynomials(unknowns), recurrence, form, tokens, steps)
            return
        except OverflowError:
            continue


def _symbolic_in(
    ring: Polynomials, recurrence: Recurrence, form: Form, tokens: int, steps: int
) -> list[Check]:
    sizes, chain = _sizes(recurrence, 2, 2, steps), Chain(form.name, ((recurrence, form),))
    point = Point(recurrence, sizes, tokens, tokens, lambda name, index: ring.variable(name, index))
    outputs, final = point.loop(ring.oracle)
    found = point.program(chain, ring.oracle)
    where = _describe(form.name, tokens, tokens, sizes)
    relations = ring.oracle.relations()
    values = _compare(
        form.name, "symbolic", where, {**outputs, **final}, found, "outputs and state", relations
    )
    loss = point.loss(outputs, final, ring.oracle)
    expected = {
        f"d'{name}": np.asarray(ring.gradients(loss, values), dtype=object)
        for name, values in point.differentiable()
    }
    gradients = point.backward(chain, ring.oracle)
    return [
        values,
        _compare(form.name, "symbolic", where, expected, gradients, "all gradients", ring.oracle.relations()),
    ]


def _rational(recurrence: Recurrence, chain: Chain, tokens: int, length: int) -> Iterator[Check]:
    sizes = _sizes(recurrence, 9, 4, 4)  # squares: roots of sizes are exact
    draw = random.Random(tokens * 8 + length)
    oracle = rationals(length)
    point = Point(recurrence, sizes, tokens, length, lambda name, index: random_fraction(draw))
    outputs, final = point.loop(oracle)
    found = {
        name: value[:length] if name in outputs and tokens > 1 else value
        for name, value in point.program(chain, oracle).items()
    }
    where = _describe(chain.name, tokens, length, sizes)
    yield _compare(chain.name, "rational", where, {**outputs, **final}, found, "outputs and state")
    gradients = point.backward(chain, oracle)
    slopes = {
        name: np.vectorize(lambda _: random_fraction(draw), otypes=[object])(values)
        for name, values in point.differentiable()
    }
    expected = point.slope(oracle, slopes)
    along = sum(
        (
            np.sum(np.multiply(gradients[f"d'{name}"], slope))
            for name, slope in slopes.items()
            if f"d'{name}" in gradients
        ),
        Fraction(0),
    )
    failure = "" if along == expected else ": differs"
    yield Check(chain.name, "rational", where, "all gradients, along a random direction", failure)


def _describe(form: str, tokens: int, length: int, sizes: Mapping[str, int]) -> str:
    chunk = f"C={tokens} T={length} " if form == "chunked" else ""
    return chunk + " ".join(f"{axis}={size}" for axis, size in sizes.items())


def _compare(
    form: str,
    kind: str,
    sizes: str,
    expected: Values,
    found: Values,
    what: str,
    relations: Sequence[Any] = (),
) -> Check:
    """Whether all values are equal, modulo the relations (polynomials that are zero)."""
    wrong = []
    for name, value in expected.items():
        other = np.broadcast_to(np.asarray(found.get(name, 0), dtype=object), np.shape(value))
        left = np.asarray(value, dtype=object)
        if not all(_equal(left[i], other[i], relations) for i in np.ndindex(*left.shape)):
            wrong.append(f"'{name}'")
    return Check(form, kind, sizes, what, f": {', '.join(wrong)} differ" if wrong else "")


def _equal(left: Any, right: Any, relations: Sequence[Any]) -> bool:
    return bool(left == right) or bool(relations and not (left - right).rem(list(relations)))
