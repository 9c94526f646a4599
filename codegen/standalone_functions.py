"""What a standalone file says of a recurrence: its declaration and its functions, as lines of Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rnnc.codegen.compiler import Compiled, Spec
from rnnc.codegen.templating import literal
from rnnc.codegen.torch_module import stage_prefix
from rnnc.dsl.delays import Delayed, delayed, delayed_lets
from rnnc.dsl.expression import Axes, names
from rnnc.dsl.interpreter import carried
from rnnc.dsl.interval import Interval
from rnnc.dsl.recurrence import Input, Param, Recurrence, State
from rnnc.dsl.stages import feeds, gates, hands_on, wide

INSIDE = -1  # the number of the kernels that form what is delayed


@dataclass(frozen=True, slots=True)
class FunctionText:
    """A `Function` of the file: the names of its variables, and what it is made of.

    `attributes` are set once it is made: what it runs, of several stages or beside delayed values.
    """

    recurrence: str
    function: str
    name: str
    declarations: tuple[tuple[str, tuple[str, ...]], ...]
    passes: tuple[tuple[str, str], ...]
    carried: tuple[str, ...]
    gates: str
    default: str
    kernels: str
    kind: str = "Function"
    precise: bool = False
    feeds: bool = False
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()


def functions(
    compiled: Spec, passes: Sequence[str], kernels: Mapping[int, str], formulas: Mapping[str, str]
) -> tuple[FunctionText, ...]:
    """The recurrence as a function; before it its stages, if there are several, and what is given its delays.

    `passes` are the names of all; `kernels` by stage, counted from 1, or 0 where there is one; `formulas`:
    the names of the functions that compute the lets that are delayed.
    """
    declared = compiled.declared
    default = "_default" if any(item.default for item in declared.arguments) else "None"
    delays = delayed(declared)
    outer = "_INNER" if delays else "_FUNCTION"
    own = "None" if delays else default
    found = list(_stages(compiled, outer, passes, kernels, own))
    if delays and INSIDE in kernels:
        assert isinstance(compiled.inside, Compiled)
        text = _function(compiled.inside.recurrence, "_INSIDE", "_INSIDE", (), "None")
        found.append(replace(text, kind="TritonKernels", kernels=kernels[INSIDE]))
    if delays:
        last = _function(declared, "", "_FUNCTION", gates(declared), default)
        lets = tuple(
            f'("{let.name}", {_tuple(sorted(names(let.value)))}, {formulas[let.name]})'
            for let in delayed_lets(declared)
        )
        parts = (("found", tuple(map(_delayed, delays))), ("lets", lets))
        runs = (("inner", (outer,)), *((("inside", ("_INSIDE",)),) if INSIDE in kernels else ()))
        found.append(replace(last, kind="WithDelays", attributes=(*runs, *parts)))
    return tuple(found)


def _stages(
    compiled: Spec, name: str, passes: Sequence[str], kernels: Mapping[int, str], default: str
) -> Iterator[FunctionText]:
    """What the stages are run by, and, of that name, all of them."""
    whole = compiled.recurrence
    suffix = "_INNER" if name == "_INNER" else ""
    if isinstance(compiled, Compiled):
        only = _function(whole, suffix, name, gates(whole), default)
        yield replace(only, passes=tuple((each, each) for each in passes), kernels=kernels.get(0, ""))
        return
    found = []
    for number, stage in enumerate(compiled.stages, 1):
        own, prefix = stage.recurrence, stage_prefix(number)
        found.append(f"_STAGE{number}")
        yield replace(
            _function(own, str(number), found[-1], wide(whole, number - 1), "None"),
            passes=tuple((each.removeprefix(prefix), each) for each in passes if each.startswith(prefix)),
            kernels=kernels.get(number, ""),
            precise=hands_on(whole, own),
            feeds=feeds(whole, own),
        )
    last = _function(whole, suffix, name, gates(whole), default)
    yield replace(last, kind="Pipeline", attributes=(("stages", tuple(found)),))


def _function(
    recurrence: Recurrence, suffix: str, name: str, decays: Iterable[str], default: str
) -> FunctionText:
    return FunctionText(
        recurrence=f"_RECURRENCE{suffix}",
        function=name,
        name=recurrence.name,
        declarations=_declarations(recurrence),
        passes=(),
        carried=tuple(f'Carried("{array.name}", {_tuple(array.axes)})' for array in carried(recurrence)),
        gates=_tuple(sorted(decays)),
        default=default,
        kernels="",
    )


def _delayed(each: Delayed) -> str:
    return (
        f"Delayed({', '.join(literal(x) for x in (each.source, each.lag, each.axes, each.state, each.name))})"
    )


def _declarations(recurrence: Recurrence) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The lines of the declaration, by kind."""
    inputs = tuple(
        _declared("Input", item, f"{', per_group=True' * item.per_group}{_default(item)}")
        for item in recurrence.inputs
    )
    params = tuple(
        _declared("Param", item, f"{', shared=True' * item.shared}{_default(item)}")
        for item in recurrence.params
    )
    states = tuple(f'Carried("{s.name}", {_tuple(s.axes)}{_initial(s)})' for s in recurrence.states)
    outputs = tuple(f'Output("{output.name}", {_tuple(output.axes)})' for output in recurrence.outputs)
    loops = tuple(f'"{axis}"' for axis in recurrence.loops)
    found = [("inputs", inputs), ("params", params), ("states", states), ("outputs", outputs)]
    found.append(("loops", loops))
    if recurrence.earlier:
        each = (literal((e.name, e.kind, e.source, e.lag)) for e in recurrence.earlier)
        found.append(("earlier", tuple(f"Earlier{text}" for text in each)))
    return tuple(found)


def _declared(kind: str, item: Input | Param, flags: str) -> str:
    promised = "" if item.range is None else f", {_interval(item.range)}"
    return f'{kind}("{item.name}", {_tuple(item.axes)}{promised}{flags})'


def _default(item: Input | Param) -> str:
    return ", default=True" * (item.default is not None)


def _initial(state: State) -> str:
    return f', initial="{state.initial}"' if state.initial else ""


def _tuple(words: Sequence[str]) -> str:
    return f"({', '.join(f'{chr(34)}{word}{chr(34)}' for word in words)}{',' if len(words) == 1 else ''})"


def _interval(interval: Interval) -> str:
    low, high = (f'float("{end}")' for end in (interval.low, interval.high))
    return f"range=Interval({low}, {high}, {interval.low_open}, {interval.high_open})"


def argument_lines(recurrence: Recurrence, names: Sequence[str]) -> tuple[str, ...]:
    """The arguments of the function, each with its shape; from the first default on all have one."""
    items: tuple[Input | Param, ...] = recurrence.arguments
    lines, optional = [], ""
    for name, item in zip(names, items, strict=True):
        if isinstance(item, Input):
            found = shape(("B", "T", "G" if item.per_group else "H", *item.axes))
        else:
            found = shape(item.axes if item.shared else ("H", *item.axes))
        optional = optional or " | None = None" * (item.default is not None)
        lines.append(f"{name}: Tensor{optional},  # {found}")
    return tuple(lines)


def shape(axes: Axes) -> str:
    return f"[{', '.join(axes)}]"
