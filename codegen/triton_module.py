"""The Triton kernels of a recurrence as one module, and what the launcher needs to know of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from rnnc.codegen.arrays import Array
from rnnc.codegen.compiler import Compiled
from rnnc.codegen.cuts import Cut, plan_cuts
from rnnc.codegen.explain import normal_equations
from rnnc.codegen.footprint import footprint
from rnnc.codegen.joined import JoinedPrinter, together
from rnnc.codegen.kernel_record import Kernel, UnsupportedOnGpu
from rnnc.codegen.kernels import plan_transition
from rnnc.codegen.line_breaks import broken
from rnnc.codegen.operations import TIME_AXES
from rnnc.codegen.recurrent_kernels import TokenArray, TokenKernel, base, plan_tokens
from rnnc.codegen.steps_printer import StepsPrinter
from rnnc.codegen.summaries import NoSummary
from rnnc.codegen.templating import literal, template
from rnnc.codegen.torch_module import header
from rnnc.codegen.torch_sums import plain
from rnnc.codegen.triton_printer import KernelPrinter
from rnnc.codegen.value_names import ValueNames
from rnnc.codegen.work import written


@dataclass(frozen=True, slots=True)
class TritonContext:
    """The holes of `triton_module.py.jinja`."""

    header: str
    before: bool
    scalar_scans: bool
    key_axis: str
    value_axis: str
    no_chunks: str
    work: list[tuple[str, str]]
    summary: list[tuple[str, str]]
    micro_axis: str
    no_stretches: str
    transition: str
    scaling: str
    right: str
    forward: str
    backward: str
    cuts: list[tuple[str, str]]
    keeping: str
    cut_work: list[tuple[str, str]]
    forward_steps: str
    backward_steps: str
    joined: str
    kernels: list[str]


def triton_source(compiled: Compiled) -> str:
    """The text of the module: the recurrent form and, where there is one, the chunked form."""
    no_chunks, work, joined = "", [], list[JoinedPrinter]()
    no_stretches, scaling, summary = "", False, list[tuple[str, str]]()
    transition: tuple[list[str], list[str]] = [], []
    cuts, cut_texts, cut_work = list[tuple[str, str]](), list[str](), list[tuple[str, str]]()
    keeping: tuple[str, ...] = ()
    try:
        kernels = chunk_kernels(compiled)
        work = [(kernel.name, written(footprint(kernel))) for group in kernels for kernel in group]
        values = _value_names(kernels[0] + kernels[1], compiled)
        printers = [_printers(group, kernels, compiled, values) for group in kernels]
        forward, backward = map(_printed, printers)
        joined = _joined(kernels, [printer for group in printers for printer in group])
        for cut in other_cuts(compiled, kernels[0]):
            launches, texts = _cut(cut, kernels, compiled)
            cuts.append((cut.name, launches))
            keeping += (cut.name,) if cut.keeps else ()
            cut_texts += texts
            cut_work += [(kernel.name, written(footprint(kernel))) for kernel in cut.kernels]
        try:
            found = transition_kernel(compiled)
        except NoSummary as reason:
            no_stretches = str(reason)
        else:
            if found is not None:
                scaling = found.scaling
                summary = [(found.name, written(footprint(found)))]
                values = _value_names((*kernels[0], found), compiled)
                transition = _printed(_printers([found], kernels, compiled, values))
    except (UnsupportedOnGpu, NotImplementedError) as reason:
        no_chunks, forward, backward = str(reason), ([], []), ([], [])
    steps = list[StepsPrinter]()
    if not compiled.recurrence.earlier:  # which one token alone does not have
        tokens = token_kernels(compiled)
        values = _value_names(tokens, compiled)
        steps = [StepsPrinter(kernel, compiled.normal, values) for kernel in tokens]
    step_texts = [printer.text().rstrip("\n") for printer in steps]
    context = TritonContext(
        header=header(compiled.recurrence, normal_equations(compiled.normal)),
        before=bool(compiled.recurrence.earlier),
        scalar_scans=not compiled.normal.axes and not no_chunks,
        key_axis=compiled.normal.key_axis,
        value_axis=compiled.normal.value_axis,
        no_chunks=literal(no_chunks),
        work=work,
        summary=summary,
        micro_axis=f'"{compiled.normal.micro or ""}"',
        no_stretches=literal(no_stretches),
        transition=_tuple(transition[0]),
        scaling=repr(scaling),
        right=repr(compiled.normal.axes != compiled.normal.state_axes),
        forward=_tuple(forward[0]),
        backward=_tuple(backward[0]),
        cuts=cuts,
        keeping=literal(keeping),
        cut_work=cut_work,
        forward_steps=_tuple([_step_launch(printer) for printer in steps[:1]]),
        backward_steps=_tuple([_step_launch(printer) for printer in steps[1:]]),
        joined=_tuple([printer.launch() for printer in joined]),
        kernels=list(
            dict.fromkeys(  # the passes may walk to the states between those that are kept in the same way
                [
                    *forward[1],
                    *cut_texts,
                    *transition[1],
                    *backward[1],
                    *(printer.text().rstrip("\n") for printer in joined),
                    *step_texts,
                ]
            )
        ),
    )
    holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
    return broken(template("triton_module.py.jinja").render(holes))


def chunk_kernels(compiled: Compiled) -> tuple[tuple[Kernel, ...], tuple[Kernel, ...]]:
    """The kernels of the chunked form, forward and backward. Raises UnsupportedOnGpu."""
    return compiled.kernels[:2]


def other_cuts(compiled: Compiled, forward: tuple[Kernel, ...]) -> tuple[Cut, ...]:
    """The other cuts of the forward pass that there are."""
    form = next(form for form in compiled.forms if form.name == "chunked")
    return tuple(
        cut for cut in plan_cuts(form, compiled.normal, forward, compiled.kernels.lean) if cut.kernels
    )


def _cut(
    cut: Cut, kernels: tuple[tuple[Kernel, ...], tuple[Kernel, ...]], compiled: Compiled
) -> tuple[str, list[str]]:
    """Its launches, and the texts of its own kernels."""
    together = (*kernels[0][: cut.shared], *cut.kernels)
    values = _value_names(together, compiled)
    launches, texts = _printed(_printers(cut.kernels, (together,), compiled, values))
    first = f"*FORWARD[:{cut.shared}], " if cut.shared else ""
    return f"({first}{', '.join(launches)},)", texts


def transition_kernel(compiled: Compiled) -> Kernel | None:
    """What a stretch of tokens makes of the state; None where it keeps it. Raises NoSummary,
    UnsupportedOnGpu.
    """
    form = next(form for form in compiled.forms if form.name == "chunked")
    return plan_transition(form, compiled.normal, compiled.kernels.lean)


def token_kernels(compiled: Compiled) -> tuple[TokenKernel, TokenKernel]:
    """The kernels of the recurrent form, forward and backward."""
    form = next(form for form in compiled.forms if form.name == "recurrent")
    return plan_tokens(form, compiled.normal)


def _value_names(kernels: Sequence[Kernel] | Sequence[TokenKernel], compiled: Compiled) -> ValueNames:
    """The names of all values in the kernels of a form."""
    name = "chunked" if isinstance(kernels[0], Kernel) else "recurrent"
    (builder,) = (form.builder for form in compiled.forms if form.name == name)
    declared = {item.name for item in compiled.recurrence.declared}
    arrays = [array for kernel in kernels for array in _arrays(kernel)]
    carries = list(dict.fromkeys(carry for kernel in kernels for carry in kernel.carries))
    roots = [array.node for array in arrays] + [carry.end for carry in carries]
    results = {plain(a.node): a.name for a in reversed(arrays) if a.name.removeprefix("d'") in declared}
    return ValueNames(roots, results, carries, compiled.normal, builder)


def _arrays(kernel: Kernel | TokenKernel) -> list[Array] | list[TokenArray]:
    """What a kernel reads and writes; what it writes and reads again is part of a result, which takes its
    place, or is read at the end of a chunk.
    """
    written = {array.name for array in kernel.stores}
    return [*(array for array in kernel.loads if array.name not in written), *kernel.stores]


def _printers(
    kernels: Sequence[Kernel], plan: Sequence[Sequence[Kernel]], compiled: Compiled, values: ValueNames
) -> list[KernelPrinter]:
    """Those of one pass."""
    optional = _optional(kernels)
    return [KernelPrinter(kernel, plan, compiled.normal, values, optional) for kernel in kernels]


def _printed(printers: Sequence[KernelPrinter]) -> tuple[list[str], list[str]]:
    """What the launcher needs to know of each, and the texts."""
    walks = {each.walk.kernel.name: each.walk.text() for each in printers if each.walk}
    after = [printer.after.after_text() for printer in printers if printer.after]
    each = (*walks.values(), *after, *(printer.text() for printer in printers))
    texts = [text.rstrip("\n") for text in each]
    return [_launch(printer) for printer in printers], texts


def _joined(
    kernels: tuple[Sequence[Kernel], Sequence[Kernel]], printers: Sequence[KernelPrinter]
) -> list[JoinedPrinter]:
    """What prints the launches that two kernels may be."""
    of = {printer.kernel.name: printer for printer in printers}
    return [JoinedPrinter(each, of[each.first], of[each.second]) for each in together(*kernels)]


def _optional(kernels: Sequence[Kernel]) -> set[str]:
    """What the kernels of a pass write that is a result, or that none of them reads: some calls want it. Of
    those that walk the chunks all: a walk that only summarises a stretch writes the state alone.
    """
    read = {array.name for kernel in kernels for array in kernel.loads}
    written = {array.name for kernel in kernels for array in kernel.stores}
    walked = {array.name for kernel in kernels if kernel.serial for array in kernel.stores}
    again = {a.name for kernel in kernels for a in kernel.loads if a.name in {s.name for s in kernel.stores}}
    return {name for name in written - again if name not in read or name in walked or name.startswith("d'")}


def _tuple(launches: list[str]) -> str:
    return "(\n" + "".join(f"    {launch},\n" for launch in launches) + ")" if launches else "()"


def _launch(printer: KernelPrinter) -> str:
    """The fields of `rnnc.ops.triton_call.Launch`."""
    kernel = printer.kernel
    reads = tuple(_array(printer, array) for array in kernel.loads)
    writes = tuple(_array(printer, array) for array in kernel.stores)
    sizes = tuple(printer.addresses.sizes.items())
    tiled = tuple(axis for axis, _ in sizes if axis in kernel.tiled)
    groups = tuple(printer.addresses.groups)
    parts: tuple[object, ...] = (kernel.name, kernel.role, reads, writes, groups, sizes, tiled)
    if kernel.role == "transition":
        writes = (("@M", printer.states[0][1], "stretch", printer.normal.state_axes),)
        parts = (*parts[:3], writes, *parts[4:])
        return f"Launch({', '.join(map(literal, (*parts, (), ())))})"
    states = [printer.states] if len(printer.states) > 1 or kernel.walked else []
    walked = tuple(_array(printer, array) for array in kernel.walked)
    parts = (*parts, printer.optional, *states, *([walked] if walked else []))
    if kernel.after:
        parts = (*parts[:6], (), printer.optional, printer.states, walked, tiled)
    return f"Launch({', '.join(map(literal, parts))})"


def _array(printer: KernelPrinter, array: Array) -> tuple[str, str, str, tuple[str, ...]]:
    axes = tuple(base(axis) for axis in printer.addresses.memory_axes(array) if axis not in TIME_AXES)
    return array.name, printer.addresses.arguments[array.name], array.place, axes


def _step_launch(printer: StepsPrinter) -> str:
    """As `_launch`; then the states (key, axes, arguments by what they hold), and the tiled axis."""
    kernel = printer.kernel
    arrays = [
        tuple(
            (array.name, printer.arguments[array.name], array.place, tuple(map(base, array.axes)))
            for array in group
        )
        for group in (kernel.loads, kernel.stores)
    ]
    parts = (kernel.name, kernel.role, *arrays, tuple(printer.groups), tuple(printer.sizes.items()))
    rest = (printer.state_arguments(), kernel.tile, kernel.micro)
    return f"StepLaunch({', '.join(map(literal, (*parts, *rest)))})"
