"""Values of a kernel that walks the tokens -> lines of its loops: when each is loaded, formed and stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.line_breaks import bare
from rnnc.codegen.names import Names
from rnnc.codegen.paragraphs import Line, Paragraphs
from rnnc.codegen.program import Carry, Node, dependents, reachable
from rnnc.codegen.recurrent_kernels import TokenArray, TokenKernel, base
from rnnc.codegen.steps_holes import StateHoles
from rnnc.codegen.token_memory import TokenMemory
from rnnc.codegen.torch_sums import is_number, plain
from rnnc.codegen.triton_operations import aligned, cleared, line, zero_beyond
from rnnc.codegen.value_names import ValueNames
from rnnc.dsl.expression import Axes
from rnnc.dsl.normal import Normal

RESERVED = """tl triton T H N h0 ht cu_seqlens every HAS_START HAS_END KEEP PACKED REVERSE i_v i_nh i_n
i_h i_t o_t o_kept o_formed i_part i_back part begin end room first bos length tiles expm1 tanh softplus
substitute range float entries""".split()


class TokenBody:
    """The names of one kernel, and the lines of its loops; values are formed right before they are used."""

    dot = "dot"

    def __init__(self, kernel: TokenKernel, normal: Normal, values: ValueNames) -> None:
        self.kernel, self.normal, self.values = kernel, normal, values
        self.names = Names(RESERVED)
        self.nodes = reachable([*kernel.program.nodes(), *(carry.end for carry in kernel.again)])
        self.sizes = {axis: self.names.fresh(axis) for axis in self._features()}
        for size in self.sizes.values():
            self.names.taken |= {f"B{size}", f"o_{size}", f"m_{size}", f"n_{size}"}
        self.arguments: dict[str, str] = {}
        for array in (*kernel.loads, *kernel.stores):
            if array.name not in self.arguments:
                self.arguments[array.name] = self.names.fresh(array.name.replace("'", ""))
        read = {array.name for array in kernel.loads}
        self.groups = [d.name for d in normal.recurrence.inputs if d.per_group and d.name in read]
        large = any(len(carry.start.axes) > 1 for carry in kernel.again)
        self.reads_again = large and kernel.tile is None
        self.outside = TokenMemory(kernel, self.sizes, self.groups)  # the loops over tokens
        self.memory = replace(self.outside, index="n_") if self.reads_again else self.outside
        self.states = {carry.name: self._holes(carry) for carry in (*kernel.again, *kernel.carries)}
        self.loads = {array.node: array for array in kernel.loads}
        varying = [n for n in self.nodes if isinstance(n.op, ir.Load) and n.op.kind != "param"]
        self.varying = dependents(self.nodes, varying)
        self.once: list[Line] = []
        self.elsewhere: set[str] = set()  # names in another loop of the kernel
        self.known = self._carried()
        self.paragraphs = Paragraphs(self._word, values.is_symbol)
        self.state_axes = [set(carry.start.axes) for carry in kernel.again]
        self.moving = dependents(self.nodes, [carry.start for carry in kernel.carries])
        self.passed = 0  # sums so far
        self.used: dict[Node, int] = {}  # of what is read or formed again, the sums before its last use
        self.named: dict[Node, str] = {}
        self.states_read: dict[Node, StateHoles] = {}  # in the loop that is printed

    # Names

    def name(self, node: Node) -> str:
        """The value in float32: a number, or its variable."""
        node = plain(node)
        return line(node, self) if is_number(node) else self.known[node]

    def raw(self, node: Node) -> str:
        """As `name`: tiles are float32 as soon as they are read."""
        return self.name(node)

    def _word(self, node: Node) -> str:
        """The value in an equation."""
        return self.known[plain(node)].removeprefix("b_")

    def size(self, axis: str) -> str:
        """The name of an axis' size."""
        return self.memory.size(axis)

    def mask(self, axis: str) -> str:
        """The name of the vector that says which entries along an axis exist."""
        return f"m_{self.size(axis)}"

    def tile(self, axis: str) -> str:
        """The length of a tile along an axis."""
        return f"B{self.size(axis)}"

    def _features(self) -> list[str]:
        """The axes of all values; those of a square value have one size."""
        found = {base(axis) for node in self.nodes for axis in node.axes}
        found |= {base(node.op.axis) for node in self.nodes if isinstance(node.op, ir.AxisSize)}
        found |= {axis for item in self.kernel.stores for axis in map(base, item.axes)}
        return [axis for axis in self.normal.recurrence.axes if axis in found]

    def _holes(self, carry: Carry) -> StateHoles:
        axes = carry.start.axes
        memory = self.memory if carry in self.kernel.again else self.outside
        stem = carry.name.replace("'", "")
        own = ", ".join(["H", *map(memory.size, axes)])
        return StateHoles(
            name=self.names.fresh(f"b_{stem}"),
            start=self.names.fresh(f"{stem}_start"),
            end=self.names.fresh(f"{stem}_end"),
            kept=self.names.fresh(f"{stem}_kept"),
            formed=self.names.fresh(f"{stem}_formed"),
            own=own,
            shape=f"[N, {own}]",
            tile=memory.tile(axes),
            size=memory.entries(axes) or "1",
            offset=memory.offset(axes, axes) or "0",
            mask=memory.mask(axes) or "True",
        )

    def _carried(self) -> dict[Node, str]:
        carries = (*self.kernel.again, *self.kernel.carries)
        return {carry.start: self.states[carry.name].name for carry in carries}

    # Values

    def need(self, node: Node, lines: list[Line]) -> None:
        """Appends what makes the value known right before its first use, or once for all tokens."""
        node = plain(node)
        if is_number(node) or (node in self.known and not self._far(node)):
            return
        steady = node.number not in self.varying
        for argument in self._in_turn(node.args, lines):
            self.need(argument, self.once if steady else lines)
        if node in self.states_read:
            lines.append(Line(self._read_again(self.states_read[node])))
            return
        text = self._load(self.loads[node]) if node in self.loads else bare(self._line(node))
        if node not in self.named:
            self.named[node] = self._called(f"b_{self.values.name(node)}", steady)
        self.known[node], self.used[node] = self.named[node], self.passed
        (self.once if steady else lines).append(Line((f"{self.known[node]} = {text}",), _used(node), node))
        self.passed += any(set(argument.axes) - set(node.axes) for argument in node.args)

    # Where a program holds all of the state, there is no room for more than two tiles of that size.

    def _whole(self, node: Node) -> bool:
        """Whether a value is as large as the state that is read."""
        return self.reads_again and any(axes <= set(node.axes) for axes in self.state_axes)

    def _far(self, node: Node) -> bool:
        """Whether a value is read, or formed, again: where a sum lies between two uses of it."""
        if not self.states_read or not self._whole(node) or node.number in self.moving:
            return False
        before, self.used[node] = self.used.get(node, self.passed), self.passed
        return self.passed > before

    def _in_turn(self, arguments: Sequence[Node], lines: list[Line]) -> list[Node]:
        """Arguments in the order in which they are formed: large ones, and what they are formed of, last."""
        large = [node for node in map(plain, arguments) if self._whole(node)]
        waiting = list(large)
        while waiting:
            node = waiting.pop(0)
            for argument in map(plain, node.args if node not in self.known else ()):
                if self._whole(argument):
                    waiting.append(argument)
                else:
                    self.need(argument, lines)
        return [node for node in map(plain, arguments) if node not in large] + large

    def _read_again(self, holes: StateHoles) -> tuple[str, ...]:
        address = f"{holes.formed} + o_formed * {holes.size} + {holes.offset}"
        load = f"{holes.name} = tl.load({address}, mask={holes.mask}, other=0.0)"
        return (*self.indices(), load)

    def indices(self) -> tuple[str, ...]:
        """The entries of a tile, computed where they are needed: else they are held, one for every row."""
        if not self.reads_again:
            return ()
        return tuple(f"n_{size} = entries(i_nh, B{size})" for size in self.sizes.values())

    def _called(self, name: str, steady: bool) -> str:
        """A free name; what is formed once for all tokens is there in every loop."""
        free = self.names.fresh(name)
        while steady and free in self.elsewhere:
            free = self.names.fresh(name)
        return free

    def _line(self, node: Node) -> str:
        match node.op:
            case ir.Dot():
                return self._contraction(node)
            case ir.Mask(strict):
                below = f"o_{self.size(node.axes[0])}[:, None] {'>' if strict else '>='}"
                value = self.name(node.args[0])
                return f"tl.where({below} o_{self.size(node.axes[1])}[None, :], {value}, 0.0)"
            case ir.Inverse():
                return f"substitute({self.name(node.args[0])}, {self.size(node.axes[0])})"
            case _:
                return line(node, self)

    def _contraction(self, node: Node) -> str:
        """A sum of products of vectors or tiles: there are no rows to make a matrix product of."""
        assert isinstance(node.op, ir.Dot)
        axis = node.op.axis
        orders = [(*node.axes[:at], axis, *node.axes[at:]) for at in range(len(node.axes) + 1)]
        axes = next(
            (order for order in orders if all(_in_order(a.axes, order) for a in node.args)), orders[0]
        )
        factors = (aligned(cleared(a, self.name(a), axis, self), a, axes) for a in node.args)
        return f"tl.sum({' * '.join(factors)}, {axes.index(axis)})"

    def _load(self, array: TokenArray) -> str:
        """The tile in float32; of a cotangent, summed over what the value in the program has no axis for."""
        own = array.node.axes
        extra = tuple(axis for axis in array.axes if axis not in own)
        tile = array.axes if extra else own
        memory = self.outside if array.place in ("param", "shared") else self.memory
        address = memory.address(array, self.arguments[array.name], tile)
        mask = self.memory.masked(array, tile)
        text = f"tl.load({address}{f', mask={mask}, other=0.0' if mask else ''}).to(tl.float32)"
        left = list(tile)
        for axis in extra:
            text = f"tl.sum({text}, {left.index(axis)})"
            left.remove(axis)
        return text

    def _store(self, array: TokenArray) -> str:
        argument = self.arguments[array.name]
        value = aligned(self.name(array.node), array.node, array.axes)
        mask = self.memory.masked(array, array.axes)
        address = self.memory.address(array, argument, array.axes)
        kind = f"{argument}.dtype.element_ty"
        value = value if value.isidentifier() else f"({value})"
        return f"tl.store({address}, {value}.to({kind}){f', mask={mask}' if mask else ''})"

    # Bodies

    def body(self, carries: Sequence[Carry], stores: Iterable[TokenArray]) -> list[str]:
        """One token: the stores, each as soon as its value is there, and the new states."""
        lines: list[Line] = []
        for array in stores:
            self.need(array.node, lines)
            if array.place == "partial":
                value = aligned(self.name(array.node), array.node, array.axes)
                text = f"{self.sum_name(array)} += {value}"
            else:
                text = self._store(array)
            lines.append(Line((text,), (plain(array.node),)))
        for carry in carries:
            self.need(carry.end, lines)
        names = ", ".join(self.states[carry.name].name for carry in carries)
        ends = tuple(plain(carry.end) for carry in carries)
        lines.append(Line((f"{names} = {', '.join(map(self._new, carries))}",), ends))
        return self.paragraphs.texts(lines)

    def bodies(self, sums: Iterable[TokenArray]) -> tuple[list[str], list[str]]:
        """One token of the walk that forms the states again, and one of the walk back, which reads them."""
        self.names.taken |= {self.sum_name(array) for array in sums}
        before = set(self.names.taken)
        again = self.body(self.kernel.again, ())
        steady = {node: name for node, name in self.known.items() if node.number not in self.varying}
        self.known = steady | self._carried()
        self.named, self.used, self.passed = dict(steady), {}, 0
        self.elsewhere = self.names.taken - before
        self.names.taken = before | set(steady.values())
        self.states_read = {carry.start: self.states[carry.name] for carry in self.kernel.again}
        return again, self.body(self.kernel.carries, self.kernel.stores)

    def _new(self, carry: Carry) -> str:
        """The new state in the shape of the old one, zero beyond every axis."""
        axes, end = carry.start.axes, carry.end
        text = aligned(self.name(end), end, axes)
        if set(end.axes) != set(axes):
            text = f"tl.zeros([{self.memory.tile(axes)}], tl.float32) + {text}"
        if all(axis in end.axes and zero_beyond(end, axis) for axis in axes):
            return text
        return f"tl.where({self.memory.mask(axes)}, {text}, 0.0)"

    def sum_name(self, array: TokenArray) -> str:
        """What adds up over the tokens, for an array of sums."""
        return f"b_{self.arguments[array.name]}"


def _used(node: Node) -> tuple[Node, ...]:
    """The values that a line for the node mentions."""
    return tuple(argument for argument in map(plain, node.args) if not is_number(argument))


def _in_order(axes: Axes, order: Axes) -> bool:
    return tuple(axis for axis in order if axis in axes) == axes
