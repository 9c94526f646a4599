"""Kernel -> Triton source, through one template for the kernels that walk the chunks and one for the
others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from rnnc.codegen import program as ir
from rnnc.codegen.kernels import Array, Kernel, is_accumulated
from rnnc.codegen.names import Names
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import DecayGradients, decay_gradients
from rnnc.codegen.templating import template
from rnnc.codegen.torch_operations import is_number
from rnnc.codegen.torch_sums import plain
from rnnc.codegen.triton_operations import line
from rnnc.dsl.expression import Axes
from rnnc.dsl.normal import Normal

RESERVED = """tl triton T H C N h0 ht cu_seqlens chunk_offsets chunk_table HAS_START HAS_END PACKED REVERSE
DOT PRECISION i_v i_nh i_n i_h i_t i_k i_step i_chunk exists bos length first chunks tiles o_c o_t m_c
segment_sum segment_sum_grad inverse decay_dot decay_dot_grads running_sum running_scalar
range float""".split()


@dataclass(frozen=True, slots=True)
class ScanContext:
    """The holes of `triton_scan.py.jinja`."""

    name: str
    arguments: str
    start: str
    end: str
    sizes: str
    offsets: str
    state: str
    state_tile: str
    state_size: str
    state_offset: str
    state_mask: str
    step: str
    value: str
    body: str
    new_state: str


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """The holes of `triton_chunk.py.jinja`."""

    name: str
    arguments: str
    sizes: str
    offsets: str
    body: str


class KernelPrinter:
    """Prints one kernel; also knows the order of its arguments."""

    def __init__(self, kernel: Kernel, normal: Normal) -> None:
        self.kernel, self.normal = kernel, normal
        self.value_axis = normal.value_axis
        self.names = Names(RESERVED)
        features = self._features()
        self.sizes = {axis: self.names.fresh(axis) for axis in features}
        for axis in features:
            self.names.taken |= {f"B{self.sizes[axis]}", f"o_{self.sizes[axis]}", f"m_{self.sizes[axis]}"}
        self.arguments: dict[str, str] = {}
        for array in (*kernel.loads, *kernel.stores):
            if array.name not in self.arguments:
                self.arguments[array.name] = self.names.fresh(array.name.replace("'", ""))
        self.groups = [d.name for d in normal.recurrence.inputs if d.per_group and self._reads(d.name)]
        self.memory = {array.node: array for array in kernel.loads}
        self.gradients = decay_gradients(kernel.body)
        self.known: dict[Node, str] = {}
        self.loaded: set[Node] = set()
        self.lines: list[str] = []

    # Names

    def name(self, node: Node) -> str:
        node = plain(node)
        if is_number(node):
            return line(node, self)
        if isinstance(node.op, ir.Load) and node.op.kind == "valid":
            return "m_c.to(tl.float32)"
        return f"{self.known[node]}.to(tl.float32)" if node in self.loaded else self.known[node]

    def raw(self, node: Node) -> str:
        node = plain(node)
        text = self.known.get(node, "")
        return text or self.name(node)

    def size(self, axis: str) -> str:
        return self.sizes[axis]

    def mask(self, axis: str) -> str:
        return f"m_{self.sizes[axis]}"

    def _reads(self, name: str) -> bool:
        return any(array.name == name for array in self.kernel.loads)

    def _features(self) -> list[str]:
        found: dict[str, None] = {}
        for node in (
            *(a.node for a in self.kernel.loads),
            *self.kernel.body,
            *(a.node for a in self.kernel.stores),
        ):
            for inner in (node, *node.args):
                found.update(dict.fromkeys(axis for axis in inner.axes if axis not in ir.TIME_AXES))
                if isinstance(inner.op, ir.AxisSize):
                    found[inner.op.axis] = None
        if self.kernel.carries:
            found.update(dict.fromkeys(self.normal.axes))
        return [axis for axis in self.normal.recurrence.axes if axis in found]

    # Memory

    def pointer(self, array: Array) -> tuple[str, str]:
        """The address of an array's tile and its mask (empty: none)."""
        base, axes = self.arguments[array.name], self.memory_axes(array)
        features = [axis for axis in axes if axis not in ir.TIME_AXES]
        entries = " * ".join(self.sizes[axis] for axis in features)
        times = f" * {entries}" if len(features) < 2 else f" * ({entries})"
        times = times if features else ""
        tile = array.node.axes
        time = next((axis for axis in tile if axis in ir.TIME_AXES), ir.ROW)
        offset = [self._index(axis, features, tile) for axis in features]
        match array.place:
            case "token":
                head = "H"
                if array.name in self.groups:
                    head = f"G_{array.name}"
                row = f"(o_t * {head} + {self._head(array)})"
                offset.insert(0, f"{self._spread(row, time, tile)}{times}")
            case "matrix":
                row = self._spread("(o_t * H + i_h)", ir.ROW, tile)
                offset.insert(0, f"{row} * C + {self._spread('o_c', ir.COLUMN, tile)}")
            case "param":
                offset.insert(0, f"i_h{times}")
            case "chunk" | "partial":
                offset.insert(0, f"i_chunk{times}")
            case "shared":
                pass
            case "state":
                raise AssertionError("states are addressed by the template")
        masks = [self._spread(f"m_{self.sizes[axis]}", axis, tile) for axis in features]
        if array.place == "chunk" and not self.kernel.serial:  # a chunk that no sequence has holds nothing
            first = self.sizes[features[0]]
            masks[0] = self._spread(f"(o_{first} < {first} * exists)", features[0], tile)
        if array.place in ("token", "matrix"):
            masks.insert(0, self._spread("m_c", time, tile))
        return f"{base} + {' + '.join(offset)}" if offset else base, " & ".join(masks)

    def _head(self, array: Array) -> str:
        return f"i_h // (H // G_{array.name})" if array.name in self.groups else "i_h"

    def memory_axes(self, array: Array) -> Axes:
        declared = {d.name: d.axes for d in self.normal.recurrence.arguments}
        own = declared.get(array.name.removeprefix("d'"))
        if own is not None and set(own) == {a for a in array.node.axes if a not in ir.TIME_AXES}:
            return own
        return array.node.axes

    def _index(self, axis: str, features: Sequence[str], tile: Axes) -> str:
        after = [self.sizes[later] for later in features[features.index(axis) + 1 :]]
        return " * ".join([self._spread(f"o_{self.sizes[axis]}", axis, tile), *after])

    def _spread(self, text: str, axis: str, tile: Axes) -> str:
        if len(tile) < 2:
            return text
        return f"{text}[{', '.join(':' if other == axis else 'None' for other in tile)}]"

    def load(self, array: Array) -> list[str]:
        if len(array.node.axes) > 2:
            raise NotImplementedError("a value over more than two axes")
        self.known[array.node] = self.names.fresh(f"b_{self.arguments[array.name]}")
        self.loaded.add(array.node)
        address, mask = self.pointer(array)
        masked = f", mask={mask}, other=0.0" if mask else ""
        return [f"{self.known[array.node]} = tl.load({address}{masked})"]

    def store(self, array: Array) -> list[str]:
        address, mask = self.pointer(array)
        pointer = f"{self.arguments[array.name]}.dtype.element_ty"
        value = self.name(array.node)
        masked = f", mask={mask}" if mask else ""
        return [f"tl.store({address}, {value}.to({pointer}){masked})"]

    # Bodies

    def assign(self, node: Node) -> list[str]:
        if node in self.known:
            return []
        if node in self.gradients:
            return self.assign_gradients(self.gradients[node])
        text = line(node, self)
        self.known[node] = self.names.fresh(f"b_{node.number}")
        return [f"{self.known[node]} = {text}"]

    def assign_gradients(self, group: DecayGradients) -> list[str]:
        """The derivatives of a product under decays by x, y and the decay, in one call."""
        decay = group.decay
        assert isinstance(decay.op, ir.DecayDotDecay)
        args = [self.name(argument) for argument in decay.args]
        made = []
        for node in group.members:
            name = self.names.fresh("_" if node is None else f"b_{node.number}")
            made.append(name)
            if node is not None:
                self.known[node] = name
        flags = f"C, {decay.op.exclusive}, {decay.op.strict}, DOT, PRECISION"
        return [f"{', '.join(made)} = decay_dot_grads({', '.join(args)}, {flags})"]

    def need(self, node: Node, inside: list[str] | None, before: list[str]) -> None:
        """Appends what makes the node known, arguments first, right before its first use.

        Values over the value axis go into the loop (`inside`; None: there is none), others before it.
        """
        node = plain(node)
        if (
            node in self.known
            or is_number(node)
            or (isinstance(node.op, ir.Load) and node.op.kind == "valid")
        ):
            return
        place = inside if inside is not None and self.value_axis in node.axes else before
        if node in self.memory:
            place += self.load(self.memory[node])
            return
        together = self.gradients.get(node)
        for argument in together.decay.args if together else node.args:
            self.need(argument, inside, before)
        if is_accumulated(node, self.value_axis) and inside is not None:
            text = line(node, self)
            self.known[node] = self.names.fresh(f"b_{node.number}")
            tile = ", ".join("C" if a in ir.TIME_AXES else f"B{self.sizes[a]}" for a in node.axes)
            before.append(f"{self.known[node]} = " + (f"tl.zeros([{tile}], tl.float32)" if tile else "0.0"))
            inside.append(f"{self.known[node]} += {text}")
        else:
            place += self.assign(node)

    def scan_body(self) -> list[str]:
        """One chunk: every value right before its first use, every store as soon as it can be."""
        lines: list[str] = []
        waiting = list(self.kernel.stores)
        for root in (*filter(_is_heavy, self.kernel.body), *(array.node for array in waiting), *self._ends()):
            waiting = self._store_known(waiting, lines)
            self.need(root, None, lines)
        self._store_known(waiting, lines)
        return lines

    def _ends(self) -> list[Node]:
        return [carry.end for carry in self.kernel.carries]

    def _store_known(self, waiting: list[Array], lines: list[str]) -> list[Array]:
        """Appends the stores whose values are there; returns the others."""
        for array in waiting:
            if array.node in self.known:
                lines += self.store(array)
        return [array for array in waiting if array.node not in self.known]

    def chunk_body(self) -> list[str]:
        """Loop after loop over the tiles of the value axis, with what needs no loop before each."""
        loops = max(self.kernel.levels.values(), default=0)
        lines: list[str] = []
        waiting = [a for a in self.kernel.stores if self.value_axis not in a.node.axes]
        for level in range(loops + 1):
            if level == loops:
                for root in (*filter(_is_heavy, self._between(level)), *(array.node for array in waiting)):
                    self.need(root, None, lines)
                    waiting = self._store_known(waiting, lines)
            roots = self._loop_roots(level)
            if roots:
                lines += self._loop(level, roots)
        return lines

    def _between(self, level: int) -> Iterator[Node]:
        for node in self.kernel.body:
            plainly = self.value_axis not in node.axes and not is_accumulated(node, self.value_axis)
            if plainly and self.kernel.levels[node] == level and not is_number(node) and node is plain(node):
                yield node

    def _loop_roots(self, level: int) -> list[Node]:
        """What the loop of a level is for: sums over the value axis, and stores along it."""
        sums = [n for n in self.kernel.body if is_accumulated(n, self.value_axis)]
        roots = [n for n in sums if self.kernel.levels[n] == level + 1]
        along = [a.node for a in self.kernel.stores if self.value_axis in a.node.axes]
        return roots + [node for node in along if self.kernel.levels[node] == level]

    def _loop(self, level: int, roots: Sequence[Node]) -> list[str]:
        size = self.sizes[self.value_axis]
        before: list[str] = []
        inside: list[str] = []
        outer = dict(self.known)
        for root in roots:
            self.need(root, inside, before)
        for array in self.kernel.stores:
            if self.value_axis in array.node.axes and self.kernel.levels[array.node] == level:
                inside += self.store(array)
        # A later loop forms its tiles anew.
        self.known = {
            n: name for n, name in self.known.items() if self.value_axis not in n.axes or n in outer
        }
        head = [
            f"for i_v in range(0, tl.cdiv({size}, B{size})):",
            *(f"    {t}" for t in self.tile(self.value_axis)),
        ]
        return [*before, *head, *(f"    {text}" for text in inside)]

    def tile(self, axis: str) -> list[str]:
        """The offsets and the mask of a feature axis; the value axis is tiled."""
        size = self.sizes[axis]
        start = f"i_v * B{size} + " if axis == self.value_axis else ""
        return [f"o_{size} = {start}tl.arange(0, B{size})", f"m_{size} = o_{size} < {size}"]

    # The text

    def text(self) -> str:
        """The kernel's source."""
        context = self._scan() if self.kernel.serial else self._chunk()
        holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
        return template(f"triton_{'scan' if self.kernel.serial else 'chunk'}.py.jinja").render(holes)

    def _chunk(self) -> ChunkContext:
        tiles = [text for axis in self.sizes if axis != self.value_axis for text in self.tile(axis)]
        return ChunkContext(
            self.kernel.name,
            self._arguments(),
            self._sizes(),
            _indent(tiles, 1),
            _indent(self.chunk_body(), 1),
        )

    def _scan(self) -> ScanContext:
        ((carry),) = self.kernel.carries
        state = self.names.fresh(f"b_{carry.name}".replace("'", ""))
        self.known[carry.start] = state
        key, value = (self.sizes[axis] for axis in self.normal.axes)
        body = self.scan_body()
        forward = self.kernel.role == "scan"
        shape = f"[N, H, {key}, {value}]"
        return ScanContext(
            name=self.kernel.name,
            arguments=self._arguments(),
            start=shape,
            end=shape,
            sizes=self._sizes(),
            offsets=_indent([text for axis in self.sizes for text in self.tile(axis)], 1),
            state=state,
            state_tile=f"B{key}, B{value}",
            state_size=f"({key} * {value})",
            state_offset=f"o_{key}[:, None] * {value} + o_{value}[None, :]",
            state_mask=f"m_{key}[:, None] & m_{value}[None, :]",
            step="i_step" if forward else "chunks - 1 - i_step",
            value=value,
            body=_indent(body, 2),
            new_state=self.name(carry.end),
        )

    def _arguments(self) -> str:
        shapes = {
            "token": "B, T, H",
            "matrix": "B, T, H, C",
            "chunk": "chunks, H",
            "partial": "chunks, H",
            "param": "H",
            "shared": "",
            "state": "N, H",
        }
        lines, seen = [], set()
        for array in (*self.kernel.loads, *self.kernel.stores):
            if array.name in seen:
                continue
            seen.add(array.name)
            features = [self.sizes[a] for a in self.memory_axes(array) if a not in ir.TIME_AXES]
            shape = ", ".join(part for part in (shapes[array.place], *features) if part)
            lines.append(f"{self.arguments[array.name]},  # [{shape}]")
        lines += [f"G_{name}," for name in self.groups]
        return _indent(lines, 1)

    def _sizes(self) -> str:
        names = [*self.sizes.values(), *(f"B{size}" for size in self.sizes.values())]
        return _indent([f"{name}: tl.constexpr," for name in names], 1)


def _is_heavy(node: Node) -> bool:
    """Whether a value is worth its own place in the order: matrix products and what works on pairs of
    tokens.
    """
    heavy = (ir.Inverse, ir.Segment, ir.SegmentAdjoint, ir.DecayDot, ir.DecayDotRows, ir.DecayDotColumns)
    return isinstance(node.op, (*heavy, ir.DecayDotDecay)) or (
        isinstance(node.op, ir.Dot) and len(node.axes) == 2
    )


def _indent(lines: Sequence[str], depth: int) -> str:
    return "\n".join("    " * depth + text for text in lines)
