"""Program -> the text of C that computes it: one walk over the chunks of every sequence and head.

A pass is given, in this order,

    forward, states:  inputs, parameters, initial states, outputs, final states, states at all chunks
    backward:  inputs, parameters, states at all chunks, cotangents of outputs and of final states,
               gradients of inputs, of parameters (for each sequence and head) and of initial states

The states at all chunks are [number of chunks * H, state], those of a sequence and head together, with rows
padded as in the workspace.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import files

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.c_along_time import add_decay_gradients
from rnnc.codegen.c_arrays import Arrays
from rnnc.codegen.c_body import Body
from rnnc.codegen.c_carries import begin, end, hand_on, in_place, state_of
from rnnc.codegen.c_memory import arranged
from rnnc.codegen.c_statements import add
from rnnc.codegen.c_target import Sizes, Target
from rnnc.codegen.c_values import Values, viewed
from rnnc.codegen.compiler import Compiled
from rnnc.codegen.contractions import share_contractions
from rnnc.codegen.explain import normal_equations
from rnnc.codegen.kernel_form import without_softmax
from rnnc.codegen.phases import in_order
from rnnc.codegen.program import Node, Program
from rnnc.codegen.schedule import decay_gradients
from rnnc.codegen.templating import comment, template
from rnnc.codegen.value_names import ValueNames
from rnnc.dsl.normal import Normal


@dataclass(frozen=True, slots=True)
class WalkContext:
    """The holes of `walk.c.jinja`."""

    title: str
    equations: Sequence[str]
    real: str
    half: bool
    tokens: int
    room: str
    arrays: Sequence[str]
    places: Sequence[str]
    before: Sequence[str]
    chunk: str
    body: Sequence[str]
    after: Sequence[str]
    unwritten: str


def walk_source(compiled: Compiled, which: str, target: Target) -> str:
    """The text of a pass (forward, states, backward) of the chunked form, with what it includes.

    Raises NotImplementedError for what has no C.
    """
    form = next(form for form in compiled.forms if form.name == "chunked")
    plans = {"forward": form.forward, "states": form.states, "backward": form.backward}
    builder = form.builder.copy()
    program = share_contractions(without_softmax(plans[which].program, builder), (), builder)
    walk = _Walk(program, compiled.normal, which == "backward", target, builder)
    context = walk.context(normal_equations(compiled.normal))
    holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
    return included(template("walk.c.jinja").render(holes))


def included(text: str) -> str:
    """The text with the files of this package that it includes, each once."""
    seen: set[str] = set()

    def read(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return expand(files("rnnc.templates").joinpath(name).read_text("utf-8"))

    def expand(part: str) -> str:
        return re.sub(r'^#include "(.*)"$', read, part, flags=re.MULTILINE)

    return expand(text)


class _Walk:
    """Prints one pass."""

    def __init__(
        self, program: Program, normal: Normal, back: bool, target: Target, builder: Builder
    ) -> None:
        self.program, self.back, self.target = program, back, target
        sizes = Sizes(target, program.nodes())
        results = {node: name for name, node in program.results.items()}
        names = ValueNames(program.nodes(), results, program.carries, normal, builder)
        self.values = Values(program, sizes, names)
        self.body = Body(self.values, sizes)
        states = [state_of(carry) for carry in program.carries]
        self.arrays = Arrays(normal.recurrence, states, back, self.body)
        self.title = f"{normal.recurrence.name}, {program.name}"

    def context(self, equations: str) -> WalkContext:
        """Everything in the template."""
        self._statements()
        arrays, lanes = self.arrays, self.target.lanes
        places, room = arranged(self.body.statements, arrays.lasting, lanes)
        size = str(room)
        if self.body.needs:
            places.append(f"real *const scratch = work + {room};")
            most = functools.reduce(lambda a, b: f"LARGER({a}, {b})", dict.fromkeys(self.body.needs))
            size = f"{room} + ({most} + {lanes - 1}) / {lanes} * {lanes}"
        return WalkContext(
            title=comment(self.title),
            equations=[comment(line) for line in equations.splitlines()],
            real=self.target.real,
            half=any(dtype == "half" for _, dtype in self.target.dtypes),
            tokens=self.target.tokens,
            room=size,
            arrays=arrays.pointers,
            places=places,
            before=arrays.before,
            chunk="(chunks - 1 - step)" if self.back else "step",
            body=[line for statement in self.body.statements for line in statement.lines],
            after=arrays.after,
            unwritten=", ".join(map(str, [*self._unwritten(), -1])),
        )

    def _statements(self) -> None:
        """All statements of a chunk, in order."""
        carries = self.program.carries
        for carry in carries:
            in_place(self.arrays, carry)
        for carry in carries:
            begin(self.arrays, carry)
        results, groups, formed = self._results(), decay_gradients(self.program.nodes()), set[Node]()
        for node, _ in in_order(self.program.nodes()):
            if node in self.values.stored and not isinstance(node.op, ir.Load) and node not in formed:
                members = [each for each in groups[node].members if each] if node in groups else [node]
                formed.update(members)
                for each in members:
                    self.arrays.need(each)
                if node in groups:
                    add_decay_gradients(self.body, groups[node])
                else:
                    add(self.body, node)
            for name in results.pop(node, ()):
                self.arrays.write(name, self.program.results[name])
        for carry in carries:
            end(self.arrays, carry)
        for carry in carries:
            hand_on(self.arrays, carry)

    def _results(self) -> dict[Node, list[str]]:
        """The results by the values that they are views of."""
        found: dict[Node, list[str]] = {}
        for name, node in self.program.results.items():
            if not (self.back and _is_zero(node)):
                found.setdefault(viewed(node), []).append(name)
        return found

    def _unwritten(self) -> list[int]:
        """The gradients that are zero whatever the inputs are."""
        order, results = self.arrays.order, self.program.results
        declared = [name.removeprefix("grad ") for name in order if name.startswith("grad ")]
        return [order[f"grad {name}"] for name in declared if _is_zero(results.get(f"d'{name}"))]


def _is_zero(node: Node | None) -> bool:
    """Whether a gradient is that of nothing."""
    return node is None or (isinstance(node.op, ir.Const) and node.op.value == 0)
