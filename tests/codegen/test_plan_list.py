"""The list of plans: which there are, which runs, and why others are not to be had."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("triton")

from rnnc.cli import main
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.cost import cost
from rnnc.codegen.plan_list import PlanList, plan_lists
from rnnc.files import read_spec


def lists(name: str, length: int, heads: int) -> tuple[PlanList, ...]:
    compiled = compile_text(read_spec(name)[0], name)
    sizes = {"B": 1, "T": length, "H": heads} | dict.fromkeys(compiled.recurrence.axes, 128)
    sizes |= dict.fromkeys(compiled.recurrence.loops, 2)
    return plan_lists(compiled, "bf16", "sm_90", None, sizes)


def test_cuts_are_candidates_and_one_of_each_kind_runs() -> None:
    (short,), (long,) = (lists("gated_delta_net", length, 96) for length in (16, 8192))
    for found in (short, long):
        assert sum(plan.chosen for plan in found.both) == sum(plan.chosen for plan in found.forward) == 1
        assert {plan.kernels for plan in found.forward} == {"pre | scan", "whole", "pre | walk | outputs"}
    assert next(plan for plan in short.forward if plan.chosen).kernels == "whole"
    assert next(plan for plan in long.forward if plan.chosen).kernels == "pre | scan"
    assert {plan.spacing for plan in long.both} == {1, 2, 4}
    assert len(long.best(2).both) in (2, 3)
    assert any(plan.chosen for plan in long.best(1).both)


@pytest.mark.parametrize("length", [1, 16, 20, 100])
def test_chunks_are_no_longer_than_sequences_need(length: int) -> None:
    """As calls run, and as `cost` counts."""
    (found,), (long,) = (lists("gated_delta_net", tokens, 96) for tokens in (length, 8192))
    (taken,), (usual,) = ([plan for plan in each.both if plan.chosen] for each in (found, long))
    assert taken.chunk == min(max(16, 1 << (length - 1).bit_length()), usual.chunk)
    compiled = compile_text(read_spec("gated_delta_net")[0], "gated_delta_net")
    assert cost(compiled, B=1, T=length, H=96, K=128, V=128).chunk == taken.chunk


def test_reasons_are_said() -> None:
    (oja,) = lists("gated_oja", 64, 8)
    assert "a sum over the value axis" in oja.refused["whole"]
    (titans,) = lists("titans_linear", 65536, 1)
    assert titans.stretches == "sequences are not split: several states"
    (few,) = lists("gated_delta_net", 65536, 1)
    assert "stretches each, in" in few.stretches


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["B=1", "T=64", "H=8", "K=64", "V=64"]
    for arguments in (["--plans", "3"], ["--plans", "3", "--json"]):
        with pytest.raises(SystemExit) as stopped:
            main(["cost", "gla", *sizes, *arguments])
        assert stopped.value.code == 0
        told = capsys.readouterr().out
        if "--json" in arguments:
            (found,) = json.loads(told)["plans"]
            assert any(plan["chosen"] for plan in found["forward"])
        else:
            assert "<- chosen" in told
            assert "forward alone, nothing kept:" in told
