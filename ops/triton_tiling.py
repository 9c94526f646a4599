"""How the kernels of a call run: the choice of `rnnc.codegen.tiling` for its sizes, dtype and device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import torch

from rnnc.codegen.cuts import DEFAULT, Forward, chosen, passes
from rnnc.codegen.hardware import SM_90, Hardware, like
from rnnc.codegen.stretches import Load, Maps, forced, split
from rnnc.codegen.tiling import choose
from rnnc.codegen.tiling_record import Choice, Findings, Tiling
from rnnc.codegen.work import Work
from rnnc.ops.triton_call import Tiled
from rnnc.ops.triton_stretches import WHOLE, Split

# From the text of a module, its kernels, the sizes of axes, the bytes of an entry and the hardware: what
# compilers made of configurations, by kernel.
FindingsOf = Callable[[str, Iterable[str], Mapping[str, int], int, Hardware], Mapping[str, Findings]]
# From the text of a module, what a choice is made for, the hardware and what makes the choice: the choice.
Kept = Callable[[str, tuple[object, ...], Hardware, Callable[[], Any]], Any]


def tiling(
    module: ModuleType,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    chunk: int | None = None,
    findings: Mapping[str, Findings] | None = None,
    spacing: int | None = None,
    joined: bool = True,
) -> Tiling:
    """The choice for the chunked kernels of a module, for chunks of that many tokens, and so many chunks to a
    state that is kept, if given: then with the usual cut, as for calls in stretches.

    `size`: bytes of an entry of a vector; `findings`: what is known of kernels, by name; `joined`: two of
    them may be one launch. Raises TooLarge.
    """
    others = keeping_works(module) if spacing is None else {}
    joints = module.JOINED if joined else ()
    return choose(module.WORK, sizes, size, hardware, chunk, findings, joints, spacing, others)


def in_stretches(
    module: ModuleType,
    found: Tiling,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    load: Load,
    count: int | None = None,
    choices: Mapping[str, Choice] | None = None,
) -> Split:
    """In how many stretches the sequences of a call are walked, or in as many as `count` says.

    `choices`: what `map_choices` says. Raises TooLarge for so many stretches.
    """
    maps = _maps(module, {})._replace(chosen=choices)
    if count is None:
        chosen = split(found, module.WORK, maps, sizes, size, hardware, load)
    else:
        chosen = forced(count, found, maps, sizes, size, hardware, load.length)
    return Split(chosen.parts, chosen.configurations) if chosen.parts > 1 else WHOLE


def map_choices(
    module: ModuleType,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    chunk: int,
    findings: Mapping[str, Findings] | None = None,
) -> Mapping[str, Choice]:
    """How the kernel runs that forms what stretches make of the state, by its name. Raises TooLarge."""
    return _maps(module, findings or {}).choices(sizes, size, hardware, chunk)


def _maps(module: ModuleType, findings: Mapping[str, Findings]) -> Maps:
    return Maps(module.SUMMARY_WORK, module.SCALING, module.KEY_AXIS, module.VALUE_AXIS, findings)


def launched(module: ModuleType) -> tuple[str, ...]:
    """The kernels whose configurations are chosen, and those that two of them are as one."""
    own = (kernel for works in keeping_works(module).values() for kernel in works)
    return tuple(dict.fromkeys((*module.WORK, *own, *(pair.kernel for pair in module.JOINED))))


def forward_alone(
    module: ModuleType,
    usual: int,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    length: int,
    chunk: int | None = None,
    findings: Mapping[str, Findings] | None = None,
    cut: str | None = None,
) -> Tiled | None:
    """How a forward pass that keeps nothing runs in another cut; None where it runs as any other, in chunks
    of `usual` tokens. With `chunk`, in chunks of that many tokens; with `cut`, in that one, if it can.
    """
    works = cut_works(module)
    if cut is None:
        best = chosen(passes(works, sizes, size, hardware, length, chunk, findings), usual)
    else:
        only = {name: each for name, each in works.items() if name == cut}
        best = next(iter(passes(only, sizes, size, hardware, length, chunk, findings)), None)
    return in_cut(best, hardware) if best and best.cut != DEFAULT else None


def in_cut(best: Forward, hardware: Hardware) -> Tiled:
    """What a launch needs to know of a forward pass."""
    each = {name: choice.configuration for name, choice in best.kernels.items()}
    return Tiled(best.chunk, 1, each, precision(hardware), cut=best.cut)


def cut_works(module: ModuleType) -> dict[str, dict[str, Work]]:
    """What the kernels of every cut of the forward pass do."""
    works = {**module.WORK, **module.CUT_WORK}
    cuts = {DEFAULT: module.FORWARD, **module.CUTS}
    return {cut: {launch.kernel: works[launch.kernel] for launch in each} for cut, each in cuts.items()}


def keeping_works(module: ModuleType) -> dict[str, dict[str, Work]]:
    """What all kernels of both passes do where the forward pass is cut in another way, but keeps what the
    backward pass reads.
    """
    works = cut_works(module)
    back = {launch.kernel: module.WORK[launch.kernel] for launch in module.BACKWARD}
    return {cut: {**works[cut], **back} for cut in module.KEEPING}


def tiled(found: Tiling, hardware: Hardware) -> Tiled:
    """What a launch needs to know of a choice."""
    each = {name: choice.configuration for name, choice in found.kernels.items()}
    joined = {name: (one.configuration, other.configuration) for name, (one, other) in found.joined.items()}
    measured, cut = found.measured, found.cut
    return Tiled(found.chunk, found.spacing, each, precision(hardware), measured, joined, cut)


def precision(hardware: Hardware) -> str:
    """How products of float32 operands are formed."""
    return "tf32x3" if hardware.name.startswith("sm_") else "ieee"


@cache
def hardware_of(device: torch.device) -> Hardware:
    """The GPU that a device is; where it is none, kernels are interpreted, as if for sm_90."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return SM_90
    found = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        known = like(found.gcnArchName.partition(":")[0])
        return known._replace(processors=found.multi_processor_count, device=found.name)
    known = like(f"sm_{found.major}{found.minor}")
    return known._replace(
        processors=found.multi_processor_count,
        device=found.name,
        shared=found.shared_memory_per_multiprocessor,
        shared_program=getattr(found, "shared_memory_per_block_optin", known.shared_program),
    )
