"""Two kernels of a plan as one launch.

Beside each other: where nothing was kept, the backward pass walks the chunks twice, forward for the states
and back for their cotangents. If the second walk needs nothing that the first writes, both run at once, in
programs of their own: half as long a chain, and what `pre` left is there for both.

One after the other: of two kernels in turn that are parallel over chunks, a program of the second needs of
the first only what the program of the same chunk wrote, so that one program may do the work of both; what is
handed on is still in the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.names import Names
from rnnc.codegen.templating import literal, template
from rnnc.codegen.triton_printer import RESERVED, KernelPrinter

STATES = ("dht", "dh0")  # what the second walk's states at the start and at the end are called


@dataclass(frozen=True, slots=True)
class Together:
    """Two kernels that are one launch where both are needed: `beside` each other, or one after the other."""

    kernel: str
    pair: tuple[Kernel, Kernel]
    beside: bool

    @property
    def names(self) -> tuple[str, str]:
        return self.first, self.second

    @property
    def first(self) -> str:
        return self.pair[0].name

    @property
    def second(self) -> str:
        return self.pair[1].name


def together(forward: Sequence[Kernel], backward: Sequence[Kernel]) -> tuple[Together, ...]:
    """The kernels of both passes that may be one launch; each is in one pair at most."""
    found = (*_walks(forward, backward), *_turns(forward), *_turns(backward))
    taken = {name for each in found for name in (each.first, each.second)}
    return (*found, *(each for each in _both_passes(forward, backward) if taken.isdisjoint(each.names)))


def _walks(forward: Sequence[Kernel], backward: Sequence[Kernel]) -> Iterator[Together]:
    """The walk over the chunks and the one back, if the second is not computed from what the first, or a
    kernel after it, writes.
    """
    first = next(kernel for kernel in forward if kernel.serial)
    second = next((kernel for kernel in backward if kernel.serial), None)
    ready = _written(forward[: forward.index(first)])
    waits = _written((*forward, *backward)) - ready
    if second is not None and waits.isdisjoint(array.name for array in second.loads):
        yield Together(f"{first.name.removesuffix(first.role)}walks", (first, second), True)


def _turns(kernels: Sequence[Kernel]) -> Iterator[Together]:
    """Kernels in turn that are parallel over chunks."""
    taken: set[Kernel] = set()
    for first, second in pairwise(kernels):
        if not (first.serial or second.serial or first in taken):
            taken.add(second)
            yield Together(f"{first.name}_{second.role}", (first, second), False)


def _both_passes(forward: Sequence[Kernel], backward: Sequence[Kernel]) -> Iterator[Together]:
    """What comes before the walk over the chunks, and before the walk back, where nothing was kept; the
    second must wait for nothing else of the forward pass.
    """
    number = next(number for number, kernel in enumerate(forward) if kernel.serial)
    before, back = forward[:number], backward[:1]
    waits = _written(forward[number:])
    for first, second in zip(before[-1:], back, strict=False):
        if not second.serial and waits.isdisjoint(array.name for array in second.loads):
            yield Together(f"{first.name}_{second.role}", (first, second), False)


def _written(kernels: Iterable[Kernel]) -> set[str]:
    return {array.name for kernel in kernels for array in kernel.stores}


@dataclass(frozen=True, slots=True)
class JoinedContext:
    """The holes of `triton_joined.py.jinja`."""

    name: str
    beside: bool
    first: str
    second: str
    arguments: str
    groups: Sequence[str]
    tiles: Sequence[str]
    spaced: bool
    sizes: str
    given_first: str
    given_second: str


class JoinedPrinter:
    """Prints the launch of two kernels; `renamed`: what arguments of the second are called in it."""

    def __init__(self, together: Together, first: KernelPrinter, second: KernelPrinter) -> None:
        self.name, self.beside, self.first, self.second = together.kernel, together.beside, first, second
        self.names = Names(RESERVED)
        own = first.addresses
        self.names.taken |= {*own.arguments.values(), *(f"G_{name}" for name in own.groups)}
        self.names.taken |= {prefix + size for size in own.sizes.values() for prefix in ("", "B")}
        self.names.taken |= {name for pair in first.states for name in pair}
        self.renamed = self._renamed()

    def _renamed(self) -> dict[str, str]:
        own, other = self.first.addresses, self.second.addresses
        found = {}
        for pair in self.second.states:
            for argument, stem in zip(pair, STATES, strict=True):
                found[argument] = self.names.fresh(stem + argument[2:])
        for key, argument in other.arguments.items():
            found[argument] = own.arguments.get(key) or self.names.fresh(argument)
        for axis, size in other.sizes.items():
            found[size] = own.sizes.get(axis) or self.names.fresh(size)
            # Kernels in turn have tiles of their own.
            found[f"B{size}"] = f"B{found[size]}" if self.beside else self.names.fresh(f"B{size}")
        if self.first.loops and self.second.loops:
            found["tiles"] = self.names.fresh("tiles_2")
        return {old: new for old, new in found.items() if old != new}

    def launch(self) -> str:
        """The fields of `rnnc.ops.triton_call.Joined`."""
        names = (self.name, self.first.kernel.name, self.second.kernel.name)
        return f"Joined({', '.join(map(literal, (*names, tuple(self.renamed.items()), self.beside)))})"

    def text(self) -> str:
        """The kernel's source."""
        context = JoinedContext(
            name=self.name,
            beside=self.beside,
            first=self.first.kernel.name,
            second=self.second.kernel.name,
            arguments=_lines(self._arguments(), 1),
            groups=self._groups(),
            tiles=self._tiles(),
            spaced=self.first.kernel.spaced or self.second.kernel.spaced,
            sizes=_lines(self._sizes(), 1),
            given_first=_lines(self._given(self.first), 3 if self.beside else 2),
            given_second=_lines(self._given(self.second), 3 if self.beside else 2),
        )
        holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
        return template("triton_joined.py.jinja").render(holes)

    def _called(self, printer: KernelPrinter, name: str) -> str:
        """What an argument of one of the two is called."""
        return self.renamed.get(name, name) if printer is self.second else name

    def _tiles(self) -> list[str]:
        """The numbers of tiles of their loops."""
        return [self._called(each, "tiles") for each in (self.first, self.second) if each.loops]

    def _groups(self) -> list[str]:
        """The arrays of both with groups of heads, each once."""
        each = (name for printer in (self.first, self.second) for name in printer.addresses.groups)
        return list(dict.fromkeys(each))

    def _arguments(self) -> list[str]:
        """Of both, each array once, with shapes; states that are given, or are to be written."""
        lines: dict[str, str] = {}
        for printer in (self.first, self.second):
            for line in printer.addresses.declarations():
                name, comma, rest = line.partition(",")
                lines.setdefault(self._called(printer, name), comma + rest)
        if not self.beside:
            return list(map("".join, lines.items()))
        shape = f"[{', '.join(('N', 'H', *map(self.first.addresses.size, self.first.normal.axes)))}]"
        names = [start for start, _ in self.first.states]
        names += [self.renamed[name] for pair in self.second.states for name in pair]
        return [*map("".join, lines.items()), *(f"{name},  # {shape}, or None" for name in names)]

    def _sizes(self) -> list[str]:
        lines = self.first.addresses.constants()
        for line in self.second.addresses.constants():
            name, colon, rest = line.partition(":")
            line = self._called(self.second, name) + colon + rest
            lines += [line] if line not in lines else []
        return lines

    def _given(self, printer: KernelPrinter) -> list[str]:
        """What one of them is called with; of the first walk nobody wants the state at the end."""
        addresses = printer.addresses
        names = [*addresses.arguments.values(), *(f"G_{name}" for name in addresses.groups)]
        if self.beside:
            names += [name for pair in printer.states for name in pair]
        names += ["cu_seqlens", "chunk_offsets" if self.beside else "chunk_table", "T", "H"]
        names += ["tiles"] if printer.loops else []
        names += [prefix + size for prefix in ("", "B") for size in addresses.sizes.values()]
        names += ["C", *(["SPACING"] if printer.kernel.spaced else [])]
        given = {name: self._called(printer, name) for name in names}
        if self.beside:
            given |= {end: "None" for _, end in printer.states if printer is self.first}
            for flag, name in zip(("HAS_START", "HAS_END"), printer.states[0], strict=True):
                given[flag] = "False" if given[name] == "None" else f"{given[name]} is not None"
        given |= {name: name for name in ("PACKED", "REVERSE", "DOT", "PRECISION", "WARPS")}
        return [f"{name}={value}," for name, value in given.items()]


def _lines(lines: Iterable[str], depth: int) -> str:
    return "\n".join("    " * depth + text for text in lines)
