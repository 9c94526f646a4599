"""The cost of the recurrent form: bytes, operations and launches of the kernels that walk the tokens.

Bytes: every array that a launch reads or writes, once; and the states that the backward kernel forms anew,
written and read for every token (a part of the sequence at a time, which may fit into the cache). Operations:
those on values over all axes of a state; others do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rnnc.codegen import operations as ir
from rnnc.codegen.compiler import Compiled
from rnnc.codegen.cost_count import SUM_TILE
from rnnc.codegen.cost_record import BYTES, STATES, Cost, KernelCost, PassCost
from rnnc.codegen.program import Node, reachable
from rnnc.codegen.recurrent_kernels import TokenArray, TokenKernel, base, plan_tokens
from rnnc.dsl.expression import Axes

SHORTEST = 16  # tokens between two states that are kept, at least
ENTRIES = {"steps": 1024, "steps_back": 4096}  # of the tile of a state


def token_cost(compiled: Compiled, dtype: str, states: bool, save: str, sizes: Mapping[str, int]) -> Cost:
    """The cost of one call, as `rnnc.codegen.cost.cost` has it for the chunked form."""
    form = next(form for form in compiled.forms if form.name == "recurrent")
    forward, backward = plan_tokens(form, compiled.normal)
    count = _Count(compiled, dtype, sizes, states)
    kept = count.kept(forward)
    first = count.kernel(forward, kept if save == "states" else 0, count.ends)
    again = [] if save == "states" else [count.kernel(forward, kept, 0)]
    back = count.kernel(backward, kept + count.formed(backward), count.ends)
    return Cost(
        compiled.recurrence.name,
        dtype,
        count.every,
        sizes,
        PassCost((first,), count.least(forward), kept if save == "states" else 0),
        PassCost((*again, back, *count.sums(backward)), count.least(backward), 0),
        "recurrent",
    )


@dataclass(frozen=True, slots=True)
class _Count:
    """Bytes and operations at given sizes."""

    compiled: Compiled
    dtype: str
    sizes: Mapping[str, int]
    states: bool

    @property
    def tokens(self) -> int:
        return self.sizes["B"] * self.sizes["T"]

    @property
    def every(self) -> int:
        """The tokens between two states that are kept."""
        return max(SHORTEST, 1 << ((self.sizes["T"] - 1).bit_length() // 2))

    @property
    def ends(self) -> int:
        """The bytes of the carried states at one end of the sequences, or 0 without."""
        each = (self.product(state.axes) for state in self.compiled.recurrence.states)
        return self.states * 4 * self.sizes["B"] * self.sizes["H"] * sum(each)

    def product(self, axes: Axes) -> int:
        return math.prod(self.sizes[base(axis)] for axis in axes)

    def kept(self, forward: TokenKernel) -> int:
        """The bytes of the states that are kept for the backward pass."""
        rows = self.sizes["B"] * -(-self.sizes["T"] // self.every)
        return 4 * rows * self.sizes["H"] * sum(self.product(c.start.axes) for c in forward.carries)

    def formed(self, backward: TokenKernel) -> int:
        """The bytes written and read for the states between those."""
        states = sum(self.product(carry.start.axes) for carry in backward.again)
        return 2 * 4 * self.tokens * self.sizes["H"] * states

    def tiles(self, kernel: TokenKernel) -> int:
        if kernel.tile is None:
            return 1
        carried = [*kernel.carries, *kernel.again]
        largest = max(math.prod(_block(self.sizes[a]) for a in c.start.axes) for c in carried)
        largest *= 2 * _block(self.sizes[kernel.micro]) if kernel.micro else 1
        size = self.sizes[kernel.tile]
        width = min(_block(size), max(8, ENTRIES[kernel.role] // (largest // _block(size))))
        return -(-size // width)

    def bytes(self, kernel: TokenKernel, array: TokenArray) -> int:
        """The size of an array in memory."""
        tiles, heads = self.tiles(kernel), self.sizes["H"]
        groups = {item.name for item in self.compiled.recurrence.inputs if item.per_group}
        sequences = self.sizes["B"] * (1 if kernel.tile in array.axes else tiles)
        rows = {
            "token": self.tokens * (self.sizes["G"] if array.name in groups else heads),
            "share": self.tokens * heads * tiles,
            "param": heads,
            "shared": 1,
            "partial": sequences * heads,
        }[array.place]
        return rows * self.product(array.axes) * self._width(array, tiles)

    def _width(self, array: TokenArray, tiles: int) -> int:
        """The bytes of an entry: a gradient has the dtype of its input, unless it is still to be summed."""
        name = array.name.removeprefix("d'")
        scalars = {item.name for item in self.compiled.recurrence.inputs if not item.axes}
        scalars |= self.compiled.in_float32
        partial = array.place == "share" and tiles > 1
        wide = partial or array.place in ("param", "shared", "partial") or name in scalars
        return 4 if wide else BYTES[self.dtype]

    def kernel(self, kernel: TokenKernel, states: int, ends: int) -> KernelCost:
        """`states`, `ends`: the bytes of the states that are kept between, and of those at either end."""
        arrays = {array.name: array for array in (*kernel.loads, *kernel.stores)}
        size = sum(self.bytes(kernel, array) for array in arrays.values()) + states
        size += self.ends + ends
        loops = [[*kernel.program.nodes()], list(reachable(carry.end for carry in kernel.again))]
        flops = sum(self.flops(kernel, node) for loop in loops for node in loop)
        grid = (self.tiles(kernel) * self.sizes["B"] * self.sizes["H"],)
        return KernelCost(kernel.name, kernel.role, size, flops * self.tokens * self.sizes["H"], grid)

    def flops(self, kernel: TokenKernel, node: Node) -> int:
        """Of one node for one token of one head."""
        whole = set(kernel.carries[0].start.axes)
        axes = {base(axis) for value in (node, *node.args) for axis in value.axes}
        if not whole <= axes:
            return 0
        match node.op:
            case ir.Dot():
                return 2 * self.product(tuple(axes))
            case ir.Add(coefficients):
                each = len(coefficients) - 1 + sum(abs(c) != 1 for c in coefficients)
            case ir.Multiply(coefficient):
                each = len(node.args) - 1 + (coefficient != 1)
            case ir.Sum() | ir.Apply():
                each = 1
            case _:
                each = 0
        return each * self.product(tuple(axes))

    def sums(self, kernel: TokenKernel) -> tuple[KernelCost, ...]:
        """The launch that sums gradients: over tiles, over sequences, over the heads of a group."""
        total, programs = 0, 0
        for array in kernel.stores:
            size, left = self.bytes(kernel, array), self._summed(array)
            if array.place == "partial" or size != left:
                total += size + left
                programs += -(-left // self._width_of_input(array) // SUM_TILE)
        return (KernelCost("sums", "sum", total, 0, (programs,)),) if total else ()

    def _width_of_input(self, array: TokenArray) -> int:
        scalars = {item.name for item in self.compiled.recurrence.inputs if not item.axes}
        scalars |= self.compiled.in_float32
        return 4 if array.place == "partial" or array.name[2:] in scalars else BYTES[self.dtype]

    def _summed(self, array: TokenArray) -> int:
        """The bytes of a gradient in the shape of its argument."""
        recurrence, name = self.compiled.recurrence, array.name.removeprefix("d'")
        shared = {param.name for param in recurrence.params if param.shared}
        groups = {item.name for item in recurrence.inputs if item.per_group}
        heads = self.sizes["G"] if name in groups else self.sizes["H"]
        rows = (1 if name in shared else heads) if array.place == "partial" else self.tokens * heads
        return rows * self.product(array.axes) * self._width_of_input(array)

    def least(self, kernel: TokenKernel) -> dict[str, int]:
        """The bytes of the pass' own arguments and results, each once, and of the states at both ends."""
        gradients = {array.name for array in kernel.stores if array.name.startswith("d'")}
        arrays: Iterable[TokenArray] = {a.name: a for a in (*kernel.loads, *kernel.stores)}.values()
        each = {a.name: self._summed(a) if a.name in gradients else self.bytes(kernel, a) for a in arrays}
        return each | {STATES: 2 * self.ends}


def _block(size: int) -> int:
    return max(2, 1 << (size - 1).bit_length())
