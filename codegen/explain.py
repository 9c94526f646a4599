"""A recurrence explained as text: what was declared, derived, proven and decided."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rnnc.codegen.equations import (
    Shortened,
    chunk_size,
    chunked_lines,
    incoming,
    normal_equations,
    recurrent_lines,
)
from rnnc.dsl.delays import Delayed
from rnnc.dsl.expression import Expression
from rnnc.dsl.interval import REAL
from rnnc.dsl.normal import Coupled, Normal
from rnnc.dsl.pretty import pretty
from rnnc.dsl.recurrence import Input, Let, Param, Recurrence, unrolled
from rnnc.dsl.spectrum import spectrum
from rnnc.dsl.tracking import signs, tracking

__all__ = ["explain", "normal_equations"]


def explain(
    normal: Normal, decisions: Sequence[str] = (), delays: Sequence[Delayed] = (), apart: str = ""
) -> str:
    """The account of a recurrence that `rnnc explain` prints; `decisions` are sentences on the numerics.

    `apart`: why the kernels are given what is delayed, instead of forming it.
    """
    shortened = Shortened(normal)
    recurrence = normal.recurrence
    chunk = f"Chunked form, for {chunk_size(normal)} tokens at once with the {incoming(normal)}"
    sections = [
        ("Declared", _declared(recurrence, shortened, {each.name for each in delays})),
        ("Delays", _delays(delays, apart)),
        ("Class", _class(normal)),
        ("Normal form", [*shortened.token_lines(), "", *shortened.symbol_lines()]),
        ("Recurrent form, token by token", [*recurrent_lines(normal), *shortened.output_lines()]),
        (chunk, [*chunked_lines(normal), *shortened.output_lines()]),
        ("Parallel form", ["the chunked form with one chunk for the whole sequence"]),
        ("Numerics", list(decisions)),
        ("Eigenvalues of one token's transition", _eigenvalues(normal)),
        ("Over long sequences, and what theory says of the states it can track", _over_time(normal)),
    ]
    head = f"{recurrence.name}[{', '.join(recurrence.axes)}]" if recurrence.axes else recurrence.name
    title = recurrence.doc.strip().partition("\n")[0]
    blocks = [head + (f": {title}" if title else "")]
    blocks += ["\n".join([name, *_indented(lines)]) for name, lines in sections if lines]
    return "\n\n".join(blocks)


def explain_stages(
    recurrence: Recurrence,
    stages: Sequence[tuple[Recurrence, str]],
    delays: Sequence[Delayed] = (),
    ways: Sequence[int] = (),
) -> str:
    """The account of a recurrence in stages: what each takes from the others, then each by itself.

    `ways`: the bytes that each way to divide it moves (see `rnnc.dsl.stages.moved`).
    """
    given = {item.name for item in recurrence.arguments}
    declared = {output.name for output in recurrence.outputs}
    lines = []
    for stage, _ in stages:
        taken = [_declaration(item) for item in stage.inputs if item.name not in given]
        handed = [item.name + _axes(item.axes) for item in stage.outputs if item.name not in declared]
        states = ", ".join(state.name + _axes(state.axes) for state in stage.states)
        after = f"given {', '.join(taken)}: " if taken else ""
        lines.append(f"{stage.name}  {after}{states}{' -> ' * bool(handed)}{', '.join(handed)}")
    why = [
        f"{recurrence.name} is computed in {len(stages)} stages, and differentiated in the reverse order",
        "the transition of all states together is block triangular: its eigenvalues are those of the stages",
        "what is said below of eigenvalues and of long sequences holds for each stage by itself",
    ]
    if len(ways) > 1:
        plain, product = ways
        what = (
            "products with inputs are formed by the stage that hands them on"
            if product < plain
            else "states and readouts are handed on, not their products with inputs"
        )
        size = f"about {min(ways)} bytes of vectors per entry, forward and backward, for {max(ways)}"
        why.append(f"{what}: {size}")
    why.append("what handing on costs, and what it would to form it again where it is read: `rnnc cost`")
    head = "\n".join(["Stages", *_indented([*why, *_delays(delays), "", *lines])])
    return "\n\n".join([head, *(text for _, text in stages)])


def _delays(delays: Sequence[Delayed], apart: str = "stages hand on what is delayed") -> list[str]:
    """What is given of earlier tokens."""
    if not delays:
        return []
    whose = [(d, "the token before" if d.lag == 1 else f"{d.lag} tokens before") for d in delays]
    lines = [f"{d.name}{_axes(d.axes)}  {d.source} of {token}, zero at the start" for d, token in whose]
    how = "torch, and the recurrent kernels, are given it for all tokens; the chunked kernels form it"
    how += " of the inputs of the rows before, and one launch adds up what gradients find of it"
    if apart:
        how = f"formed for all tokens before the kernels: {apart}"
    return ["carried from call to call; `rnnc cost` compares the ways to it", how, *lines]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]


def _declared(recurrence: Recurrence, shortened: Shortened, delayed: Collection[str]) -> list[str]:
    """Inputs, parameters, states and outputs with their promises; lets with their inferred ranges.

    Inputs that are `delayed` are not the user's.
    """
    kinds = [
        ("input", [_declaration(each) for each in recurrence.inputs if each.name not in delayed]),
        ("param", [_declaration(each) for each in recurrence.params]),
        ("state", [each.name + _axes(each.axes) for each in recurrence.states]),
        ("output", [each.name + _axes(each.axes) for each in recurrence.outputs]),
    ]
    lines = [f"{kind:<7} {', '.join(each)}" for kind, each in kinds if each]
    for statement in unrolled(recurrence.statements):
        if isinstance(statement, Let):
            found = shortened.known.ranges.get(statement.name, REAL)
            where = "" if found == REAL else f"    in {found}"
            lines.append(f"let     {statement.name} = {pretty(statement.value)}{where}")
    return lines


def _declaration(each: Input | Param) -> str:
    promised = "" if each.range in (None, REAL) else f" in {each.range}"
    grouped = " per group" if isinstance(each, Input) and each.per_group else ""
    shared = " shared" if isinstance(each, Param) and each.shared else ""
    return f"{each.name}{_axes(each.axes)}{promised}{grouped}{shared}"


def _axes(axes: Sequence[str]) -> str:
    return f"[{', '.join(axes)}]" if axes else ""


def _class(normal: Normal) -> list[str]:
    if normal.elementwise is not None:
        return _scan_class(normal)
    first, second = normal.state_axes
    if normal.coupled is not None:
        return _class_of_several(normal.coupled, f"[{first}, {second}]")
    found = [_decay(decay, first) for decay in normal.decays]
    decay = " times ".join(found) if found else "no decay"
    reads, writes = len(normal.reads), len(normal.writes)
    what = "one write" if writes == 1 else f"{writes} writes"
    who = "all of which read" if reads == writes else f"{reads} of which read"
    when = "token" if normal.micro is None else f"micro-step, {normal.micro} for each token"
    how = {0: "none of which reads", 1: "one of which reads"}.get(reads, who)
    if writes == 1:
        how = "which reads" if reads else "which does not read"
    side = "" if normal.axes == normal.state_axes or not reads else " from the right"
    state = f"{normal.state}[{first}, {second}]"
    return [
        f"linear in the state {state}: {decay} and {what} per {when}, {how} the state{side}",
        "forms: recurrent, chunked, parallel",
    ]


def _class_of_several(coupled: Coupled, axes: str) -> list[str]:
    names, reading = ", ".join(coupled.states), sum(write.reading for write in coupled.writes)
    return [
        f"linear in the states {names}, each {axes}, which mix by scalars",
        f"writes per token: {len(coupled.writes)}, {reading or 'none'} of which read the old states",
        "forms: recurrent, chunked, parallel",
    ]


def _scan_class(normal: Normal) -> list[str]:
    state = normal.state + _axes(normal.axes)
    if not normal.axes:
        decay = "no decay" if normal.decay is None else "one decay"
        return [f"the state {state} is one number: {decay}", "forms: recurrent, chunked, parallel"]
    if normal.decay is None:
        decay = "no decay"
    else:
        decay = "a decay for every entry" if normal.decay.axes == normal.axes else "one decay for all entries"
    return [f"the entries of the state {state} do not mix: {decay}", "forms: recurrent, chunked, parallel"]


def _decay(decay: Expression, first: str) -> str:
    if not decay.axes:
        return "one decay for the whole state"
    return f"a decay for each {'row' if decay.axes == (first,) else 'column'} of '{decay.axes[0]}'"


def _eigenvalues(normal: Normal) -> list[str]:
    found = spectrum(normal)
    lines = list(found.reasons)
    claim = normal.recurrence.claim
    if claim is not None:
        proven = found.interval.within(claim.interval)
        lines.append(f"claimed in {claim.interval}: {'proven' if proven else 'not proven'}")
    return [*lines, f"transitions: {signs(normal, found)}"]


def _over_time(normal: Normal) -> list[str]:
    lines = []
    for statement in tracking(normal, spectrum(normal)):
        lines += [statement.text, f"  {statement.conditions} [{statement.source}]"]
    return lines
