"""States that are kept for one chunk in several: the kernels form the others anew, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import rnnc.ops
from rnnc.codegen import tiling
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.cost import cost
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance
from rnnc.ops.trial import draw_trial

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("poisoned")

# Scaled operands that only the walk needs; two states; micro-steps; outputs that sum over the value axis.
MODELS = ("gla", "momentum_delta", "gated_delta_product")
LONG = (0, 70, 0, 1)


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Operator]:
    """An operator that keeps a state for so many chunks."""

    def of(name: str, spacing: int) -> Operator:
        op: Operator = getattr(rnnc.ops, name)
        monkeypatch.setattr(tiling, "SPACINGS", (spacing,))
        monkeypatch.setattr(op.kernels.choices, "tilings", {})
        monkeypatch.setattr(op.kernels.choices, "kept", None)  # nothing that was chosen among all spacings
        monkeypatch.setattr(op.kernels, "plans", {})
        return op

    return of


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are summed in the order of the contracted axis.

    numpy's own are sums in an order that follows from the shape of the whole product on some CPUs: there the
    same column has other last bits in a tile of 32 columns than in one of 16.
    """
    from triton.runtime import interpreter

    def dot(self: Any, one: Any, other: Any, total: Any, *_: Any) -> Any:
        left, right = (x.data.astype(total.data.dtype) for x in (one, other))
        terms = (left[..., :, n, None] * right[..., n, None, :] for n in range(left.shape[-1]))
        return interpreter.TensorHandle(sum(terms) + total.data, total.dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)


def case(op: Operator, lengths: tuple[int, ...], **flags: bool) -> Case:
    recurrence = op.recurrence
    axes = dict(zip(recurrence.states[0].axes, (5, 20), strict=True)) | dict.fromkeys(recurrence.loops, 2)
    groups = {item.name: 1 for item in recurrence.inputs if item.per_group}
    options = {"packed": False, "initial": True, "reverse": False} | flags
    chunk = 32 if recurrence.loops else 16
    return Case(3, lengths, options["packed"], 2, axes, groups, options["initial"], options["reverse"], chunk)


@pytest.mark.parametrize(
    ("name", "spacing", "lengths", "flags"),
    [
        *((name, 2, (35, 0, 5), {"packed": True}) for name in MODELS),
        ("gated_delta_net", 4, LONG, {"packed": True, "reverse": True, "initial": False}),
        ("mamba2", 2, LONG, {"packed": True}),
    ],
)
def test_values_and_gradients(
    every: Callable[[str, int], Operator],
    name: str,
    spacing: int,
    lengths: tuple[int, ...],
    flags: dict[str, bool],
) -> None:
    op = every(name, spacing)
    drawn = draw_trial(op, case(op, lengths, **flags))
    found = drawn.to(torch.float32).evaluate("chunked", backend="triton")
    assert {tiled.spacing for tiled in op.kernels.choices.tilings.values()} == {spacing}
    for what, value in found.items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, what


def test_states_that_are_formed_anew_are_those_that_would_be_kept(
    every: Callable[[str, int], Operator], in_order: None
) -> None:
    """In float32, bit for bit; with nothing kept too. The scan forms them in smaller tiles."""
    results: list[Any] = []
    for spacing, save in ((1, "states"), (4, "states"), (2, "inputs")):
        op = every("gated_delta_net", spacing)
        drawn = draw_trial(op, case(op, (70,)))
        arguments = [x.float().requires_grad_() for x in drawn.arguments]
        outputs, _ = op(*arguments, backend="triton", chunk_size=16, save=save)
        assert {tiled.spacing for tiled in op.kernels.choices.tilings.values()} == {spacing}
        results.append(torch.autograd.grad(outputs.sin().sum(), arguments))
    for other in results[1:]:
        assert all(torch.equal(one, again) for one, again in zip(results[0], other, strict=True))


@pytest.mark.parametrize("save", ["states", "inputs"])
@pytest.mark.parametrize("spacing", [1, 2, 4])
@pytest.mark.parametrize("name", ["linear_attention", "gla"])
def test_the_cost_is_that_of_the_launches(
    every: Callable[[str, int], Operator], name: str, spacing: int, save: str
) -> None:
    from rnnc.ops.triton_recording import Shapes, record

    op = every(name, spacing)
    sizes = {"K": 32, "V": 48}
    (stage,) = compile_text(op.spec).stages
    found = cost(stage, "bf16", 16, True, save, B=2, T=200, H=4, **sizes)
    assert found.spacing == spacing
    module, _ = op.kernels.available
    shapes = Shapes(2, 200, 4, 4, sizes)
    recorded = record(module, op.recurrence, shapes, torch.bfloat16, 16, True, keep=save == "states")
    for part, launches in zip((found.forward, found.backward), recorded, strict=True):
        assert [(k.name, k.grid, k.bytes) for k in part.kernels] == [
            (r.kernel, r.grid, r.bytes) for r in launches
        ]


def test_what_is_kept_is_less() -> None:
    """A state for every chunk, or for one in two, or four: so many bytes from forward to backward."""
    op: Operator = rnnc.ops.linear_attention
    (stage,) = compile_text(op.spec).stages
    sizes = {"B": 1, "T": 8192, "H": 96, "K": 128, "V": 128}
    kept = []
    for spacing in (1, 2, 4):
        found = cost(stage, "bf16", 64, spacing=spacing, **sizes)
        kept.append(found.forward.saved_bytes)
        assert f"a state kept for {spacing} of them" in str(found) or spacing == 1
    assert kept == [512 * 8192 * 96, 256 * 8192 * 96, 128 * 8192 * 96]


def test_states_in_tiles_of_another_axis_are_kept_for_every_chunk() -> None:
    op: Operator = rnnc.ops.gsa
    first, second = compile_text(op.spec).stages
    sizes = {"B": 1, "T": 256, "H": 2}
    assert cost(first, "bf16", 64, spacing=4, K=64, M=64, **sizes).spacing == 1
    assert cost(second, "bf16", 64, spacing=4, M=64, V=64, **sizes).spacing == 4
    (stage,) = compile_text(rnnc.ops.kda.spec).stages
    assert cost(stage, "bf16", 64, spacing=4, K=64, V=64, **sizes).spacing == 1
