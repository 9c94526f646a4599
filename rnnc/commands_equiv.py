"""`rnnc equiv`: do two specs compute the same?"""

from __future__ import annotations

from typing import Annotated

import typer

from rnnc.commands_spec import Json, SpecFile
from rnnc.console import err, say, say_json
from rnnc.dsl.diagnostics import SpecError
from rnnc.files import read_spec
from rnnc.refusal import FAILED, Refusal


def equiv(
    first: SpecFile,
    second: SpecFile,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="A=B", help="What the first calls A, the second calls B.")
    ] = None,
    let: Annotated[
        list[str] | None,
        typer.Option(metavar="G=EXPRESSION", help="A gate of one by names of the other: g='log(alpha)'."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Proves two specs equal, or shows inputs at which they differ.

    Exit status: 0 equal, 1 different or not decided, 2 wrong usage.
    """
    from rnnc.codegen.equivalence import Incomparable, compare
    from rnnc.dsl.checker import check
    from rnnc.dsl.parser import parse
    from rnnc.dsl.renaming import arguments, bare, renamed, with_gate

    paths = [read_spec(file) for file in (first, second)]
    left, right = (bare(parse(*each)) for each in paths)
    for each in (left, right):  # what is wrong after this comes from the options
        check(each)
    try:
        left = renamed(left, dict(_pair("--rename", each) for each in rename or ()))
        for name, text in (_pair("--let", each) for each in let or ()):
            if name in arguments(left) and name in arguments(right):
                raise Refusal(f"--let {name}: both specs have '{name}'; --rename it in the first")
            if name not in arguments(left) and name not in arguments(right):
                raise Refusal(f"--let {name}: expected an input or parameter of one of the two specs")
            if name in arguments(left):
                left = with_gate(left, right, name, text)
            else:
                right = with_gate(right, left, name, text)
        pair = check(left), check(right)
    except SpecError as error:
        raise Refusal(f"equiv: {error.diagnostics[0].message}") from None
    with err.status("comparing"):
        try:
            answer = compare(*pair)
        except Incomparable as reason:
            raise Refusal(f"equiv: {reason}; name what belongs together by --rename or --let") from None
    if as_json:
        example = answer.counterexample
        say_json(
            {
                "first": paths[0][1],
                "second": paths[1][1],
                "verdict": answer.verdict,
                "how": answer.how,
                "counterexample": None if example is None else example.as_dict(),
            }
        )
    else:
        say(str(answer))
    if not answer:
        raise typer.Exit(FAILED)


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise Refusal(
            f"{option}: expected NAME={'NAME' if option == '--rename' else 'EXPRESSION'}, got '{text}'"
        )
    return name.strip(), value.strip()
