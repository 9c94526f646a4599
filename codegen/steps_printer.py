"""Kernel that walks the tokens -> Triton source, through one template for each direction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

from rnnc.codegen.kernel_docs import token_doc
from rnnc.codegen.program import Carry
from rnnc.codegen.recurrent_kernels import TokenArray, TokenKernel
from rnnc.codegen.steps_holes import StateHoles, StepsBackContext, StepsContext
from rnnc.codegen.templating import template
from rnnc.codegen.token_body import TokenBody
from rnnc.codegen.value_names import ValueNames
from rnnc.dsl.expression import Axes
from rnnc.dsl.normal import Normal


class StepsPrinter:
    """Prints one kernel; also knows the order of its arguments."""

    def __init__(self, kernel: TokenKernel, normal: Normal, values: ValueNames) -> None:
        self.kernel, self.values = kernel, TokenBody(kernel, normal, values)
        self.arguments, self.groups, self.sizes = self.values.arguments, self.values.groups, self.values.sizes

    def state_arguments(self) -> tuple[tuple[str, Axes, tuple[tuple[str, str], ...]], ...]:
        """For each carried state its key, its axes, and its arguments by what they hold.

        `start` is read before the first token of the walk, `end` written after the last.
        """
        found = []
        for carry in self.kernel.again or self.kernel.carries:
            holes = self.values.states[carry.name]
            own = {"kept": holes.kept}
            own |= {"formed": holes.formed} if self.kernel.again else {"start": holes.start, "end": holes.end}
            found.append((carry.name, carry.start.axes, tuple(own.items())))
        for carry in self.kernel.carries if self.kernel.again else ():
            holes = self.values.states[carry.name]  # the walk starts at the end
            own = {"start": holes.end, "end": holes.start}
            found.append((carry.name, carry.start.axes, tuple(own.items())))
        return tuple(found)

    def text(self) -> str:
        """The kernel's source."""
        context = self._back() if self.kernel.again else self._steps()
        holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
        name = f"triton_{self.kernel.role}.py.jinja"
        return template(name).render(holes)

    def _steps(self) -> StepsContext:
        body = self.values.body(self.kernel.carries, self.kernel.stores)
        return StepsContext(
            name=self.kernel.name,
            docstring=token_doc(self.kernel, self.arguments),
            arguments=self._arguments(),
            groups=self.groups,
            states=self._all(self.kernel.carries),
            sizes=self._sizes(),
            where=_indent(self._where(), 1),
            offsets=_indent(self._tiles(), 1),
            once=self._once(),
            body=_indent(body, 2),
        )

    def _back(self) -> StepsBackContext:
        tile = self.values.memory.tile
        sums = [array for array in self.kernel.stores if array.place == "partial"]
        again, body = self.values.bodies(sums)
        zeros = (f"tl.zeros([{tile(a.axes)}], tl.float32)" if a.axes else "0.0" for a in sums)
        named = zip(map(self.values.sum_name, sums), zeros, strict=True)
        return StepsBackContext(
            name=self.kernel.name,
            docstring=token_doc(self.kernel, self.arguments),
            arguments=self._arguments(),
            groups=self.groups,
            states=self._all(self.kernel.again),
            cotangents=self._all(self.kernel.carries),
            sizes=self._sizes(),
            where=_indent(self._where(), 1),
            offsets=_indent(self._tiles(), 1),
            once=self._once(),
            sums=_indent([f"{name} = {zero}" for name, zero in named], 1),
            indices=self.values.indices(),
            again=_indent(again, 3),
            body=_indent(body, 3),
            stores=_indent([self._store_sum(array) for array in sums], 1),
        )

    def _store_sum(self, array: TokenArray) -> str:
        address = self.values.outside.address(array, self.arguments[array.name], array.axes)
        mask = self.values.memory.masked(array, array.axes)
        return f"tl.store({address}, {self.values.sum_name(array)}{f', mask={mask}' if mask else ''})"

    def _all(self, carries: Iterable[Carry]) -> tuple[StateHoles, ...]:
        return tuple(self.values.states[carry.name] for carry in carries)

    def _once(self) -> str:
        return _indent(self.values.paragraphs.texts(self.values.once), 1)

    def _where(self) -> list[str]:
        if self.kernel.tile is None:
            return ["i_nh = tl.program_id(0).to(tl.int64)"]
        size = self.values.size(self.kernel.tile)
        return [
            f"tiles = tl.cdiv({size}, B{size})",
            "i_v, i_nh = tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)",
        ]

    def _tiles(self) -> list[str]:
        lines = []
        for axis, size in self.sizes.items():
            start = f"i_v * B{size} + " if axis == self.kernel.tile else ""
            lines += [f"o_{size} = {start}tl.arange(0, B{size})", f"m_{size} = o_{size} < {size}"]
        return lines

    def _arguments(self) -> str:
        arrays = {array.name: array for array in (*self.kernel.loads, *self.kernel.stores)}
        lines = [f"{self.arguments[a.name]},  # [{self.values.memory.shape(a)}]" for a in arrays.values()]
        return _indent([*lines, *(f"G_{name}," for name in self.groups)], 1)

    def _sizes(self) -> str:
        names = [*self.sizes.values(), *(f"B{size}" for size in self.sizes.values())]
        return _indent([f"{name}: tl.constexpr," for name in names], 1)


def _indent(lines: Sequence[str], depth: int) -> str:
    return "\n".join("    " * depth + text for text in lines)
