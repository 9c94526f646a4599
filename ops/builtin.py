"""The built-in models: their specs lie beside this file, their modules in `rnnc.ops.generated`."""

from __future__ import annotations

import importlib
from importlib.resources import files

from rnnc.dsl.checker import check
from rnnc.dsl.parser import parse
from rnnc.ops.operator import Operator, compile, operator  # noqa: A004


def builtin(name: str) -> Operator:
    """The operator of a built-in spec, from its generated module where there is one."""
    spec = files("rnnc.ops").joinpath(f"{name}.rnn")
    text = spec.read_text("utf-8")
    generated = files("rnnc.ops.generated").joinpath(f"{name}.py")
    if not generated.is_file():
        return compile(str(spec))
    module = importlib.import_module(f"rnnc.ops.generated.{name}")
    return operator(text, check(parse(text, spec.name)), module, generated.read_text("utf-8"))
