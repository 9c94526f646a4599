"""Products and functions in the place of an array that they take, where nothing needs that any more: one
array less to hold, and what is written is in the cache of the core that writes it already.

Arrays of a number per token are too small for that to matter: of these, products of two stay plain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import PAIRS, Plan
from rnnc.codegen.torch_operations import FUNCTIONS, Namer
from rnnc.codegen.torch_sums import is_number, number, plain

# What is a new array, and what is, or may hold, a view of its argument.
NEW = (ir.Multiply, ir.Add, ir.Apply, ir.Keep, ir.Dot, ir.Running, ir.Segment)
VIEWS = (ir.Deinterleave, ir.Block, ir.First, ir.AtFirst, ir.Flatten, ir.Unflatten, ir.Broadcast, *PAIRS)

# Functions of one array that torch has in place too, by the name of the other with an underscore.
IN_PLACE = frozenset("exp exp2 log log2 sqrt rsqrt abs sigmoid tanh relu sin cos erf reciprocal".split())


@dataclass(frozen=True, slots=True)
class Overwriting:
    """The values of a plan; `inputs`: a pass may use up its inputs, which are copies, too."""

    known: frozenset[Node]
    users: Mapping[Node, Sequence[Node]]
    inputs: bool

    def texts(self, node: Node, names: Namer) -> dict[str, str]:
        """The value as one formed in an array, by the arrays that it may be formed in."""
        if names.inside or is_number(node):
            return {}
        match node.op:
            case ir.Multiply():
                return self._products(node, names)
            case ir.Apply(function) if function in IN_PLACE and len(node.axes) > 1:
                if not self._own(plain(node.args[0])):
                    return {}
                array = names.name(node.args[0])
                in_place = FUNCTIONS[function].partition("(")[0] + "_"
                return {array: f"tiles.apply_({in_place}, {array})"}
        return {}

    def _products(self, node: Node, names: Namer) -> dict[str, str]:
        """The product in the place of each factor over all axes."""
        assert isinstance(node.op, ir.Multiply)
        arrays = [factor for factor in node.args if not is_number(factor)]
        numbers = [names.name(factor) for factor in node.args if is_number(factor)]
        numbers += [number(node.op.coefficient)] if node.op.coefficient != 1 else []
        found = {}
        for factor in arrays:
            rest = [other for other in arrays if other is not factor]
            once = all(plain(other) is not plain(factor) for other in rest)
            alone = len(rest) == 1 and rest[0].axes != node.axes
            wanted = factor.axes == node.axes and rest and (alone or len(node.axes) > 1)
            if wanted and once and self._own(plain(factor)):
                array = names.name(factor)
                others = [names.view(other, node.axes) for other in rest]
                function = "tiles.scale_" if alone else "tiles.product_"
                found[array] = f"{function}({', '.join([array, *others, *numbers])})"
        return found

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


def overwriting(plan: Plan, inputs: bool) -> Overwriting:
    """What of a plan may be formed in place, of what is formed for all chunks at once."""
    users: dict[Node, list[Node]] = {}
    for node in (*plan.pre, *plan.scan, *plan.post):
        for argument in node.args:
            users.setdefault(plain(argument), []).append(node)
    return Overwriting(frozenset((*plan.pre, *plan.post)) - set(plan.given), users, inputs)
