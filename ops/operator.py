"""A compiled recurrence as a function on tensors: forward, gradients, one step, the layer, the evidence."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import torch
from torch import Tensor

from rnnc.dsl.delays import delayed, delayed_lets, without_delays
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.earlier import inside
from rnnc.dsl.expression import names
from rnnc.dsl.interpreter import carried, evaluate
from rnnc.dsl.recurrence import Recurrence
from rnnc.dsl.stages import feeds, gates, hands_on, split, wide
from rnnc.ops import cache, traced, tuned
from rnnc.ops.c_backend import Kind, Walks
from rnnc.ops.delays import WithDelays
from rnnc.ops.errors import ArgumentError, SpecWarning, UnavailableError
from rnnc.ops.function import Function, Outputs, single
from rnnc.ops.kept_choices import kept
from rnnc.ops.options import CHUNK, NAMES, Options, check_options
from rnnc.ops.reference import default, token_loop
from rnnc.ops.spec_file import read_spec
from rnnc.ops.stages import Pipeline, stage_module
from rnnc.ops.state import Carry, State
from rnnc.ops.triton_backend import TritonKernels


class Operator(Function):
    """A recurrence on tensors; see `rnnc.compile`.

    Inputs are [B, T, H, axes] ([B, T, G, axes] `per group`), parameters [H, axes] ([axes] `shared`), in the
    order of declaration or by name. Packed sequences: B = 1 and `cu_seqlens` [N + 1]. States are
    [N, H, axes], N the number of sequences. `spec` is the text it was compiled from, `source` the text of
    the generated module, `triton_source` that of its kernels, `c_source` that of a pass in C.
    """

    kernels: TritonKernels

    def __init__(self, spec: str, recurrence: Recurrence, module: ModuleType, source: str) -> None:
        super().__init__(
            recurrence,
            module,
            carried(recurrence),
            lambda: self._gates,
            partial(default, recurrence),
            TritonKernels(recurrence, self._generate, tuned.findings, kept),
            walks=Walks(recurrence, spec, Carry(carried(recurrence)), self._generate_c),
        )
        self.spec, self.source, self.name = spec, source, recurrence.name
        self.__doc__ = recurrence.doc
        self.key = traced.register(self.name, self)

    def __reduce__(self) -> tuple[Any, ...]:
        return compile, (self.spec,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # as a function is its own copy

    def __repr__(self) -> str:
        return f"<rnnc.Operator {self.name}({', '.join(self.signature.names)})>"

    def call(
        self, args: Sequence[Any], named: dict[str, Any], options: Options
    ) -> tuple[Outputs, State | None]:
        """As `Function` has it; while torch compiles, one node of its graph."""
        if torch.compiler.is_compiling():
            return self._trace(args, named, options)
        return super().call(args, named, options)

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
        check_options(Options(backend=backend, form=form, chunk_size=chunk_size, save=save))
        bound = self._bind(args, named, check)
        count, offsets = self._sequences(bound, cu_seqlens, values=True)
        params = self._params(bound)
        states = self._initial(bound, params, initial_state, count, "initial_state")
        if not bound.sizes.batch * bound.sizes.length:
            outputs, final = self._empty(bound, params, states, bound.dtype)
        else:
            outputs, final = token_loop(
                self.recurrence, bound.inputs, params, states, bound.sizes, offsets, reverse
            )
        return single(outputs), self.carry.pack(final) if output_final_state else None

    @cached_property
    def Layer(self) -> type[torch.nn.Module]:
        """The `nn.Module` of the spec's layer block: `layer = Layer(d_model, num_heads, K=128, V=128)`.

        y = layer(x), both [B, T, d_model]; y, state = layer(x, state, return_state=True) continues what the
        state has seen, at any length; `cu_seqlens` packs sequences. An axis that is left out is
        d_model // num_heads, that of a loop 2; `num_groups` where inputs are `per group`. Raises
        SpecError where the spec has no layer block.
        """
        from rnnc.ops.layer_class import layer_class

        return layer_class(self)

    @property
    def triton_source(self) -> str:
        """The text of the Triton kernels. Raises UnavailableError where the spec has none."""
        return self.kernels.available[1]

    def c_source(self, which: str = "forward", chunk: int = CHUNK, dtype: str = "fp32", **sizes: int) -> str:
        """The text in C of a pass of the chunked form, one stage after the other; nothing is compiled.

        `which`: forward, backward, or states, what the backward pass starts from where nothing was kept.
        `chunk` is a chunk size as calls take it; `dtype`, of all arrays: fp32, fp64. `sizes` gives every axis
        by name: `op.c_source(K=64, V=64)`. With delays, it is given what is delayed as inputs. Raises
        ArgumentError for other values and sizes, UnavailableError where there is no C.
        """
        from rnnc.ops.c_text import c_text

        stages = [stage.recurrence for stage in self._compiled.stages]
        return c_text(self.recurrence, stages, self._generate_c, which, chunk, dtype, sizes)

    def explain(self) -> str:
        """The normal form, the derived forms and the numerics, as equations."""
        return str(self._compiled.explain())

    def prove(self) -> Any:
        """The exact checks: true when proven; prints what was proven, and what that does not cover."""
        from rnnc.codegen.proof import prove

        return prove(self._compiled)

    def cost(
        self,
        dtype: str = "bf16",
        chunk: int | None = None,
        states: bool = False,
        save: str = "states",
        form: str = "chunked",
        arch: str = "sm_90",
        **sizes: int,
    ) -> Any:
        """Bytes through memory, operations and launches of the Triton kernels, and of torch around them where
        there are stages or delays, forward and backward; prints.

        `sizes` gives B, T, H and every axis by name; `save` and `form` are options of a call; `arch`:
        sm_80, sm_86, sm_90, sm_100, sm_120, gfx942. Raises UnavailableError where there are no kernels, and
        ArgumentError for other sizes. See `rnnc.codegen.cost`.
        """
        from rnnc.codegen.kernel_record import UnsupportedOnGpu

        try:
            given = {"dtype": dtype, "chunk": chunk, "states": states, "save": save, "form": form}
            return self._cost(given | {"arch": arch, "findings": tuned.of_spec} | sizes)
        except (UnsupportedOnGpu, NotImplementedError) as reason:
            raise UnavailableError(
                f"cost: no {form} Triton kernels for {self.name} in this version: {reason}"
            ) from None
        except ValueError as error:
            raise ArgumentError(f"cost: {error}") from None

    def _cost(self, given: dict[str, Any]) -> Any:
        """See `cost`, whose arguments these are."""
        from rnnc.codegen.cost import cost

        return self._with_torch(cost(self._compiled, **given), given["states"])

    def _with_torch(self, found: Any, states: bool, inside: bool = False) -> Any:
        """The cost of the kernels with that of what torch does around them; `inside`: see `around`."""
        if not isinstance(self, Pipeline | WithDelays):
            return found
        from rnnc.codegen.stage_cost import with_torch
        from rnnc.ops.torch_recording import DTYPES, around

        torchs = around(self, found.sizes, DTYPES[found.dtype], states, found.form, inside)
        return with_torch(found, self.recurrence, torchs.forward, torchs.backward, torchs.saved, states)

    def _trace(
        self, args: Sequence[Any], named: dict[str, Any], options: Options
    ) -> tuple[Outputs, State | None]:
        """The call as one node of a graph; shapes and dtypes are checked now, `cu_seqlens` when it runs."""
        check_options(options)
        bound = self.signature.bind(args, named, NAMES, time=True)
        params, bounds = self._params(bound), options.cu_seqlens
        count = bound.sizes.batch if bounds is None else bounds.shape[0] - 1
        states = self._initial(bound, params, options.initial_state, count, "initial_state")
        if not bound.sizes.batch * bound.sizes.length:
            outputs, final = self._empty(bound, params, states, bound.output_dtype)
        else:
            tensors = [*bound.inputs, *params, *states]
            how = options.reverse, options.backend, options.form, options.chunk_size
            results = tuple(traced.forward(self.key, tensors, bounds, *how))
            number = len(self.recurrence.outputs)
            outputs, final = results[:number], results[number:]
        return single(outputs), self.carry.pack(final) if options.output_final_state else None

    def run_eagerly(
        self,
        tensors: Sequence[Tensor],
        cu_seqlens: Tensor | None,
        reverse: bool,
        backend: str,
        form: str,
        chunk_size: int | None,
    ) -> list[Tensor]:
        """Outputs and final states, from inputs, parameters and states: what a node of a graph computes."""
        count = len(self.signature.names)
        start = self.carry.pack(tuple(tensors[count:]))
        options = Options(start, True, cu_seqlens, reverse, backend, form, chunk_size)
        outputs, final = super().call(tensors[:count], {}, options)
        parts = [(part,) if isinstance(part, Tensor) else part or () for part in (outputs, final)]
        return [tensor.contiguous() for part in parts for tensor in part]

    def empty_results(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors shaped like the results of `run_eagerly`."""
        count = len(self.signature.names)
        bound = self.signature.bind(tensors[:count], {}, NAMES, time=True)
        shapes = self._output_shapes(bound)
        outputs = [tensors[0].new_empty(shape, dtype=bound.output_dtype) for shape in shapes]
        states = [x.new_empty(x.shape) for x in tensors[count:]]
        return [*outputs, *states]

    def _generate(self, stage: int = 0) -> tuple[ModuleType, str] | str:
        """The module of the Triton kernels of a stage, and its text; or why there is none."""
        from rnnc.codegen.kernel_record import UnsupportedOnGpu

        def produce() -> str:
            from rnnc.codegen.triton_module import triton_source

            return triton_source(self._compiled.stages[stage])

        name = f"{self.name}_triton{stage or ''}"
        try:
            return cache.load(name, self.spec, produce)
        except (UnsupportedOnGpu, NotImplementedError) as reason:
            return str(reason)

    def _generate_c(self, which: str, kind: Kind, stage: int = 0) -> str:
        """A pass of a stage in C. Raises NotImplementedError."""
        from rnnc.codegen.c_program import walk_source
        from rnnc.codegen.c_target import Target

        return walk_source(self._compiled.stages[stage], which, Target(*kind))  # type: ignore[arg-type]

    @cached_property
    def _compiled(self) -> Any:
        from rnnc.codegen.compiler import compile_text

        return compile_text(self.spec, self.recurrence.path)

    @cached_property
    def _gates(self) -> frozenset[str]:
        """The inputs and parameters that the decay is made of."""
        return gates(self.recurrence)


class StagedOperator(Operator, Pipeline):
    """A recurrence in stages: every stage is a function of its own, with its own passes and kernels."""

    def __init__(self, spec: str, recurrence: Recurrence, module: ModuleType, source: str) -> None:
        super().__init__(spec, recurrence, module, source)
        parts = split(recurrence)
        self.kernels_of = [
            TritonKernels(part, partial(self._generate, n), tuned.findings, kept)
            for n, part in enumerate(parts)
        ]
        self.stages = tuple(
            Function(
                part,
                stage_module(module, n + 1),
                carried(part),
                partial(wide, recurrence, n),
                None,
                kernels,
                precise=hands_on(recurrence, part),
                feeds=feeds(recurrence, part),
                walks=Walks(part, f"{spec}\0{n}", Carry(carried(part)), partial(self._generate_c, stage=n)),
            )
            for n, (part, kernels) in enumerate(zip(parts, self.kernels_of, strict=True))
        )

    @property
    def triton_source(self) -> str:
        """The text of the Triton kernels, one stage after the other."""
        return "\n\n".join(kernels.available[1] for kernels in self.kernels_of)


class DelayedOperator(Operator, WithDelays):
    """A recurrence with delays: an operator that is given the delayed values too does the rest."""

    inner: Operator
    inside: TritonKernels | None

    def __init__(self, spec: str, recurrence: Recurrence, module: ModuleType, source: str) -> None:
        super().__init__(spec, recurrence, module, source)
        self.inner = operator(spec, without_delays(recurrence), module, source)
        self.found = delayed(recurrence)
        self.inside = self._kernels_inside()
        self.lets = tuple(
            (let.name, tuple(sorted(names(let.value))), partial(evaluate, let.value))
            for let in delayed_lets(recurrence)
        )

    def _cost(self, given: dict[str, Any]) -> Any:
        """Of the cheaper way, which is the one that calls go; it says what the other costs."""
        from rnnc.codegen.cost import cost
        from rnnc.codegen.stage_cost import weighed

        before, inside = super()._cost(given), self._compiled.inside
        if given["form"] != "chunked":
            return before
        if isinstance(inside, str) or self.inside is None:
            return weighed(before, None, str(inside))
        if isinstance(self.inside.generated, str):
            return weighed(before, None, self.inside.generated)
        return weighed(before, self._with_torch(cost(inside, **given), given["states"], inside=True), "")

    def _kernels_inside(self) -> TritonKernels | None:
        """The kernels that form what is delayed; none where that is formed before them."""
        try:
            made = inside(self.recurrence)
        except SpecError:
            return None
        if len(split(self.recurrence)) > 1:  # which hand on what is delayed
            return None
        return TritonKernels(made, self._generate_inside, tuned.findings, kept)

    def _generate_inside(self) -> tuple[ModuleType, str] | str:
        """As `_generate`."""
        from rnnc.codegen.kernel_record import UnsupportedOnGpu

        def produce() -> str:
            from rnnc.codegen.triton_module import triton_source

            return triton_source(self._compiled.inside)

        try:
            return cache.load(f"{self.name}_triton_inside", self.spec, produce)
        except (UnsupportedOnGpu, NotImplementedError) as reason:
            return str(reason)

    @property
    def triton_source(self) -> str:
        """The text of the Triton kernels; of the chunked form those that form what is delayed first."""
        inside = self.inside.generated if self.inside else ""
        both = [] if isinstance(inside, str) else [inside[1]]
        return "\n\n".join([*both, self.inner.triton_source])


def operator(spec: str, recurrence: Recurrence, module: ModuleType, source: str) -> Operator:
    """The operator of a checked spec: its text, the generated module and its text."""
    if delayed(recurrence):
        return DelayedOperator(spec, recurrence, module, source)
    kind = Operator if len(split(recurrence)) == 1 else StagedOperator
    return kind(spec, recurrence, module, source)


def compile(spec: str | os.PathLike[str]) -> Operator:  # noqa: A001
    """The operator of a spec: a path, or, if there is a line break in it or nothing, the text.

    Warns (SpecWarning) of what is doubtful in it, as `rnnc check` does. Raises SpecError with everything that
    is wrong with the spec; SpecFileError if it cannot be read.
    """
    from rnnc.codegen.compiler import analyse

    is_text = isinstance(spec, str) and ("\n" in spec or not spec)
    text, path = (str(spec), "<spec>") if is_text else (read_spec(Path(spec)), str(spec))
    compiled = analyse(text, path)
    for finding in compiled.warnings:
        warnings.warn(finding.render(text, path), SpecWarning, stacklevel=2)
    recurrence = compiled.declared
    module, source = cache.load(recurrence.name, text, lambda: compiled.source)
    return operator(text, recurrence, module, source)
