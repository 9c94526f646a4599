"""A compiled recurrence as a function on tensors: forward, gradients, one step, the layer, the evidence."""

from __future__ import annotations

import os
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.expression import names
from rnnc.dsl.interpreter import carried
from rnnc.dsl.recurrence import Recurrence
from rnnc.ops import cache
from rnnc.ops.errors import UnavailableError
from rnnc.ops.function import Function, Outputs, single
from rnnc.ops.options import check_options
from rnnc.ops.reference import default, token_loop
from rnnc.ops.spec_file import read_spec
from rnnc.ops.state import State


class Operator(Function):
    """A recurrence on tensors; see `rnnc.compile`.

    Inputs are [B, T, H, axes] ([B, T, G, axes] `per group`), parameters [H, axes] ([axes] `shared`), in the
    order of declaration or by name. Packed sequences: B = 1 and `cu_seqlens` [N + 1]. States are
    [N, H, axes], N the number of sequences. `spec` is the text it was compiled from, `source` the text of
    the generated module.
    """

    def __init__(self, spec: str, recurrence: Recurrence, module: ModuleType, source: str) -> None:
        super().__init__(
            recurrence, module, carried(recurrence), lambda: self._gates, partial(default, recurrence)
        )
        self.spec, self.source, self.name = spec, source, recurrence.name
        self.__doc__ = recurrence.doc

    def __repr__(self) -> str:
        return f"<rnnc.Operator {self.name}({', '.join(self.signature.names)})>"

    def reference(
        self,
        *args: Tensor | None,
        initial_state: State | None = None,
        output_final_state: bool = False,
        cu_seqlens: Tensor | None = None,
        reverse: bool = False,
        backend: str = "auto",
        form: str = "auto",
        chunk_size: int | None = None,
        save: str = "auto",
        check: bool = True,
        **named: Tensor | None,
    ) -> tuple[Outputs, State | None]:
        """The same by the naive token loop; outputs are float64 for float64 inputs, else float32.

        Ranges are checked unless told otherwise; back end, form, chunk size and `save` change nothing.
        """
        check_options(backend, form, chunk_size, save)
        bound, params, states, offsets = self._bind(args, named, initial_state, cu_seqlens, check)
        if bound.sizes.length == 0:
            outputs, final = self._empty(bound, params, states, bound.dtype)
        else:
            outputs, final = token_loop(
                self.recurrence, bound.inputs, params, states, bound.sizes, offsets, reverse
            )
        return single(outputs), self.carry.pack(final) if output_final_state else None

    @cached_property
    def Layer(self) -> type[torch.nn.Module]:
        """The `nn.Module` of the spec's layer block. Raises SpecError where the spec has none."""
        from rnnc.ops.layer_class import layer_class

        return layer_class(self)

    def explain(self) -> str:
        """The normal form, the derived forms and the numerics, as equations."""
        return str(self._compiled.explain())

    def prove(self) -> Any:
        """The exact checks: true when proven; prints what was proven, and what that does not cover."""
        from rnnc.codegen.proof import prove

        return prove(self._compiled)

    def cost(self, **sizes: Any) -> Any:  # noqa: ARG002 (the arguments of the contract)
        """Not in this version: raises UnavailableError."""
        raise UnavailableError("cost is not in this version: it comes with the triton back end")

    @cached_property
    def _compiled(self) -> Any:
        from rnnc.codegen.compiler import compile_text

        return compile_text(self.spec, self.recurrence.path)

    @cached_property
    def _gates(self) -> frozenset[str]:
        """The inputs and parameters that the decay is made of."""
        from rnnc.dsl.normaliser import normalise

        decay = normalise(self.recurrence).decay
        return frozenset() if decay is None else names(decay)


def compile(spec: str | os.PathLike[str]) -> Operator:  # noqa: A001
    """The operator of a spec: a path, or, if there is a line break in it, the text itself.

    Raises SpecError with everything that is wrong with the spec; SpecFileError if it cannot be read.
    """
    from rnnc.dsl.checker import check
    from rnnc.dsl.parser import parse

    is_text = isinstance(spec, str) and "\n" in spec
    text, path = (str(spec), "<spec>") if is_text else (read_spec(Path(spec)), str(spec))
    recurrence = check(parse(text, path))

    def produce() -> str:
        from rnnc.codegen.compiler import compile_text

        return compile_text(text, path).source

    module, source = cache.load(recurrence.name, text, produce)
    return Operator(text, recurrence, module, source)
