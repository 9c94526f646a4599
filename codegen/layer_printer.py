"""Prints the `layer:` block of a spec as an `nn.Module` that a reader can follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rnnc.codegen.layer_lines import assignment, initial, names, started, title
from rnnc.codegen.layer_lowering import Lowering, Value
from rnnc.codegen.layer_shapes import MODEL, Shape
from rnnc.codegen.names import MODULE_ATTRIBUTES, Names
from rnnc.codegen.templating import comment, template
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.recurrence import Initialiser, Input, Output, Param, Recurrence
from rnnc.dsl.syntax import (
    LayerBinding,
    LayerBlock,
)

STEPS = 2  # micro-steps of a token, where a layer is not told
LOCALS = [
    "Any",
    "CausalConv",
    "F",
    "LayerState",
    "LowRank",
    "RMSNorm",
    "Tensor",
    "TokenShift",
    "Windows",
    "backend",
    "check_widths",
    "chunk_size",
    "cu_seqlens",
    "form",
    "h0",
    "ht",
    "nn",
    "inputs",
    "outputs",
    "params",
    "return_state",
    "save",
    "self",
    "state",
    "torch",
    "unit",
    "windows",
    "x",
]
ARGUMENTS = [
    "Any",
    "CausalConv",
    "F",
    "LowRank",
    "RMSNorm",
    "Tensor",
    "TokenShift",
    "check_widths",
    "d_model",
    "nn",
    "self",
    "super",
    "torch",
]


@dataclass(frozen=True, slots=True)
class LayerText:
    """The holes of `layer.py.jinja`."""

    name: str
    title: str
    equations: tuple[str, ...]
    attribute: str
    signature: tuple[str, ...]
    constructor: tuple[str, ...]
    before: tuple[str, ...]
    inputs: str
    params: str
    token: str
    call: str
    step: str
    outputs: str
    unsqueezed: str
    after: tuple[str, ...]
    y: str


def class_name(recurrence: Recurrence) -> str:
    """`gated_delta_net` -> `GatedDeltaNetLayer`."""
    return "".join(word[:1].upper() + word[1:] for word in recurrence.name.split("_")) + "Layer"


def print_layer(recurrence: Recurrence, operator: str | None = None) -> str:
    """The class as text. It needs `torch`, `nn`, `F`, `Tensor`, `Any`, and of `rnnc.ops.layers` and
    `rnnc.ops.initialisers` what it names.

    It calls the functions `operator` and `operator`_step, or by default its class attribute `operator`.
    Raises SpecError if the spec has no layer block, or if shapes in it do not fit.
    """
    block = recurrence.layer
    if block is None:
        message = f"'{recurrence.name}' has no layer block"
        raise SpecError([Diagnostic("no-layer", message)], recurrence.source, recurrence.path)
    try:
        text = _Printer(recurrence, block, operator).text()
    except SpecError as error:
        raise SpecError(error.diagnostics, recurrence.source, recurrence.path) from None
    return template("layer.py.jinja").render(asdict(text))


def check_layer(recurrence: Recurrence) -> list[Diagnostic]:
    """What is wrong with the shapes of a layer block, if there is one."""
    try:
        if recurrence.layer is not None:
            _Printer(recurrence, recurrence.layer, None).text()
    except SpecError as error:
        return list(error.diagnostics)
    return []


class _Printer:
    """One print: the modules and lines come from `Lowering`, the frame from the template."""

    def __init__(self, recurrence: Recurrence, block: LayerBlock, operator: str | None) -> None:
        self.recurrence = recurrence
        self.block = block
        self.operator = operator
        self.locals = Names([*LOCALS, *([operator, f"{operator}_step"] if operator else [])])
        self.attributes = Names([*MODULE_ATTRIBUTES, *ARGUMENTS])
        self.axes = {axis: self.attributes.fresh(axis) for axis in recurrence.axes}
        self.params = {param.name: self.attributes.fresh(param.name) for param in started(recurrence)}
        self.lowering = Lowering(self.attributes, self.locals, {"x": Value("x", MODEL)})

    def text(self) -> LayerText:
        recurrence = self.recurrence
        first = self._first_after()
        before = self._bind(self.block.bindings[:first], {i.name: self._shape(i) for i in recurrence.inputs})
        known = self.lowering.known
        inputs = [known[i.name].code if i.name in known else "None" for i in recurrence.inputs]
        outputs = []
        for output in recurrence.outputs:
            name = self.locals.fresh(output.name)
            known[output.name] = Value(name, self._shape(output))
            outputs.append(name)
        after = self._bind(self.block.bindings[first:], {"y": MODEL})
        params = [
            f"self.{self.params[p.name]}" if p.name in self.params else "None" for p in recurrence.params
        ]
        return LayerText(
            name=class_name(recurrence),
            title=title(recurrence),
            equations=tuple(comment(line) for line in self._equations()),
            attribute="" if self.operator else "operator: Any = None  # the compiled recurrence",
            signature=self._signature(),
            constructor=tuple(self._constructor()),
            before=before,
            inputs=f"({', '.join(inputs)}{',' if len(inputs) == 1 else ''})",
            params=f"({', '.join(params)}{',' if len(params) == 1 else ''})",
            token="value if value is None else value[:, 0]" if "None" in inputs else "value[:, 0]",
            call=self.operator or "self.operator",
            step=f"{self.operator}_step" if self.operator else "self.operator.step",
            outputs=outputs[0] if len(outputs) == 1 else f"({', '.join(outputs)})",
            unsqueezed="outputs[:, None]" if len(outputs) == 1 else "(value[:, None] for value in outputs)",
            after=after,
            y=known["y"].code,
        )

    def _first_after(self) -> int:
        """The first binding that comes after the recurrence: it reads an output, or binds `y`."""
        inputs = {i.name for i in self.recurrence.inputs}
        outputs = {o.name for o in self.recurrence.outputs}
        for number, binding in enumerate(self.block.bindings):
            if names(binding.value) & outputs or ("y" in binding.targets and "y" not in inputs):
                return number
        return len(self.block.bindings)

    def _bind(self, bindings: tuple[LayerBinding, ...], shapes: dict[str, Shape]) -> tuple[str, ...]:
        """The lines that bind the targets. All targets of one line read the names from before it."""
        for binding in bindings:
            values = {}
            for target in binding.targets:
                shape = shapes.get(target) or self.lowering.shape(binding.value)
                value = self.lowering.value(target, binding.value, shape)
                name = self.locals.fresh(target)
                self.lowering.lines.append((name, value.code))
                values[target] = Value(name, value.shape)
            self.lowering.known |= values
        lines = tuple(assignment(name, code) for name, code in self.lowering.lines)
        self.lowering.lines.clear()
        return lines

    def _shape(self, value: Input | Output) -> Shape:
        per_group = isinstance(value, Input) and value.per_group
        return Shape("groups" if per_group else "heads", tuple(self.axes[axis] for axis in value.axes))

    def _signature(self) -> tuple[str, ...]:
        groups = ["num_groups: int | None = None"] if self._grouped() else []
        sizes = [f"{axis}: int{self._default(axis)}" for axis in self._ordered_axes()]
        return ("d_model: int", "num_heads: int", *sizes, *groups)

    def _optional(self, axis: str) -> bool:
        """Axes of states have a default: the heads together are then as wide as the model."""
        return any(self.axes[name] == axis for state in self.recurrence.states for name in state.axes)

    def _default(self, axis: str) -> str:
        if axis in self._steps():
            return f" = {STEPS}"
        return " | None = None" if self._optional(axis) else ""

    def _steps(self) -> set[str]:
        """The axes of micro-steps."""
        return {self.axes[axis] for axis in self.recurrence.loops}

    def _ordered_axes(self) -> list[str]:
        """The axes as arguments: those without a default first."""
        return sorted(self.axes.values(), key=lambda axis: self._default(axis) != "")

    def _grouped(self) -> bool:
        return any(i.per_group for i in self.recurrence.inputs)

    def _constructor(self) -> list[str]:
        lines = [_checked(["d_model", "num_heads"]), "self.d_model, self.num_heads = d_model, num_heads"]
        groups = ["num_groups"] * self._grouped()
        lines += [f"self.{name} = {name} = num_heads if {name} is None else {name}" for name in groups]
        for axis in self._ordered_axes():
            default = f" = d_model // num_heads if {axis} is None else {axis}" if self._optional(axis) else ""
            lines.append(f"self.{axis} = {axis}{default}")
        lines.append(_checked([*groups, *self._ordered_axes()]))
        lines += [f"self.{name} = {code}" for name, code in self.lowering.modules]
        return [*lines, *(self._start(param) for param in started(self.recurrence))]

    def _start(self, param: Param) -> str:
        """The line that makes a parameter, or a buffer where its initialiser is `fixed(...)`."""
        sizes = [*([] if param.shared else ["num_heads"]), *(self.axes[axis] for axis in param.axes)]
        shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
        start, name = param.initialiser or Initialiser("zeros", ()), self.params[param.name]
        if start.name == "fixed" and isinstance(start.arguments[0], Initialiser):
            return f'self.register_buffer("{name}", {initial(start.arguments[0], shape)})'
        return f"self.{name} = nn.Parameter({initial(start, shape)})"

    def _equations(self) -> list[str]:
        lines = self.recurrence.source.splitlines()
        spans = [binding.span for binding in self.block.bindings]
        return [lines[span.line - 1].split("#")[0].strip() for span in spans if span.line <= len(lines)]


def _checked(sizes: Sequence[str]) -> str:
    return f"check_widths({', '.join(f'{name}={name}' for name in sizes)})"
