"""Plan -> the text of a function in torch: all chunks at once, then chunk after chunk, then all at once
again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rnnc.codegen import program as ir
from rnnc.codegen.names import Names
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import DecayGradients, Plan, decay_gradients
from rnnc.codegen.torch_operations import aligned, is_number, line
from rnnc.codegen.torch_sums import PREVIOUS, inlined_terms, plain
from rnnc.dsl.recurrence import Recurrence

RESERVED = "torch tiles math F args valid h0 ht steps keep kept douts dht C dtype device a b n float".split()
Direction = Literal["forward", "backward"]


@dataclass
class Statement:
    """Lines of text, and the values they need and make."""

    lines: list[str]
    uses: set[str]
    makes: set[str] = field(default_factory=set)


class Function:
    """Prints one plan. Forward: the state is carried from the first step to the last; backward: the
    reverse.
    """

    def __init__(self, name: str, plan: Plan, recurrence: Recurrence, direction: Direction) -> None:
        self.title, self.plan, self.recurrence, self.direction = name, plan, recurrence, direction
        self.names = Names(RESERVED)
        self.known: dict[Node, str] = {}
        self.factored: dict[tuple[Node, str, bool], str] = {}
        self.sliced: dict[str, str] = {}
        self.statements: list[Statement] = []
        self.uses: set[str] = set()
        self.inside = False
        self.batched = _batched(plan)
        self.scanned = {carry.start for carry in plan.program.carries} | set(plan.scan)
        self.sizes: dict[str, str] = {}
        loads = [node for node in _loads(plan) if isinstance(node.op, ir.Load)]
        self.loads = {node.op.name: node for node in loads if isinstance(node.op, ir.Load)}
        for declared in recurrence.arguments:
            name = self.names.fresh(declared.name)
            if declared.name in self.loads:
                self.known[self.loads[declared.name]] = name
        for node in loads:
            if node not in self.known:
                assert isinstance(node.op, ir.Load)
                self.known[node] = (
                    "valid" if node.op.kind == "valid" else self.names.fresh(node.op.name.replace("'", ""))
                )
        self.gradients = decay_gradients((*plan.pre, *plan.post))
        results = (
            *plan.keeps,
            *plan.program.results.values(),
            *(carry.end for carry in plan.program.carries),
        )
        self.inline = inlined_terms((plan.pre, plan.scan, plan.post), set(map(plain, results)))

    # Naming

    def name(self, node: Node) -> str:
        while isinstance(node.op, ir.Rename):
            node = node.args[0]
        if isinstance(node.op, ir.Const):
            return line(node, self)
        name = self.known[node]
        self.uses.add(name)
        if self.inside and node in self.batched and node not in self.scanned:
            return self.sliced.setdefault(name, self.names.fresh(f"{name}_c"))
        return name

    def factors(self, node: Node, mode: str, exclusive: bool) -> str:
        """The name of the decays' factors, computed at their first use."""
        assert not self.inside, "pairs of tokens are formed outside the scan"
        while isinstance(node.op, ir.Rename):
            node = node.args[0]
        key = (node, mode, exclusive)
        if key not in self.factored:
            self.factored[key] = self.names.fresh("f1")
            maker = "decay_factors" if mode == "log" else "product_factors"
            flag = ", exclusive=True" if exclusive else ""
            text = f"{self.factored[key]} = tiles.{maker}({self.name(node)}{flag})"
            self.statements.append(Statement([text], {self.known[node]}, {self.factored[key]}))
        self.uses.add(self.factored[key])
        return self.factored[key]

    def size(self, axis: str) -> str:
        if axis in ir.TIME_AXES:
            return "C"
        return self.sizes[axis]

    def inlined(self, node: Node) -> bool:
        """Whether a product is printed inside the one sum that needs it."""
        return node in self.inline

    # The function

    def text(self) -> str:
        """The whole function, indented, with a final newline."""
        head = self._head()
        for node in self.plan.pre:
            self._assign(node)
        self._scan()
        for node in self.plan.post:
            self._assign(node)
        returned = self._return()
        body = [*_with_deletions(self.statements, returned[1]), *returned[0]]
        if any(re.search(r"\bC\b", text) for text in body):
            head.append("C = valid.shape[2]")
        body = [*head, *body]
        signature = {
            "forward": f"def {self.title}(args, valid, h0, steps, keep):",
            "backward": f"def {self.title}(args, valid, h0, steps, kept, douts, dht):",
        }[self.direction]
        return "\n".join([signature, *(f"    {text}" if text else "" for text in body), ""])

    def _head(self) -> list[str]:
        declared = self.recurrence.arguments
        taken = [self.known[self.loads[d.name]] if d.name in self.loads else "_" for d in declared]
        lines = [f"{_tuple(taken)} = args"]
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
            self.sizes[axis] = self.names.fresh(axis)
            index = declared.index(source)
            offset = (
                2
                + (1 if (timed if timed is not None else self._timed(source)) else 0)
                + source.axes.index(axis)
            )
            text = names[source.name] if names[source.name] != "_" else f"args[{index}]"
            lines.append(f"{self.sizes[axis]} = {text}.shape[{offset}]")
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
                    case _:
                        pass
        return list(found)

    def _backward_head(self) -> list[str]:
        """What the forward pass kept, and the cotangents."""
        kept = []
        for node in self.plan.given:
            if node not in self.known:
                self.known[node] = self.names.fresh(f"x{node.number}")
            kept.append(self.known[node])
        outputs = [f"d'{output.name}" for output in self.recurrence.outputs]
        cotangents = [self.known[self.loads[name]] if name in self.loads else "_" for name in outputs]
        states = self.title.replace("_backward", "_states")
        return [
            "if kept is None:",
            f"    kept = {states}(args, valid, h0, steps, True)[2]",
            f"{_tuple(kept)} = kept",
            f"{_tuple(cotangents)} = douts",
        ]

    def _assign(self, node: Node) -> None:
        if isinstance(node.op, ir.Const | ir.Rename) or node in self.known or node in self.inline:
            return
        group = self.gradients.get(node)
        self.uses = set()
        if group is not None and all(plain(argument) in self.known for argument in group.decay.args):
            self._assign_gradients(group)
            return
        if isinstance(node.op, ir.AxisSize):
            self.known[node] = self.sizes[node.op.axis]
            return
        text = line(node, self)
        self.known[node] = self.names.fresh(f"x{node.number}")
        made = set() if is_number(node) else {self.known[node]}
        lines = [part for step in text.split("\n") for part in assignment(self.known[node], step)]
        self.statements.append(Statement(lines, self.uses, made))

    def _assign_gradients(self, group: DecayGradients) -> None:
        """The three derivatives of a decay_dot in one call."""
        decay, op = group.decay, group.decay.op
        assert isinstance(op, ir.DecayDotDecay)
        factors = self.factors(decay.args[3], op.mode, op.exclusive)
        args = [self.name(argument) for argument in decay.args[:3]]
        makes = []
        for node in group.members:
            makes.append("_" if node is None else self.names.fresh(f"x{node.number}"))
            if node is not None:
                self.known[node] = makes[-1]
        strict = ", strict=True" if op.strict else ""
        text = f"{', '.join(makes)} = tiles.decay_dot_grads({', '.join(args)}, {factors}{strict})"
        self.statements.append(Statement([text], self.uses, {name for name in makes if name != "_"}))

    # The scan

    def _scan(self) -> None:
        carries = self.plan.program.carries
        outer, self.statements = self.statements, []
        self.inside, self.sliced = True, {}
        for node in self.plan.scan:
            self._assign(node)
        ends = [self._end(carry) for carry in carries]
        body, self.inside = self.statements, False
        self.statements = outer
        named = {plain(carry.end) for carry in carries if not is_number(plain(carry.end))}
        uses = set().union(*(s.uses for s in body), {self.known[node] for node in named})
        collected = self._collected()
        lines = self._scan_start(collected)
        lines += [f"    {text}" for name, text in ((n, f"{c} = {n}[a:b]") for n, c in self.sliced.items())]
        lines += [f"    {text}" for statement in body for text in statement.lines]
        lines += [f"    {name}_all.append({name})" for node, name in collected if node not in self._starts()]
        states = [self.known[carry.start] for carry in carries]
        lines += [f"    {', '.join(states)} = {', '.join(ends)}"]
        lines += self._scan_end(collected)
        makes = {name for _, name in collected} | {f"{state}_end" for state in states}
        self.statements.append(Statement(lines, uses | set(self.sliced), makes))

    def _end(self, carry: ir.Carry) -> str:
        """What the state becomes: of the state's shape, even where it does not depend on it."""
        state, end = self.known[carry.start], plain(carry.end)
        if is_number(end):
            return f"torch.full_like({state}, {self.name(end)})"
        return self.name(end) if end in self.batched else f"{self.name(end)}.expand_as({state})"

    def _starts(self) -> set[Node]:
        return {carry.start for carry in self.plan.program.carries}

    def _collected(self) -> list[tuple[Node, str]]:
        """Values of the scan that are needed after it, or kept."""
        wanted = {plain(argument) for node in self.plan.post for argument in node.args}
        wanted |= {plain(node) for node in (*self.plan.program.results.values(), *self.plan.keeps)}
        return [(node, self.known[node]) for node in sorted(wanted & self.scanned, key=lambda n: n.number)]

    def _scan_start(self, collected: Sequence[tuple[Node, str]]) -> list[str]:
        lists = [f"{name}_all" for _, name in collected]
        states = [self.known[carry.start] for carry in self.plan.program.carries]
        lines = (
            [f"{' = '.join(lists)} = []"]
            if len(lists) == 1
            else [f"{', '.join(lists)} = {', '.join('[]' for _ in lists)}"]
            if lists
            else []
        )
        if self.direction == "forward":
            lines += [
                f"{_tuple(states)} = h0",
                *(f"{state}_done = []" for state in states),
                "for a, b in steps:",
            ]
            for state in states:
                lines += [
                    f"    if {state}.shape[0] > b - a:",
                    f"        {state}_done.append({state}[b - a :])",
                    f"        {state} = {state}[: b - a]",
                ]
        else:
            ends = [f"{state}_end" for state in states]
            lines += [
                f"{_tuple(ends)} = dht",
                *(f"{s} = {s}_end[:0]" for s in states),
                "for a, b in reversed(steps):",
            ]
            for state in states:
                lines += [
                    f"    if {state}.shape[0] < b - a:",
                    f"        {state} = torch.cat([{state}, {state}_end[{state}.shape[0] : b - a]])",
                ]
        return lines + [
            f"    {name}_all.append({name})" for node, name in collected if node in self._starts()
        ]

    def _scan_end(self, collected: Sequence[tuple[Node, str]]) -> list[str]:
        lines = []
        for carry in self.plan.program.carries:
            state = self.known[carry.start]
            if self.direction == "forward":
                joined = f"torch.cat([{state}, *reversed({state}_done)])"
                lines.append(f"{state}_end = {joined} if {state}_done else {state}")
            else:
                rest = f"torch.cat([{state}, {state}_end[{state}.shape[0] :]])"
                lines.append(f"{state}_end = {rest} if {state}.shape[0] < {state}_end.shape[0] else {state}")
        backwards = "[::-1]" if self.direction == "backward" else ""
        needed = {plain(argument) for node in self.plan.post for argument in node.args}
        needed |= set(map(plain, self.plan.program.results.values()))
        lines += [f"{name} = torch.cat({name}_all{backwards})" for node, name in collected if node in needed]
        kept = [name for node, name in collected if node not in needed]
        lines += ["if keep:", *(f"    {name} = torch.cat({name}_all)" for name in kept)] if kept else []
        return [*lines, *(f"del {name}_all" for _, name in collected)]

    def _return(self) -> tuple[list[str], set[str]]:
        self.uses = set()
        states = [f"{self.known[carry.start]}_end" for carry in self.plan.program.carries]
        self.uses |= set(states)
        if self.direction == "forward":
            outputs = (
                [self._result(o.name) for o in self.recurrence.outputs] if self.plan.program.results else []
            )
            kept = [self.name(node) for node in self.plan.keeps]
            return [
                f"return {_tuple(outputs)}, {_tuple(states)}, {_tuple(kept)} if keep else None"
            ], self.uses
        declared = self.recurrence.arguments
        gradients = [self._result("d'" + d.name) for d in declared]
        return [f"return {_tuple(gradients)}, {_tuple(states)}"], self.uses

    def _result(self, name: str) -> str:
        node = self.plan.program.results.get(name)
        if node is not None and is_number(plain(node)) and self.direction == "forward":
            ones = ", 1" * len(self._declared_axes(name, node))
            return f"h0[0].new_full((1, 1{ones}), {self.name(node)})"
        if node is None or (isinstance(node.op, ir.Const) and node.op.value == 0):
            return "None"
        return aligned(self.name(node), node.axes, self._declared_axes(name, node))

    def _declared_axes(self, name: str, node: Node) -> tuple[str, ...]:
        declared = self.recurrence.declared
        axes = next(
            d.axes
            for d in declared
            if d.name in (name, name[2:]) and set(d.axes) >= set(node.axes) - {ir.ROW}
        )
        return (ir.ROW, *axes) if ir.ROW in node.axes else axes


def assignment(name: str, code: str) -> list[str]:
    """`name = code`; a call that is too long for one line has its arguments on a line of their own."""
    code = code.replace(PREVIOUS, name)
    function, _, arguments = code.partition("(")
    if len(name) + len(code) < 95 or not code.endswith(")") or not function.replace(".", "").isidentifier():
        return [f"{name} = {code}"]
    depth = 0
    for character in arguments[:-1]:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return [f"{name} = {code}"]
    return [f"{name} = {function}(", f"    {arguments[:-1]}", ")"]


def _tuple(names: Sequence[str]) -> str:
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


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


def _batched(plan: Plan) -> set[Node]:
    """Values that differ from chunk to chunk."""
    found = {
        node
        for node in (*_loads(plan), *plan.given)
        if not (isinstance(node.op, ir.Load) and node.op.kind == "param")
    }
    for node in (*plan.pre, *plan.scan, *plan.post):
        if any(argument in found for argument in node.args):
            found.add(node)
    return found


def _with_deletions(statements: Sequence[Statement], returned: set[str]) -> list[str]:
    """The lines, with every value deleted after its last use: peak memory is what is alive, not what was
    made.
    """
    last: dict[str, int] = {}
    for index, statement in enumerate(statements):
        for name in statement.uses | statement.makes:
            last[name] = index
    made = set().union(*(s.makes for s in statements)) if statements else set()
    lines = []
    for index, statement in enumerate(statements):
        lines += statement.lines
        dead = sorted(name for name in made - returned if last[name] == index)
        if dead:
            lines.append(f"del {', '.join(dead)}")
    return lines
