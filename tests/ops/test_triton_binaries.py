"""How often a user waits for Triton: other heads, batches and packed lengths compile and choose nothing.

Kernels that note what Triton would tell binaries by stand in for those of the module.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import rnnc.ops
from rnnc.measurement import draw
from rnnc.ops import triton_choices
from rnnc.ops.arguments import Sizes
from rnnc.ops.operator import Operator

Binary = tuple[Any, ...]
SHAPES = ((1, 70, 2), (3, 70, 2), (1, 300, 2), (2, 90, 3), (1, 1000, 5), (7, 65, 13))  # B, T, H
PACKED = ((0, 40, 70), (0, 1, 70), (0, 0, 300), (0, 64, 128, 129, 200), (0, *range(7, 1000, 9)))


class Watched:
    """Takes the place of a kernel; adds to `binaries` what Triton would compile for its arguments."""

    def __init__(self, name: str, kernel: Any, binaries: set[Binary]) -> None:
        self.name, self.binaries, self.arg_names = name, binaries, kernel.arg_names
        self.constants = {
            name for name, note in kernel.fn.__annotations__.items() if "constexpr" in str(note)
        }
        self.alike = set(kernel.kwargs["do_not_specialize"] or ())

    def __getitem__(self, _grid: Any) -> Callable[..., None]:
        return lambda **given: self.binaries.add((self.name, *(self.seen(*each) for each in given.items())))

    def seen(self, name: str, value: Any) -> Any:
        """An argument as far as binaries depend on it: the type, for whole numbers also whether they are 1
        or a multiple of 16, unless the kernel says that it does not matter.
        """
        if isinstance(value, tuple):
            return name, tuple(self.seen(name, each) for each in value)
        if isinstance(value, torch.Tensor):
            return name, str(value.dtype)
        known = not isinstance(value, int) or name in self.constants or name not in self.arg_names
        return name, value if known else name in self.alike or (value == 1, value % 16 == 0)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Operator, set[Binary], list[int]]]:
    """From a name an operator in no cache, the binaries of its calls, and the choices made for them."""

    def operator(name: str) -> tuple[Operator, set[Binary], list[int]]:
        found = rnnc.compile(getattr(rnnc.ops, name).spec)
        found.kernels.choices.kept = None
        module, text = found.kernels.available
        binaries: set[Binary] = set()
        kernels = {
            n: Watched(n, each, binaries) for n, each in vars(module).items() if hasattr(each, "rewriter")
        }
        found.kernels.__dict__["generated"] = SimpleNamespace(**(vars(module) | kernels)), text
        choices: list[int] = []
        choose = triton_choices.tiling

        def counted(*args: Any) -> Any:
            choices.append(1)
            return choose(*args)

        monkeypatch.setattr(triton_choices, "tiling", counted)
        return found, binaries, choices

    return operator


def train(op: Operator, shape: tuple[int, int, int], bounds: tuple[int, ...] = ()) -> None:
    """Forward and backward."""
    batch, length, heads = shape
    axes = {axis: 2 if axis in op.recurrence.loops else 16 for axis in op.recurrence.axes}
    arguments = draw(op.recurrence, Sizes(batch, length, heads, axes), torch.float32, "cpu")
    leaves = [x.requires_grad_() for x in arguments]
    packed = torch.tensor(bounds) if bounds else None
    outputs, _ = op(*leaves, backend="triton", form="chunked", cu_seqlens=packed)
    found = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.autograd.grad(found, leaves, tuple(map(torch.zeros_like, found)), allow_unused=True)


def of_chunks(binaries: set[Binary]) -> set[Binary]:
    """Those of the generated kernels; not of the one that sums gradients over chunks, whose blocks are as
    large as what there is to sum.
    """
    return {binary for binary in binaries if binary[0] != "sums"}


@pytest.mark.parametrize("name", ["linear_attention", "gated_delta_net", "kda", "delta_product", "rwkv7"])
def test_other_heads_batches_and_lengths_compile_nothing_and_choose_nothing(
    name: str, watched: Callable[[str], tuple[Operator, set[Binary], list[int]]]
) -> None:
    op, binaries, choices = watched(name)
    op.kernels.choices.stretches = 1
    train(op, SHAPES[0])
    first, chosen = set(binaries), len(choices)
    assert len(of_chunks(first)) >= 3
    for shape in SHAPES[1:]:
        train(op, shape)
    assert of_chunks(binaries) == of_chunks(first)
    train(op, (1, PACKED[0][-1], 3), PACKED[0])
    packed = set(binaries)
    for number, bounds in enumerate(PACKED[1:]):
        train(op, (1, bounds[-1], 3 + 2 * number), bounds)
    assert of_chunks(binaries) == of_chunks(packed)
    assert len(choices) == chosen <= 2


@pytest.mark.parametrize("name", ["gated_delta_net", "mamba2"])
def test_one_binary_serves_all_head_counts(
    name: str, watched: Callable[[str], tuple[Operator, set[Binary], list[int]]]
) -> None:
    """Were one, multiples of 16 and others told apart, what a probe of few heads found right would not be
    what a model with many runs.
    """
    op, binaries, choices = watched(name)
    op.kernels.choices.stretches = 1
    counts = []
    for heads in (1, 16, 6, 2, 96):
        train(op, (1, 64, heads))
        counts.append(len(of_chunks(binaries)))
    assert len(set(counts)) == 1
    assert len(choices) == 1


def test_calls_that_are_split_add_few_binaries(
    watched: Callable[[str], tuple[Operator, set[Binary], list[int]]],
) -> None:
    """Where the load decides in how many stretches sequences are walked, binaries do not depend on it."""
    op, binaries, _ = watched("gated_delta_net")
    counts = []
    for length in (2048, 4096, 8192, 3000):
        train(op, (1, length, 2))
        counts.append(len(of_chunks(binaries)))
    assert counts[0] == counts[-1]
    assert any(binary[0] == "combine" for binary in binaries)
