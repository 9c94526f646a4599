"""The Triton back end of an operator: which calls it takes, and why not the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.recurrence import Recurrence
from rnnc.ops.arguments import REMEMBERED, Bound
from rnnc.ops.errors import UnavailableError
from rnnc.ops.options import Options
from rnnc.ops.triton_autograd import TritonPlan, apply, on
from rnnc.ops.triton_call import UNTILED, Call, Tiled
from rnnc.ops.triton_choices import Choices, Generated
from rnnc.ops.triton_step import Step
from rnnc.ops.triton_steps import check_sizes
from rnnc.ops.triton_stretches import WHOLE, Split
from rnnc.ops.triton_tiling import FindingsOf, Kept

Tensors = tuple[Tensor, ...]


class TritonKernels:
    """The kernels of a recurrence; `generate` loads or prints their module, when first asked for, or says why
    there is none. `findings`: what is known of how they compile; `kept`: what finds a choice again that was
    made before.

    They have the recurrent form and, for most classes, the chunked one. They agree with the reference in
    Triton's interpreter; until `rnnc tune` has seen that on the GPU too, `auto` does not take them there, and
    says so once: `triton` does.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        generate: Callable[[], Generated | str],
        findings: FindingsOf | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.recurrence, self.generate = recurrence, generate
        self.choices = Choices(recurrence.name, lambda: self.available, findings, kept)
        self.warned: set[str] = set()
        self.steps: dict[Hashable, Step] = {}
        self.prepared: dict[Hashable, tuple[Tiled, dict[Any, Any]]] = {}
        self.plans: dict[Hashable, TritonPlan] = {}
        self.taken: dict[Hashable, str] = {}

    @cached_property
    def generated(self) -> Generated | str:
        """The module and its text, or why there is none."""
        found = self.generate()
        if isinstance(found, str):
            return f"triton has no kernels for {self.recurrence.name} in this version: {found}"
        return found

    @property
    def available(self) -> Generated:
        """The module and its text; raises UnavailableError."""
        if isinstance(self.generated, str):
            raise UnavailableError(self.generated)
        return self.generated

    def take(self, backend: str, form: str, bound: Bound) -> str | None:
        """The form in which they take a call, or None.

        Raises UnavailableError if they are asked to by name but cannot.
        """
        if backend in ("torch", "c") or (backend == "auto" and bound.device.type != "cuda"):
            return None
        key = bound.key, backend, form
        known = self.taken.get(key)
        if known is not None:
            return known
        obstacle = self.obstacle(form, bound.output_dtype, bound.device, backend)
        name = self.recurrence.name
        if backend == "auto" and obstacle is None and not self._validated(bound, form):
            obstacle = (
                f"the kernels of {name} are not validated on this GPU for these sizes (`rnnc tune` does that;"
                " backend='triton' runs them as they are)"
            )
        if obstacle and backend == "triton":
            raise UnavailableError(f"{obstacle}: use backend='torch'")
        if obstacle:
            self._warn(f"{obstacle}: torch is used")
            return None
        without = self.no_chunks or (self.choices.too_large(bound) if form == "auto" else "")
        if form == "auto" and without:
            self._warn(f"{without}: its recurrent form runs, one token after the other")
        found = "recurrent" if form == "recurrent" or without else "chunked"
        if bound.key is not None:
            if len(self.taken) > REMEMBERED:
                self.taken.clear()
            self.taken[key] = found
        return found

    def replaces(self, bound: Bound, options: Options) -> bool:
        """Whether they can take a call in the chunked form, where others can too."""
        backend, form = options.backend, options.form
        if backend in ("torch", "c") or form not in ("auto", "chunked"):
            return False
        if backend == "auto" and bound.device.type != "cuda":
            return False
        if self.obstacle("chunked", bound.output_dtype, bound.device, backend):
            return False
        return self._validated(bound, form) if backend == "auto" else not self.choices.too_large(bound)

    def stretched(self, bound: Bound, options: Options) -> bool:
        """Whether sequences of a call are walked in stretches. Raises UnavailableError."""
        sizes = bound.sizes
        if self.no_chunks or self.choices.too_large(bound):
            return False
        how = self.choices.tiled(sizes.axes, bound.output_dtype.itemsize, bound.device, sizes.length)
        may = options.backend == "triton" and options.cu_seqlens is None
        return self.choices.split(bound, sizes.length, may, how).parts > 1

    def _validated(self, bound: Bound, form: str) -> bool:
        """Whether the chunked kernels that a call would run have run on its device, and were right."""
        if form == "recurrent":
            return False
        sizes = bound.sizes
        try:
            size = bound.output_dtype.itemsize
            return self.choices.tiled(sizes.axes, size, bound.device, sizes.length).validated
        except UnavailableError:
            return False

    def _warn(self, message: str) -> None:
        """Warns, the first time."""
        if message not in self.warned:
            self.warned.add(message)
            warnings.warn(message, RuntimeWarning, stacklevel=5)

    @property
    def no_chunks(self) -> str:
        """Why there is no chunked form; empty if there is one."""
        reason = self.available[0].NO_CHUNKS
        return reason and f"triton has no chunked form of {self.recurrence.name} in this version: {reason}"

    def obstacle(self, form: str, dtype: torch.dtype, device: torch.device, backend: str) -> str | None:
        """What keeps them from a call."""
        if not _installed():
            return "triton is not installed"
        if device.type == "cpu" and not _interpreted():
            return "triton runs on a CPU only in its interpreter (TRITON_INTERPRET=1 before Python starts)"
        if device.type not in ("cpu", "cuda"):
            return f"triton does not run on a device of type '{device.type}'"
        if form == "parallel":
            return f"triton has no parallel form of {self.recurrence.name} in this version"
        if dtype == torch.float64:
            return "triton has no float64"
        if isinstance(self.generated, str):
            return self.generated
        if form == "chunked" or (form == "auto" and backend == "auto"):
            return self.no_chunks or None
        return None

    def run(
        self,
        bound: Bound,
        params: Tensors,
        states: Tensors,
        form: str,
        options: Options,
        precise: bool,
        starts: Tensors = (),
    ) -> tuple[Tensors, Tensors]:
        """The outputs [B, T, H, axes] and, if asked for, the final states [N, H, axes]; no `states`: zeros.

        `starts`: what the recurrence has of that kind among its `earlier` values, in order; none: zeros.

        Raises UnavailableError for sizes that the kernels of the form do not take.
        """
        cu_seqlens = options.cu_seqlens
        given = (*bound.inputs, *params, *starts, *states)
        recorded = torch.is_grad_enabled() and any(x.requires_grad for x in given)
        count = None if cu_seqlens is None else (cu_seqlens.shape[0], cu_seqlens.dtype)
        asked = form, options.output_final_state, options[3:], precise, bool(starts), recorded
        key = bound.key, count, asked, self.choices.stretches, self.choices.cut
        plan = self.plans.get(key)
        if plan is None:
            plan = self._plan(bound, form, options, precise, bool(starts), recorded)
            if bound.key is not None:
                if len(self.plans) > REMEMBERED:
                    self.plans.clear()
                self.plans[key] = plan
        elif cu_seqlens is not None:
            plan = plan.packed(cu_seqlens.contiguous())
        return apply(plan, *given)

    def _plan(
        self, bound: Bound, form: str, options: Options, precise: bool, starts: bool, recorded: bool
    ) -> TritonPlan:
        """How calls of these shapes run. Raises UnavailableError."""
        length, cu_seqlens = bound.sizes.length, options.cu_seqlens
        named = options.backend == "triton"  # then what is not validated may run too
        if form == "recurrent":
            self._check_sizes(bound)
        how, split = UNTILED, WHOLE
        if form == "chunked":
            choices, asked, own = self.choices, options.chunk_size, cu_seqlens is None
            given = bound.sizes.axes, bound.output_dtype.itemsize, bound.device
            how = choices.tiled(*given, length, asked)
            split = choices.split(bound, length, named and own, how)
            may_cut = split.parts == 1 and bool(choices.cut or (named and own))
            if may_cut and not recorded:
                how = choices.alone(*given, length, how, asked)
            # Stretches keep the state of every chunk, and are walked in the usual cut.
            if (how.spacing > 1 or how.cut in self.available[0].KEEPING) and split.parts > 1:
                how = choices.with_every_state(*given, how.chunk)
        call = self._call(bound, length, cu_seqlens, bool(options.reverse), how, split, starts)
        keep, final = options.save != "inputs", options.output_final_state
        return TritonPlan(self.available[0], call, self.recurrence, keep, final, form, precise)

    def step(
        self, bound: Bound, params: Tensors, states: Tensors, places: Tensors | None, precise: bool
    ) -> tuple[Tensors, Tensors]:
        """The outputs [B, H, axes] of one token and the new states, written into `places` if given.

        Raises UnavailableError for sizes that the kernels do not take.
        """
        key = (bound.key, bool(states))
        given = (*bound.inputs, *params)
        if key not in self.steps:
            self._check_sizes(bound)
            named = dict(zip((item.name for item in self.recurrence.arguments), given, strict=True))
            call = self._call(bound, 1, None, False, UNTILED, WHOLE)
            outputs = [output.name for output in self.recurrence.outputs]
            self.steps[key] = Step(self.available[0], call, named, outputs, bool(states), precise)
        with on(bound.device):
            return self.steps[key](given, states, places)

    def _call(
        self,
        bound: Bound,
        length: int,
        cu_seqlens: Tensor | None,
        reverse: bool,
        how: Tiled,
        split: Split,
        starts: bool = False,
    ) -> Call:
        return Call(
            batch=bound.sizes.batch,
            length=length,
            heads=bound.sizes.heads,
            sizes=bound.sizes.axes,
            value_axis=self.available[0].VALUE_AXIS,
            dtype=bound.output_dtype,
            device=bound.device,
            bounds=None if cu_seqlens is None else cu_seqlens.contiguous(),
            reverse=reverse,
            tiled=how,
            prepared=self._prepared(bound, cu_seqlens, reverse, how, split.parts, starts),
            micro=self.available[0].MICRO_AXIS,
            split=split,
            starts=starts,
        )

    def _prepared(
        self,
        bound: Bound,
        cu_seqlens: Tensor | None,
        reverse: bool,
        how: Tiled,
        stretches: int,
        starts: bool,
    ) -> dict[Any, Any]:
        """What earlier calls of these shapes have found for their launches."""
        if bound.key is None:
            return {}
        count = None if cu_seqlens is None else (cu_seqlens.shape[0], cu_seqlens.dtype)
        key = bound.key, count, reverse, how.chunk, how.cut, stretches, starts
        if len(self.prepared) > REMEMBERED:
            self.prepared.clear()
        if key not in self.prepared or self.prepared[key][0] is not how:
            self.prepared[key] = how, {}
        return self.prepared[key][1]

    def _check_sizes(self, bound: Bound) -> None:
        check_sizes(self.available[0], bound.sizes.axes, self.recurrence.name)


def _installed() -> bool:
    try:
        return find_spec("triton") is not None
    except ImportError:
        return False


def _interpreted() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)
