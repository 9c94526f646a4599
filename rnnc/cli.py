"""The command line: `rnnc ...` and `python -m rnnc`.

Exit status: 0, or 1 where the spec or the check failed, or 2 where the command was used wrongly. Wrong input
ends in a message, never in a traceback. Commands import what they need when they run, so that `rnnc --help`
and `rnnc check` start without torch.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

import typer

from rnnc import (
    __version__,
    commands_bench,
    commands_equiv,
    commands_evidence,
    commands_models,
    commands_spec,
    commands_tune,
)
from rnnc.console import err, error_record, say, say_json, say_spec_error
from rnnc.dsl.diagnostics import SpecError
from rnnc.refusal import FAILED, Refusal

app = typer.Typer(
    name="rnnc",
    help="A compiler for linear recurrent neural networks: from a spec to a proven, trained layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"rnnc {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show it and exit."
    ),
) -> None:
    del version


def _summary(command: Callable[..., None]) -> str:
    """What a command does, as the list of all says it: uncut."""
    return " ".join((command.__doc__ or "").partition("\n\n")[0].split()).removesuffix(".")


COMMANDS: dict[str, Callable[..., None]] = {
    "check": commands_spec.check,
    "explain": commands_spec.explain,
    "prove": commands_evidence.prove,
    "equiv": commands_equiv.equiv,
    "compile": commands_spec.compile_file,
    "test": commands_evidence.property_tests,
    "cost": commands_evidence.cost,
    "bench": commands_bench.bench,
    "tune": commands_tune.tune,
    "regenerate": commands_models.regenerate,
    "list": commands_models.list_models,
    "new": commands_models.new,
    "demo": commands_models.demo,
}
for name, command in COMMANDS.items():
    app.command(name, short_help=_summary(command))(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; `arguments` default to those of the process."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="rnnc")
    except SpecError as error:
        say_spec_error(error)
        if "--json" in (sys.argv[1:] if arguments is None else arguments):
            say_json(error_record(error))
        sys.exit(FAILED)
    except Refusal as refusal:
        say(f"rnnc: {refusal}", "red", console=err)
        sys.exit(refusal.status)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        say(f"rnnc: the output cannot be written: {(error.strerror or '').lower()}", "red", console=err)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again
        sys.exit(FAILED)
