"""`rnnc list`, `rnnc new`, `rnnc regenerate`, `rnnc demo`: the built-in models and the way to one's own."""

from __future__ import annotations

import keyword
from pathlib import Path
from typing import Annotated

import typer

from rnnc.analysis import analyse_file
from rnnc.commands_spec import Json
from rnnc.console import err, say, say_json, say_table
from rnnc.files import builtin_specs, write_text
from rnnc.refusal import FAILED, Refusal

SKELETON = '''\
rnnc 1

recurrence {name}[K, V]:
    """A gated delta rule to start from: replaces what the state holds at key u by v, and forgets slowly."""

    input q[K], k[K], v[V]
    input a, b                                    # raw gates, one scalar per token and head
    param A_log ~ log(uniform(1, 16))             # learned, one scalar per head

    let alpha = exp(-exp(A_log) * softplus(a))    # decay, in (0, 1)
    let beta  = sigmoid(b)                        # write strength, in (0, 1)
    let u     = unit(k)                           # |u| <= 1

    state S[K, V]
    S <- alpha * (S - beta * u @ (u.T @ S)) + beta * u @ v.T

    output o[V]
    o <- S.T @ unit(q) * K**-0.5

    eigenvalues in (0, 1)

    layer:
        q, k, v = silu(conv(linear(x), 4))
        a, b    = linear(x)
        y       = linear(rmsnorm(o) * silu(linear(x)))
'''


def list_models(as_json: Json = False) -> None:
    """The built-in models."""
    models = {name: analyse_file(str(path), over_time=False) for name, path in builtin_specs().items()}
    if as_json:
        say_json([model.record() for model in models.values()])
        return
    keys = ("decay", "eigenvalues")
    rows = [
        (name, *(model.facts.get(key, "-") for key in keys), model.title) for name, model in models.items()
    ]
    say_table(("name", *keys, ""), rows)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME.rnn is written.")],
) -> None:
    """A spec to start from, in NAME.rnn."""
    name = name.removesuffix(".rnn")
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        raise Refusal(f"{name!r} cannot name a recurrence: use letters, digits and underscores, no keyword")
    path = Path(f"{name}.rnn")
    if path.exists():
        raise Refusal(f"{path} is there already, nothing was written")
    write_text(path, SKELETON.format(name=name))
    say(f"wrote {path}; next: rnnc check {path}", console=err)


def regenerate(
    check: Annotated[bool, typer.Option("--check", help="Compare byte by byte instead of writing.")] = False,
) -> None:
    """The generated modules of the built-in models."""
    from rnnc.codegen.regenerate import regenerate as rewrite

    try:
        stale = rewrite(check)
    except OSError as error:
        raise Refusal(f"{error.filename}: cannot be written: {(error.strerror or '').lower()}") from None
    verb = "differ from what their specs give" if check else "written"
    say(f"{', '.join(stale)}: {verb}" if stale else "all generated modules are up to date", console=err)
    if check and stale:
        raise typer.Exit(FAILED)


def demo(
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 320,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the compiled module.")] = Path(
        "demo-output"
    ),
) -> None:
    """A new recurrence from spec to trained character model, in about two minutes on a CPU."""
    from rnnc.examples.demo import run

    run(steps, output)
