"""The C back end of an operator: which calls on a CPU it takes, and why not the others.

There is a library for each pass, sizes of axes, and dtypes; batch, length and heads are its arguments.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.autograd import forward_ad

from rnnc.dsl.recurrence import Recurrence
from rnnc.ops import c_build
from rnnc.ops.arguments import Bound
from rnnc.ops.autograd import Tensors, recorded
from rnnc.ops.c_call import Backward, Call, Library, sequences_of
from rnnc.ops.errors import UnavailableError
from rnnc.ops.options import SHORT, Options, longest, passes
from rnnc.ops.state import Carry

C_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.bfloat16: "bf16",
    torch.float16: "half",
}
CHUNK = 64

# Where no gradients are asked for: pairs of tokens cost half as much, and states of up to so many entries,
# which are updated twice as often, are in the caches. The backward pass would keep twice as many.
SHORT_CHUNK, SMALL_STATE = 32, 1 << 16

# What a call must have to do before `auto` takes C: entries of states times the tokens that update them. That
# is some milliseconds of torch; the compiler takes some seconds, once for all calls with these sizes of axes.
WORTH_COMPILING = 1 << 22
QUICKER = 3  # one thread in C does what these do in torch


class Kind(NamedTuple):
    """What a library is compiled for: tokens of a chunk, sizes of axes, what it computes in, and which arrays
    in memory have another dtype.
    """

    tokens: int
    axes: tuple[tuple[str, int], ...]
    real: str
    dtypes: tuple[tuple[str, str], ...]


class Walks:
    """The passes of a recurrence in C. `generate` prints one for a kind of calls, or raises
    NotImplementedError; `spec` stands for what it prints.
    """

    def __init__(
        self, recurrence: Recurrence, spec: str, carry: Carry, generate: Callable[[str, Kind], str]
    ) -> None:
        self.recurrence, self.spec, self.carry, self.generate = recurrence, spec, carry, generate
        self.libraries: dict[tuple[str, Kind], Library | str] = {}
        self.warned: set[str] = set()

    def take(
        self,
        bound: Bound,
        tensors: Tensors,
        options: Options,
        offsets: tuple[int, ...] | None,
        output: torch.dtype,
    ) -> Kind | None:
        """The kind of a call that is done in C; None: it is not.

        Raises UnavailableError where it is asked for by name but cannot be.
        """
        if options.backend not in ("auto", "c"):
            return None
        if options.backend == "auto" and not self._worthwhile(bound, options, offsets):
            return None
        obstacle = self._obstacle(bound, tensors, options)
        kind = self._kind(bound, options, offsets, output, recorded(tensors))
        for which in ("forward", "backward") if recorded(tensors) else ("forward",):
            library = "" if obstacle else self._found(which, kind)
            obstacle = obstacle or (library if isinstance(library, str) else "")
        if not obstacle:
            return kind
        if options.backend == "c":
            raise UnavailableError(f"{obstacle}: use backend='torch'")
        self._warn(f"{obstacle}: torch is used, which takes longer")
        return None

    def run(
        self,
        kind: Kind,
        bound: Bound,
        tensors: Tensors,
        options: Options,
        offsets: tuple[int, ...] | None,
        output: torch.dtype,
        again: Backward,
    ) -> tuple[Tensors, Tensors]:
        """The outputs [B, T, H, axes] and the final states [N, H, axes]."""
        sizes, declared = bound.sizes, self.recurrence
        call = Call(
            library=partial(self._library, kind),
            sequences=sequences_of(sizes.batch, sizes.length, offsets, kind.tokens),
            heads=sizes.heads,
            groups=tuple(x.shape[2] for x in bound.inputs),
            shared=tuple(param.shared for param in declared.params),
            outputs=tuple((sizes.batch, sizes.length, *sizes.shape(item.axes)) for item in declared.outputs),
            output_dtype=output,
            reverse=bool(options.reverse),
            keep=options.save != "inputs",
            again=again,
        )
        return call.apply(tensors)

    def _worthwhile(self, bound: Bound, options: Options, offsets: tuple[int, ...] | None) -> bool:
        """Whether C is quicker for a call that may take any back end, the compiler's time left out."""
        sizes = bound.sizes
        if bound.device.type != "cpu" or options.form not in ("auto", "chunked"):
            return False
        if longest(sizes.length, offsets) < SHORT:
            return False
        count = sizes.batch if offsets is None else len(offsets) - 1
        busy = QUICKER * count * sizes.heads >= torch.get_num_threads()  # each walks one sequence and head
        return busy and sizes.batch * sizes.length * self._entries(bound) >= WORTH_COMPILING

    def _entries(self, bound: Bound) -> int:
        """Those of the states of all heads."""
        return sum(math.prod(bound.sizes.shape(array.axes)) for array in self.carry.arrays)

    def _obstacle(self, bound: Bound, tensors: Tensors, options: Options) -> str:
        """What keeps C from a call; empty: nothing."""
        if bound.device.type != "cpu":
            return f"c runs on a CPU, not on a device of type '{bound.device.type}'"
        if options.form not in ("auto", "chunked"):
            return f"c has no {options.form} form"
        if any(forward_ad.unpack_dual(x).tangent is not None for x in tensors):
            return "c has no forward-mode derivatives"
        return ""

    def _kind(
        self,
        bound: Bound,
        options: Options,
        offsets: tuple[int, ...] | None,
        output: torch.dtype,
        gradients: bool,
    ) -> Kind:
        """What the library of a call is compiled for."""
        sizes, declared = bound.sizes, self.recurrence
        steps = math.prod(sizes.axes[axis] for axis in declared.loops)
        short = not gradients and self._entries(bound) <= SMALL_STATE * sizes.heads
        default, length = SHORT_CHUNK if short else CHUNK, longest(sizes.length, offsets)
        tokens = passes("chunked", options.chunk_size, length, default, steps)[1]
        assert tokens is not None
        real = C_TYPES[bound.dtype]
        dtypes: dict[str, str] = {}
        for item, x in zip(declared.inputs, bound.inputs, strict=True):
            dtypes[item.name] = C_TYPES[x.dtype]
            dtypes[f"grad {item.name}"] = C_TYPES[x.dtype] if x.shape[2] == sizes.heads else real
        for result in declared.outputs:
            dtypes[f"out {result.name}"] = dtypes[f"d'{result.name}"] = C_TYPES[output]
        others = tuple((name, dtype) for name, dtype in dtypes.items() if dtype != real)
        return Kind(tokens, tuple(sorted(sizes.axes.items())), real, others)

    def _library(self, kind: Kind, which: str) -> Library:
        """The library of a pass. Raises UnavailableError."""
        found = self._found(which, kind)
        if isinstance(found, str):
            raise UnavailableError(found)
        return found

    def _found(self, which: str, kind: Kind) -> Library | str:
        """The library of a pass, or why there is none."""
        key = which, kind
        if key not in self.libraries:
            name, spec = f"{self.recurrence.name}_{which}", f"{self.spec}\0{kind!r}"
            try:
                loaded = c_build.load(name, spec, lambda: self.generate(which, kind))
                self.libraries[key] = Library(loaded)
            except (c_build.BuildError, NotImplementedError) as reason:
                self.libraries[key] = f"c: {reason}"
        return self.libraries[key]

    def _warn(self, message: str) -> None:
        """Warns, the first time."""
        if message not in self.warned:
            self.warned.add(message)
            warnings.warn(message, RuntimeWarning, stacklevel=5)
