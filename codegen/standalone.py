"""Prints a compiled spec as one file that needs only torch, and triton for its kernels.

The file holds the generated passes and kernels, the definitions of `rnnc.ops` that these use (by `inline`),
what the spec declares, a function with the operator's signature, its step, and the layer.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby

from rnnc.codegen.compiler import Compiled, Spec
from rnnc.codegen.formulas import formula
from rnnc.codegen.inline import Import, Inlined, Source, inline, take_apart
from rnnc.codegen.kernel_record import UnsupportedOnGpu
from rnnc.codegen.layer_lines import title
from rnnc.codegen.layer_module import layer_names
from rnnc.codegen.layer_printer import print_layer
from rnnc.codegen.names import Names
from rnnc.codegen.renaming import rename
from rnnc.codegen.scalars import scalar
from rnnc.codegen.standalone_functions import INSIDE, FunctionText, argument_lines, functions, shape
from rnnc.codegen.templating import template
from rnnc.codegen.triton_module import triton_source
from rnnc.dsl.delays import delayed, delayed_lets

# What runs the kernels, and what they need besides what their module imports.
KERNELS = (
    ("rnnc.ops.triton_backend", "TritonKernels"),
    ("rnnc.ops.triton_chunks", "chunk_tables"),
    ("rnnc.ops.triton_sums", "sums"),
    ("rnnc.ops.triton_combine", "combine"),
)
FUNCTION, PIPELINE = ("rnnc.ops.function", "Function"), ("rnnc.ops.stages", "Pipeline")
DELAYS, BEFORE = ("rnnc.ops.delays", "WithDelays"), ("rnnc.ops.triton_before", "add_earlier")
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
DECLARED = {"Axes", "Carried", "Earlier", "Input", "Interval", "Output", "Param", "Recurrence"}
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
    formulas: tuple[str, ...]
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
    recurrence = compiled.declared
    lets = {let.name: let.value for let in delayed_lets(recurrence)}
    formulas = {name: f"_let_{name}" for name in lets}
    kernel_texts = [_kernel_text(stage) for stage in compiled.stages]
    several = len(compiled.stages) > 1
    inside = "" if isinstance(compiled.inside, str) else _kernel_text(compiled.inside)
    wanted = [PIPELINE if several else FUNCTION, *(KERNELS if any(kernel_texts) else ())]
    wanted += [DELAYS] if delayed(recurrence) else []
    wanted += [BEFORE] if inside else []
    runtime = inline(wanted, [compiled.source, *kernel_texts, inside])
    sets = [_Kernels(n * several, take_apart(t)) for n, t in enumerate(kernel_texts, 1) if t]
    sets += [_Kernels(INSIDE, take_apart(inside))] if inside else []
    kernel_names = {name for each in sets for _, name in each.entries}
    taken_names = {
        *runtime.names,
        *runtime.namespaces,
        *DECLARED,
        *kernel_names,
        *formulas.values(),
        *dir(builtins),
    }
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
        passes=tuple(d.text for d in passes if not d.names or _of_pass(d.names[0])),
        kernels=tuple(text for each in sets for text in each.texts(runtime)),
        kernel_names=tuple((each.namespace, each.entries) for each in sets),
        title=title(recurrence),
        formulas=tuple(formula(formulas[name], value) for name, value in lets.items()),
        functions=functions(
            compiled,
            [name for d in passes for name in d.names if name.endswith(PASSES)],
            {each.number: each.namespace for each in sets},
            formulas,
        ),
        defaults=tuple(
            (item.name, scalar(item.default)) for item in recurrence.arguments if item.default is not None
        ),
        function=function,
        arguments=argument_lines(recurrence, arguments),
        names=arguments,
        results=", ".join(f"{o.name} {shape(('B', 'T', 'H', *o.axes))}" for o in recurrence.outputs),
        layer_parts=tuple(parts.parts),
        layer=layer,
    )
    return template("standalone.py.jinja").render(asdict(text))


def _of_pass(name: str) -> bool:
    """Whether a definition of the generated module is used by a standalone file."""
    return name.islower() or name == "SPEC_HASH"


@dataclass(frozen=True)
class _Kernels:
    """The kernels of one stage, counted from 1, or of the one there is, 0.

    Kernels are named after their stage; the constants of several stages are told apart by its number. INSIDE:
    those that form what is delayed.
    """

    number: int
    module: Source

    @property
    def namespace(self) -> str:
        return "_KERNELS_INSIDE" if self.number == INSIDE else f"_KERNELS{self.number or ''}"

    def renamed(self, name: str) -> str:
        if not self.number or not name.isupper():
            return name
        return f"INSIDE_{name}" if self.number == INSIDE else f"STAGE{self.number}_{name}"

    @property
    def entries(self) -> tuple[tuple[str, str], ...]:
        """The names by which the launcher knows the kernels, and those in the file."""
        names = [name for definition in self.module.definitions for name in definition.names]
        names += [name for _, name in KERNELS[1:]]
        names += [BEFORE[1]] * (self.number == INSIDE)
        return tuple((name, self.renamed(name)) for name in names)

    def texts(self, runtime: Inlined) -> Iterator[str]:
        """The definitions; constants may be made of others."""
        names = [name for definition in self.module.definitions for name in definition.names]
        new = {name: self.renamed(name) for name in names if self.renamed(name) != name}
        for definition in self.module.definitions:
            text = runtime.spelled(definition.text, self.module)
            yield rename(text, new) if definition.names[0] in new else text


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
