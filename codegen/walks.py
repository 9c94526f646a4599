"""The two walks over the chunks as one launch, where they do not wait for each other.

Where nothing was kept, the backward pass walks the chunks twice, forward for the states and back for their
cotangents. If the second walk needs nothing that the first writes, both run at once, in programs of their
own: half as long a chain, and what `pre` left is there for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from rnnc.codegen.kernels import Kernel
from rnnc.codegen.names import Names
from rnnc.codegen.templating import literal, template
from rnnc.codegen.triton_printer import RESERVED, KernelPrinter

STATES = ("dht", "dh0")  # what the second walk's states at the start and at the end are called


@dataclass(frozen=True, slots=True)
class Together:
    """Two walks that are one launch where both are needed."""

    kernel: str
    walks: tuple[Kernel, Kernel]

    @property
    def first(self) -> str:
        return self.walks[0].name

    @property
    def second(self) -> str:
        return self.walks[1].name


def together(forward: Sequence[Kernel], backward: Sequence[Kernel]) -> Together | None:
    """The walk over the chunks and the one back, if the second is not computed from what the first, or a
    kernel after it, writes.
    """
    first = next(kernel for kernel in forward if kernel.serial)
    second = next((kernel for kernel in backward if kernel.serial), None)
    if second is None:
        return None
    ready = _written(forward[: forward.index(first)])
    if {array.name for array in second.loads} & (_written((*forward, *backward)) - ready):
        return None
    return Together(f"{first.name.removesuffix(first.role)}walks", (first, second))


def _written(kernels: Iterable[Kernel]) -> set[str]:
    return {array.name for kernel in kernels for array in kernel.stores}


@dataclass(frozen=True, slots=True)
class WalksContext:
    """The holes of `triton_walks.py.jinja`."""

    name: str
    first: str
    second: str
    arguments: str
    sizes: str
    given_first: str
    given_second: str


class WalksPrinter:
    """Prints the launch of both walks; `renamed`: what arguments of the second are called in it."""

    def __init__(self, name: str, first: KernelPrinter, second: KernelPrinter) -> None:
        self.name, self.first, self.second = name, first, second
        self.names = Names(RESERVED)
        own = first.addresses
        self.names.taken |= {*own.arguments.values(), *(f"G_{name}" for name in own.groups)}
        self.names.taken |= {prefix + size for size in own.sizes.values() for prefix in ("", "B")}
        self.renamed = self._renamed()

    def _renamed(self) -> dict[str, str]:
        own, other = self.first.addresses, self.second.addresses
        self.names.taken |= {name for pair in self.first.states for name in pair}
        found = {}
        for pair in self.second.states:
            for argument, stem in zip(pair, STATES, strict=True):
                found[argument] = self.names.fresh(stem + argument[2:])
        for key, argument in other.arguments.items():
            found[argument] = own.arguments.get(key) or self.names.fresh(argument)
        for axis, size in other.sizes.items():
            called = own.sizes.get(axis) or self.names.fresh(size)
            found |= {size: called, f"B{size}": f"B{called}"}
        return {old: new for old, new in found.items() if old != new}

    def launch(self) -> str:
        """The fields of `rnnc.ops.triton_launch.Walks`."""
        parts = (self.name, self.first.kernel.name, self.second.kernel.name, tuple(self.renamed.items()))
        return f"Walks({', '.join(map(literal, parts))})"

    def text(self) -> str:
        """The kernel's source."""
        context = WalksContext(
            name=self.name,
            first=self.first.kernel.name,
            second=self.second.kernel.name,
            arguments=_lines(self._arguments(), 1),
            sizes=_lines(self._sizes(), 1),
            given_first=_lines(self._given(self.first, {}, ("None", "False")), 3),
            given_second=_lines(self._given(self.second, self.renamed, None), 3),
        )
        holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
        return template("triton_walks.py.jinja").render(holes)

    def _arguments(self) -> list[str]:
        """Of both walks, each array once, with shapes; the states that each starts from, and where the second
        ends.
        """
        lines = self.first.addresses.declarations()
        for line in self.second.addresses.declarations():
            name, comma, rest = line.partition(",")
            line = self.renamed.get(name, name) + comma + rest
            if line.partition(",")[0] not in {other.partition(",")[0] for other in lines}:
                lines.append(line)
        shape = f"[{', '.join(('N', 'H', *map(self.first.addresses.size, self.first.normal.axes)))}]"
        lines += [f"{start},  # {shape}, or None" for start, _ in self.first.states]
        return lines + [
            f"{self.renamed[name]},  # {shape}, or None" for pair in self.second.states for name in pair
        ]

    def _sizes(self) -> list[str]:
        lines = self.first.addresses.constants()
        for line in self.second.addresses.constants():
            name, colon, rest = line.partition(":")
            line = self.renamed.get(name, name) + colon + rest
            lines += [line] if line not in lines else []
        return lines

    def _given(
        self, printer: KernelPrinter, renamed: dict[str, str], end: tuple[str, str] | None
    ) -> list[str]:
        """What a walk is called with; `end`: the state at the end, and whether there is one."""
        addresses = printer.addresses
        names = [*addresses.arguments.values(), *(f"G_{name}" for name in addresses.groups)]
        sizes = [prefix + size for prefix in ("", "B") for size in addresses.sizes.values()]
        given = {name: renamed.get(name, name) for name in names}
        for first, last in printer.states:
            given |= {first: renamed.get(first, first), last: end[0] if end else renamed.get(last, last)}
        given |= {name: name for name in ("cu_seqlens", "chunk_offsets", "T", "H")}
        given |= {name: renamed.get(name, name) for name in sizes}
        given["C"] = "C"
        (first, last), *_ = printer.states
        given["HAS_START"] = f"{given[first]} is not None"
        given["HAS_END"] = end[1] if end else f"{given[last]} is not None"
        given |= {name: name for name in ("PACKED", "REVERSE", "DOT", "PRECISION", "WARPS")}
        return [f"{name}={value}," for name, value in given.items()]


def _lines(lines: Iterable[str], depth: int) -> str:
    return "\n".join("    " * depth + text for text in lines)
