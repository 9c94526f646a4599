"""Prints a compiled spec as one file that needs only torch, and triton for its kernels.

The file holds the generated passes and kernels, the definitions of `rnnc.ops` that these use (by `inline`),
what the spec declares, a function with the operator's signature, its step, and the layer.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby

from rnnc.codegen.compiler import Compiled, Spec
from rnnc.codegen.inline import Import, Inlined, Source, inline, take_apart
from rnnc.codegen.kernels import UnsupportedOnGpu
from rnnc.codegen.layer_lines import title
from rnnc.codegen.layer_module import layer_names
from rnnc.codegen.layer_printer import print_layer
from rnnc.codegen.names import Names
from rnnc.codegen.scalars import scalar
from rnnc.codegen.templating import template
from rnnc.codegen.torch_module import stage_prefix
from rnnc.codegen.triton_module import triton_source
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expression import Axes
from rnnc.dsl.interpreter import carried
from rnnc.dsl.interval import Interval
from rnnc.dsl.recurrence import Input, Param, Recurrence, State
from rnnc.dsl.stages import gates, wide

# What runs the kernels, and what they need besides what their module imports.
KERNELS = (("rnnc.ops.triton_backend", "TritonKernels"), ("rnnc.ops.triton_sums", "sums"))
FUNCTION, PIPELINE = ("rnnc.ops.function", "Function"), ("rnnc.ops.stages", "Pipeline")
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
    Import("torch", None, "torch"),
    Import("torch", "Tensor", "Tensor"),
)
NN = Import("torch", "nn", "nn")
FUNCTIONAL = Import("torch.nn.functional", None, "F")


@dataclass(frozen=True, slots=True)
class FunctionText:
    """A `Function` of the file: the names of its variables, and what it is made of."""

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
    stages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StandaloneText:
    """The holes of `standalone.py.jinja`."""

    header: str
    imports: tuple[str, ...]
    runtime: tuple[str, ...]
    namespaces: tuple[str, ...]
    passes: tuple[str, ...]
    kernels: tuple[str, ...]
    kernel_names: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    title: str
    functions: tuple[FunctionText, ...]
    defaults: tuple[tuple[str, str], ...]
    function: str
    arguments: tuple[str, ...]
    names: tuple[str, ...]
    results: str
    layer_parts: tuple[str, ...]
    layer: str


def standalone(compiled: Spec) -> str:
    """The file's text; the same for the same spec. Raises SpecError where its layer block does not fit."""
    recurrence = compiled.recurrence
    if compiled.declared != recurrence:
        message = "a recurrence with delays cannot be printed as a file of its own yet"
        raise SpecError(
            [Diagnostic("unsupported", message)], compiled.declared.source, compiled.declared.path
        )
    kernel_texts = [_kernel_text(stage) for stage in compiled.stages]
    several = len(compiled.stages) > 1
    wanted = [PIPELINE if several else FUNCTION, *(KERNELS if any(kernel_texts) else ())]
    runtime = inline(wanted, [compiled.source, *kernel_texts])
    sets = [_Kernels(n * several, take_apart(t)) for n, t in enumerate(kernel_texts, 1) if t]
    kernel_names = {name for each in sets for _, name in each.entries}
    taken_names = {*runtime.names, *runtime.namespaces, *DECLARED, *kernel_names, *dir(builtins)}
    function = Names(taken_names).fresh(recurrence.name)
    layer = "" if recurrence.layer is None else print_layer(recurrence, function)
    parts = inline(layer_names(layer))
    clashes = (runtime.names & parts.names) | ((runtime.provided | parts.provided) - DECLARED)
    if clashes:
        raise ValueError(f"not defined, or defined twice: {sorted(clashes)}")
    imports = {*BASE, *_layer_imports(layer), *runtime.imports, *parts.imports}
    taken = Names([*OPTIONS, "Any", "Tensor"])
    arguments = tuple(
        map(taken.fresh, [*(i.name for i in recurrence.inputs), *(p.name for p in recurrence.params)])
    )
    passes = take_apart(compiled.source).definitions
    text = StandaloneText(
        header=_header(compiled.source),
        imports=merged(each for each in imports if not each.module.startswith("triton")),
        runtime=tuple(runtime.parts),
        namespaces=tuple(_namespace(name, used) for name, used in sorted(runtime.namespaces.items())),
        passes=tuple(d.text for d in passes if d.names[0].islower() or d.names == ("SPEC_HASH",)),
        kernels=tuple(text for each in sets for text in each.texts(runtime)),
        kernel_names=tuple((each.namespace, each.entries) for each in sets),
        title=title(recurrence),
        functions=_functions(
            compiled,
            [name for d in passes for name in d.names if name.endswith(PASSES)],
            {each.number: each.namespace for each in sets},
        ),
        defaults=tuple((param.name, scalar(param.default)) for param in recurrence.params if param.default),
        function=function,
        arguments=_arguments(recurrence, arguments),
        names=arguments,
        results=", ".join(f"{o.name} {_shape(('B', 'T', 'H', *o.axes))}" for o in recurrence.outputs),
        layer_parts=tuple(parts.parts),
        layer=layer,
    )
    return template("standalone.py.jinja").render(asdict(text))


@dataclass(frozen=True)
class _Kernels:
    """The kernels of one stage, counted from 1, or of the one there is, 0.

    Kernels are named after their stage; the constants of several stages are told apart by its number.
    """

    number: int
    module: Source

    @property
    def namespace(self) -> str:
        return f"_KERNELS{self.number or ''}"

    def renamed(self, name: str) -> str:
        return f"STAGE{self.number}_{name}" if self.number and name.isupper() else name

    @property
    def entries(self) -> tuple[tuple[str, str], ...]:
        """The names by which the launcher knows the kernels, and those in the file."""
        names = [name for definition in self.module.definitions for name in definition.names]
        names += [name for _, name in KERNELS[1:]]
        return tuple((name, self.renamed(name)) for name in names)

    def texts(self, runtime: Inlined) -> Iterator[str]:
        """The definitions."""
        for definition in self.module.definitions:
            text = runtime.spelled(definition.text, self.module)
            name = definition.names[0]
            yield re.sub(rf"^{name}\b", self.renamed(name), text, count=1, flags=re.MULTILINE)


def _functions(compiled: Spec, passes: Sequence[str], kernels: Mapping[int, str]) -> tuple[FunctionText, ...]:
    """The recurrence as a function; before it its stages, if there are several."""
    whole = compiled.recurrence
    default = "_default" if any(param.default for param in whole.params) else "None"
    if isinstance(compiled, Compiled):
        return (_function(whole, "", passes, "", gates(whole), default, kernels.get(0, "")),)
    found = []
    for number, stage in enumerate(compiled.stages, 1):
        own = stage.recurrence
        prefix = stage_prefix(number)
        names = [name for name in passes if name.startswith(prefix)]
        found.append(
            _function(
                own, str(number), names, prefix, wide(whole, number - 1), "None", kernels.get(number, "")
            )
        )
    stages = tuple(each.function for each in found)
    last = _function(whole, "", [], "", gates(whole), default, "")
    return (*found, replace(last, kind="Pipeline", stages=stages))


def _function(
    recurrence: Recurrence,
    suffix: str,
    passes: Sequence[str],
    prefix: str,
    decays: Iterable[str],
    default: str,
    kernels: str,
) -> FunctionText:
    return FunctionText(
        recurrence=f"_RECURRENCE{suffix}",
        function=f"_STAGE{suffix}" if suffix else "_FUNCTION",
        name=recurrence.name,
        declarations=_declarations(recurrence),
        passes=tuple((name.removeprefix(prefix), name) for name in passes),
        carried=tuple(f'Carried("{array.name}", {_tuple(array.axes)})' for array in carried(recurrence)),
        gates=_tuple(sorted(decays)),
        default=default,
        kernels=kernels,
    )


def _kernel_text(compiled: Compiled) -> str:
    """The module of the kernels; empty where there are none."""
    try:
        return triton_source(compiled)
    except (UnsupportedOnGpu, NotImplementedError):
        return ""


def _layer_imports(layer: str) -> list[Import]:
    """What the text of a layer needs of torch."""
    return [NN] * bool(layer) + [FUNCTIONAL] * ("F." in layer)


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
    lines = "".join(f"\n    {each}={each}," for each in sorted(used))
    return f"{name} = SimpleNamespace({lines}\n)"


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
    states = tuple(f'Carried("{s.name}", {_tuple(s.axes)}{_initial(s)})' for s in recurrence.states)
    outputs = tuple(f'Output("{output.name}", {_tuple(output.axes)})' for output in recurrence.outputs)
    loops = tuple(f'"{axis}"' for axis in recurrence.loops)
    return ("inputs", inputs), ("params", params), ("states", states), ("outputs", outputs), ("loops", loops)


def _declared(kind: str, item: Input | Param, flags: str) -> str:
    promised = "" if item.range is None else f", {_interval(item.range)}"
    return f'{kind}("{item.name}", {_tuple(item.axes)}{promised}{flags})'


def _initial(state: State) -> str:
    return f', initial="{state.initial}"' if state.initial else ""


def _tuple(words: Sequence[str]) -> str:
    return f"({', '.join(f'{chr(34)}{word}{chr(34)}' for word in words)}{',' if len(words) == 1 else ''})"


def _interval(interval: Interval) -> str:
    low, high = (f'float("{end}")' for end in (interval.low, interval.high))
    return f"range=Interval({low}, {high}, {interval.low_open}, {interval.high_open})"


def _arguments(recurrence: Recurrence, names: Sequence[str]) -> tuple[str, ...]:
    """The arguments of the function, each with its shape; from the first default on all have one."""
    items: tuple[Input | Param, ...] = recurrence.arguments
    lines, optional = [], ""
    for name, item in zip(names, items, strict=True):
        if isinstance(item, Input):
            shape = _shape(("B", "T", "G" if item.per_group else "H", *item.axes))
        else:
            shape = _shape(item.axes if item.shared else ("H", *item.axes))
            optional = optional or " | None = None" * (item.default is not None)
        lines.append(f"{name}: Tensor{optional},  # {shape}")
    return tuple(lines)


def _shape(axes: Axes) -> str:
    return f"[{', '.join(axes)}]"
