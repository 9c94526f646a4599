"""The recurrent programs -> the kernels that walk the tokens one after the other, forward and backward.

A program of the grid holds a tile of the state in registers. The state is tiled along an axis over which no
value is contracted: what the backward pass sums over it is linear in the cotangents, so that every tile
gives a share and the shares are summed afterwards. Where all state axes are contracted (a norm over the
values of a readout, say), one program holds the whole state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rnnc.codegen import operations as ir
from rnnc.codegen.kernel_form import without_softmax
from rnnc.codegen.program import Carry, Node, Program, dependents, reachable
from rnnc.codegen.relabelling import relabelled
from rnnc.codegen.torch_module import Form
from rnnc.dsl.expression import Axes
from rnnc.dsl.normal import Normal

Role = Literal["steps", "steps_back"]
Place = Literal["token", "share", "param", "shared", "partial"]


@dataclass(frozen=True, slots=True)
class TokenArray:
    """A value in memory, `axes` in the order that they have there, and how it is laid out.

    token: [B, T, H, axes]; share: [B, T, H, tiles, axes], what each tile of the state adds to a gradient;
    param: [H, axes]; shared: [axes]; partial: [N tiles, H, axes] in float32, what each sequence adds to the
    gradient of a parameter ([N, H, axes] where the axes include the tiled one).
    """

    node: Node
    name: str
    place: Place
    axes: Axes


@dataclass(frozen=True, slots=True)
class TokenKernel:
    """One launch. `tile` is the axis that programs divide among them, or None: one program holds it all.

    `again` are the carried states of the forward program in a backward kernel, which forms them anew; `micro`
    is the axis of micro-steps.
    """

    name: str
    role: Role
    program: Program
    tile: str | None
    loads: tuple[TokenArray, ...]
    stores: tuple[TokenArray, ...]
    again: tuple[Carry, ...] = ()
    micro: str | None = None

    @property
    def carries(self) -> tuple[Carry, ...]:
        """The states that it walks the tokens with."""
        return self.program.carries


def plan_tokens(form: Form, normal: Normal) -> tuple[TokenKernel, TokenKernel]:
    """The forward and the backward kernel of the recurrent form."""
    plans = (form.forward, form.backward)
    forward, backward = (without_softmax(plan.program, form.builder) for plan in plans)
    micro = normal.micro
    if micro is not None:  # rows and columns are a token's micro-steps
        labels = {ir.ROWS: f"{micro}'", ir.COLUMNS: f"{micro}''"}
        forward, backward = relabelled((forward, backward), labels)
    tile = tiled_axis(forward, backward)
    name = normal.recurrence.name
    declared = {item.name: item.axes for item in normal.recurrence.declared}
    outputs = tuple(
        TokenArray(node, output, "token", declared[output]) for output, node in forward.results.items()
    )
    steps = TokenKernel(
        f"{name}_recurrent_steps", "steps", forward, tile, _loads(forward, (), normal), outputs, (), micro
    )
    gradients = tuple(
        TokenArray(node, result, _gradient_place(result, tile, normal), declared[result[2:]])
        for result, node in backward.results.items()
        if not isinstance(node.op, ir.Const)
    )
    back = TokenKernel(
        f"{name}_recurrent_back",
        "steps_back",
        backward,
        tile,
        _loads(backward, forward.carries, normal),
        gradients,
        forward.carries,
        micro,
    )
    return steps, back


def tiled_axis(forward: Program, backward: Program) -> str | None:
    """The last axis that all states have and that both programs may be tiled along."""
    axes = [carry.start.axes for carry in forward.carries]
    for axis in reversed(axes[0]):
        if all(axis in other for other in axes) and _splits(forward, axis) and _splits(backward, axis):
            return axis
    return None


def _splits(program: Program, axis: str) -> bool:
    """Whether tiles along the axis need nothing of each other: sums over it are of cotangents, and nothing
    over the axis is computed from them."""
    nodes = program.nodes()
    if any(axis in map(base, node.axes) and axis not in node.axes for node in nodes):
        return False  # a square value meets the axis with itself
    sums = [node for node in nodes if _contracts(node, axis)]
    moving = [node for node in nodes if isinstance(node.op, ir.Load) and node.op.kind == "cotangent"]
    if program.name.endswith("_backward"):
        moving += [carry.start for carry in program.carries]
    linear = dependents(nodes, moving)
    summed = dependents(nodes, sums)
    return all(node.number in linear for node in sums) and all(
        node.number not in summed for node in nodes if axis in node.axes
    )


def _contracts(node: Node, axis: str) -> bool:
    return axis not in node.axes and any(axis in argument.axes for argument in node.args)


def base(axis: str) -> str:
    """The axis that a second axis of the same size stands for: `K` for `K'`."""
    return axis.rstrip("'")


def _gradient_place(result: str, tile: str | None, normal: Normal) -> Place:
    declared = {item.name: item for item in normal.recurrence.arguments}
    item = declared[result.removeprefix("d'")]
    if item in normal.recurrence.params:
        return "partial"
    return "token" if tile is None or tile in item.axes else "share"


def _loads(program: Program, again: Iterable[Carry], normal: Normal) -> tuple[TokenArray, ...]:
    """What is read for a token, and the parameters."""
    recurrence = normal.recurrence
    params = {param.name: param for param in recurrence.params}
    axes = {item.name: item.axes for item in recurrence.declared}
    found = []
    for node in reachable([*program.nodes(), *(carry.end for carry in again)]):
        if not isinstance(node.op, ir.Load) or node.op.kind not in ("input", "param", "cotangent"):
            continue
        name, place = node.op.name, "token"
        if name in params:
            place = "shared" if params[name].shared else "param"
        found.append(TokenArray(node, name, place, axes[name.removeprefix("d'")]))  # type: ignore[arg-type]
    return tuple(found)
