"""The jinja environment of all templates, and how text of a user becomes harmless in emitted files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Strict: a hole nobody fills is an error, and lines of control leave no trace."""
    strict = Environment(
        loader=FunctionLoader(lambda name: files("rnnc.templates").joinpath(name).read_text("utf-8")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what is printed is Python
    )
    strict.globals["unspecialised"] = unspecialised
    return strict


def template(name: str) -> Template:
    """The template of that file name."""
    return environment().get_template(name)


def unspecialised(groups: Iterable[str], *counts: str) -> str:
    """The list of counts for which a kernel is not compiled anew; `groups`: the arrays with groups of heads.

    >>> unspecialised(["x"], "T", "H")
    '["T", "H", "G_x"]'
    """
    return json.dumps([*counts, *(f"G_{name}" for name in groups)])


def comment(text: str) -> str:
    """A line of a user's text, safe in a comment or a docstring of double quotes.

    >>> comment('ends \"\"\" here')
    "ends ''' here"
    """
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable.replace("\\", "\\\\").replace('"""', "'''").rstrip('"')


def literal(value: object) -> str:
    """A constant: texts, numbers, tuples; in double quotes, as an axis may end in a single one."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    return repr(value)
