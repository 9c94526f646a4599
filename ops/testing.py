"""Property tests of an operator: every form against the naive token loop, values and all gradients.

The loop is written from the spec's statements alone, so what agrees with it computes the declared thing. A
case is compared in float64, where the limits leave no room for a mistake, and in float32, where the limit is
the numerics' promise or, on an ill-conditioned case, a small multiple of the loop's own error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case, draw_arguments, draw_case, draw_states

FORMS = ("recurrent", "chunked", "parallel")
LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4}  # of the relative RMS error
SLACK = 10.0  # in float32, times the error of the loop itself
LARGE = 1e3  # inputs are scaled down until outputs stay below: beyond, rounding alone decides

Progress = Callable[[Iterable[int]], Iterable[int]]
Tensors = dict[str, Tensor]


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

    `worst` holds the largest relative error by form and dtype.
    """

    name: str
    cases: int = 0
    comparisons: int = 0
    failures: list[Failure] = field(default_factory=list)
    worst: dict[tuple[str, str], float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.cases > 0 and not self.failures

    def __str__(self) -> str:
        verdict = f"{len(self.failures)} disagree with" if self.failures else "all agree with"
        head = f"{self.name}: {self.cases} cases, {self.comparisons} comparisons, {verdict} the naive loop"
        rows = [f"  {form:<10} {dtype:<8} largest error {e:.1e}" for (form, dtype), e in self.worst.items()]
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
            "failures": [
                {"case": f.case, "form": f.form, "what": f.what, "error": f.error, "limit": f.limit}
                for f in self.failures
            ],
        }

    def compare(
        self, case: Case, form: str, found: Tensors, expected: Tensors, own: Callable[[], Tensors]
    ) -> None:
        """Records the distance of `found` to `expected`; `own`: the loop's values in the dtype of `found`."""
        for what, value in found.items():
            self.comparisons += 1
            error, limit = distance(value, expected[what]), LIMITS[value.dtype]
            if value.dtype == torch.float32 and error > limit:
                limit = max(limit, SLACK * distance(own()[what], expected[what]))
            key = (form, str(value.dtype).removeprefix("torch."))
            self.worst[key] = max(self.worst.get(key, 0.0), error)
            if not error <= limit:
                self.failures.append(Failure(str(case), form, f"{what} in {key[1]}", error, limit))


def property_test(operator: Operator, cases: int = 20, seed: int = 0, progress: Progress = iter) -> Report:
    """The report on random calls with seeds `seed`, `seed + 1`, ...; `progress` may wrap their iteration."""
    report = Report(operator.name)
    for number in progress(range(seed, seed + cases)):
        check_case(operator, draw_case(operator.recurrence, number), report)
        report.cases += 1
    return report


def check_case(operator: Operator, case: Case, report: Report) -> None:
    """Adds one case to the report: all forms in both dtypes, then a continuation token by token."""
    arguments, expected = _settle(operator, case)
    states = draw_states(operator.recurrence, case) if case.initial else []
    for dtype in LIMITS:
        typed = [x.to(dtype) for x in arguments], [x.to(dtype) for x in states]
        for form in FORMS:
            found = evaluate(operator, case, *typed, form=form)
            report.compare(case, form, found, expected, lambda t=typed: evaluate(operator, case, *t))  # type: ignore[misc]
    if not case.packed and not case.reverse and case.lengths[0] > 1:
        _check_step(operator, case, [x.double() for x in arguments], [x.double() for x in states], report)


def _settle(operator: Operator, case: Case) -> tuple[list[Tensor], Tensors]:
    """Arguments under which the outputs stay of moderate size, and what the loop makes of them in float64."""
    scale = 1.0
    while True:
        arguments = draw_arguments(operator.recurrence, case, scale)
        states = draw_states(operator.recurrence, case) if case.initial else []
        wide = [x.double() for x in arguments], [x.double() for x in states]
        expected = evaluate(operator, case, *wide)
        if scale < 0.01 or all(bool((x.abs() < LARGE).all()) for x in expected.values()):
            return arguments, expected
        scale /= 2


def evaluate(
    operator: Operator, case: Case, arguments: list[Tensor], states: list[Tensor], form: str | None = None
) -> Tensors:
    """Outputs, final states, every gradient of a random functional; the naive loop if `form` is None."""
    arguments = [x.clone().requires_grad_() for x in arguments]
    states = [x.clone().requires_grad_() for x in states]
    options: dict[str, Any] = {"cu_seqlens": case.cu_seqlens, "reverse": case.reverse}
    if form == "chunked":
        options["chunk_size"] = case.chunk_size
    call = operator.reference if form is None else operator
    if form is not None:
        options |= {"form": form, "backend": "torch"}
    initial = None if not states else states[0] if len(states) == 1 else tuple(states)
    outputs, final = call(*arguments, initial_state=initial, output_final_state=True, **options)
    found = _named("output", _names(operator, "outputs"), outputs)
    found |= _named("final", _names(operator, "states"), final)
    leaves = _named("gradient of", _names(operator, "inputs", "params"), arguments)
    leaves |= _named("gradient of initial", _names(operator, "states"), states)
    functional = torch.stack([(_cotangent(x, i) * x).sum() for i, x in enumerate(found.values())]).sum()
    gradients = torch.autograd.grad(functional, list(leaves.values()), allow_unused=True)
    found = {name: value.detach() for name, value in found.items()}
    zeros = (
        torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves.values(), gradients, strict=True)
    )
    return found | dict(zip(leaves, zeros, strict=True))


def _check_step(
    operator: Operator, case: Case, arguments: list[Tensor], states: list[Tensor], report: Report
) -> None:
    """A call on all but the last few tokens, then `step` on those, against the loop on the whole."""
    count = len(operator.recurrence.inputs)
    inputs, params = arguments[:count], arguments[count:]
    T = case.lengths[0]
    cut = T - min(3, T - 1)
    initial = None if not states else states[0] if len(states) == 1 else tuple(states)
    with torch.no_grad():
        expected, _ = operator.reference(*arguments, initial_state=initial)
        _, state = operator(
            *(x[:, :cut] for x in inputs), *params, initial_state=initial, output_final_state=True
        )
        steps = []
        for t in range(cut, T):
            outputs, state = operator.step(*(x[:, t] for x in inputs), *params, state=state)
            steps.append(_tuple(outputs))
    found = _named(
        "output", _names(operator, "outputs"), [torch.stack(parts, 1) for parts in zip(*steps, strict=True)]
    )
    tail = _named("output", _names(operator, "outputs"), [x[:, cut:] for x in _tuple(expected)])
    report.compare(case, "step", found, tail, lambda: tail)


def distance(found: Tensor, expected: Tensor) -> float:
    """The RMS of the difference relative to that of `expected`; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    if found.numel() == 0:
        return 0.0
    difference = (found.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(1e-6))


def _names(operator: Operator, *kinds: str) -> Iterator[str]:
    for kind in kinds:
        for declared in getattr(operator.recurrence, kind):
            yield declared.name


def _named(prefix: str, names: Iterable[str], values: Any) -> Tensors:
    return {f"{prefix} '{name}'": value for name, value in zip(names, _tuple(values), strict=False)}


def _tuple(values: Any) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)


def _cotangent(x: Tensor, number: int) -> Tensor:
    """The same random numbers for every form and dtype."""
    source = torch.Generator().manual_seed(number)
    return torch.randn(x.shape, generator=source).to(x.dtype)
