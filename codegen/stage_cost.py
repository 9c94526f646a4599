"""The cost of a recurrence in stages or with delays: the launches of all, and what torch does around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rnnc.codegen.compiler import Compiled, Staged
from rnnc.codegen.cost_record import BYTES, STATES, Cost, KernelCost, PassCost
from rnnc.codegen.kernels import plan_kernels
from rnnc.dsl.delays import delayed
from rnnc.dsl.expression import Axes
from rnnc.dsl.recurrence import Recurrence

FORMED = ", but no kernel does it yet"
Moved = tuple[str, int]  # an operation of torch, and the bytes that it reads and writes


def together(
    recurrence: Recurrence, stages: Sequence[Recurrence], costs: Sequence[Cost], sizes: Mapping[str, int]
) -> Cost:
    """The cost of all stages, forward in order and backward in reverse.

    What is handed on counts in the bytes, but not in the minimum.
    """
    handed = {o.name for stage in stages for o in stage.outputs} - {o.name for o in recurrence.outputs}
    return replace(
        costs[0],
        name=recurrence.name,
        sizes=sizes,
        chunk=min(each.chunk for each in costs),
        split=max((each.split for each in costs if each.split), key=lambda each: each.parts, default=None),
        forward=_joined([each.forward for each in costs], handed),
        backward=_joined([each.backward for each in reversed(costs)], handed | {f"d'{n}" for n in handed}),
    )


def handing(compiled: Staged, cost: Cost, others: Sequence[Cost], lengths: Mapping[str, int]) -> Cost:
    """The cost, with the figures of what else was weighed: to hand on other values, to hand on none.

    Where a kernel reads what another stage hands on, it could form that again, of that stage's inputs and its
    states at the start of chunks; `lengths`: of chunks, by stage.
    """
    lines = [f"to hand on other values, the kernels alone would take {_figures(other)}" for other in others]
    size, declared = BYTES[cost.dtype], {item.name for item in compiled.recurrence.declared}
    kernels = [_kernels(stage) for stage in compiled.stages]

    def width(axes: Axes, exact: bool) -> int:
        return (4 if exact else size) * math.prod(cost.sizes[axis] for axis in axes)

    for number, stage in enumerate(compiled.stages):
        own = stage.recurrence
        inputs = {i.name: width(i.axes, not i.axes or i.name in stage.in_float32) for i in own.inputs}
        states = sum(width(state.axes, False) for state in own.states) // lengths[own.name]
        for output in (output for output in own.outputs if output.name not in declared):
            readers = [k for later in kernels[number + 1 :] for k in later if output.name in k]
            handed = width(output.axes, output.name in stage.in_float32) * (1 + len(readers))
            again = sum(states + sum(n for name, n in inputs.items() if name not in k) for k in readers)
            total = f"{handed:,} bytes, written once and read by {len(readers)} kernels"
            which = "less" if again < handed else "not less"
            formed = f"formed again in these it would be {again:,} or more, which is {which}"
            lines.append(f"{output.name} is handed on: {total}; {formed}{FORMED if again < handed else ''}")
    return replace(cost, choice="\n".join(lines))


def _kernels(stage: Compiled) -> list[set[str]]:
    """What each kernel of the chunked form reads."""
    chunked = next(form for form in stage.forms if form.name == "chunked")
    forward, backward = plan_kernels(chunked, stage.normal)
    return [{array.name for array in kernel.loads} for kernel in (*forward, *backward)]


def with_torch(
    cost: Cost,
    recurrence: Recurrence,
    forward: Sequence[Moved],
    backward: Sequence[Moved],
    saved: int,
    states: bool,
) -> Cost:
    """The cost of a call of the declared recurrence with what torch does before and after the kernels.

    Delayed values are no arguments: they count in the bytes, their sources in the minimum.
    """
    found = delayed(recurrence)
    given = {each.name for each in found}
    arguments = {item.name: _bytes(recurrence, item.name, cost) for item in recurrence.inputs}
    lead = 4 * cost.sizes["B"] * cost.sizes["H"]
    ends = 2 * states * sum(lead * math.prod(cost.sizes[axis] for axis in each.axes) for each in found)

    def extended(part: PassCost, operations: Sequence[Moved], first: bool, mark: str) -> PassCost:
        around = tuple(KernelCost(name, "torch", size, 0, ()) for name, size in operations)
        minimum = {f"{mark}{name}": size for name, size in arguments.items()} if found else {}
        minimum |= {name: size for name, size in part.minimum.items() if name.removeprefix("d'") not in given}
        minimum[STATES] += ends
        kernels = (*around, *part.kernels) if first else (*part.kernels, *around)
        return replace(part, kernels=kernels, minimum=minimum)

    forward_pass = extended(cost.forward, forward, True, "")
    saved += cost.forward.saved_bytes
    return replace(
        cost,
        name=recurrence.name,
        forward=replace(forward_pass, saved_bytes=saved),
        backward=extended(cost.backward, backward, False, "d'"),
    )


def weighed(before: Cost, inside: Cost | None, why: str) -> Cost:
    """Of two ways to what is delayed, the one that calls go: formed before the kernels, or inside them.

    Inside, unless sequences are split: stretches do not see the tokens before their own. `why` there are no
    kernels that form it.
    """
    if inside is None:
        reason = f"what is delayed is formed before the kernels: {why}"
        return replace(before, choice=reason) if why else before
    if before.stretches > 1:
        how = "what is delayed is formed before the kernels, so that sequences can be split; in them it"
        return replace(before, choice=f"{how} would be {_figures(inside)}")
    how = "what is delayed is formed in the kernels; before them it would be"
    return replace(inside, choice=f"{how} {_figures(before)}")


def _figures(cost: Cost) -> str:
    per = cost.sizes["B"] * cost.sizes["T"] * cost.sizes["H"]
    parts = (("forward", cost.forward), ("backward", cost.backward))
    return ", ".join(f"{p.bytes / per:,.0f} bytes in {p.launches} launches {name}" for name, p in parts)


def _bytes(recurrence: Recurrence, name: str, cost: Cost) -> int:
    """The size of an input."""
    item = next(item for item in recurrence.inputs if item.name == name)
    heads = cost.sizes["G" if item.per_group else "H"]
    entries = cost.sizes["B"] * cost.sizes["T"] * heads * math.prod(cost.sizes[axis] for axis in item.axes)
    return entries * (BYTES[cost.dtype] if item.axes else 4)


def _joined(passes: Sequence[PassCost], handed: set[str]) -> PassCost:
    minimum: dict[str, int] = {}
    for each in passes:
        ends = minimum.get(STATES, 0)
        minimum |= each.minimum
        minimum[STATES] += ends
    kernels = tuple(kernel for each in passes for kernel in each.kernels)
    saved = sum(each.saved_bytes for each in passes)
    return PassCost(kernels, {name: size for name, size in minimum.items() if name not in handed}, saved)
