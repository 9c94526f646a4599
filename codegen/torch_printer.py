"""Plan -> the text of a function in torch: all chunks at once, then chunk after chunk, then all at once
again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import Plan
from rnnc.codegen.torch_names import Scope
from rnnc.codegen.torch_operations import aligned
from rnnc.codegen.torch_scan import Direction, Scan
from rnnc.codegen.torch_sums import is_number, plain
from rnnc.codegen.torch_text import tuple_text, with_deletions
from rnnc.codegen.value_names import ValueNames
from rnnc.dsl.recurrence import Recurrence


class Function:
    """Prints one plan."""

    def __init__(
        self, name: str, plan: Plan, recurrence: Recurrence, direction: Direction, values: ValueNames
    ) -> None:
        self.title, self.plan, self.recurrence, self.direction = name, plan, recurrence, direction
        self.scope = scope = Scope(plan, values, inputs=not name.endswith("_states"))
        loads = [node for node in _loads(plan) if isinstance(node.op, ir.Load)]
        self.loads = {node.op.name: node for node in loads if isinstance(node.op, ir.Load)}
        for declared in recurrence.arguments:
            name = scope.names.fresh(declared.name)
            if declared.name in self.loads:
                scope.known[self.loads[declared.name]] = name
        for node in loads:
            if node not in scope.known:
                assert isinstance(node.op, ir.Load)
                fixed = node.op.kind == "valid"
                scope.known[node] = "valid" if fixed else scope.fresh(node)

    def text(self) -> str:
        """The whole function, indented, with a final newline."""
        scope, head = self.scope, self._head()
        for node in self.plan.pre:
            scope.assign(node)
        scope.statements.append(Scan(scope, self.plan, self.direction).statement())
        for node in self.plan.post:
            scope.assign(node)
        returned = self._return()
        body = [*with_deletions(scope.statements, returned[1]), *returned[0]]
        if any(re.search(r"\bC\b", text) for text in body):
            head.append("C = valid.shape[2]")
        head.append("H = h0[0].shape[1]")
        body = [*head, *body]
        signature = {
            "forward": f"def {self.title}(args, valid, h0, steps, keep):",
            "backward": f"def {self.title}(args, valid, h0, steps, kept, douts, dht):",
        }[self.direction]
        return "\n".join([signature, *(f"    {text}" if text else "" for text in body), ""])

    def attributes(self) -> list[str]:
        """Statements that tell the runtime which inputs are read chunk by chunk alone, or not at all."""
        inputs = list(enumerate(d.name for d in self.recurrence.inputs))
        outside = [n for n in (*self.plan.pre, *self.plan.post) if not isinstance(n.op, ir.Rename)]
        at_once = {plain(argument) for node in outside for argument in node.args}
        at_once |= set(map(plain, (*self.plan.keeps, *self.plan.program.results.values())))
        if self.direction == "forward":
            found = [i for i, name in inputs if name in self.loads and self.loads[name] not in at_once]
            found = [i for i in found if self.recurrence.inputs[i].axes and self._mentions_time()]
        else:
            found = [i for i, name in inputs if name not in self.loads]
        name = "by_step" if self.direction == "forward" else "unread"
        return [f"{self.title}.{name} = {tuple_text(list(map(str, found)))}"] if found else []

    def _head(self) -> list[str]:
        declared = self.recurrence.arguments
        taken = [self.scope.known[self.loads[d.name]] if d.name in self.loads else "_" for d in declared]
        lines = [f"{tuple_text(taken)} = args"]
        if self.direction == "backward":
            lines += self._backward_head()
        names = dict(zip((d.name for d in declared), taken, strict=True))
        for axis in self._axes():
            source = next(d for d in declared if axis in d.axes)
            timed = (
                source in self.recurrence.inputs and ir.ROW in self.loads[source.name].axes
                if source.name in self.loads
                else None
            )
            self.scope.sizes[axis] = self.scope.names.fresh(axis)
            index = declared.index(source)
            offset = (
                2
                + (1 if (timed if timed is not None else self._timed(source)) else 0)
                + source.axes.index(axis)
            )
            text = names[source.name] if names[source.name] != "_" else f"args[{index}]"
            lines.append(f"{self.scope.sizes[axis]} = {text}.shape[{offset}]")
        if any(isinstance(n.op, ir.Broadcast) and is_number(n.args[0]) for n in self._computed()):
            lines.append("dtype, device = h0[0].dtype, h0[0].device")
        return lines

    def _timed(self, declared: object) -> bool:
        return declared in self.recurrence.inputs and self._mentions_time()

    def _mentions_time(self) -> bool:
        return any(ir.ROW in node.axes for node in self._computed())

    def _computed(self) -> Iterable[Node]:
        return (*self.plan.pre, *self.plan.scan, *self.plan.post)

    def _axes(self) -> list[str]:
        """The axes whose sizes the text mentions."""
        found: dict[str, None] = {}
        for node in self._computed():
            for inner in (node, *node.args):
                match inner.op:
                    case ir.AxisSize(axis):
                        found[axis] = None
                    case ir.Broadcast(axis) if axis not in ir.TIME_AXES:
                        found[axis] = None
                    case ir.Unflatten(micro):
                        found[micro] = None
                    case _:
                        pass
        return list(found)

    def _backward_head(self) -> list[str]:
        """What the forward pass kept, and the cotangents."""
        kept = []
        used = {plain(argument) for node in self._computed() for argument in node.args}
        used |= set(map(plain, self.plan.program.results.values()))
        for node in self.plan.given:
            if node not in self.scope.known:
                self.scope.known[node] = self.scope.fresh(node)
            kept.append(self.scope.known[node] if node in used else "_")
        outputs = [f"d'{output.name}" for output in self.recurrence.outputs]
        cotangents = [self.scope.known[self.loads[name]] if name in self.loads else "_" for name in outputs]
        states = self.title.replace("_backward", "_states")
        return [
            "if kept is None:",
            f"    kept = {states}(args, valid, h0, steps, True)[2]",
            f"{tuple_text(kept)} = kept",
            f"{tuple_text(cotangents)} = douts",
        ]

    def _return(self) -> tuple[list[str], set[str]]:
        self.scope.uses = set()
        states = [f"{self.scope.known[carry.start]}_end" for carry in self.plan.program.carries]
        self.scope.uses |= set(states)
        if self.direction == "forward":
            outputs = (
                [self._result(o.name) for o in self.recurrence.outputs] if self.plan.program.results else []
            )
            kept = [self.scope.name(node) for node in self.plan.keeps]
            return [
                f"return {tuple_text(outputs)}, {tuple_text(states)}, {tuple_text(kept)} if keep else None"
            ], self.scope.uses
        declared = self.recurrence.arguments
        gradients = [self._result("d'" + d.name) for d in declared]
        return [f"return {tuple_text(gradients)}, {tuple_text(states)}"], self.scope.uses

    def _result(self, name: str) -> str:
        node = self.plan.program.results.get(name)
        if node is not None and is_number(plain(node)) and self.direction == "forward":
            ones = ", 1" * len(self._declared_axes(name, node))
            return f"h0[0].new_full((1, 1{ones}), {self.scope.name(node)})"
        if node is None or (isinstance(node.op, ir.Const) and node.op.value == 0):
            return "None"
        return aligned(self.scope.name(node), node.axes, self._declared_axes(name, node))

    def _declared_axes(self, name: str, node: Node) -> tuple[str, ...]:
        declared = self.recurrence.declared
        axes = next(
            d.axes
            for d in declared
            if d.name in (name, name[2:]) and set(d.axes) >= set(node.axes) - {ir.ROW}
        )
        return (ir.ROW, *axes) if ir.ROW in node.axes else axes


def _loads(plan: Plan) -> list[Node]:
    computed = (*plan.pre, *plan.scan, *plan.post)
    found = {a for node in computed for a in map(plain, node.args) if isinstance(a.op, ir.Load)}
    found |= {carry.start for carry in plan.program.carries}
    found |= {
        node
        for node in (*plan.given, *map(plain, plan.program.results.values()))
        if isinstance(node.op, ir.Load)
    }
    return sorted(found, key=lambda node: node.number)
