"""One token by the kernel that walks the tokens: what depends on shapes alone is formed once."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from rnnc.ops.triton_call import Call
from rnnc.ops.triton_repeated import Repeated
from rnnc.ops.triton_steps import Tensors, constants, tiling


class Step:
    """The launch of one token on arrays of given shapes and dtypes.

    `named`: inputs [B, H, axes] and parameters of the first such call; `outputs`: the outputs in the order in
    which they are returned, in float32 if `precise`; `start`: whether there is a state.
    """

    def __init__(
        self,
        module: ModuleType,
        call: Call,
        named: dict[str, Tensor],
        outputs: Sequence[str],
        start: bool,
        precise: bool,
    ) -> None:
        (launch,) = module.FORWARD_STEPS
        sizes, lead = call.sizes, (call.batch, call.heads)
        tiles = tiling(launch, sizes)
        self.dtype, self.device = torch.float32 if precise else call.dtype, call.device
        order = {name: number for number, name in enumerate(named)}
        self.reads = [(argument, order[key]) for key, argument, _, _ in launch.reads]
        written = {key: (argument, axes) for key, argument, _, axes in launch.writes}
        shaped = (written[name] for name in outputs)
        self.writes = [(argument, (*lead, *(sizes[a] for a in axes))) for argument, axes in shaped]
        self.states = [(*lead, *(sizes[a] for a in axes)) for _, axes, _ in launch.states]
        places = [dict(arguments) for _, _, arguments in launch.states]
        self.start = [place["start"] for place in places]
        self.end = [place["end"] for place in places]
        self.unused = ["cu_seqlens", *(place["kept"] for place in places), *(() if start else self.start)]
        groups = {f"G_{name}": named[name].shape[1] for name in launch.groups}
        ends = {"HAS_START": start, "HAS_END": True, "KEEP": False}
        names = [argument for argument, _ in (*self.reads, *self.writes)]
        names += [*(self.start if start else ()), *self.end, *self.unused]
        self.launch = Repeated(
            getattr(module, launch.kernel),
            (tiles.tiles * call.batch * call.heads,),
            constants(launch, call, tiles) | groups | ends,
            names,
        )

    def __call__(self, given: Tensors, states: Tensors, places: Tensors | None) -> tuple[Tensors, Tensors]:
        """The outputs [B, H, axes] and the new states, in `places` if given; no `states`: zeros."""
        read = [given[number].contiguous() for _, number in self.reads]
        outputs = tuple(torch.empty(shape, dtype=self.dtype, device=self.device) for _, shape in self.writes)
        direct = places is not None and all(place.is_contiguous() for place in places)
        new = places if places is not None and direct else self._room()
        start = (state.contiguous() for state in states)
        self.launch((*read, *outputs, *start, *new, *[read[0]] * len(self.unused)))
        if places is not None and not direct:
            for place, value in zip(places, new, strict=True):
                place.copy_(value)
        return outputs, new

    def _room(self) -> Tensors:
        return tuple(torch.empty(shape, dtype=torch.float32, device=self.device) for shape in self.states)
