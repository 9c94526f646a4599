"""Products in the place of the array that they scale, where nothing needs that any more: one array less to
hold, and what is written is in the caches already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import PAIRS, Plan
from rnnc.codegen.torch_operations import Namer
from rnnc.codegen.torch_sums import is_number, number, plain

# What is a new array, and what is, or may hold, a view of its argument.
NEW = (ir.Multiply, ir.Add, ir.Apply, ir.Keep, ir.Dot)
VIEWS = (ir.Deinterleave, ir.Block, ir.First, ir.AtFirst, ir.Flatten, ir.Unflatten, ir.Broadcast, *PAIRS)


@dataclass(frozen=True, slots=True)
class Overwriting:
    """A value as one formed in `array`, which a statement after this may not need."""

    array: str
    text: str


@dataclass(frozen=True, slots=True)
class Scales:
    """The products of a plan; `inputs`: a pass may use up its inputs, which are copies, too."""

    known: frozenset[Node]
    users: Mapping[Node, Sequence[Node]]
    inputs: bool

    def overwriting(self, node: Node, names: Namer) -> Overwriting | None:
        """The product as one in the place of its one factor over all axes; None if that must stay."""
        if not isinstance(node.op, ir.Multiply) or names.inside or is_number(node):
            return None
        arrays = [factor for factor in node.args if not is_number(factor)]
        whole = [factor for factor in arrays if factor.axes == node.axes]
        if len(arrays) != 2 or len(whole) != 1 or not self._own(plain(whole[0])):
            return None
        (small,) = (factor for factor in arrays if factor is not whole[0])
        numbers = [names.name(factor) for factor in node.args if is_number(factor)]
        last = [*numbers, *([number(node.op.coefficient)] if node.op.coefficient != 1 else [])]
        array = names.name(whole[0])
        return Overwriting(array, f"tiles.scale_({', '.join([array, names.view(small, node.axes), *last])})")

    def _own(self, node: Node) -> bool:
        """Whether the array is one that the pass may overwrite, and no other is a view of it."""
        match node.op:
            case ir.Load(_, kind):
                new = self.inputs and kind == "input" and ir.ROW in node.axes and len(node.axes) > 1
            case ir.Add():
                new = node in self.known and len(node.args) > 1
            case _:
                new = node in self.known and isinstance(node.op, NEW)
        return new and not any(isinstance(user.op, VIEWS) for user in self.users.get(node, ()))


def scales(plan: Plan, inputs: bool) -> Scales:
    """The products of a plan that may be formed in place, of what is formed for all chunks at once."""
    users: dict[Node, list[Node]] = {}
    for node in (*plan.pre, *plan.scan, *plan.post):
        for argument in node.args:
            users.setdefault(plain(argument), []).append(node)
    return Scales(frozenset((*plan.pre, *plan.post)) - set(plan.given), users, inputs)
