"""`rnnc prove`, `rnnc test`, `rnnc cost`: is it right, and what does it cost?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from rnnc.codegen.hardware import KNOWN
from rnnc.commands_spec import Json, SpecFile
from rnnc.console import err, say, say_diagnostics, say_json
from rnnc.dsl.diagnostics import SpecError
from rnnc.files import read_spec
from rnnc.refusal import FAILED, Refusal


def prove(file: SpecFile, as_json: Json = False) -> None:
    """The exact checks: the forms agree, the backward pass is the derivative."""
    from rnnc.codegen.compiler import compile_text
    from rnnc.codegen.proof import prove as prove_compiled

    text, path = read_spec(file)
    compiled = compile_text(text, path)
    with err.status("proving"):
        proof = prove_compiled(compiled)
    if as_json:
        say_json({"path": path, "name": compiled.recurrence.name, "proven": bool(proof), "text": str(proof)})
    else:
        say_diagnostics(compiled.warnings, text, path)
        say(str(proof))
    if not proof:
        raise typer.Exit(FAILED)


def property_tests(
    file: SpecFile,
    examples: Annotated[int, typer.Option("-n", "--examples", min=1, help="How many random cases.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the first case; case i has seed + i.")] = 0,
    as_json: Json = False,
) -> None:
    """Property tests: every form that runs here against the naive loop, values and gradients."""
    from rnnc.ops.testing import property_test
    from rnnc.progress import track
    from rnnc.threads import settle_threads

    text, path = read_spec(file)
    operator = _operator(text, path)
    settle_threads()
    report = property_test(operator, examples, seed, progress=lambda cases: track(cases, "cases", examples))
    if as_json:
        say_json({"path": path, **report.as_dict()})
    else:
        say(str(report))
    if not report:
        raise typer.Exit(FAILED)


def cost(
    file: SpecFile,
    sizes: Annotated[list[str], typer.Argument(metavar="AXIS=SIZE ...", help="B=1 T=8192 H=96 K=128 V=128")],
    dtype: Annotated[str, typer.Option(help="Of the vector inputs: bf16, fp16, fp32.")] = "bf16",
    chunk: Annotated[int | None, typer.Option(min=16, help="Tokens in a chunk: a power of two.")] = None,
    save: Annotated[str, typer.Option(help="What the forward pass keeps: states, inputs.")] = "states",
    form: Annotated[str, typer.Option(help="chunked, recurrent.")] = "chunked",
    arch: Annotated[str, typer.Option(help=f"{', '.join(KNOWN)}.")] = "sm_90",
    plans: Annotated[int, typer.Option(min=0, help="So many of the plans that there are, beside.")] = 0,
    as_json: Json = False,
) -> None:
    """Bytes through memory, operations, launches of the Triton kernels; their tiles and what bound them."""
    from rnnc.ops.errors import ArgumentError, UnavailableError

    given = axis_sizes("cost", sizes)
    options = given.keys() & {"dtype", "chunk", "states", "save", "form", "arch"}
    if options:
        raise Refusal(f"cost: {min(options)} is no axis: sizes are B, T, H and the axes of the spec")
    text, path = read_spec(file)
    operator = _operator(text, path)
    try:
        found = operator.cost(dtype, chunk, False, save, form, arch, **given)
        lists = _plans(text, path, found.dtype, arch, given) if plans else ()
    except UnavailableError as reason:
        raise Refusal(f"{reason}" + "; see --form recurrent" * (form == "chunked"), FAILED) from None
    except ArgumentError as error:
        raise Refusal(str(error)) from None
    if as_json:
        record = {"plans": [each.best(plans).as_dict() for each in lists]} if lists else {}
        say_json({"path": path, **found.as_dict(), **record})
        return
    say(str(found))
    for each in lists:
        say(str(each.best(plans)))


def _plans(text: str, path: str, dtype: str, arch: str, sizes: dict[str, int]) -> Any:
    """The plans of all stages, whose costs are known already."""
    from rnnc.codegen.compiler import compile_text
    from rnnc.codegen.plan_list import plan_lists
    from rnnc.ops.tuned import of_spec

    return plan_lists(compile_text(text, path), dtype, arch, of_spec, sizes)


def _operator(text: str, path: str) -> Any:
    """Raises SpecError."""
    import rnnc

    try:
        return rnnc.compile(text + "\n")
    except SpecError as error:
        raise SpecError(error.diagnostics, error.source, path) from None


def axis_sizes(command: str, entries: Iterable[str]) -> dict[str, int]:
    """AXIS=SIZE arguments as numbers. Raises Refusal."""
    found = {}
    for entry in entries:
        name, _, text = entry.partition("=")
        if not name or not text.isdecimal():
            raise Refusal(f"{command}: expected AXIS=SIZE with a whole number from 0, got '{entry}'")
        if name in found:
            raise Refusal(f"{command}: {name} is given twice")
        found[name] = int(text)
    return found
