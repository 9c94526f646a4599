"""The `nn.Module` of an operator, made from the text of its layer block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from rnnc.codegen.layer_module import layer_module
from rnnc.codegen.layer_printer import class_name, print_layer
from rnnc.ops import cache

if TYPE_CHECKING:
    from rnnc.ops.operator import Operator


def layer_class(operator: Operator) -> type[nn.Module]:
    """The class, with the operator as its attribute. Raises SpecError where the spec has no layer block."""
    text = layer_module(print_layer(operator.recurrence))
    module = cache.execute(f"rnnc_{operator.name}_layer_{id(operator)}", text, f"<layer of {operator.key}>")
    made: type[nn.Module] = getattr(module, class_name(operator.recurrence))
    made.operator = operator  # type: ignore[attr-defined]
    return made
