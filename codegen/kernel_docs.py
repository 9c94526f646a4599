"""What a kernel is for, as its docstring: work, grid, what it reads and writes, its place in the plan."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from rnnc.codegen.kernel_record import Kernel, Role
from rnnc.codegen.recurrent_kernels import TokenKernel

WIDTH = 106
WORK: dict[Role, str] = {
    "values": "Forms what the walk over the chunks needs that is summed over {axis}.",
    "pre": "Forms what needs no state, all chunks at once: matrices between tokens, and what scales them.",
    "scan": "Walks the chunks with the state: outputs, and the state at the start of chunks.",
    "transition": "Walks a stretch of chunks from the identity: what it makes of the incoming state.",
    "post": "Forms the outputs that are summed over {axis}, from what the walk over the chunks left.",
    "dpost": "Forms what the walk back over the chunks needs that is summed over {axis}.",
    "reverse": "Walks the chunks back with the gradient in the state, kept at the end of every chunk.",
    "grads": "Forms the gradients of a chunk, or, where decays are per channel, what they sum over {axis}.",
    "channels": "Forms the gradients, or those that the kernel before has left, {axis} in tiles.",
    "states": "The state at the start of chunk i_at, a tile of {axis} of it, from the last that was kept.",
}
UNTILED: dict[Role, str] = {  # of a state of one number
    "post": "Forms the outputs from what the walk over the chunks left.",
    "grads": "Forms the gradients of a chunk.",
}
ALONG = "Forms the outputs from what the walk over the chunks left, {axis} in tiles."  # of that axis
CHUNK = "Grid: (chunks, H); a program has one chunk of one head{loops}."
WALK = "Grid: ({tiles}N * H,); a program walks all chunks of one head of one sequence."
TOKENS = "Grid: ({tiles}N * H,); a program walks all tokens of one head of one sequence{back}."
STEPS = "Walks the tokens with the state in registers: outputs, and the state before every so many tokens."
BACK = "Walks the tokens back with the gradient in the state, forming states anew from those that were kept."


def kernel_doc(kernel: Kernel, plan: Sequence[Sequence[Kernel]], arguments: Mapping[str, str]) -> str:
    """The docstring of a kernel that works on chunks; `plan`: those of the forward and the backward pass."""
    axis = "".join(kernel.tiled)
    tiles = f"tiles of {axis} * " if axis and not kernel.after else ""
    loops = "".join(f", {each} in tiles" for each in dict.fromkeys(p.axis for p in kernel.phases if p.axis))
    grid = WALK if kernel.serial else CHUNK
    writer = {array.name: other.role for group in plan for other in group for array in other.stores}
    sources: dict[str, list[str]] = {}
    for array in kernel.loads:
        own = array.name not in writer or writer[array.name] == kernel.role
        sources.setdefault("" if own else writer[array.name], []).append(arguments[array.name])
    return _docstring(
        _work(kernel).format(axis=axis),
        _place([each for group in plan for each in group], kernel, len(plan[0])),
        grid.format(tiles=tiles, loops=loops),
        _reads(sources),
        f"Writes {_listed(arguments[array.name] for array in kernel.stores) or 'm'}.",
    )


def _work(kernel: Kernel) -> str:
    """What the kernel is for."""
    if not kernel.tiled and kernel.role in UNTILED:
        return UNTILED[kernel.role]
    along = all(axis in array.node.axes for axis in kernel.tiled for array in kernel.stores)
    return ALONG if kernel.role == "post" and along else WORK[kernel.role]


def walk_doc(kernel: Kernel) -> str:
    """The docstring of what forms the states of a chunk within a kernel."""
    (axis,) = kernel.tiled
    return _docstring(WORK[kernel.role].format(axis=axis), "It is kept for one chunk in SPACING.")


def after_doc(kernel: Kernel, arguments: Mapping[str, str]) -> str:
    """The docstring of what a walk over the chunks does at the end of each."""
    (axis,) = kernel.tiled
    return _docstring(
        _work(kernel).format(axis=axis),
        "A part of this walk, for one chunk at a time.",
        f"Reads {_listed(arguments[array.name] for array in kernel.loads)}.",
        f"Writes {_listed(arguments[array.name] for array in kernel.stores)}.",
    )


def token_doc(kernel: TokenKernel, arguments: Mapping[str, str]) -> str:
    """The docstring of a kernel that walks the tokens."""
    tiles = "" if kernel.tile is None else f"tiles of {kernel.tile} * "
    return _docstring(
        BACK if kernel.again else STEPS,
        f"The only kernel of the {'backward' if kernel.again else 'forward'} pass in the recurrent form.",
        TOKENS.format(tiles=tiles, back=", from the last" if kernel.again else ""),
        f"Reads {_listed(arguments[array.name] for array in kernel.loads)}, and states.",
        f"Writes {_listed(arguments[array.name] for array in kernel.stores)}, and states.",
    )


def _place(kernels: Sequence[Kernel], kernel: Kernel, forward: int) -> str:
    """Where the kernel stands in its pass."""
    if kernel.role == "transition":
        return "For sequences that are split into stretches, before the walks over these."
    number, count = kernels.index(kernel), forward
    if number >= forward:
        number, count = number - forward, len(kernels) - forward
    when = "backward" if kernels.index(kernel) >= forward else "forward"
    if count == 1:
        return f"The only kernel of the {when} pass."
    return f"Kernel {number + 1} of {count} of the {when} pass."


def _reads(sources: Mapping[str, Sequence[str]]) -> str:
    parts = [_listed(names) + (f" of {role}" if role else "") for role, names in sources.items()]
    return f"Reads {'; '.join(parts)}."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _docstring(first: str, *rest: str) -> str:
    lines = [line for text in rest for line in textwrap.wrap(text, WIDTH - 4)]
    return "\n".join(f"    {line}" if line else "" for line in [f'"""{first}', "", *lines, '"""'])
