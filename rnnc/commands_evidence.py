"""`rnnc prove`, `rnnc test`, `rnnc cost`, `rnnc bench`: is it right, and what does it cost?"""

from __future__ import annotations

from typing import Annotated

import typer

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
    import rnnc
    from rnnc.ops.testing import property_test
    from rnnc.progress import track
    from rnnc.threads import settle_threads

    text, path = read_spec(file)
    try:
        operator = rnnc.compile(text + "\n")
    except SpecError as error:
        raise SpecError(error.diagnostics, error.source, path) from None
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
    as_json: Json = False,
) -> None:
    """Bytes, floating point operations and launches of the kernels (not yet available)."""
    del sizes, dtype, as_json
    read_spec(file)
    raise Refusal("cost: arrives with the Triton back end, this version has the torch back end only", FAILED)


def bench(
    file: SpecFile,
    sizes: Annotated[list[str] | None, typer.Argument(metavar="AXIS=SIZE ...", help="B=1 T=8192 ...")] = None,
    as_json: Json = False,
) -> None:
    """Times on this machine's device against installed peers (not yet available)."""
    del sizes, as_json
    read_spec(file)
    raise Refusal("bench: arrives with the Triton back end, this version has the torch back end only", FAILED)
