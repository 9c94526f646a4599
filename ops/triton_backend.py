"""The Triton back end of an operator: which calls it takes, and why not the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import SHORTEST, rows_for
from rnnc.codegen.stretches import Load
from rnnc.codegen.tiling import Choice, Findings, Tiling, TooLarge, longest
from rnnc.dsl.recurrence import Recurrence
from rnnc.ops.arguments import REMEMBERED, Bound
from rnnc.ops.errors import UnavailableError
from rnnc.ops.options import Options
from rnnc.ops.triton_autograd import TritonPlan, apply, on
from rnnc.ops.triton_call import UNTILED, Call, Tiled
from rnnc.ops.triton_step import Step
from rnnc.ops.triton_steps import check_sizes
from rnnc.ops.triton_stretches import WHOLE, Split
from rnnc.ops.triton_tiling import (
    FindingsOf,
    Kept,
    forward_alone,
    hardware_of,
    in_stretches,
    launched,
    map_choices,
    tiled,
    tiling,
)

Tensors = tuple[Tensor, ...]
Chosen = TypeVar("Chosen")
Generated = tuple[ModuleType, str]  # a module of kernels, and its text


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
        self.recurrence, self.generate, self.findings, self.kept = recurrence, generate, findings, kept
        self.warned: set[str] = set()
        # The schedule's hook: in how many stretches sequences are split (1: in none), instead of in as many
        # as are estimated to take the least time. Packed ones are split only so.
        self.stretches: int | None = None
        # The cut of a forward pass that keeps nothing, instead of that estimated to take the least time.
        self.cut: str | None = None
        self.steps: dict[Hashable, Step] = {}
        self.tilings: dict[Hashable, Tiled] = {}
        self.splits: dict[Hashable, Split] = {}
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
        if backend == "torch" or (backend == "auto" and bound.device.type != "cuda"):
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
        without = self.no_chunks or (self._too_large(bound) if form == "auto" else "")
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
        if backend == "torch" or form not in ("auto", "chunked"):
            return False
        if backend == "auto" and bound.device.type != "cuda":
            return False
        if self.obstacle("chunked", bound.output_dtype, bound.device, backend):
            return False
        return self._validated(bound, form) if backend == "auto" else not self._too_large(bound)

    def stretched(self, bound: Bound, options: Options) -> bool:
        """Whether sequences of a call are walked in stretches. Raises UnavailableError."""
        sizes = bound.sizes
        if self.no_chunks or self._too_large(bound):
            return False
        how = self.tiled(sizes.axes, bound.output_dtype.itemsize, bound.device, sizes.length)
        may = options.backend == "triton" and options.cu_seqlens is None
        return self.split(bound, sizes.length, may, how).parts > 1

    def _validated(self, bound: Bound, form: str) -> bool:
        """Whether the chunked kernels that a call would run have run on its device, and were right."""
        if form == "recurrent":
            return False
        sizes = bound.sizes
        try:
            return self.tiled(sizes.axes, bound.output_dtype.itemsize, bound.device, sizes.length).validated
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
        key = bound.key, count, asked, self.stretches, self.cut
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
            size = bound.output_dtype.itemsize
            how = self.tiled(bound.sizes.axes, size, bound.device, length, options.chunk_size)
            split = self.split(bound, length, named and cu_seqlens is None, how)
            may_cut = split.parts == 1 and bool(self.cut or (named and cu_seqlens is None))
            if may_cut and not recorded:
                how = self.alone(bound.sizes.axes, size, bound.device, length, how, options.chunk_size)
            # Stretches keep the state of every chunk, and are walked in the usual cut.
            if (how.spacing > 1 or how.cut in self.available[0].KEEPING) and split.parts > 1:
                how = self._tiled(bound.sizes.axes, size, bound.device, how.chunk, 1)
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

    def tiled(
        self,
        sizes: dict[str, int],
        size: int,
        device: torch.device,
        length: int,
        chunk_size: int | None = None,
    ) -> Tiled:
        """How the chunked kernels run for the sizes of axes and entries of `size` bytes: chunks as asked for,
        or as suits sequences of that length.

        Raises UnavailableError.
        """
        rows = self._rows(sizes)
        tokens = max(SHORTEST, chunk_size // rows) if chunk_size else None
        try:
            found = self._tiled(sizes, size, device, tokens)
        except TooLarge as reason:
            most = longest(self.available[0].WORK, sizes, size, hardware_of(device)) * rows
            if not most or not tokens:
                without = self._without(sizes, reason)
                raise UnavailableError(f"{without}: use form='recurrent', or backend='torch'") from None
            given = ", ".join(f"{axis} = {n}" for axis, n in sizes.items())
            what = "tokens" if rows == 1 else "rows"
            raise UnavailableError(
                f"chunk_size: triton takes at most {most} {what} for {self.recurrence.name} with {given}, got"
                f" {chunk_size}: leave it out, or use backend='torch'"
            ) from None
        whole = 1 << max(4, (length - 1).bit_length())  # no sequence needs a longer chunk
        return found if tokens or found.chunk <= whole else self._tiled(sizes, size, device, whole)

    def alone(
        self,
        sizes: dict[str, int],
        size: int,
        device: torch.device,
        length: int,
        how: Tiled,
        chunk_size: int | None = None,
    ) -> Tiled:
        """How the forward pass of a call runs that keeps nothing, for sequences of that length, or of no more
        than the next power of two; `how`: as it runs otherwise.
        """
        module, _ = self.available
        if self.cut not in (None, *module.CUTS) or not module.CUTS:
            return how
        hardware = hardware_of(device)
        length = 1 << max(4, (length - 1).bit_length())
        key = ("alone", *sizes.values(), size, hardware.name, length, how.chunk, bool(chunk_size), self.cut)
        if key not in self.tilings:

            def chosen() -> Tiled | None:
                known = self._known((*module.WORK, *module.CUT_WORK), sizes, size, hardware)
                chunk = how.chunk if chunk_size else None
                return forward_alone(module, how.chunk, sizes, size, hardware, length, chunk, known, self.cut)

            self.tilings[key] = self._kept(key, hardware, chosen) or how
        return self.tilings[key]

    def split(self, bound: Bound, length: int, may: bool, how: Tiled) -> Split:
        """In how many stretches the sequences of a call are walked, and how what summarises them runs; `may`:
        in more than one without being asked for.

        Raises UnavailableError for stretches that are asked for and not to be had.
        """
        module, _ = self.available
        if module.NO_STRETCHES and self.stretches not in (None, 1):
            raise UnavailableError(
                f"triton does not split sequences of {self.recurrence.name}: {module.NO_STRETCHES}"
            )
        count = 1 if module.NO_STRETCHES or (self.stretches is None and not may) else self.stretches
        if count == 1:
            return WHOLE
        sizes, size = bound.sizes.axes, bound.output_dtype.itemsize
        load = Load(bound.sizes.batch * bound.sizes.heads, length)
        key = (*sizes.values(), size, str(bound.device), how.chunk, count, load)
        if len(self.splits) > REMEMBERED:
            self.splits.clear()
        if key not in self.splits:
            self.splits[key] = self._split(sizes, size, hardware_of(bound.device), how.chunk, load, count)
        return self.splits[key]

    def _split(
        self, sizes: dict[str, int], size: int, hardware: Hardware, chunk: int, load: Load, count: int | None
    ) -> Split:
        """In how many stretches, or in `count`. Raises TooLarge for such."""
        module, _ = self.available

        def chosen() -> Mapping[str, Choice]:
            known = self._known(module.SUMMARY_WORK, sizes, size, hardware)
            return map_choices(module, sizes, size, hardware, chunk, known)

        try:
            found = self._tiling(sizes, size, hardware, chunk, 1)
            maps = self._kept(("maps", *sizes.items(), size, chunk), hardware, chosen)
        except TooLarge:
            if count is None:
                return WHOLE
            raise
        return in_stretches(module, found, sizes, size, hardware, load, count, maps)

    def _too_large(self, bound: Bound) -> str:
        """Why no chunks fit a GPU for the sizes of a call; empty if some do."""
        try:
            self._tiled(bound.sizes.axes, bound.output_dtype.itemsize, bound.device, None)
        except TooLarge as reason:
            return self._without(bound.sizes.axes, reason)
        return ""

    def _without(self, sizes: dict[str, int], reason: TooLarge) -> str:
        given = ", ".join(f"{axis} = {n}" for axis, n in sizes.items())
        return f"triton has no chunked form of {self.recurrence.name} for {given}: {reason}"

    def _rows(self, sizes: dict[str, int]) -> int:
        """The rows of a tile for each token."""
        micro = self.available[0].MICRO_AXIS
        return rows_for(sizes[micro]) if micro else 1

    def _tiled(
        self,
        sizes: dict[str, int],
        size: int,
        device: torch.device,
        chunk: int | None,
        spacing: int | None = None,
    ) -> Tiled:
        """Raises TooLarge."""
        hardware = hardware_of(device)
        key = (*sizes.values(), size, hardware.name, chunk, spacing)
        if key not in self.tilings:
            self.tilings[key] = tiled(self._tiling(sizes, size, hardware, chunk, spacing), hardware)
        return self.tilings[key]

    def _tiling(
        self,
        sizes: dict[str, int],
        size: int,
        hardware: Hardware,
        chunk: int | None,
        spacing: int | None = None,
    ) -> Tiling:
        """Raises TooLarge."""
        module, _ = self.available

        def chosen() -> Tiling:
            known = self._known(launched(module), sizes, size, hardware)
            return tiling(module, sizes, size, hardware, chunk, known, spacing)

        return self._kept(("chunked", *sizes.items(), size, chunk, spacing), hardware, chosen)

    def _known(
        self, names: Iterable[str], sizes: dict[str, int], size: int, hardware: Hardware
    ) -> Mapping[str, Findings] | None:
        """What is known of kernels, by name."""
        return self.findings(self.available[1], names, sizes, size, hardware) if self.findings else None

    def _kept(self, given: tuple[object, ...], hardware: Hardware, choose: Callable[[], Chosen]) -> Chosen:
        """What is chosen, now or before. Raises TooLarge where that does."""
        return self.kept(self.available[1], given, hardware, choose) if self.kept else choose()


def _installed() -> bool:
    try:
        return find_spec("triton") is not None
    except ImportError:
        return False


def _interpreted() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)
