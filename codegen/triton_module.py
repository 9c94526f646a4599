"""The Triton kernels of a recurrence as one module, and what the launcher needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rnnc.codegen.arrays import Array
from rnnc.codegen.compiler import Compiled
from rnnc.codegen.explain import normal_equations
from rnnc.codegen.kernels import plan_kernels
from rnnc.codegen.program import TIME_AXES
from rnnc.codegen.templating import template
from rnnc.codegen.torch_module import header
from rnnc.codegen.triton_printer import KernelPrinter


@dataclass(frozen=True, slots=True)
class TritonContext:
    """The holes of `triton_module.py.jinja`."""

    header: str
    value_axis: str
    forward: str
    backward: str
    kernels: list[str]


def triton_source(compiled: Compiled) -> str:
    """The text of the module; raises UnsupportedOnGpu."""
    normal = compiled.normal
    form = next(form for form in compiled.forms if form.name == "chunked")
    forward, backward = plan_kernels(form, normal)
    printers = [KernelPrinter(kernel, normal) for kernel in (*forward, *backward)]
    texts = [printer.text().rstrip("\n") for printer in printers]
    launches = [_launch(printer) for printer in printers]
    context = TritonContext(
        header=header(compiled.recurrence, normal_equations(normal)),
        value_axis=normal.value_axis,
        forward=_tuple(launches[: len(forward)]),
        backward=_tuple(launches[len(forward) :]),
        kernels=texts,
    )
    holes = {entry.name: getattr(context, entry.name) for entry in fields(context)}
    return template("triton_module.py.jinja").render(holes)


def _tuple(launches: list[str]) -> str:
    return "(\n" + "".join(f"    {launch},\n" for launch in launches) + ")"


def _launch(printer: KernelPrinter) -> str:
    """One kernel's name, role, arrays read and written (key, argument, place, axes), groups and sizes."""
    kernel = printer.kernel
    reads = tuple(_array(printer, array) for array in kernel.loads)
    writes = tuple(_array(printer, array) for array in kernel.stores)
    sizes = tuple(printer.addresses.sizes.items())
    tiled = tuple(axis for axis, _ in sizes if axis in kernel.tiled)
    parts = (kernel.name, kernel.role, reads, writes, tuple(printer.addresses.groups), sizes, tiled)
    return f"Launch({', '.join(map(repr, parts))})"


def _array(printer: KernelPrinter, array: Array) -> tuple[str, str, str, tuple[str, ...]]:
    axes = tuple(axis for axis in printer.addresses.memory_axes(array) if axis not in TIME_AXES)
    return array.name, printer.addresses.arguments[array.name], array.place, axes
