"""`rnnc check`, `rnnc explain`, `rnnc compile`: what a spec means and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnnc.analysis import Analysis, analyse_file
from rnnc.codegen.hardware import KNOWN
from rnnc.console import err, out, say, say_diagnostics, say_json, say_table
from rnnc.files import read_spec, write_text
from rnnc.refusal import FAILED, Refusal

if TYPE_CHECKING:
    from rnnc.codegen.compiler import Spec
    from rnnc.codegen.cost_record import Cost

SpecFile = Annotated[str, typer.Argument(metavar="FILE", help="A spec, - for standard input, or a built-in.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def check(file: SpecFile, as_json: Json = False) -> None:
    """Errors and warnings; the class, ranges and eigenvalues of a spec."""
    analysis = analyse_file(file)
    if as_json:
        say_json(analysis.record())
    else:
        say_diagnostics(analysis.diagnostics, analysis.source, analysis.path)
        _print_facts(analysis)
    if not analysis.ok:
        raise typer.Exit(FAILED)


def _print_facts(analysis: Analysis) -> None:
    errors = sum(diagnostic.severity == "error" for diagnostic in analysis.diagnostics)
    warnings = len(analysis.diagnostics) - errors
    tally = ", ".join(
        f"{count} {word}{'s' if count != 1 else ''}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count
    )
    if errors:
        say(tally, "bold red", console=err)
        return
    out.print(f"[bold green]ok[/] {analysis.name}{f' ({tally})' if tally else ''}")
    width = max((len(key) for key in analysis.facts), default=0)
    for key, value in analysis.facts.items():
        out.print(f"  [bold]{key:<{max(width, 12)}}[/] ", end="")
        say(value)
    if analysis.tracking:
        say("")
    width = max((len(statement.topic) + 1 for statement in analysis.tracking), default=0)
    for statement in analysis.tracking:
        out.print(f"  [bold]{statement.topic:<{width}}[/] ", end="")
        say(statement.text)
        say(f"{'':{width + 3}}{statement.conditions} [{statement.source}]")
    if analysis.ranges:
        say("")
        say_table(("name", "range", ""), [(name, *found) for name, found in analysis.ranges.items()])


def explain(
    file: SpecFile,
    arch: Annotated[str, typer.Option(help=f"How kernels run there: {', '.join(KNOWN)}.")] = "",
) -> None:
    """The normal form and the derived forms as equations; the numerics chosen and why."""
    from rnnc.codegen.compiler import compile_text

    if arch and arch not in KNOWN:
        raise Refusal(f"explain: --arch: expected {', '.join(KNOWN)}, got '{arch}'")
    text, path = read_spec(file)
    compiled = compile_text(text, path)
    say_diagnostics(compiled.warnings, text, path)
    say(compiled.explain())
    if arch:
        say("\n" + _kernels(compiled, arch))


LOADS = ((96, 8192), (8, 8192), (8, 65536))  # heads, tokens of each; few heads leave a machine idle


def _kernels(compiled: Spec, arch: str) -> str:
    """How the chunked kernels run for axes of 128 in bf16, and why."""
    from rnnc.codegen.cost import cost
    from rnnc.codegen.kernel_record import UnsupportedOnGpu
    from rnnc.codegen.tiling_text import sentence
    from rnnc.ops.tuned import of_spec

    axes = dict.fromkeys(compiled.recurrence.axes, 128) | dict.fromkeys(compiled.recurrence.loops, 2)
    head = f"Kernels on {arch}, bf16, {' '.join(f'{axis}={size}' for axis, size in axes.items())}"
    costs = []
    try:
        for heads, length in LOADS:
            sizes = {"B": 1, "T": length, "H": heads} | axes
            each = cost(compiled, "bf16", None, False, "states", "chunked", arch, of_spec, **sizes)
            costs.append((each, f"{heads} heads of {length} tokens"))
    except (UnsupportedOnGpu, NotImplementedError) as reason:
        return f"{head}\n  none in chunks: {reason}"
    except ValueError as error:
        raise Refusal(f"explain: {error}") from None
    (found, _), *few = costs
    kernels = (*found.forward.kernels, *found.backward.kernels)
    lines = [f"  {each.name}: {sentence(each.how)}" for each in kernels if each.how]
    lines += [f"  {load}: {_stretches(each)}" for each, load in few]
    kept = f", a state kept for {found.spacing} of them" if found.spacing > 1 else ""
    return "\n".join([f"{head}: chunks of {found.chunk} tokens{kept}", *lines])


def _stretches(found: Cost) -> str:
    """Whether, and why, sequences are split."""
    if found.split is None:
        return "sequences are not split"
    parts, whole, seconds = found.split.parts, found.split.whole * 1e6, found.split.seconds * 1e6
    if parts < 2:
        return f"sequences are walked whole, in about {whole:.0f} us forward and backward"
    return f"{parts} stretches of each sequence beside each other, about {seconds:.0f} us for {whole:.0f} us"


def compile_file(
    file: SpecFile,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="The module to write, - for standard output.")
    ],
) -> None:
    """One standalone module with the operator and the layer; needs only torch, and triton for its kernels."""
    from rnnc.codegen.compiler import compile_text
    from rnnc.codegen.standalone import standalone

    text, path = read_spec(file)
    compiled = compile_text(text, path)
    say_diagnostics(compiled.warnings, text, path)
    module = standalone(compiled)
    if output == "-":
        out.file.write(module)
        out.file.flush()
        return
    write_text(Path(output), module)
    say(
        f"wrote {output}: {module.count(chr(10))} lines, needs only torch, and triton for its kernels",
        console=err,
    )
