"""The `nn.Module` of an operator, made from the text of its layer block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from rnnc.codegen.layer_printer import class_name, print_layer
from rnnc.ops import cache

if TYPE_CHECKING:
    from rnnc.ops.operator import Operator

HEADER = """from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnc.ops.initialisers import *
from rnnc.ops.layers import *

"""


def layer_class(operator: Operator) -> type[nn.Module]:
    """The class, with the operator as its attribute. Raises SpecError where the spec has no layer block."""
    text = HEADER + print_layer(operator.recurrence)
    module = cache.execute(f"rnnc_{operator.name}_layer", text, f"<layer of {operator.name} {id(operator)}>")
    made: type[nn.Module] = getattr(module, class_name(operator.recurrence))
    made.operator = operator  # type: ignore[attr-defined]
    return made
