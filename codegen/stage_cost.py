"""The cost of a recurrence in stages: the launches of all, and what a call reads and writes at least."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rnnc.codegen.cost import STATES, Cost, KernelCost, PassCost
from rnnc.dsl.recurrence import Recurrence


def together(
    recurrence: Recurrence, stages: Sequence[Recurrence], costs: Sequence[Cost], sizes: Mapping[str, int]
) -> Cost:
    """The cost of all stages, forward in order and backward in reverse.

    What is handed on counts in the bytes and in what is kept, but not in the minimum. A gradient that several
    stages contribute to is added up by torch, one launch for each but the first.
    """
    handed = {o.name for stage in stages for o in stage.outputs} - {o.name for o in recurrence.outputs}
    forward = _joined([each.forward for each in costs], handed)
    minima = (each.forward.minimum for each in costs)
    kept = {name: size for minimum in minima for name, size in minimum.items() if name in handed}
    back = [each.backward for each in reversed(costs)]
    gradients = handed | {f"d'{name}" for name in handed}
    backward = _joined(back, gradients)
    return replace(
        costs[0],
        name=recurrence.name,
        sizes=sizes,
        chunk=min(each.chunk for each in costs),
        forward=replace(forward, saved_bytes=forward.saved_bytes + sum(kept.values())),
        backward=replace(backward, kernels=(*backward.kernels, *_additions(stages, back))),
    )


def _joined(passes: Sequence[PassCost], handed: set[str]) -> PassCost:
    minimum: dict[str, int] = {}
    for each in passes:
        ends = minimum.get(STATES, 0)
        minimum |= each.minimum
        minimum[STATES] += ends
    kernels = tuple(kernel for each in passes for kernel in each.kernels)
    saved = sum(each.saved_bytes for each in passes)
    return PassCost(kernels, {name: size for name, size in minimum.items() if name not in handed}, saved)


def _additions(stages: Sequence[Recurrence], passes: Sequence[PassCost]) -> Iterable[KernelCost]:
    """What adds up the gradients of an argument of several stages: two are read, one is written."""
    sizes = {name: size for each in passes for name, size in each.minimum.items()}
    uses = Counter(item.name for stage in stages for item in stage.arguments)
    for name, count in uses.items():
        for _ in range(count - 1):
            yield KernelCost(f"d'{name}", "add", 3 * sizes.get(f"d'{name}", 0), 0, ())
