"""Phases -> lines of Triton."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.line_breaks import bare
from rnnc.codegen.names import Names
from rnnc.codegen.paragraphs import Line, Paragraphs
from rnnc.codegen.phases import Anew, Part, Phase, Read, Step, Store, is_free
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import DecayGradients, decay_gradients
from rnnc.codegen.torch_sums import is_number, plain
from rnnc.codegen.triton_addresses import Addresses
from rnnc.codegen.triton_operations import line, term
from rnnc.codegen.value_names import ValueNames

# Where the rows of the chunk are: in every phase anew, or addresses would fill the registers.
ROWS = [
    "i_chunk, exists = i_k * H + i_h, i_t * C < length",
    "m_c = i_t * C + o_c < length",
    "o_t = bos + (length - 1 - i_t * C - o_c if REVERSE else i_t * C + o_c)",
    "o_r = bos + tl.maximum(tl.minimum(o_t - bos, length - 1), 0)  # past the end: the last token",
]
# The same for the rows of tokens that have several.
MICRO = [
    "m_rows = (o_rows % B{0} < {0}) & (i_t * C + i_rows < length)",
    "t_rows = bos + (length - 1 - i_t * C - i_rows if REVERSE else i_t * C + i_rows)",
    "r_rows = bos + tl.maximum(tl.minimum(t_rows - bos, length - 1), 0)",
]
AGAIN = ["", "tl.debug_barrier()", "i_k, i_t, i_h = anew(i_k), anew(i_t), anew(i_h)"]


class Body:
    """Prints the phases of a kernel; knows what each value is called.

    `walked`: where what it reads to form states lies. `optional` are the names of the arrays that not every
    call wants to be written: None stands for them. `crowded`: a whole state is in registers meanwhile.
    """

    def __init__(
        self,
        kernel: Kernel,
        addresses: Addresses,
        names: Names,
        values: ValueNames,
        optional: Collection[str] = (),
        walked: Addresses | None = None,
        crowded: bool = False,
    ) -> None:
        self.addresses, self.names, self.values, self.optional = addresses, names, values, optional
        self.paragraphs = Paragraphs(self.word, values.is_symbol)
        self.walk, self.walked = kernel.walk, walked
        self.dot = "turned_dot" if crowded else "dot"
        carried = {carry.start for carry in kernel.carries}
        formed, written = set(kernel.body), {array.name for array in kernel.stores}
        later = written if kernel.after else set[str]()  # read by what comes at the end of a chunk
        self.memory = {a.node for a in kernel.loads if a.node not in carried and a.name not in later}
        # What a kernel hands on to its own loops: there it has a name of its own, and another type.
        self.own = {
            a.node: ""
            for a in kernel.loads
            if a.name in written and a.node in formed and not set(kernel.tiled).intersection(a.node.axes)
        }
        self.groups = decay_gradients(kernel.body)
        self.called: dict[Node, str] = {}
        steps = addresses.sizes[addresses.micro] if addresses.micro else ""
        self.micro = [text.format(steps) for text in MICRO] if steps else []
        self.rows = [*self.micro, *addresses.before()]
        self.again = [*AGAIN, *(["i_kept = anew(i_kept) if SPACING > 1 else i_k"] if walked else [])]

    # What `triton_operations.line` asks for

    def name(self, node: Node) -> str:
        """The value in float32."""
        node = plain(node)
        if is_number(node):
            return line(node, self)
        if isinstance(node.op, ir.Load) and node.op.kind == "valid":
            return "m_c.to(tl.float32)" if node.axes == (ir.ROW,) else "m_rows.to(tl.float32)"
        if isinstance(node.op, ir.Load) and node.op.kind == "mark":
            return self.addresses.mark(node.op.name)
        return f"{self.called[node]}.to(tl.float32)" if node in self.memory else self.called[node]

    def raw(self, node: Node) -> str:
        """The value in the dtype that it has in memory."""
        return self.called.get(plain(node)) or self.name(node)

    def size(self, axis: str) -> str:
        """The name of an axis' size."""
        return self.addresses.size(axis)

    def mask(self, axis: str) -> str:
        """The name of the vector that says which entries along an axis exist."""
        return f"m_{self.size(axis)}"

    def tile(self, axis: str) -> str:
        """The length of a tile along an axis."""
        return self.addresses.extent(axis)

    # Lines

    def phases(self, phases: Sequence[Phase]) -> list[str]:
        """All phases. Of what one reads and computes of it, nothing is held for the next."""
        lines = []
        parts = list(_parts(phases))
        for part in parts:
            lines += [] if part is parts[0] else self.again
            lines += [*ROWS, *self.rows, *self.addresses.triangles(_arrays(part))]
            for before, phase in zip((None, *part), part, strict=False):
                if before and any(isinstance(s, Store) and s.array.node in self.own for s in before.body):
                    lines.append(self.again[1])
                lines += self.phase(phase)
        return lines

    def phase(self, phase: Phase) -> list[str]:
        """The lines of a phase: those before a loop, the loop, and what it contains."""
        if phase.axis is None:
            return self.paragraphs.texts([self.step(step, phase.sums) for step in phase.body])
        size = self.size(phase.axis)
        tile = self.addresses.tile(phase.axis, f"anew(i_{size})")
        triangles = self.addresses.triangles(_arrays([phase]))
        again = Line((*self.again[1:], *ROWS, *self.addresses.before(), *triangles, *tile))
        inside = self.paragraphs.texts(
            [
                again if isinstance(step, Anew) else self.step(step, phase.sums)
                for step in self._together(phase.body)
            ]
        )
        zeros = [f"{self.called[node]} = {self.neutral(node)}" for node in phase.sums]
        tile = [] if phase.body[:1] == (Anew(),) else self.addresses.tile(phase.axis, f"i_{size}")
        return [*zeros, f"for i_{size} in range(0, tiles):", *_indented((*tile, *inside))]

    def _together(self, body: Iterable[Step]) -> Iterator[Step]:
        """The steps, without those that read a state which was formed with another."""
        there = False
        for step in body:
            state = self.walk is not None and isinstance(step, Read) and step.array.place == "kept"
            if not (state and there):
                yield step
            there = not isinstance(step, Anew) and (there or state)

    def step(self, step: Step, sums: Collection[Node]) -> Line:
        """The lines of a step; `sums` are what the phase adds up over tiles."""
        match step:
            case Store(array):
                return Line(tuple(self.store(array)), _values([array.node]))
            case Part(total, inline=inline):
                if step.term in self.groups:  # which has its equation where it is formed
                    return Line((self.part(step),))
                uses = step.term.args if inline else [step.term]
                sign = "=" if step.first else "+="
                assert isinstance(total.op, ir.Add)
                factor = total.op.coefficients[step.index]
                return Line((self.part(step),), _values(uses), total, step.term, factor, sign)
            case Read(array) if array.place == "kept":
                return Line((self.states(),), (), array.node)
            case Read(array) if array.place == "start":
                return Line(tuple(self.start(array)), (), array.node)
            case Read(array):
                return Line((self.load(array),), (), array.node)
            case Anew():
                raise AssertionError("only in loops")
            case Node() if step in self.groups:
                return self.gradients(self.groups[step], step)
            case Node():
                text, name, uses = bare(line(step, self)), self.call(step), _values(step.args)
                if step not in sums:
                    return Line((f"{name} = {text}",), uses, step)
                if isinstance(step.op, ir.Max):
                    return Line((f"{name} = tl.maximum({name}, {text})",), uses, step, sign="max=")
                return Line((f"{name} += {text}",), uses, step, sign="+=")

    def call(self, node: Node) -> str:
        """The name of a value, new when it is formed for the first time; `b_`: a tile."""
        if node not in self.called:
            self.called[node] = self.names.fresh(f"b_{self.values.name(node)}")
        return self.called[node]

    def word(self, node: Node) -> str:
        """The value in an equation."""
        node = plain(node)
        if isinstance(node.op, ir.Load) and node.op.kind in ("valid", "mark"):
            return node.op.kind if node.op.kind == "valid" else node.op.name
        return self.call(node).removeprefix("b_")

    def part(self, part: Part) -> str:
        """The line that adds a term to its sum."""
        text = line(part.term, self) if part.inline else term(part.total, part.index, self)
        if not part.first and text.startswith("-"):
            return f"{self.call(part.total)} -= {text[1:]}"
        return f"{self.call(part.total)} {'=' if part.first else '+='} {text}"

    def neutral(self, node: Node) -> str:
        """What a sum, or a maximum, over tiles starts with."""
        tile = ", ".join(map(self.tile, node.axes))
        if isinstance(node.op, ir.Max):
            return f'tl.full([{tile}], float("-inf"), tl.float32)' if tile else 'float("-inf")'
        return f"tl.zeros([{tile}], tl.float32)" if tile else "0.0"

    def load(self, array: Array) -> str:
        """The line that reads an array's tile."""
        if len(array.node.axes) > 2:
            raise NotImplementedError("a value over more than two axes")
        address, mask = self.addresses.pointer(array, reading=True)
        masked = f", mask={mask}, other=0.0" if mask else ""
        name = self.call(array.node)
        if array.node in self.own:
            self.own[array.node] = self.own[array.node] or self.names.fresh(name)
            name = self.called[array.node] = self.own[array.node]
        return f"{name} = tl.load({address}{masked})"

    def start(self, array: Array) -> list[str]:
        """The lines that read what was carried into the sequence: zeros if no array is given."""
        tile, name = ", ".join(map(self.tile, array.node.axes)), self.call(array.node)
        given = f"if {self.addresses.arguments[array.name]} is not None:"
        read = self.load(array).removeprefix(f"{name} = ")
        return [f"{name} = tl.full([{tile}], 0.0, tl.float32)", given, f"    {name} += {read}"]

    def states(self) -> str:
        """The line that forms a tile of the states of this chunk, from the last that were kept."""
        assert self.walk is not None
        assert self.walked is not None
        own, walk = self.addresses, self.walk
        sizes = [own.sizes[axis] for axis in self.walked.sizes]
        parts = [
            *(own.arguments[name] for name in self.walked.arguments),
            *(f"G_{name}" for name in self.walked.groups),
            *("i_k - i_t", "i_kept", "i_t", "i_h", f"i_{self.size(walk.tiled[0])}", "bos", "length", "H"),
            *(*sizes, *(f"B{size}" for size in sizes)),
            *("C", "SPACING", "REVERSE", "DOT", "PRECISION", "WARPS"),
        ]
        names = ", ".join(self.call(each.node) for each in walk.loads if each.place == "kept")
        return f"{names} = {walk.name}({', '.join(parts)})"

    def store(self, array: Array) -> list[str]:
        """The line that writes a tile, under a condition where a call may not want the array."""
        address, mask = self.addresses.pointer(array)
        argument = self.addresses.arguments[array.name]
        masked = f", mask={mask}" if mask else ""
        text = f"tl.store({address}, {self.name(array.node)}.to({argument}.dtype.element_ty){masked})"
        return [f"if {argument} is not None:", f"    {text}"] if array.name in self.optional else [text]

    def gradients(self, group: DecayGradients, step: Node) -> Line:
        """The derivatives of a product under decays by x, y and the decay, in one call."""
        decay = group.decay
        assert isinstance(decay.op, ir.DecayDotDecay)
        if step is not decay:
            return Line(())
        args = [self.name(argument) for argument in decay.args]
        made = [self.names.fresh("_") if node is None else self.call(node) for node in group.members]
        flags = f"C, {decay.op.exclusive}, {decay.op.strict}, DOT, PRECISION"
        kind = "decay" if decay.op.mode == "log" else "product"
        grads = f"{kind}_dot_grads"
        weight, *inputs = map(self.word, decay.args)
        equation = f"the gradients of the product under decays in {', '.join(inputs)}, weighted by {weight}"
        text = f"{', '.join(made)} = {grads}({', '.join(args)}, {flags})"
        return Line((text,), _values(decay.args), decay, equation=equation)


def _parts(phases: Sequence[Phase]) -> Iterator[list[Phase]]:
    """The phases; together those between which nothing is formed anew: one without a loop, and its loop."""
    part: list[Phase] = []
    for phase in phases:
        if part and (part[-1].axis is not None or phase.axis is None):
            yield part
            part = []
        part.append(phase)
    yield from [part] if part else []


def _arrays(phases: Iterable[Phase]) -> list[Array]:
    """What the phases read and write."""
    return [step.array for phase in phases for step in phase.body if isinstance(step, Read | Store)]


def _values(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes that are values in the text."""
    return tuple(node for node in map(plain, nodes) if not is_free(node))


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {text}" for text in lines]
