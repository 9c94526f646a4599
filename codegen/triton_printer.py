"""Kernel -> Triton source, through one template for the kernels that walk the chunks and one for the
others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

from rnnc.codegen.arrays import Array
from rnnc.codegen.kernel_docs import after_doc, kernel_doc, walk_doc
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.names import Names
from rnnc.codegen.templating import template
from rnnc.codegen.triton_addresses import Addresses
from rnnc.codegen.triton_body import Body
from rnnc.codegen.value_names import ValueNames
from rnnc.dsl.normal import Normal

RESERVED = """tl triton T H C N h0 ht cu_seqlens chunk_offsets chunk_table HAS_START HAS_END PACKED REVERSE
SPACING i_kept i_at i_first keeps first_kept
DOT PRECISION i_v i_nh i_n i_h i_t i_k i_step i_chunk exists bos length first chunks tiles o_c o_t o_r m_c
WARPS dot o_rows i_rows s_rows w_c l_c w_rows l_rows m_rows t_rows r_rows repeat over_steps over_tokens
segment_sum segment_sum_grad inverse decay_dot decay_dot_grads running_sum running_scalar path path_grad
product_dot product_dot_grads running_product running_product_grad running_product_scalar_grad
alternate_columns alternate_rows block anew expm1 tanh softplus
decay_sum product_sum inverse_grad linear_scan scalar_scan turned_dot range float""".split()


@dataclass(frozen=True, slots=True)
class StateHoles:
    """What a carried state is called: its tile, what it becomes, where it is read and written."""

    name: str
    new: str
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class ScanContext:
    """The holes of `triton_scan.py.jinja`."""

    name: str
    docstring: str
    arguments: str
    groups: Sequence[str]
    states: Sequence[StateHoles]
    whole: bool
    initial: str
    shape: str
    sizes: str
    offsets: str
    state_tile: str
    state_mask: str
    step: str
    rows: str
    value: str
    keeps: bool
    body: str
    after: str
    wanted: str


@dataclass(frozen=True, slots=True)
class AfterContext:
    """The holes of `triton_after.py.jinja`."""

    name: str
    docstring: str
    arguments: str
    sizes: str
    offsets: str
    body: str


@dataclass(frozen=True, slots=True)
class WalkContext:
    """The holes of `triton_walk.py.jinja`."""

    name: str
    docstring: str
    arguments: str
    states: Sequence[StateHoles]
    sizes: str
    offsets: str
    loads: str
    rows: str
    body: str


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """The holes of `triton_chunk.py.jinja`."""

    name: str
    docstring: str
    arguments: str
    groups: Sequence[str]
    loops: bool
    walk: bool
    sizes: str
    offsets: str
    body: str


class KernelPrinter:
    """Prints one kernel; also knows the order of its arguments."""

    def __init__(
        self,
        kernel: Kernel,
        plan: Sequence[Sequence[Kernel]],
        normal: Normal,
        values: ValueNames,
        optional: Collection[str] = (),
        inside: bool = False,
    ) -> None:
        """`plan` is the kernels of both passes; `inside`: it is what a walk does at the end of a chunk; see
        `Body` for the rest.
        """
        self.kernel, self.plan, self.normal = kernel, plan, normal
        self.optional = tuple(array.name for array in kernel.stores if array.name in optional)
        self.names = Names(RESERVED)
        self.states = self._states()
        self.loops = any(phase.axis for phase in kernel.phases)
        self.addresses = Addresses(kernel, normal, self.names, values)
        self.walk = KernelPrinter(kernel.walk, plan, normal, values) if kernel.walk else None
        walked = self.walk.addresses if self.walk else None
        crowded = inside or kernel.after is not None
        self.body = Body(kernel, self.addresses, self.names, values, self.optional, walked, crowded)
        self.after = (
            KernelPrinter(kernel.after, plan, normal, values, optional, True) if kernel.after else None
        )

    def text(self) -> str:
        """The kernel's source."""
        context: ScanContext | ChunkContext | WalkContext | AfterContext
        if self.kernel.role == "states":
            name, context = "walk", self._walk()
        elif self.kernel.serial:
            name, context = "scan", self._scan()
        else:
            name, context = "chunk", self._chunk()
        holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
        return template(f"triton_{name}.py.jinja").render(holes)

    def after_text(self) -> str:
        """The source of what this one's walk does at the end of a chunk."""
        context = self._after()
        holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
        return template("triton_after.py.jinja").render(holes)

    def _states(self) -> tuple[tuple[str, str], ...]:
        """The arguments for the states at the start and at the end: of several, by their names."""
        if self.kernel.role == "transition":
            return (("", self.names.fresh("m")),)
        if len(self.kernel.carries) < 2:
            return (("h0", "ht"),) * len(self.kernel.carries)
        names = [carry.name.replace("'", "") for carry in self.kernel.carries]
        return tuple((self.names.fresh(f"h0_{name}"), self.names.fresh(f"ht_{name}")) for name in names)

    def _docstring(self) -> str:
        return kernel_doc(self.kernel, self.plan, self.addresses.arguments)

    def _chunk(self) -> ChunkContext:
        tiled = {phase.axis for phase in self.kernel.phases if phase.axis}
        whole = [axis for axis in self.addresses.sizes if axis not in tiled]
        offsets = [text for axis in whole for text in self.addresses.tile(axis)]
        return ChunkContext(
            self.kernel.name,
            self._docstring(),
            _indent(self.addresses.declarations(), 1),
            self.addresses.groups,
            self.loops,
            self.kernel.walk is not None,
            _indent(self.addresses.constants(), 1),
            _indent([*self.addresses.rows(), *offsets], 1),
            _indent(self.body.phases(self.kernel.phases), 1),
        )

    def _scan(self) -> ScanContext:
        addresses = self.addresses
        names = [self.body.call(carry.start) for carry in self.kernel.carries]
        axes = [addresses.sizes[axis] for axis in self.normal.state_axes]
        value = addresses.sizes.get(self.normal.value_axis, "")
        tiles = {self.normal.value_axis: "i_v"}
        offsets = [text for axis in addresses.sizes for text in addresses.tile(axis, tiles.get(axis))]
        body = [text for phase in self.kernel.phases for text in self.body.phase(phase)]
        carried = zip(names, self.kernel.carries, self.states, strict=True)
        states = [StateHoles(name, self.body.name(carry.end), *ends) for name, carry, ends in carried]
        return ScanContext(
            name=self.kernel.name,
            docstring=self._docstring(),
            arguments=_indent(addresses.declarations(), 1),
            groups=addresses.groups,
            states=states,
            whole=self.kernel.role != "transition",
            initial=self._initial(axes),
            shape=f"[{', '.join(('N', 'H', *axes))}]",
            sizes=_indent([*addresses.constants(), *self._inner()], 1),
            offsets=_indent([*addresses.rows(), *offsets], 1),
            state_tile=_state_tile(axes),
            state_mask=_state_mask(axes),
            rows=_indent([*self.body.rows, *addresses.triangles(self._arrays())], 2),
            step="chunks - 1 - i_step" if self.kernel.role == "reverse" else "i_step",
            value=value,
            keeps=self.kernel.spaced,
            body=_indent(body, 2),
            after=self._call_after(),
            wanted=" or ".join(
                f"{addresses.arguments[name]} is not None"
                for name in (self.after.optional if self.after else ())
            ),
        )

    def _arrays(self) -> tuple[Array, ...]:
        """What the kernel reads and writes."""
        return *self.kernel.loads, *self.kernel.stores

    def _inner(self) -> list[str]:
        """The length of the tiles that what comes at the end of a chunk is done in."""
        if self.after is None:
            return []
        return [f"{self._inner_tile()}: tl.constexpr,"]

    def _inner_tile(self) -> str:
        (axis,) = self.kernel.tiled
        return f"B{self.addresses.sizes[axis]}_after"

    def _call_after(self) -> str:
        """The line that does it."""
        if self.after is None:
            return ""
        own, other = self.addresses, self.after.addresses
        (axis,) = self.kernel.tiled
        sizes = [own.sizes[each] for each in other.sizes]
        tiles = [self._inner_tile() if each == axis else f"B{own.sizes[each]}" for each in other.sizes]
        parts = [
            *(own.arguments[name] for name in other.arguments),
            *(f"G_{name}" for name in other.groups),
            *("first + i_t", "i_t", "i_h", "bos", "length", "H"),
            *(*sizes, *tiles),
            *("C", "REVERSE", "DOT", "PRECISION", "WARPS"),
        ]
        return f"{self.after.kernel.name}({', '.join(parts)})"

    def _after(self) -> AfterContext:
        """As a kernel that is parallel over chunks, of one."""
        (axis,) = self.kernel.tiled
        addresses = self.addresses
        tiled = {phase.axis for phase in self.kernel.phases if phase.axis}
        whole = [axis for axis in addresses.sizes if axis not in tiled]
        offsets = [text for axis in whole for text in addresses.tile(axis)]
        size = addresses.sizes[axis]
        return AfterContext(
            name=self.kernel.name,
            docstring=after_doc(self.kernel, addresses.arguments),
            arguments=_indent(addresses.declarations(), 1),
            sizes=_indent(addresses.constants(), 1),
            offsets=_indent([f"tiles = tl.cdiv({size}, B{size})", *addresses.rows(), *offsets], 1),
            body=_indent(self.body.phases(self.kernel.phases), 1),
        )

    def _initial(self, axes: Sequence[str]) -> str:
        """What the state starts with, where none is given."""
        if self.kernel.role != "transition":
            return f"tl.zeros([{', '.join(f'B{axis}' for axis in axes)}], tl.float32)"
        key, value = axes
        if self.kernel.scaling:
            return f"tl.full([B{key}, B{value}], 1.0, tl.float32)"
        return f"tl.where(o_{key}[:, None] == o_{value}[None, :], 1.0, 0.0)"

    def _walk(self) -> WalkContext:
        addresses, carries = self.addresses, self.kernel.carries
        states = [array for array in self.kernel.loads if array.place == "kept"]
        tiles = {self.normal.value_axis: "i_v"}
        offsets = [text for axis in addresses.sizes for text in addresses.tile(axis, tiles.get(axis))]
        loads = [self.body.load(array) for array in states]
        body = [text for phase in self.kernel.phases for text in self.body.phase(phase)]
        return WalkContext(
            name=self.kernel.name,
            docstring=walk_doc(self.kernel),
            arguments=_indent(addresses.declarations(), 1),
            states=[
                StateHoles(self.body.call(c.start), self.body.name(c.end), addresses.arguments[a.name], "")
                for c, a in zip(carries, states, strict=True)
            ],
            sizes=_indent(addresses.constants(), 1),
            offsets=_indent([*addresses.rows(), *offsets], 1),
            loads=_indent(loads, 1),
            rows=_indent([*self.body.rows, *addresses.triangles(self._arrays())], 3),
            body=_indent(body, 3),
        )


def _state_tile(axes: Sequence[str]) -> str:
    """Where the tile of a state lies in the array of those of all sequences and heads."""
    match axes:
        case []:
            return "i_nh"
        case [only]:
            return f"i_nh * {only} + o_{only}"
        case [first, second]:
            return f"i_nh * ({first} * {second}) + o_{first}[:, None] * {second} + o_{second}[None, :]"
        case _:
            raise AssertionError(axes)


def _state_mask(axes: Sequence[str]) -> str:
    """The tile's mask, as an argument."""
    each = [f"m_{axis}" for axis in axes]
    if len(each) == 2:
        each = [f"{each[0]}[:, None]", f"{each[1]}[None, :]"]
    return f", mask={' & '.join(each)}" if each else ""


def _indent(lines: Sequence[str], depth: int) -> str:
    return "\n".join("    " * depth + text if text else "" for text in lines)
