"""The arrays in memory: which there are, and the statements that read and write their rows."""

from __future__ import annotations

from collections.abc import Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.c_body import Body, Statement
from rnnc.codegen.c_loops import block, for_, indented, loops, offset
from rnnc.codegen.c_target import CType, Target
from rnnc.codegen.c_values import Index, Loop
from rnnc.codegen.names import Names
from rnnc.codegen.program import Node
from rnnc.dsl.expression import Axes
from rnnc.dsl.recurrence import Input, Output, Recurrence


class Arrays:
    """Those of one pass. `before` and `after` the walk over the chunks are lines of their own, and `lasting`
    places of the workspace that are there all the way.
    """

    def __init__(self, recurrence: Recurrence, states: Sequence[str], back: bool, body: Body) -> None:
        self.recurrence, self.back, self.body = recurrence, back, body
        self.target: Target = body.sizes.target
        self.order = {name: n for n, name in enumerate(order(recurrence, states, back))}
        names = Names(())  # what "grad x" is called, an input may be called too
        words = {name: name.replace(" ", "_").replace("'", "") for name in self.order}
        self.called = {name: names.fresh(f"p_{word}") for name, word in words.items()}
        self.groups = {item.name: 3 + n for n, item in enumerate(recurrence.inputs)}
        self.pointers = [f"const long G_{name} = counts[{n}];" for name, n in self.groups.items()]
        self.before: list[str] = []
        self.after: list[str] = []
        self.lasting: dict[str, int] = {}
        self.loaded: set[Node] = set()

    def pointer(self, array: str, dtype: CType | None = None, written: bool = False) -> str:
        """The name of an array, declared when it is asked for for the first time."""
        name = self.called[array]
        const = "" if written else "const "
        text = f"{const}{dtype or self.target.real} *{name} = arrays[{self.order[array]}];"
        if text not in self.pointers:
            self.pointers.append(text)
        return name

    def need(self, node: Node) -> None:
        """Reads what a statement that forms the value reads first."""
        waiting = [node]
        while waiting:
            each = waiting.pop()
            if isinstance(each.op, ir.Load) and each not in self.loaded:
                self.loaded.add(each)
                self._read(each)
            stored = self.body.values.stored
            waiting += [a for a in each.args if a not in stored or isinstance(a.op, ir.Load)]

    def copied(self, axes: Axes, text: str) -> list[str]:
        """Loops over a line in which {at} is an entry in the workspace, {from} one in memory."""
        strides, dense = self.body.sizes.strides(axes), self._dense(axes)

        def line(index: Index, loop: Loop) -> str:
            return text.format(**{"at": offset(index, axes, strides), "from": offset(index, axes, dense)})

        return loops(self.body.sizes, axes, line)

    def _dense(self, axes: Axes) -> list[int]:
        """The distances of entries in memory."""
        found = [1]
        for axis in reversed(axes[1:]):
            found.insert(0, found[0] * self.body.sizes.size(axis))
        return found[: len(axes)]

    # What is read

    def _read(self, node: Node) -> None:
        assert isinstance(node.op, ir.Load)
        if node.op.kind == "valid":
            return
        if node.op.kind == "param":
            self._read_param(node, node.op.name)
        elif node.op.kind in ("input", "cotangent") and node.axes[:1] == (ir.ROW,):
            self._read_rows(node, node.op.name, node.op.kind == "cotangent")
        else:
            raise NotImplementedError(f"reading '{node.op.name}' over {node.axes}")

    def _read_rows(self, node: Node, name: str, cotangent: bool) -> None:
        """The rows of a chunk; of cotangents, zeros past the end and where there are none."""
        dtype, place = self.target.dtype(name), self.body.values.called[node]
        axes, room = node.axes[1:], self.body.sizes.room(node.axes)
        source, size, dense = self.pointer(name, dtype), self.body.sizes.count(axes), self._dense(axes)
        heads, head = ("H", "h") if cotangent else (f"G_{name}", f"h / (H / G_{name})")

        def line(index: Index, loop: Loop) -> str:
            row = loop.address(f"(INSIDE({index[ir.ROW]}) * {heads} + {head}) * {size}")
            value = f"read_{dtype}({source}[{row} + {offset(index, axes, dense)}])"
            if cotangent:
                value = f"({index[ir.ROW]} < rows ? {value} : 0)"
            return f"{self.body.place(node, index)} = {value};"

        lines = loops(self.body.sizes, node.axes, line)
        if cotangent:
            zero = [for_("i", str(room)), f"    {place}[i] = 0;"]
            lines = [f"if (!{source}) {{", *indented(zero), "} else {", *indented(lines), "}"]
        self.body.statements.append(Statement(block(lines), ((place, room),)))

    def _read_param(self, node: Node, name: str) -> None:
        """What every chunk of a head reads."""
        place, size = self.body.values.called[node], self.body.sizes.count(node.axes)
        (shared,) = (param.shared for param in self.recurrence.params if param.name == name)
        source, first = self.pointer(name), "0" if shared else f"h * {size}"
        if not node.axes:
            self.before.append(f"const real {place} = {source}[{first}];")
            return
        self.lasting[place] = self.body.sizes.room(node.axes)
        self.before += self.copied(node.axes, f"{place}[{{at}}] = {source}[{first} + {{from}}];")

    # What is written

    def write(self, name: str, node: Node) -> None:
        """A result: rows of tokens, or a part of a parameter's gradient."""
        declared = name.removeprefix("d'") if self.back else name
        self.need(node)
        if self.back and any(param.name == declared for param in self.recurrence.params):
            self._sum(declared, node)
            return
        items: Sequence[Input | Output] = self.recurrence.inputs if self.back else self.recurrence.outputs
        (axes,) = (item.axes for item in items if item.name == declared)
        array = f"{'grad' if self.back else 'out'} {declared}"
        dtype = self.target.dtype(array)
        target, size = self.pointer(array, dtype, written=True), self.body.sizes.count(axes)
        dense = self._dense(axes)

        def line(index: Index, loop: Loop) -> str:
            row = loop.address(f"(TOKEN({index[ir.ROW]}) * H + h) * {size}")
            value = self.body.values.text(node, index, loop)
            return f"{target}[{row} + {offset(index, axes, dense)}] = write_{dtype}({value});"

        self.body.plain(loops(self.body.sizes, (ir.ROW, *axes), line, bounds={ir.ROW: "rows"}))

    def _sum(self, declared: str, node: Node) -> None:
        """The gradient of a parameter, summed over the chunks of a sequence and head."""
        (axes,) = (param.axes for param in self.recurrence.params if param.name == declared)
        place, size, room = f"sum_{declared}", self.body.sizes.count(axes), self.body.sizes.room(axes)
        strides = self.body.sizes.strides(axes)
        target = self.pointer(f"grad {declared}", written=True)
        self.lasting[place] = room
        self.before.append(f"memset({place}, 0, {room} * sizeof(real));")

        def line(index: Index, loop: Loop) -> str:
            return f"{place}[{offset(index, axes, strides)}] += {self.body.values.text(node, index, loop)};"

        self.body.plain(loops(self.body.sizes, axes, line))
        self.after += self.copied(axes, f"{target}[(n * H + h) * {size} + {{from}}] = {place}[{{at}}];")


def order(recurrence: Recurrence, states: Sequence[str], back: bool) -> list[str]:
    """The arrays of a pass, in the order in which it is given them."""
    inputs, params, outputs = (
        [item.name for item in items] for items in (recurrence.inputs, recurrence.params, recurrence.outputs)
    )
    starts, ends, kept = ([f"{what} {name}" for name in states] for what in ("start", "end", "kept"))
    if not back:
        return [*inputs, *params, *starts, *(f"out {name}" for name in outputs), *ends, *kept]
    gradients = (f"grad {name}" for name in (*inputs, *params))
    return [*inputs, *params, *kept, *(f"d'{name}" for name in outputs), *ends, *gradients, *starts]
