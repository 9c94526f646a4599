"""The plan of the kernels -> bytes through device memory, floating point operations, launches.

Bytes: every array that a launch reads or writes, once (no packing). What a program reads back of the rows
that it has itself just written is in the cache: told beside them. Vectors, and what is kept of them, are in
`dtype`; scalars per token, parameters, states and partial sums in float32.
Operations: two per multiplication in matrix products and triangular inverses, as the kernels form them: where
programs tile the value axis, what is formed without that axis, every one of them forms anew. Elementwise ones
do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rnnc.codegen.arrays import Array
from rnnc.codegen.compiler import Compiled, Spec, Staged
from rnnc.codegen.cost_count import Count
from rnnc.codegen.cost_record import BYTES, Cost, PassCost
from rnnc.codegen.cuts import keeping
from rnnc.codegen.footprint import footprint
from rnnc.codegen.hardware import KNOWN, Hardware
from rnnc.codegen.joined import together
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.tiling import choose, suiting
from rnnc.codegen.tiling_record import Findings, Tiling
from rnnc.dsl.recurrence import Recurrence

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
# From a spec, its kernels, the sizes of axes, the bytes of an entry and the hardware: what compilers made of
# configurations, by kernel.
FindingsOf = Callable[[Compiled, Iterable[str], Mapping[str, int], int, Hardware], Mapping[str, Findings]]


def cost(
    compiled: Spec,
    dtype: str = "bf16",
    chunk: int | None = None,
    states: bool = False,
    save: str = "states",
    form: str = "chunked",
    arch: str = "sm_90",
    findings: FindingsOf | None = None,
    stretches: int | None = None,
    spacing: int | None = None,
    **sizes: int,
) -> Cost:
    """The cost of one call; `sizes` gives B, T, H and every axis by name, and G where there are groups.

    With `states`, an initial state is given and the final state taken; chunks of `chunk` tokens, `spacing` of
    them to a state that is kept, or as many as cost least on the architecture, given `findings` on how
    kernels compile for it, but none longer than sequences need.
    `save="inputs"`: the forward pass keeps nothing, the backward pass begins with what of it it needs.
    `stretches`: so many of each sequence, or as many as pay, as for a call that asks for Triton by name.
    `form`: chunked or recurrent. Raises UnsupportedOnGpu where there are no kernels, and ValueError for
    options that make no sense.
    """
    _check_options(save, form, arch, chunk)
    known = checked_sizes(compiled.recurrence, sizes)
    if isinstance(compiled, Staged):
        from rnnc.codegen.stage_cost import handing

        options: dict[str, Any] = {
            "dtype": dtype,
            "chunk": chunk,
            "states": states,
            "save": save,
            "form": form,
        }
        options |= {"arch": arch, "findings": findings, "stretches": stretches, "spacing": spacing}
        found, chunks = _staged(compiled, known, options)
        if form != "chunked":
            return found
        others = [_staged(other, known, options)[0] for other in compiled.others]
        return handing(compiled, found, others, chunks)
    if form == "recurrent":
        from rnnc.codegen.token_cost import token_cost

        return token_cost(compiled, _dtype(dtype), states, save, known)
    hardware, lengths = KNOWN[arch], (chunk, spacing)
    return _chunked_cost(compiled, _dtype(dtype), lengths, states, save, hardware, findings, stretches, known)


def _staged(
    compiled: Staged, sizes: Mapping[str, int], options: Mapping[str, Any]
) -> tuple[Cost, dict[str, int]]:
    """The cost of all stages together, and the lengths of their chunks."""
    from rnnc.codegen.stage_cost import together

    given = [{**options, **of_stage(stage.recurrence, sizes)} for stage in compiled.stages]
    stages = [cost(stage, **each) for stage, each in zip(compiled.stages, given, strict=True)]
    recurrences = [stage.recurrence for stage in compiled.stages]
    lengths = {each.name: found.chunk for each, found in zip(recurrences, stages, strict=True)}
    return together(compiled.recurrence, recurrences, stages, sizes), lengths


def _check_options(save: str, form: str, arch: str, chunk: int | None) -> None:
    """Raises ValueError for what is no choice."""
    for option, given, choices in (
        ("save", save, ("states", "inputs")),
        ("form", form, ("chunked", "recurrent")),
        ("arch", arch, tuple(KNOWN)),
    ):
        if given not in choices:
            raise ValueError(f"{option}: expected {' or '.join(choices)}, got '{given}'")
    if chunk is not None and (chunk < 1 or chunk.bit_count() != 1):
        raise ValueError(f"chunk: expected a power of two, got {chunk}")


def _chunked_cost(
    compiled: Compiled,
    dtype: str,
    lengths: tuple[int | None, int | None],
    states: bool,
    save: str,
    hardware: Hardware,
    findings: FindingsOf | None,
    stretches: int | None,
    sizes: Mapping[str, int],
) -> Cost:
    """The cost of a call in the chunked form; `lengths`: tokens of a chunk, chunks to a kept state."""
    from rnnc.codegen.stretch_cost import in_stretches, launched

    forward, backward, _ = compiled.kernels
    cuts = {cut.name: (*forward[: cut.shared], *cut.kernels) for cut in keeping(compiled)}
    own = (kernel for kernels in cuts.values() for kernel in kernels)
    every = {kernel.name: footprint(kernel) for kernel in (*forward, *backward, *own)}
    works = {kernel.name: every[kernel.name] for kernel in (*forward, *backward)}
    others = {
        cut: {kernel.name: every[kernel.name] for kernel in (*kernels, *backward)}
        for cut, kernels in cuts.items()
    }
    axes = {axis: sizes[axis] for axis in compiled.recurrence.axes}
    size = BYTES[dtype]
    joints = together(forward, backward)
    names = (*every, *(joint.kernel for joint in joints))
    known_of = findings(compiled, names, axes, size, hardware) if findings else None
    chunk, spacing = lengths

    def choice(tokens: int | None) -> Tiling:
        return choose(works, axes, size, hardware, tokens, known_of, joints, spacing, others)

    tiling = choice(chunk) if chunk else suiting(sizes["T"], choice)
    count = Count(compiled, dtype, tiling, sizes, states, works)
    whole = tiling  # stretches keep the state of every chunk, and walk as most calls do
    if tiling.spacing > 1 or tiling.cut:
        whole = choose(works, axes, size, hardware, tiling.chunk, known_of, joints, 1)
    split, found = in_stretches(
        compiled, Count(compiled, dtype, whole, sizes, states, works), hardware, size, stretches
    )
    if split is None:
        forward = cuts.get(tiling.cut, forward)
    else:
        tiling = whole
        count = Count(compiled, dtype, tiling, sizes, states, works)
    written = {array.name: array for kernel in forward for array in kernel.stores}
    kept = [a.name for kernel in backward for a in count.loads(kernel) if a.name in written]
    saved = sum(count.bytes(written[name]) for name in dict.fromkeys(kept))
    outputs = [output.name for output in compiled.recurrence.outputs]
    if save == "states":
        first, again = _launched_for(forward, {*outputs, *kept}, count.loads), []
    else:
        first, again = (_launched_for(forward, set(wanted), count.loads) for wanted in (outputs, kept))
        saved = 0
    saved += split.map_bytes if split and save == "states" else 0
    joints = tuple(joint for joint in joints if split is None or not joint.beside)
    before, back = (
        launched(count, split, kernels, end) for kernels, end in ((again, 0), (backward, count.ends))
    )
    return Cost(
        compiled.recurrence.name,
        dtype,
        tiling.chunk,
        count.sizes,
        PassCost(
            count.joined(launched(count, split, first, count.ends), first, joints),
            count.least(forward),
            saved,
        ),
        PassCost(
            (
                *count.joined((*before, *back), (*again, *backward), joints),
                *count.earlier(backward),
                *count.sums(backward),
            ),
            count.least(backward),
            0,
        ),
        split=found,
        spacing=tiling.spacing,
    )


def _launched_for(
    kernels: Sequence[Kernel], wanted: set[str], loads: Callable[[Kernel], Iterable[Array]]
) -> list[Kernel]:
    """What of a pass is launched for the wanted arrays, without the stores of others that nothing reads."""
    read = {array.name for kernel in kernels for array in loads(kernel)}
    found: list[Kernel] = []
    for kernel in reversed(kernels):
        if any(array.name in wanted for array in kernel.stores):
            wanted = wanted | {array.name for array in loads(kernel)}
            stores = tuple(a for a in kernel.stores if a.name in wanted or a.name in read)
            found.insert(0, replace(kernel, stores=stores))
    return found


def of_stage(stage: Recurrence, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that a stage has."""
    grouped = any(item.per_group for item in stage.inputs)
    return {name: sizes[name] for name in ("B", "T", "H", *("G" * grouped), *stage.axes)}


def _dtype(name: str) -> str:
    short = DTYPES.get(name.removeprefix("torch."), name)
    if short not in BYTES:
        raise ValueError(f"dtype: expected {', '.join(BYTES)}, got '{name}'")
    return short


def checked_sizes(recurrence: Recurrence, given: Mapping[str, int]) -> dict[str, int]:
    """All sizes of a call. Raises ValueError."""
    needed = ["B", "T", "H", *recurrence.axes]
    missing = [name for name in needed if name not in given]
    unknown = [name for name in given if name not in (*needed, "G")]
    wrong = [name for name, size in given.items() if not isinstance(size, int) or size < 1]
    for problem, names in (("missing", missing), ("unknown", unknown), ("not a whole number above 0", wrong)):
        if names:
            raise ValueError(f"sizes: {problem}: {', '.join(names)}; give {', '.join(needed)}")
    sizes = {name: given[name] for name in needed}
    if any(item.per_group for item in recurrence.inputs) and "G" not in sizes:
        sizes["G"] = given.get("G", given["H"])
        if sizes["H"] % sizes["G"]:
            raise ValueError(f"sizes: H = {sizes['H']} heads are no multiple of G = {sizes['G']}")
    return sizes
