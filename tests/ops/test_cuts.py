"""The forward pass in other cuts: the same values as the naive loop; which cut a call takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import rnnc.ops
from rnnc.codegen.cuts import DEFAULT, chosen, passes
from rnnc.codegen.hardware import SM_90
from rnnc.codegen.tiling_record import Measured
from rnnc.ops import triton_choices
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case, draw_arguments, draw_states
from rnnc.ops.stages import Pipeline
from rnnc.ops.testing import distance
from rnnc.ops.triton_backend import TritonKernels
from rnnc.ops.triton_launch import Runner
from rnnc.ops.triton_tiling import cut_works, tiling

pytest.importorskip("triton")

BUILT_IN = {name: getattr(rnnc.ops, name) for name in rnnc.ops.builtin_names()}


def kernels_of(operator: Operator) -> list[TritonKernels]:
    """Of all stages, those that walk chunks."""
    whole: Any = getattr(operator, "inner", operator)
    each = [stage.kernels for stage in whole.stages] if isinstance(whole, Pipeline) else [whole.kernels]
    return [kernels for kernels in each if not isinstance(kernels.generated, str) and not kernels.no_chunks]


@pytest.fixture(params=BUILT_IN)
def operator(request: pytest.FixtureRequest) -> Iterator[Operator]:
    found = BUILT_IN[request.param]
    yield found
    for kernels in kernels_of(found):
        kernels.choices.cut = None


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that are launched, as they are."""
    found: list[str] = []
    launch = Runner._launch

    def noted(self: Runner, prepared: Any, ends: Any) -> None:
        found.append(prepared.kernel)
        launch(self, prepared, ends)

    monkeypatch.setattr(Runner, "_launch", noted)
    return found


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("cut", ["whole", "apart"])
def test_values_and_final_states(operator: Operator, cut: str, launched: list[str]) -> None:
    """Of packed sequences, one of them empty, from given states; both directions between the two cuts."""
    there = [kernels for kernels in kernels_of(operator) if cut in kernels.available[0].CUTS]
    if not there:
        pytest.skip("there is no such cut")
    for kernels in there:
        kernels.choices.cut = cut
    recurrence = operator.recurrence
    axes = dict.fromkeys(recurrence.axes, 5) | dict.fromkeys(recurrence.loops, 2)
    grouped = {item.name: 1 for item in recurrence.inputs if item.per_group}
    case = Case(7, (0, 18), True, 1, axes, grouped, True, cut == "apart", 16)
    arguments = [x.float() for x in draw_arguments(recurrence, case, 0.5)]
    states = [x.float() for x in draw_states(recurrence, case)]
    given: Any = states[0] if len(states) == 1 else tuple(states)
    options = {"initial_state": given, "output_final_state": True}
    options |= {"cu_seqlens": case.cu_seqlens, "reverse": case.reverse}
    with torch.no_grad():
        found = operator(*arguments, backend="triton", form="chunked", chunk_size=16, **options)
        expected = operator.reference(*arguments, **options)
    for got, wanted in zip(flat(found), flat(expected), strict=True):
        assert distance(got, wanted.to(got.dtype), float(wanted.double().norm())) <= 1e-5
    ending = {"whole": "_whole", "apart": "_outputs"}[cut]
    assert sum(name.endswith(ending) for name in launched) == len(there)


def flat(values: Any) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    return [x for each in values for x in flat(each)]


def test_short_sequences_take_one_launch(launched: list[str]) -> None:
    """Where nothing is kept; where gradients are asked for, the usual cut."""
    op = rnnc.ops.gated_delta_net
    arguments = [torch.rand(1, 16, 2, 16) for _ in range(3)] + [torch.rand(1, 16, 2) for _ in range(2)]
    arguments += [torch.rand(2), torch.rand(2)]
    with torch.no_grad():
        alone, _ = op(*arguments, backend="triton")
    assert launched == ["gated_delta_net_chunked_whole"]
    launched.clear()
    kept, _ = op(*(x.requires_grad_() for x in arguments), backend="triton")
    assert launched == ["gated_delta_net_chunked_pre", "gated_delta_net_chunked_scan"]
    torch.testing.assert_close(alone, kept)


@pytest.mark.parametrize("name", ["gated_delta_net", "kda", "mamba2", "titans_linear"])
def test_the_estimate_decides(name: str) -> None:
    """The cut is that of the least time, of what compilers have seen if they have any, unless the usual one
    takes little more.
    """
    (kernels,) = kernels_of(BUILT_IN[name])
    module, text = kernels.available
    assert kernels.choices.findings
    sizes = dict.fromkeys(BUILT_IN[name].recurrence.axes, 128)
    usual = kernels.choices.tiled(sizes, 2, torch.device("cpu"), 1 << 20)
    for length in (16, 64, 8192):
        known = kernels.choices.findings(text, (*module.WORK, *module.CUT_WORK), sizes, 2, SM_90)
        each = passes(cut_works(module), sizes, 2, SM_90, length, None, known)
        assert {one.cut for one in each} == {DEFAULT, *module.CUTS}
        taken = kernels.choices.alone(sizes, 2, torch.device("cpu"), length, usual)
        best = next((one for one in each if one.compiled or not any(known.values())), None)
        if taken.cut:
            assert best is not None
            assert (best.cut, best.chunk, best.fits) == (taken.cut, taken.chunk, True)


def test_what_no_compiler_has_seen_does_not_go_before_what_they_have() -> None:
    (kernels,) = kernels_of(rnnc.ops.gated_delta_net)
    module, _ = kernels.available
    given = cut_works(module), {"K": 128, "V": 128}, 2, SM_90, 64
    estimated = passes(*given)
    usual = next(one for one in estimated if one.cut == DEFAULT and one.fits)
    other = chosen(estimated, usual.chunk)
    assert other is not None
    known = {
        name: {choice.configuration: Measured(128, 0, choice.need.shared)}
        for name, choice in usual.kernels.items()
    }
    assert chosen(passes(*given, None, known), usual.chunk) is None
    assert chosen(passes(*given, None, known), usual.chunk, unseen=True) is not None
    known |= {
        name: {choice.configuration: Measured(128, 0, choice.need.shared)}
        for name, choice in other.kernels.items()
    }
    assert chosen(passes(*given, None, known), usual.chunk) is not None


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("save", "usual"), [("states", False), ("inputs", False), ("states", True)])
def test_outputs_formed_by_the_walk(
    save: str, usual: bool, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two launches instead of three, with gradients, of packed sequences and from given states."""
    op = rnnc.ops.gated_oja
    if usual:
        monkeypatch.setattr(triton_choices, "tiling", lambda *given: tiling(*given[:-1], 1))
        monkeypatch.setattr(op.kernels.choices, "kept", None)
        monkeypatch.setattr(op.kernels.choices, "tilings", {})
        monkeypatch.setattr(op.kernels, "plans", {})
    case = Case(7, (0, 18), True, 1, {"K": 5, "V": 20}, {}, True, True, 16)
    arguments = [x.float().requires_grad_() for x in draw_arguments(op.recurrence, case, 0.5)]
    given = [x.float().requires_grad_() for x in draw_states(op.recurrence, case)]
    options: Any = {"initial_state": given[0], "output_final_state": True, "cu_seqlens": case.cu_seqlens}

    def gradients(**how: Any) -> list[torch.Tensor]:
        o, state = op(*arguments, **options, **how)
        found = torch.autograd.grad(o.sin().sum() + state.square().sum(), [*arguments, *given])
        return [o.detach(), state.detach(), *found]

    expected = gradients(backend="torch")
    found = gradients(backend="triton", chunk_size=16, save=save)
    for got, wanted in zip(found, expected, strict=True):
        assert distance(got, wanted, float(wanted.double().norm())) <= 1e-5
    forward = ["pre", "scan", "post"] if usual else ["pre", "undivided"]
    again = ["pre_dpost", "undivided"] if save == "inputs" else ["dpost"]
    kernels = [*forward, *again, "reverse", "channels"]
    assert launched == [f"gated_oja_chunked_{each}" for each in kernels]
