"""What a call on the Triton back end costs the host: everything but the kernels, which do nothing here.

    TRITON_INTERPRET=1 python -m benchmarks.overhead [model ...]

Microseconds of this thread, the least of several rounds; what a launch takes once Triton has its binary and
the arguments by position (`rnnc.ops.triton_repeated`) is not in them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

import rnnc.ops
from rnnc.measurement import draw
from rnnc.ops.arguments import Sizes

ROUNDS, TIMES = 12, 100
MODELS = ("gla", "gated_delta_net")


class Nothing:
    """Takes the place of a kernel and of what Triton compiles from it."""

    def __init__(self, kernel: Any) -> None:
        self.arg_names, self.asm = kernel.arg_names, {}

    def __getitem__(self, _grid: Any) -> Callable[..., Any]:
        return lambda *_, **options: self if options else None


def empty(operator: Any) -> None:
    """Replaces the kernels of an operator."""
    module, text = operator.kernels.available
    groups = (module.FORWARD, module.BACKWARD, module.FORWARD_STEPS, module.BACKWARD_STEPS)
    groups = (*groups, *module.CUTS.values())
    names = [*(launch.kernel for group in groups for launch in group), "sums", "chunk_tables"]
    names += [pair.kernel for pair in module.JOINED]
    fake = SimpleNamespace(**(vars(module) | {name: Nothing(getattr(module, name)) for name in names}))
    operator.kernels.__dict__["generated"] = fake, text


def microseconds(run: Callable[[], Any]) -> float:
    """The least of the rounds."""
    taken = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(TIMES):
            run()
        taken.append((time.thread_time() - start) / TIMES)
    return min(taken) * 1e6


def main(models: list[str]) -> None:
    """Prints forward alone, forward with gradients to come, and both, for whole and for packed sequences."""
    torch.set_num_threads(1)
    for name in models:
        op = getattr(rnnc.ops, name)
        sizes = Sizes(1, 128, 2, dict.fromkeys(op.recurrence.axes, 16))
        leaves = [x.requires_grad_() for x in draw(op.recurrence, sizes, torch.float32, "cpu")]
        empty(op)
        for packed in (None, torch.tensor([0, 50, 128])):
            options = {"backend": "triton", "form": "chunked", "cu_seqlens": packed}
            cotangent = torch.ones_like(op(*leaves, **options)[0])

            def forward(op: Any = op, leaves: Any = leaves, options: Any = options) -> None:
                with torch.no_grad():
                    op(*leaves, **options)

            def both(op: Any = op, leaves: Any = leaves, options: Any = options, do: Any = cotangent) -> None:
                torch.autograd.grad(op(*leaves, **options)[0], leaves, do)

            recorded = microseconds(lambda op=op, leaves=leaves, options=options: op(*leaves, **options))
            times = f"forward {microseconds(forward):.0f}, {recorded:.0f} with gradients to come"
            times += f", forward and backward {microseconds(both):.0f}"
            print(f"{name}{', packed' if packed is not None else ''}: {times} microseconds")


if __name__ == "__main__":
    main(sys.argv[1:] or list(MODELS))
