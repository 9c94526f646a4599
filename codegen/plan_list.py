"""The plans that a call may run by, with their estimates: what `rnnc cost --plans` lists.

Lengths of a chunk and spacings of states for calls that keep what the backward pass needs; cuts of the
forward pass for those that keep nothing; stretches of the sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from rnnc.codegen.compiler import Compiled, Spec, Staged
from rnnc.codegen.cost import FindingsOf, checked_sizes, of_stage
from rnnc.codegen.cost_record import BYTES
from rnnc.codegen.cuts import DEFAULT, Works, chosen, passes, plan_cuts
from rnnc.codegen.footprint import footprint
from rnnc.codegen.hardware import KNOWN, Hardware
from rnnc.codegen.kernel_record import Kernel
from rnnc.codegen.kernels import plan_transition
from rnnc.codegen.resources import cover
from rnnc.codegen.stretches import LAUNCH, Load, Maps, split
from rnnc.codegen.summaries import NoSummary
from rnnc.codegen.tiling import CHUNKS, best, choose, spacings, suiting
from rnnc.codegen.tiling_record import Choice, Findings, Tiling, TooLarge
from rnnc.codegen.times import times
from rnnc.codegen.work import Work


@dataclass(frozen=True, slots=True)
class Plan:
    """Kernels in the order of their launches, tokens of a chunk, chunks to a state that is kept (0: none is),
    estimated seconds of a call, whether all fit the registers, and whether it is the one that runs.
    """

    kernels: str
    chunk: int
    spacing: int
    seconds: float
    fits: bool
    chosen: bool

    def __str__(self) -> str:
        kept = {0: "", 1: ", every state kept"}.get(self.spacing, f", one state in {self.spacing} kept")
        fits = "" if self.fits else "; spills"
        mark = "  <- chosen" if self.chosen else ""
        return f"{self.seconds * 1e6:>10,.0f} us  {self.kernels}, chunks of {self.chunk}{kept}{fits}{mark}"


@dataclass(frozen=True, slots=True)
class PlanList:
    """The plans of one recurrence, the fastest first; `refused`: cuts that there are not, and why;
    `stretches`: what is made of splitting the sequences.
    """

    name: str
    both: tuple[Plan, ...]
    forward: tuple[Plan, ...]
    refused: Mapping[str, str]
    stretches: str

    def best(self, count: int) -> PlanList:
        """The fastest of them, and those that run."""
        both, forward = (
            tuple(plan for number, plan in enumerate(plans) if number < count or plan.chosen)
            for plans in (self.both, self.forward)
        )
        return PlanList(self.name, both, forward, self.refused, self.stretches)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"plans of {self.name}, estimated; forward and backward:", *map(str, self.both)]
        lines += ["forward alone, nothing kept:", *map(str, self.forward)]
        lines += [f"  no cut '{name}': {reason}" for name, reason in self.refused.items()]
        return "\n".join([*lines, f"  {self.stretches}"])


def plan_lists(
    compiled: Spec, dtype: str, arch: str, findings: FindingsOf | None, sizes: Mapping[str, int]
) -> tuple[PlanList, ...]:
    """Of every stage; `sizes` as for `cost`. Raises UnsupportedOnGpu, ValueError."""
    known = checked_sizes(compiled.recurrence, sizes)
    if not isinstance(compiled, Staged):
        return (_Plans(compiled, dtype, KNOWN[arch], findings, known).found(),)
    own = [(stage, of_stage(stage.recurrence, known)) for stage in compiled.stages]
    return tuple(_Plans(stage, dtype, KNOWN[arch], findings, each).found() for stage, each in own)


class _Plans:
    """The plans of one recurrence for a call."""

    def __init__(
        self,
        compiled: Compiled,
        dtype: str,
        hardware: Hardware,
        findings: FindingsOf | None,
        sizes: Mapping[str, int],
    ) -> None:
        self.compiled, self.hardware, self.size = compiled, hardware, BYTES[dtype]
        self.form = next(form for form in compiled.forms if form.name == "chunked")
        self.load = Load(sizes["B"] * sizes["H"], sizes["T"])
        self.axes = {axis: sizes[axis] for axis in compiled.recurrence.axes}
        self.forward, self.backward, self.lean = compiled.kernels
        self.cuts = plan_cuts(self.form, compiled.normal, self.forward, self.lean)
        own = [kernel for cut in self.cuts for kernel in cut.kernels]
        every = {kernel.name: kernel for kernel in (*self.forward, *self.backward, *own)}
        self.every = {name: footprint(kernel) for name, kernel in every.items()}
        self.works = {kernel.name: self.every[kernel.name] for kernel in (*self.forward, *self.backward)}
        self.known: Mapping[str, Findings] = {}
        if findings:
            self.known = findings(compiled, self.every, self.axes, self.size, hardware)

    def found(self) -> PlanList:
        """All of them."""
        taken = self._taken(self._kept_works())
        alone = self._alone(taken.chunk)
        return PlanList(
            self.compiled.recurrence.name,
            tuple(sorted(self._both(taken), key=lambda plan: plan.seconds)),
            alone,
            {cut.name: cut.reason for cut in self.cuts if cut.reason},
            self._stretches(),
        )

    def _taken(self, others: Works) -> Tiling:
        """How the call runs, by the usual cut or one of the others."""
        given = self.axes, self.size, self.hardware

        def choice(chunk: int | None) -> Tiling:
            return choose(self.works, *given, chunk, self.known, others=others)

        return suiting(self.load.length, choice)

    def _kept_works(self) -> dict[str, dict[str, Work]]:
        """The other cuts that also go with the backward pass."""
        back = {kernel.name: self.works[kernel.name] for kernel in self.backward}
        works = self._cut_works()
        return {cut.name: {**works[cut.name], **back} for cut in self.cuts if cut.keeps}

    def _both(self, taken: Tiling) -> Iterator[Plan]:
        back = [kernel.role for kernel in self.backward]
        for cut, works in {DEFAULT: self.works, **self._kept_works()}.items():
            names = " | ".join((self._names(cut), *back))
            for chunk, spacing in product(CHUNKS, spacings(works.values())):
                try:
                    each = {name: self._best(name, chunk, spacing) for name in works}
                except TooLarge:
                    continue
                fits = all(choice.fits for choice in each.values())
                same = (cut, chunk, spacing) == (taken.cut, taken.chunk, taken.spacing)
                yield Plan(names, chunk, spacing, self._seconds(each), fits, same)

    def _alone(self, usual: int) -> tuple[Plan, ...]:
        """In the order of the estimate that decides, which is for more heads than a call may have."""
        works = self._cut_works()
        given = works, self.axes, self.size, self.hardware
        longest = cover(self.load.length)
        usual = min(usual, longest)
        first = chosen(passes(*given, longest, None, self.known), usual)
        taken = (first.cut, first.chunk) if first else (DEFAULT, usual)
        plans = [
            Plan(
                self._names(one.cut),
                one.chunk,
                0,
                self._seconds(one.kernels),
                one.fits,
                (one.cut, one.chunk) == taken,
            )
            for one in passes(*given, longest, None, self.known)
        ]
        return tuple(sorted(plans, key=lambda plan: plan.seconds))

    def _cut_works(self) -> Works:
        return {
            name: {kernel.name: self.every[kernel.name] for kernel in kernels}
            for name, kernels in self._kernels().items()
        }

    def _kernels(self) -> dict[str, Sequence[Kernel]]:
        cuts = {cut.name: (*self.forward[: cut.shared], *cut.kernels) for cut in self.cuts if cut.kernels}
        return {DEFAULT: self.forward, **cuts}

    def _names(self, cut: str) -> str:
        kernels = self._kernels()[cut]
        return " | ".join(kernel.name.rpartition("_")[2] for kernel in kernels)

    def _best(self, name: str, chunk: int, spacing: int) -> Choice:
        given = self.axes, self.size, self.hardware, chunk, self.known.get(name, {})
        return best(self.every[name], *given, spacing)

    def _seconds(self, choices: Mapping[str, Choice]) -> float:
        """Of the call."""
        given = self.hardware, self.size, self.load
        spent = (
            times(self.every[name], self.axes, choice.configuration, choice.need, *given).seconds
            for name, choice in choices.items()
        )
        return sum(spent) * self.load.heads * self.load.length + len(choices) * LAUNCH

    def _stretches(self) -> str:
        normal = self.compiled.normal
        try:
            kernel = plan_transition(self.form, normal, self.lean)
        except NoSummary as reason:
            return f"sequences are not split: {reason}"
        works: dict[str, Work] = {} if kernel is None else {kernel.name: footprint(kernel)}
        scaling = kernel is not None and kernel.scaling
        maps = Maps(works, scaling, normal.key_axis, normal.value_axis)
        found = split(self._taken({}), self.works, maps, self.axes, self.size, self.hardware, self.load)
        whole, seconds = f"{found.whole * 1e6:,.0f} us", f"{found.seconds * 1e6:,.0f} us"
        if found.parts == 1:
            return f"sequences are walked whole, in {whole}: a split is estimated to save too little"
        return f"sequences are walked in {found.parts} stretches each, in {seconds} for {whole}"
