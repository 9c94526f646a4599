"""Property tests find what is wrong, and say where."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rnnc
from rnnc.dsl.interval import Interval
from rnnc.ops import gated_delta_net, mamba2, testing
from rnnc.ops.c_backend import Walks as CWalks
from rnnc.ops.random_cases import Case, draw_arguments, draw_case, within
from rnnc.ops.testing import Report, check_c, check_case, distance, property_test


@pytest.mark.smoke
def test_ranges_are_kept() -> None:
    fraction = torch.tensor([0.0, 0.5, 0.9999])
    for interval in (Interval(0, 1, True, True), Interval(-3, 0), Interval(2), Interval(high=-1), Interval()):
        drawn = within(interval, fraction)
        assert bool(((interval.low < drawn) & (drawn < interval.high)).all())


@pytest.mark.smoke
def test_a_case_follows_from_its_seed() -> None:
    recurrence = mamba2.recurrence
    assert draw_case(recurrence, 3) == draw_case(recurrence, 3)
    cases = [draw_case(recurrence, seed) for seed in range(80)]
    assert {len(set(case.lengths)) > 1 for case in cases} == {True, False}
    assert any(0 in case.lengths for case in cases)
    assert {case.reverse for case in cases} == {case.initial for case in cases} == {True, False}
    assert any(case.H % groups == 0 and groups < case.H for case in cases for groups in case.groups.values())
    first, again = (draw_arguments(recurrence, cases[0]) for _ in range(2))
    assert all(map(torch.equal, first, again))


def test_a_correct_operator_passes() -> None:
    report = property_test(gated_delta_net, cases=3)
    assert report, str(report)
    assert report.as_dict()["passed"] is True
    assert {form for form, _ in report.worst} >= {"recurrent", "chunked", "parallel"}


def test_states_lie_where_the_spec_gives_numbers() -> None:
    """The root of a mean of squares: of one that starts below zero there is none."""
    text = (
        "recurrence r[K, V]:\n    input q[K], k[K], v[V]\n    state h[K], S[K, V]\n    output o[V]\n"
        "    h <- 0.9 * h + 0.1 * k * k\n    S <- 0.5 * S + (k * rsqrt(h + 0.001)) @ v.T\n    o <- S.T @ q\n"
    )
    operator = rnnc.compile(text)
    case = Case(1, (7, 7), False, 2, {"K": 3, "V": 2}, {}, True, False, None)
    report = Report("r")
    check_case(operator, case, report)
    assert not report.failures, str(report)


@pytest.mark.parametrize("wrong", ["chunked_forward", "chunked_backward"])
def test_a_wrong_operator_fails(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(gated_delta_net.module, wrong)

    def scaled(*arguments: Any) -> Any:
        (first, *rest), *others = right(*arguments)
        return ((first * 1.000001, *rest), *others)

    monkeypatch.setattr(gated_delta_net.module, wrong, scaled)
    report = property_test(gated_delta_net, cases=2)
    assert not report
    assert {failure.form for failure in report.failures} == {"chunked", "parallel"}
    assert all("float64" in failure.what for failure in report.failures)


@pytest.mark.skipif(not testing.has_compiler(), reason="there is no C compiler")
def test_c_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "FEWEST", 4)
    report = property_test(mamba2, cases=4)
    assert report, str(report)
    assert "c          float32  largest error" in str(report)
    assert {dtype for form, dtype in report.worst if form == "c"} == {"float32", "float64"}


@pytest.mark.skipif(not testing.has_compiler(), reason="there is no C compiler")
def test_wrong_c_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CWalks.run

    def scaled(*arguments: Any) -> Any:
        (first, *rest), final = right(*arguments)
        return (first * 1.001, *rest), final

    monkeypatch.setattr(CWalks, "run", scaled)
    case, report = Case(1, (40,), False, 2, {"N": 3, "P": 2}, {}, True, False, 16), Report("mamba2")
    check_c(mamba2, case, report)
    assert {failure.form for failure in report.failures} == {"c"}


def test_without_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise NotImplementedError("no C for Something")

    operator = rnnc.compile(mamba2.spec)
    monkeypatch.setattr(operator.walks, "generate", refuse)
    report = Report("mamba2")
    check_c(operator, Case(1, (41,), False, 1, {"N": 2, "P": 7}, {}, True, False, 16), report)
    assert "c          not checked: c: no C for Something" in str(report)
    assert not report.comparisons
    monkeypatch.setattr(testing, "has_compiler", lambda: False)
    monkeypatch.setattr(testing, "FEWEST", 1)
    assert not property_test(operator, cases=1).unchecked


@pytest.mark.smoke
def test_distance() -> None:
    ones = torch.ones(3)
    assert distance(ones, ones, 1.0) == 0
    assert distance(ones[:2], ones, 1.0) == float("inf")
    assert distance(ones * 1.5, ones, float(ones.norm())) == pytest.approx(0.5)
    assert not distance(ones * float("nan"), ones, 1.0) <= 1
    assert not Report("nothing was tested")
