"""Prints a compiled spec as one file that needs only torch.

The file holds the generated passes, the definitions of `rnnc.ops` that these use (by `inline`), what the spec
declares, a function with the operator's signature, its step, and the layer.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Protocol

from rnnc.codegen.inline import Import, inline, take_apart
from rnnc.codegen.layer_printer import layer_names, print_layer
from rnnc.codegen.names import Names
from rnnc.codegen.scalars import scalar
from rnnc.codegen.templating import template
from rnnc.dsl.expression import Axes, names
from rnnc.dsl.interpreter import carried
from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal
from rnnc.dsl.recurrence import Input, Param, Recurrence

PASSES = ("_forward", "_states", "_backward")
OPTIONS = [
    "initial_state",
    "output_final_state",
    "cu_seqlens",
    "reverse",
    "backend",
    "form",
    "chunk_size",
    "save",
    "check",
    "state",
    "out_state",
]
DECLARED = {"Axes", "Carried", "Input", "Interval", "Output", "Param", "Recurrence"}
BASE = (
    Import("dataclasses", "dataclass", "dataclass"),
    Import("types", "SimpleNamespace", "SimpleNamespace"),
    Import("typing", "Any", "Any"),
)
TORCH = (Import("torch", None, "torch"), Import("torch", "Tensor", "Tensor"))
LAYER = (Import("torch", "nn", "nn"), Import("torch.nn.functional", None, "F"))


class Compiled(Protocol):
    """What the printer asks of a compiled spec."""

    @property
    def recurrence(self) -> Recurrence: ...

    @property
    def normal(self) -> Normal: ...

    @property
    def source(self) -> str: ...


@dataclass(frozen=True, slots=True)
class StandaloneText:
    """The holes of `standalone.py.jinja`."""

    header: str
    imports: tuple[str, ...]
    runtime: tuple[str, ...]
    namespaces: tuple[str, ...]
    passes: tuple[str, ...]
    module: tuple[str, ...]
    name: str
    declarations: tuple[tuple[str, tuple[str, ...]], ...]
    carried: tuple[str, ...]
    gates: str
    defaults: tuple[tuple[str, str], ...]
    function: str
    arguments: tuple[str, ...]
    names: str
    results: str
    layer_parts: tuple[str, ...]
    layer: str


def standalone(compiled: Compiled) -> str:
    """The file's text; the same for the same spec. Raises SpecError where its layer block does not fit."""
    recurrence = compiled.recurrence
    runtime = inline([("rnnc.ops.function", "Function")], [compiled.source])
    function = Names({*runtime.names, *runtime.namespaces, *DECLARED, *dir(builtins)}).fresh(recurrence.name)
    layer = "" if recurrence.layer is None else print_layer(recurrence, function)
    parts = inline(layer_names(layer))
    if not runtime.names.isdisjoint(parts.names):
        raise ValueError(f"defined twice: {sorted(runtime.names & parts.names)}")
    decay = compiled.normal.decay
    taken = Names([*OPTIONS, "Any", "Tensor"])
    arguments = [taken.fresh(item.name) for item in (*recurrence.inputs, *recurrence.params)]
    passes = take_apart(compiled.source)
    text = StandaloneText(
        header=_header(compiled.source),
        imports=merged({*BASE, *TORCH, *runtime.imports, *parts.imports, *(LAYER if layer else ())}),
        runtime=tuple(runtime.parts),
        namespaces=tuple(_namespace(name, used) for name, used in sorted(runtime.namespaces.items())),
        passes=tuple(d.text for d in passes.definitions if not all(name.isupper() for name in d.names)),
        module=tuple(name for d in passes.definitions for name in d.names if name.endswith(PASSES)),
        name=recurrence.name,
        declarations=_declarations(recurrence),
        carried=tuple(f"Carried({array.name!r}, {array.axes!r})" for array in carried(recurrence)),
        gates=f"{{{', '.join(repr(name) for name in sorted(names(decay)))}}}"
        if decay and names(decay)
        else "()",
        defaults=tuple((param.name, scalar(param.default)) for param in recurrence.params if param.default),
        function=function,
        arguments=_arguments(recurrence, arguments),
        names=", ".join(arguments),
        results=", ".join(
            f"{output.name} {_shape(('B', 'T', 'H', *output.axes))}" for output in recurrence.outputs
        ),
        layer_parts=tuple(parts.parts),
        layer=layer,
    )
    return template("standalone.py.jinja").render(asdict(text))


def merged(imports: Iterable[Import]) -> tuple[str, ...]:
    """Import lines, those from one module in one line, the standard library above torch."""
    lines: list[str] = []
    ordered = sorted(
        imports, key=lambda i: (i.module.startswith("torch"), i.name is not None, i.module, str(i))
    )
    for (later, module, plain), group in groupby(
        ordered, lambda i: (i.module.startswith("torch"), i.module, i.name is None)
    ):
        found = list(group)
        if later and not any(line.startswith(("import torch", "from torch")) for line in lines):
            lines.append("")
        if plain:
            lines += [str(each) for each in found]
        else:
            lines.append(f"from {module} import {', '.join(str(i).partition(' import ')[2] for i in found)}")
    return tuple(lines)


def _header(source: str) -> str:
    """What stands above the first import of a generated module."""
    first = next(node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom))
    return "\n".join(source.splitlines()[: first.lineno - 1]).rstrip()


def _namespace(name: str, used: set[str]) -> str:
    return f"{name} = SimpleNamespace({', '.join(f'{each}={each}' for each in sorted(used))})"


def _declarations(recurrence: Recurrence) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The lines of the declaration, by kind."""
    inputs = tuple(
        _declared("Input", item, ", per_group=True" if item.per_group else "") for item in recurrence.inputs
    )
    params = tuple(
        _declared(
            "Param", item, f"{', shared=True' * item.shared}{', default=True' * (item.default is not None)}"
        )
        for item in recurrence.params
    )
    states = tuple(f"Carried({s.name!r}, {s.axes!r}, {s.initial!r})" for s in recurrence.states)
    outputs = tuple(f"Output({output.name!r}, {output.axes!r})" for output in recurrence.outputs)
    return ("inputs", inputs), ("params", params), ("states", states), ("outputs", outputs)


def _declared(kind: str, item: Input | Param, flags: str) -> str:
    promised = "" if item.range is None else f", {_interval(item.range)}"
    return f"{kind}({item.name!r}, {item.axes!r}{promised}{flags})"


def _interval(interval: Interval) -> str:
    low, high = (f'float("{end}")' for end in (interval.low, interval.high))
    return f"range=Interval({low}, {high}, {interval.low_open}, {interval.high_open})"


def _arguments(recurrence: Recurrence, names: list[str]) -> tuple[str, ...]:
    """The arguments of the function, each with its shape; from the first default on all have one."""
    lines, optional = [], ""
    for name, item in zip(names, (*recurrence.inputs, *recurrence.params), strict=True):
        if isinstance(item, Input):
            shape = _shape(("B", "T", "G" if item.per_group else "H", *item.axes))
        else:
            shape = _shape(item.axes if item.shared else ("H", *item.axes))
            optional = optional or " | None = None" * (item.default is not None)
        lines.append(f"{name}: Tensor{optional},  # {shape}")
    return tuple(lines)


def _shape(axes: Axes) -> str:
    return f"[{', '.join(axes)}]"
