"""Property tests of an operator: every form against the naive token loop, values and all gradients.

Where there is a C compiler, C is checked too, with one size of each axis: another is another library.

The loop is written from the spec's statements alone, so what agrees with it computes the declared thing. A
case is compared in float64, where the limits leave no room for a mistake, and in float32, where the limit is
the numerics' promise or, on an ill-conditioned case, a small multiple of the loop's own error.

The worst of these is a gradient through a unit vector of size 1, which is a sign: what is left of the
derivative by it is what its length keeps, nothing. DeltaNet over 63 such tokens: the gradient of k is 5e-4, a
difference of derivatives of 37, of which every form keeps about 1e-6 of 37. The loop is 8e-6 of the results
off, chunks 3e-5, one chunk of all tokens 6e-5; at size 2 and more it is 2e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from rnnc.ops.c_build import BuildError, find_compiler
from rnnc.ops.errors import UnavailableError
from rnnc.ops.operator import Operator
from rnnc.ops.options import CHUNK
from rnnc.ops.random_cases import Case, draw_case
from rnnc.ops.trial import Tensors, Trial, draw_trial

FORMS = ("recurrent", "chunked", "parallel")
FEWEST = 10  # cases that are worth the compiler's seconds
WALKED = 6  # of them in C, with the largest sizes of axes among these
LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4}  # of the relative error
SLACK = 10.0  # in float32, times the error of the loop itself

Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Failure:
    """One disagreement: in which case and form, of which value or gradient, by how much."""

    case: str
    form: str
    what: str
    error: float
    limit: float

    def __str__(self) -> str:
        return f"{self.form}: {self.what}: error {self.error:.1e}, limit {self.limit:.1e}\n  {self.case}"


@dataclass(slots=True)
class Report:
    """What property tests found; true when nothing disagreed.

    `worst` holds the largest relative error by form and dtype, `unchecked` why a form was left out.
    """

    name: str
    cases: int = 0
    comparisons: int = 0
    failures: list[Failure] = field(default_factory=list)
    worst: dict[tuple[str, str], float] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.cases > 0 and not self.failures

    def __str__(self) -> str:
        verdict = f"{len(self.failures)} disagree with" if self.failures else "all agree with"
        head = f"{self.name}: {self.cases} cases, {self.comparisons} comparisons, {verdict} the naive loop"
        rows = [f"  {form:<10} {dtype:<8} largest error {e:.1e}" for (form, dtype), e in self.worst.items()]
        rows += [f"  {form:<10} not checked: {reason}" for form, reason in self.unchecked.items()]
        shown = [str(failure) for failure in self.failures[:10]]
        return "\n".join([head, *rows, *shown])

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "name": self.name,
            "passed": bool(self),
            "cases": self.cases,
            "comparisons": self.comparisons,
            "worst": [{"form": form, "dtype": dtype, "error": e} for (form, dtype), e in self.worst.items()],
            "unchecked": self.unchecked,
            "failures": [
                {"case": f.case, "form": f.form, "what": f.what, "error": f.error, "limit": f.limit}
                for f in self.failures
            ],
        }

    def compare(self, trial: Trial, form: str, dtype: torch.dtype, found: Tensors, expected: Tensors) -> None:
        """Records how far `found`, by that form in that dtype, is from `expected`."""
        key = (form, str(dtype).removeprefix("torch."))
        for what, value in found.items():
            error, limit = distance(value, expected[what], trial.scales[what]), LIMITS[dtype]
            if dtype == torch.float32 and error > limit:
                own = trial.to(dtype).expected[what]
                limit = max(limit, SLACK * distance(own, trial.expected[what], trial.scales[what]))
            self.comparisons += 1
            self.worst[key] = max(self.worst.get(key, 0.0), error)
            if not error <= limit:
                self.failures.append(Failure(str(trial.case), form, f"{what} in {key[1]}", error, limit))


def property_test(operator: Operator, cases: int = 40, seed: int = 0, progress: Progress = iter) -> Report:
    """The report on random calls with seeds `seed`, `seed + 1`, ...; `progress` may wrap their iteration."""
    report = Report(operator.name)
    drawn = [draw_case(operator.recurrence, number) for number in range(seed, seed + cases)]
    filled = [case for case in drawn if max(case.lengths) > 1]
    walked = filled[:WALKED] if cases >= FEWEST and has_compiler() else []
    largest = max(walked, key=lambda case: prod(case.sizes.values()), default=None)
    for number in progress(range(cases)):
        check_case(operator, drawn[number], report)
        if largest and drawn[number] in walked:
            sizes, chunk_size = largest.sizes, largest.chunk_size or CHUNK
            check_c(operator, replace(drawn[number], sizes=sizes, chunk_size=chunk_size), report)
        report.cases += 1
    return report


def check_case(operator: Operator, case: Case, report: Report) -> None:
    """Adds one case to the report: all forms in both dtypes, then a continuation token by token."""
    trial = draw_trial(operator, case)
    for dtype in LIMITS:
        typed = trial.to(dtype)
        for form in FORMS:
            report.compare(trial, form, dtype, typed.evaluate(form), trial.expected)
    T = case.lengths[0]
    if not case.packed and not case.reverse and T > 1:
        cut = T - min(3, T - 1)
        found = trial.continued(cut)
        expected = {what: trial.expected[what][:, cut:] for what in found}
        report.compare(trial, "step", torch.float64, found, expected)


def check_c(operator: Operator, case: Case, report: Report) -> None:
    """Adds a case in C, in both dtypes; where a spec has none, or a compiler makes none, the reason."""
    trial = draw_trial(operator, case)
    try:
        for dtype in LIMITS:
            report.compare(trial, "c", dtype, trial.to(dtype).evaluate("chunked", "c"), trial.expected)
    except UnavailableError as reason:
        report.unchecked["c"] = str(reason)


def has_compiler() -> bool:
    """Whether there is a C compiler."""
    try:
        find_compiler()
    except BuildError:
        return False
    return True


def distance(found: Tensor, expected: Tensor, scale: float) -> float:
    """The norm of the difference relative to `scale`; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    difference = float((found.double() - expected.double()).norm())
    return difference / max(scale, 1e-6)
