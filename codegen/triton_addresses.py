"""Where the arrays of a kernel lie: names of arguments and sizes, addresses and masks of tiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.names import Names
from rnnc.codegen.recurrent_kernels import base
from rnnc.codegen.triangles import TRIANGLES
from rnnc.codegen.value_names import ValueNames
from rnnc.dsl.expression import Axes
from rnnc.dsl.normal import Normal

SHAPES = {
    "token": "B, T, H",
    "value": "B, T, H",
    "row": "B, T, H",
    "matrix": "B, T, H",
    "pairs": "B, T, H",
    "triangle": "chunks, H",
    "triangles": "chunks, H",
    "chunk": "chunks, H",
    "kept": "kept, H",
    "total": "chunks, H",
    "partial": "chunks, H",
    "param": "H",
    "shared": "",
    "state": "N, H",
    "start": "N, H",
}
# The rows of lower triangular matrices, in blocks of 8 of one length (see `triangles`): how long they are and
# where they begin.
TRIANGLE = [
    "w_{0} = (o_{0} // 8 + {1}) * 8  # entries of rows of a lower triangle",
    "l_{0} = w_{0} * (o_{0} + 4 - w_{0} // 2)  # where they begin",
]
ONE = "anew(tl.full([], 1, tl.int32))"


def is_input(array: Array) -> bool:
    """Whether an array is an input: beyond the sequence its last token is read again.

    Whatever a spec computes of it is defined there (a logarithm of zero is not), and does not count.
    """
    return isinstance(array.node.op, ir.Load) and array.node.op.kind == "input"


class Addresses:
    """The arguments of a kernel, by the name of the array, and the sizes, by axis."""

    def __init__(self, kernel: Kernel, normal: Normal, names: Names, values: ValueNames) -> None:
        self.kernel, self.normal = kernel, normal
        self.loads = (*kernel.loads, *kernel.walked)
        self.earlier = {each.name: each for each in normal.recurrence.earlier}
        features, over = self._features()
        self.micro = kernel.micro
        if self.micro is not None:  # the axis itself only lies in memory
            features = list(dict.fromkeys((*features, self.micro)))
        self.offsets = [axis for axis in features if axis in over]
        self.sizes = {axis: names.fresh(axis) for axis in features}
        for size in self.sizes.values():
            names.taken |= {f"B{size}", f"o_{size}", f"m_{size}", f"i_{size}"}
        self.arguments: dict[str, str] = {}
        for array in (*self.loads, *kernel.stores):
            if array.name not in self.arguments:
                self.arguments[array.name] = names.fresh(values.of_array(array))
        read = {array.name for array in self.loads}
        self.groups = [d.name for d in normal.recurrence.inputs if d.per_group and d.name in read]

    def _features(self) -> tuple[list[str], set[str]]:
        """The feature axes that occur, as declared; and all axes that values are over."""
        kernel = self.kernel
        over, found = set[str](), set[str]()
        others = [each for each in (kernel.walk, kernel.after) if each]
        body = (*kernel.body, *(node for each in others for node in each.body))
        formed = [inner for node in body for inner in (node, *node.args)]
        for node in (*(a.node for a in self.loads), *formed, *(a.node for a in kernel.stores)):
            over.update(map(base, node.axes))
            if isinstance(node.op, ir.AxisSize):
                found.add(node.op.axis)
        if kernel.carries:
            over.update(self.normal.axes)
        return [axis for axis in self.normal.recurrence.axes if axis in found | over], over

    def size(self, axis: str) -> str:
        """The name of an axis' size; K' of a square [K, K'] has that of K."""
        return self.sizes[base(axis)]

    def extent(self, axis: str) -> str:
        """How many entries a tile has along an axis."""
        if axis in (ir.ROW, ir.MIDDLE, ir.COLUMN, ir.LAST):
            return "C"
        if axis in ir.TIME_AXES and self.micro is not None:
            return f"C * B{self.sizes[self.micro]}"
        return f"B{self.size(axis)}"

    def rows(self) -> list[str]:
        """The rows of tokens that have several: which step of which token each is."""
        if self.micro is None:
            return []
        size = self.sizes[self.micro]
        return [
            f"o_rows = tl.arange(0, C * B{size})",
            f"i_rows, s_rows = o_rows // B{size}, tl.minimum(o_rows % B{size}, {size} - 1)",
        ]

    def triangles(self, arrays: Iterable[Array]) -> list[str]:
        """Of the lower triangular matrices among the arrays: how long rows are, and where they begin."""
        rows = sorted({_index(array.node.axes[0]) for array in arrays if array.place in TRIANGLES})
        one = ONE if self.crowded else "1"
        return [text.format(each, one) for each in rows for text in TRIANGLE]

    @property
    def crowded(self) -> bool:
        """Whether lengths of rows, and masks made of them, are formed wherever they are read: held, they fill
        the registers of walks and of kernels of rows. Others spill less where they are constant (sm_90).
        """
        return self.kernel.serial or self.micro is not None

    def before(self) -> list[str]:
        """The positions of the tokens before those of the rows, the first where there is none."""
        read = {array.name for array in self.loads}
        lags = sorted({e.lag for e in self.earlier.values() if e.kind == "row" and e.name in read})
        moved = "o_t - bos + ({0} if REVERSE else -{0})"
        return [f"o_p{n} = bos + tl.maximum(tl.minimum({moved.format(n)}, length - 1), 0)" for n in lags]

    def mark(self, name: str) -> str:
        """1 for the token of that number in its sequence, 0 for others."""
        return f"(i_t * C + o_c == {self.earlier[name].lag}).to(tl.float32)"

    def tile(self, axis: str, index: str | None = None) -> list[str]:
        """The offsets and the mask along a feature axis: all of it, or tile number `index`."""
        if axis not in self.offsets:
            return []
        size = self.size(axis)
        start = f"{index} * B{size} + " if index else ""
        return [f"o_{size} = {start}tl.arange(0, B{size})", f"m_{size} = o_{size} < {size}"]

    def memory_axes(self, array: Array) -> Axes:
        """The axes of an array in the order in which they lie in memory."""
        declared = {d.name: d.axes for d in self.normal.recurrence.arguments}
        own, axes = declared.get(array.name.removeprefix("d'")), array.node.axes
        if self.micro is not None and axes and axes[0] in (ir.ROWS, ir.COLUMNS):
            axes = (self.micro, *axes[1:])
        if own is not None and set(own) == {a for a in axes if a not in ir.TIME_AXES}:
            return own
        return axes

    def pointer(self, array: Array, reading: bool = False) -> tuple[str, str]:
        """The address of an array's tile and its mask (empty: none)."""
        again = is_input(array) or (reading and array.place == "value")
        address = " + ".join([self.arguments[array.name], *self._offset(array, again)])
        return address, " & ".join(self._masks(array, again))

    def _offset(self, array: Array, again: bool) -> list[str]:
        """The terms of an offset; `again`: beyond the sequence its last token is read."""
        features = self._feature_axes(array)
        tile, time = array.node.axes, _time(array)
        inner = [self._index(axis, features, tile) for axis in features]
        entries = " * ".join(self.size(axis) for axis in features)
        times = "" if not features else f" * {entries}" if len(features) < 2 else f" * ({entries})"
        match array.place:
            case "token" | "value" | "row":
                head = f"G_{array.name}" if array.name in self.groups else "H"
                earlier = self.earlier.get(array.name)
                token = f"o_p{earlier.lag}" if earlier else self._token(time, again)
                row = f"({token} * {head} + {self._head(array)})"
                return [f"{self._spread(row, time, tile)}{times}", *inner]
            case "matrix" | "pairs":
                return [self._matrix_row(array, features)]
            case "triangle" | "triangles":
                return self._triangle(array)
            case "param":
                return [f"i_h{times}", *inner]
            case "kept":
                return [f"i_kept{times}", *inner]
            case "chunk" | "total" | "partial":
                return [f"i_chunk{times}", *inner]
            case "start":
                return [f"(i_n * H + i_h){times}", *inner]
            case "shared":
                return inner
            case "state":
                raise AssertionError("states are addressed by the template")

    def _matrix_row(self, array: Array, features: Sequence[str]) -> str:
        """Where the rows of a matrix between tokens, or rows, lie."""
        tile, time = array.node.axes, _time(array)
        row = f"({self._token(time)} * H + i_h)"
        if features:
            row = f"({row} * {self.sizes[features[0]]} + s_rows)"
        column, width = ("o_c", "C")
        if array.place == "pairs":
            column, width = "o_rows", f"({self.extent(ir.COLUMNS)})"
        return f"{self._spread(row, time, tile)} * {width} + {self._spread(column, tile[1], tile)}"

    def _triangle(self, array: Array) -> list[str]:
        """Where the rows of a lower triangular matrix lie: those of a chunk together."""
        tile, times = array.node.axes, self._columns_per_row(array.node.axes)
        row, column = (_index(axis) for axis in tile)
        start = f"{self._spread(f'l_{row}', tile[0], tile)}{times}"
        return [f"i_chunk * ({self._triangle_size(tile)})", start, self._spread(f"o_{column}", tile[1], tile)]

    def _triangle_size(self, tile: Axes) -> str:
        """How many entries of such a matrix are kept: as `triangle_entries`."""
        rows = self.extent(tile[0])
        first = rows if rows == "C" else f"({rows})"
        return f"{first} * ({rows} + 8) // 2{self._columns_per_row(tile)}"

    def _columns_per_row(self, tile: Axes) -> str:
        """The factor, if a token's row has several columns for every token."""
        return f" * B{self.sizes[self.micro]}" if self.micro and tile == (ir.ROW, ir.COLUMNS) else ""

    def _masks_of_triangle(self, tile: Axes) -> list[str]:
        """The rows that exist, and which of their entries are kept."""
        row, column = (_index(axis) for axis in tile)
        columns, several = self._spread(f"o_{column}", tile[1], tile), self._columns_per_row(tile)
        if self.crowded:
            kept = f"{columns} < {self._spread(f'w_{row}', tile[0], tile)}{several}"
        else:
            kept = f"{columns} // 8 <= {self._spread(f'o_{row}', tile[0], tile)} // 8"
        return [self._spread(f"m_{row}", tile[0], tile), f"({kept})"]

    def _masks(self, array: Array, again: bool) -> list[str]:
        """The masks of a tile, to be joined."""
        features, tile, time = self._feature_axes(array), array.node.axes, _time(array)
        masks = [self._spread(f"m_{self.size(axis)}", axis, tile) for axis in features if axis in tile]
        held = ""
        if array.place in TRIANGLES:
            return self._masks_of_triangle(tile)
        if array.place == "start":
            return self._masks_of_start(array, features)
        if array.place == "kept":  # written if the state is kept, read if the chunk exists
            held = "keeps" if array in self.kernel.stores else "exists"
        elif array.place == "chunk" and not self.kernel.serial:  # a chunk that no sequence has holds nothing
            held = "exists"
        if held and not features:
            masks.append(held)
        elif held:
            first = self.size(features[0])
            masks[0] = self._spread(f"(o_{first} < {first} * {held})", features[0], tile)
        if array.place in ("token", "value", "row", "matrix", "pairs") and not again:
            masks.insert(0, self._spread("m_rows" if time in (ir.ROWS, ir.COLUMNS) else "m_c", time, tile))
        return masks

    def _masks_of_start(self, array: Array, features: Sequence[str]) -> list[str]:
        """Where there is a sequence and, to write, in its first chunk."""
        held = [] if self.kernel.serial else ["exists"]
        if array in self.kernel.stores:
            held.append("(i_t == 0)")
        if not features:
            return ["(tl.cdiv(length, C) > i_t)" if text == "exists" else text for text in held]
        sizes = [self.size(axis) for axis in features]
        last = " * ".join([sizes[0], *held])
        firsts = [f"(o_{sizes[0]} < {last})", *(f"m_{size}" for size in sizes[1:])]
        return [self._spread(m, axis, array.node.axes) for m, axis in zip(firsts, features, strict=True)]

    def _feature_axes(self, array: Array) -> list[str]:
        return [axis for axis in self.memory_axes(array) if axis not in ir.TIME_AXES]

    def _head(self, array: Array) -> str:
        return f"i_h // (H // G_{array.name})" if array.name in self.groups else "i_h"

    def _token(self, time: str, again: bool = False) -> str:
        """The positions of tokens, or of those that rows belong to."""
        return (
            f"{'r' if again else 't'}_rows" if time in (ir.ROWS, ir.COLUMNS) else f"o_{'r' if again else 't'}"
        )

    def _index(self, axis: str, features: Sequence[str], tile: Axes) -> str:
        after = [self.size(later) for later in features[features.index(axis) + 1 :]]
        if axis not in tile:  # of the rows of tokens
            return " * ".join([self._spread("s_rows", tile[0], tile), *after])
        return " * ".join([self._spread(f"o_{self.size(axis)}", axis, tile), *after])

    def _spread(self, text: str, axis: str, tile: Axes) -> str:
        if len(tile) < 2:
            return text
        return f"{text}[{', '.join(':' if other == axis else 'None' for other in tile)}]"

    def declarations(self) -> list[str]:
        """The arguments with their shapes, as lines of the head."""
        lines = []
        arrays = {array.name: array for array in reversed((*self.loads, *self.kernel.stores))}
        for name, argument in self.arguments.items():
            array = arrays[name]
            features = [self.size(a) for a in self.memory_axes(array) if a not in ir.TIME_AXES]
            if array.place in TRIANGLES:
                size = self._triangle_size(array.node.axes)
                lines.append(f"{argument},  # [{SHAPES[array.place]}, {size}], a lower triangle")
                continue
            if array.place in ("matrix", "pairs"):
                features.append(self.extent(ir.COLUMN if array.place == "matrix" else ir.COLUMNS))
            shape = ", ".join(part for part in (SHAPES[array.place], *features) if part)
            lines.append(f"{argument},  # [{shape}]")
        return [*lines, *(f"G_{name}," for name in self.groups)]

    def constants(self) -> list[str]:
        """The sizes of axes and of their tiles, as lines of the head."""
        names = [*self.sizes.values(), *(f"B{size}" for size in self.sizes.values())]
        return [f"{name}: tl.constexpr," for name in names]


def _index(axis: str) -> str:
    """What the names of vectors along rows or tokens end in."""
    return "rows" if axis in (ir.ROWS, ir.COLUMNS) else "c"


def _time(array: Array) -> str:
    """The axis of the tile's rows, if it has one."""
    return next((axis for axis in array.node.axes if axis in ir.TIME_AXES), ir.ROW)
