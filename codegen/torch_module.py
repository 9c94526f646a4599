"""All forms of a recurrence as one module of torch functions, through `templates/module.py.jinja`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

from rnnc.codegen.builder import Builder
from rnnc.codegen.distribution import distribute
from rnnc.codegen.forms import chunked_form, recurrent_form
from rnnc.codegen.gradients import differentiate
from rnnc.codegen.numerics import stabilise
from rnnc.codegen.products import share_products
from rnnc.codegen.program import Program
from rnnc.codegen.schedule import Plan, cut, on_rows, with_inverses, worth_keeping
from rnnc.codegen.templating import comment, literal, template
from rnnc.codegen.torch_plan import for_torch
from rnnc.codegen.torch_printer import Function
from rnnc.codegen.torch_sums import plain
from rnnc.codegen.value_names import ValueNames
from rnnc.dsl.expression import Axes
from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal
from rnnc.dsl.recurrence import Recurrence


@dataclass(frozen=True, slots=True)
class Form:
    """One form, scheduled: the forward pass, the states alone (where nothing was kept), the backward pass."""

    name: str
    builder: Builder
    forward: Plan
    states: Plan
    backward: Plan


@dataclass(frozen=True, slots=True)
class ModuleContext:
    """What the template fills its holes with."""

    header: str
    imports: str
    name: str
    spec_hash: str
    inputs: str
    params: str
    states: str
    outputs: str
    functions: Sequence[str]


def schedule_forms(normal: Normal, ranges: Sequence[Interval]) -> tuple[Form, ...]:
    """Derive, stabilise, differentiate and cut both forms."""
    forms = []
    for derive in (chunked_form, recurrent_form):
        builder = Builder(_in_order(normal))
        program = distribute(stabilise(derive(normal, builder), builder, normal, ranges), builder)
        backward = differentiate(program, builder)
        forms.append(_schedule(program, backward, builder))
    return tuple(forms)


def _in_order(normal: Normal) -> Axes:
    """The recurrence's axes, those of the state in the order that they have there."""
    state = iter(normal.state_axes)
    return tuple(next(state) if axis in normal.state_axes else axis for axis in normal.recurrence.axes)


def _schedule(program: Program, backward: Program, builder: Builder) -> Form:
    return scheduled((with_inverses(p, builder) for p in (program, backward)), builder, writes=True)


def scheduled(
    programs: Iterable[Program],
    builder: Builder,
    writes: bool = False,
    last: Callable[[Program], Program] = lambda program: program,
) -> Form:
    """The form of a forward and a backward program, with inverses in the place of solves.

    `writes`: what tokens write after they have read the state is kept for the backward pass, not formed anew.
    `last` is done to the programs before factors of products are shared.
    """
    forward, backward = share_products([last(on_rows(program, builder)) for program in programs], builder)
    keeps = worth_keeping(forward, backward, writes)
    states = Program(f"{forward.name}_states", {}, forward.carries)
    return Form(
        forward.name,
        builder,
        forward=cut(forward, keeps=keeps, fused=True),
        states=cut(states, keeps=keeps),
        backward=cut(backward, given=keeps),
    )


def spec_hash(recurrence: Recurrence) -> str:
    """The hash of the spec's text."""
    return hashlib.sha256(recurrence.source.encode("utf-8", "surrogatepass")).hexdigest()


def print_module(normal: Normal, forms: Sequence[Form], equations: str) -> str:
    """The text of the generated module: deterministic, and free of dates and paths."""
    return _module(normal.recurrence, _passes(normal, forms), equations)


def print_stages(
    recurrence: Recurrence, stages: Sequence[tuple[Normal, Sequence[Form]]], equations: str
) -> str:
    """As `print_module`, of a recurrence in stages; see `stage_prefix` for the names of the passes."""
    functions = []
    for number, (normal, forms) in enumerate(stages, 1):
        functions += _passes(normal, forms, stage_prefix(number))
    return _module(recurrence, functions, equations)


def stage_prefix(number: int) -> str:
    """What the names of the passes of a stage begin with; the stages are counted from 1."""
    return f"stage{number}_"


def _passes(normal: Normal, forms: Sequence[Form], prefix: str = "") -> list[str]:
    """The functions of all forms, as text."""
    functions = []
    for form in forms:
        plans = [for_torch(plan, form.builder) for plan in (form.forward, form.states, form.backward)]
        (forward, states, backward), name = plans, prefix + form.name
        values = _value_names(plans[:2], normal, form.builder)
        back_values = _value_names(plans[2:], normal, form.builder)
        for function in (
            Function(f"{name}_forward", forward, normal.recurrence, "forward", values),
            Function(f"{name}_states", states, normal.recurrence, "forward", values),
            Function(f"{name}_backward", backward, normal.recurrence, "backward", back_values),
        ):
            functions += [function.text(), *function.attributes()]
    return functions


def _value_names(plans: Sequence[Plan], normal: Normal, builder: Builder) -> ValueNames:
    """The names of all values in the functions of a form."""
    programs = [plan.program for plan in plans]
    carries = [carry for program in programs for carry in program.carries]
    results = {plain(node): name for p in programs for name, node in p.results.items()}
    roots = [node for plan in plans for node in (*plan.program.nodes(), *plan.given, *plan.keeps)]
    return ValueNames(roots, results, carries, normal, builder)


def _module(recurrence: Recurrence, functions: Sequence[str], equations: str) -> str:
    context = ModuleContext(
        header=header(recurrence, equations),
        imports=_imports(functions),
        name=literal(recurrence.name),
        spec_hash=literal(spec_hash(recurrence)),
        inputs=literal(tuple((d.name, d.axes) for d in recurrence.inputs)),
        params=literal(tuple((d.name, d.axes) for d in recurrence.params)),
        states=literal(tuple((d.name, d.axes) for d in recurrence.states)),
        outputs=literal(tuple((d.name, d.axes) for d in recurrence.outputs)),
        functions=[text.rstrip("\n") for text in functions],
    )
    holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
    return template("module.py.jinja").render(holes)


def _imports(functions: Sequence[str]) -> str:
    """The imports that the functions use."""
    text = "\n".join(functions)
    lines = ["import math", ""] if "math." in text else []
    lines.append("import torch")
    if re.search(r"\bF\.", text):
        lines.append("import torch.nn.functional as F")
    return "\n".join(lines)


def header(recurrence: Recurrence, equations: str) -> str:
    """The docstring of an emitted module: what it is, and the equations."""
    lines = [
        f"{comment(recurrence.name)}: generated from its spec by rnnc; do not edit.",
        "",
        *map(comment, equations.splitlines()),
    ]
    return '"""' + "\n".join(lines).rstrip() + '\n"""\n'
