"""The loop over the steps of a plan: chunk after chunk, the states carried from each to the next.

Forward: from the first step to the last; sequences that end leave the loop with their state. Backward: the
reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rnnc.codegen import operations as ir
from rnnc.codegen.program import Carry, Node
from rnnc.codegen.schedule import Plan
from rnnc.codegen.torch_names import Scope
from rnnc.codegen.torch_operations import BATCH
from rnnc.codegen.torch_sums import is_number, plain
from rnnc.codegen.torch_text import Statement, tuple_text

Direction = Literal["forward", "backward"]


class Scan:
    """Prints the loop into a scope."""

    def __init__(self, scope: Scope, plan: Plan, direction: Direction) -> None:
        self.scope, self.plan, self.direction = scope, plan, direction
        self.carries = plan.program.carries
        self.states = [scope.known[carry.start] for carry in self.carries]

    def statement(self) -> Statement:
        """The loop, with what comes before and after it."""
        scope = self.scope
        collected = self._collected()
        scope.collected = set(collected)
        starts = {carry.start for carry in self.carries} & scope.collected
        scope.kept = {node: f"{scope.known[node]}_rows{self._condition(node)}" for node in starts}
        outer, scope.statements = scope.statements, []
        scope.inside, scope.batch, scope.sliced = True, 1, {}
        for node in self._ordered():
            scope.overwritten = self._overwritten(node)
            scope.assign(node)
            scope.overwritten = None
        ends = [self._end(carry) for carry in self.carries]
        body, scope.statements = scope.statements, outer
        scope.inside, scope.batch = False, BATCH
        names = {node: scope.known[node] for node in collected}
        loop = self._body(body, ends, names)
        lines = [*self._start(names), *(["own = False"] if "own = True" in loop else []), *self._header()]
        lines += [*(f"    {text}" for text in loop), *self._finish(names)]
        used = set().union(*(s.uses for s in body), (outer for _, outer in scope.sliced.values()))
        makes = set(names.values()) | {f"{state}_end" for state in self.states}
        return Statement(lines, used, makes)

    def _ordered(self) -> list[Node]:
        """The nodes of the scan, new states last where nothing else needs them."""
        used = {plain(argument) for node in self.plan.scan for argument in node.args}
        last = {plain(carry.end) for carry in self.carries} - used
        return sorted(self.plan.scan, key=lambda node: node in last)

    def _overwritten(self, end: Node) -> Node | None:
        """The state that the sum may be formed in: nothing needs it from then on, and the sum only once."""
        starts = [carry.start for carry in self.carries if plain(carry.end) is end]
        if len(starts) != 1 or not isinstance(end.op, ir.Add):
            return None
        (start,) = starts
        inside = {node for node in self.plan.scan if self._host(node) is end}
        uses = {
            node: [self._host(node) for argument in node.args if plain(argument) is start]
            for node in self.plan.scan
        }
        hosts = [host for found in uses.values() for host in found]
        order = {node: place for place, node in enumerate(self._ordered())}
        late = any(order[host] > order[end] for host in hosts)
        passed_on = any(plain(carry.end) is start for carry in self.carries)
        dot = any(isinstance(node.op, ir.Dot) and uses[node] for node in inside)
        if hosts.count(end) != 1 or dot or late or passed_on:
            return None
        return start

    def _host(self, node: Node) -> Node:
        """The node in whose line the node is printed."""
        while self.scope.inlined(node):
            node = next(user for user in self.plan.scan if node in map(plain, user.args))
        return node

    def _end(self, carry: Carry) -> str:
        """What the state becomes: of the state's shape, even where it does not depend on it."""
        state, end = self.scope.known[carry.start], plain(carry.end)
        if is_number(end):
            return f"torch.full_like({state}, {self.scope.name(end)})"
        self.scope.uses = set()
        text = self.scope.name(end)
        self.scope.statements.append(Statement([], self.scope.uses))
        return text

    def _collected(self) -> list[Node]:
        """Values of the scan that are needed after it, or kept."""
        wanted = self._needed() | set(map(plain, self.plan.keeps))
        return sorted(wanted & self.scope.scanned, key=lambda node: node.number)

    def _needed(self) -> set[Node]:
        needed = {plain(argument) for node in self.plan.post for argument in node.args}
        return needed | set(map(plain, self.plan.program.results.values()))

    # The lines

    def _start(self, names: dict[Node, str]) -> list[str]:
        backwards = ", True" if self.direction == "backward" else ""
        lines = [f"{name}_rows = scan.Rows(steps, H{backwards})" for name in names.values()]
        if self.direction == "forward":
            lines.append(f"{tuple_text(self.states)} = scan.flat(h0)")
            return lines + [f"{state}_done = []" for state in self.states]
        ends = [f"{state}_end" for state in self.states]
        lines.append(f"{tuple_text(ends)} = scan.flat(dht)")
        return lines + [f"{state} = {state}_end[:0]" for state in self.states]

    def _header(self) -> list[str]:
        values = self.scope.sliced
        rows = [name for name, _ in values.values()]
        flag = ", True" if self.direction == "backward" else ""
        given = f"steps, H, {tuple_text(list(values))}{flag}"
        line = f"for n, {tuple_text(rows) if rows else '_'} in scan.each({given}):"
        if len(line) < 100:
            return [line]
        given_lines = ["    steps,", "    H,", "    (", *(f"        {text}," for text in values), "    ),"]
        flags = ["    True,"] if flag else []
        return ["for n, (", *(f"    {name}," for name in rows), ") in scan.each(", *given_lines, *flags, "):"]

    def _body(self, body: Sequence[Statement], ends: Sequence[str], names: dict[Node, str]) -> list[str]:
        """The loop's header, what it does with states, the statements, and what it hands out."""
        texts = [text for statement in body for text in statement.lines]
        starts = {carry.start for carry in self.carries}
        lines = [*self._resized()]
        lines += [text for node, name in names.items() if node in starts for text in self._put(node, name)]
        lines += texts
        lines += [
            text for node, name in names.items() if node not in starts for text in self._put(node, name)
        ]
        lines.append(f"{', '.join(self.states)} = {', '.join(ends)}")
        if any(", own" in text for text in texts):
            lines.append("own = True")
        return lines

    def _put(self, node: Node, name: str) -> list[str]:
        """A value that is only kept is collected where anything is kept."""
        if self._condition(node):
            return ["if keep:", f"    {name}_rows.put({name})"]
        return [f"{name}_rows.put({name})"]

    def _condition(self, node: Node) -> str:
        """For a value that is only handed out where anything is kept."""
        return " if keep else None" if self.direction == "forward" and node not in self._needed() else ""

    def _resized(self) -> list[str]:
        """Sequences that are over leave, backwards they enter."""
        lines = []
        for state in self.states:
            if self.direction == "forward":
                lines.append(f"if {state}.shape[0] > n:")
                lines += [f"    {state}_done.append({state}[n:])", f"    {state} = {state}[:n]"]
            else:
                lines.append(f"if {state}.shape[0] < n:")
                lines.append(f"    {state} = torch.cat([{state}, {state}_end[{state}.shape[0] : n]])")
        return lines

    def _finish(self, names: dict[Node, str]) -> list[str]:
        lines = []
        for state in self.states:
            if self.direction == "forward":
                joined = f"torch.cat([{state}, *reversed({state}_done)])"
                lines.append(f"{state}_end = {joined} if {state}_done else {state}")
            else:
                rest = f"torch.cat([{state}, {state}_end[{state}.shape[0] :]])"
                lines.append(f"{state}_end = {rest} if {state}.shape[0] < {state}_end.shape[0] else {state}")
            lines.append(f"{state}_end = {state}_end.unflatten(0, (-1, H))")
        needed = self._needed()
        lines += [f"{name} = {name}_rows.joined()" for node, name in names.items() if node in needed]
        kept = [name for node, name in names.items() if node not in needed]
        if kept:
            lines += ["if keep:", *(f"    {name} = {name}_rows.joined()" for name in kept)]
        return [*lines, *(f"del {name}_rows" for name in names.values())]
