"""The plans of the kernels of a form, and the one of them that costs least.

`pre` hands on all matrices between tokens, or, in a lean plan, only those that come from a triangular
inverse, or take more than a product and its decay: then walks form the others, which takes them a product and
registers, and saves what `pre` reads and writes for it. Which plan is taken follows from what both cost at
common sizes, by the estimates of `tiling`; it is taken for all sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rnnc.codegen.footprint import footprint
from rnnc.codegen.hardware import SM_90, Hardware
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.kernels import plan_kernels
from rnnc.codegen.program import Node
from rnnc.codegen.tiling import NEAR, choose, least_bytes
from rnnc.codegen.tiling_record import Tiling, TooLarge
from rnnc.codegen.torch_module import Form
from rnnc.dsl.normal import Normal

SIZE, STEPS = 128, 2  # of every axis, micro-steps of a token
BYTES = 2  # of an entry of a vector
WARPS = 8  # of a program, to which the registers are counted that an estimate may be off by


class Kernels(NamedTuple):
    """The kernels of a plan."""

    forward: tuple[Kernel, ...]
    backward: tuple[Kernel, ...]
    lean: bool


def cheapest(form: Form, normal: Normal) -> Kernels:
    """The plan that costs least. Raises UnsupportedOnGpu."""
    full, lean = (Kernels(*plan_kernels(form, normal, lean), lean) for lean in (False, True))
    if _handed(full) == _handed(lean):
        return full
    plans = [(tiling, plan) for plan in (full, lean) for tiling in _tilings(plan, normal)]
    best = least_bytes([tiling for tiling, _ in plans]) if plans else None
    return next((plan for tiling, plan in plans if tiling is best), full)


def _handed(plan: Kernels) -> set[Node]:
    """What `pre` hands on."""
    return {array.node for kernel in plan.forward if kernel.role == "pre" for array in kernel.stores}


def _tilings(plan: Kernels, normal: Normal) -> Iterator[Tiling]:
    """How the kernels of a plan run, if they fit."""
    works = {kernel.name: footprint(kernel) for kernel in (*plan.forward, *plan.backward)}
    recurrence = normal.recurrence
    sizes = dict.fromkeys(recurrence.axes, SIZE) | dict.fromkeys(recurrence.loops, STEPS)
    try:
        yield choose(works, sizes, BYTES, _roomy(SM_90))
    except TooLarge:
        return


def _roomy(hardware: Hardware) -> Hardware:
    """As the hardware, with as many registers more as estimates may be wrong by: compilers have the last
    word.
    """
    return hardware._replace(
        registers=hardware.registers + NEAR * WARPS * hardware.lanes,
        thread_registers=hardware.thread_registers + NEAR,
    )
