"""Kernels in one configuration, run on this device: whether they are right, and how long they take.

What compiles is not yet right: some versions of Triton miscompile some tiles silently. So every
configuration that may be chosen is compared, forward and backward, with the recurrence one token after the
other in float64, on input that has gates at both ends of their ranges and a length that no chunk divides.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rnnc.codegen.times import LOADS
from rnnc.dsl.interval import Interval
from rnnc.dsl.recurrence import Input, Param
from rnnc.measurement import DTYPES, draw, milliseconds
from rnnc.ops.arguments import Sizes
from rnnc.ops.function import Function
from rnnc.ops.random_cases import Case, draw_arguments, draw_states
from rnnc.ops.testing import distance
from rnnc.ops.trial import LARGE, Trial
from rnnc.ops.triton_backend import TritonKernels
from rnnc.ops.triton_call import Tiled
from rnnc.ops.triton_choices import Choices

# Of the relative error, root mean square: outputs and final states, gradients, gradients of gates.
LIMITS = {"fp32": (1e-5, 1e-4, 1e-4), "fp16": (0.005, 0.008, 0.02), "bf16": (0.005, 0.008, 0.02)}
LENGTH = 300  # tokens of the comparison: more than one chunk of each length, and no multiple of any
HEADS = 2
FAR = 12.0  # where a range has no end, a gate goes so far

Launch = tuple[str, Callable[[], Any]]


@dataclass(frozen=True)
class _Watched:
    """A kernel that also notes its launches."""

    name: str
    kernel: Any
    launches: list[Launch]

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(**options: Any) -> None:
            def again() -> None:
                self.kernel[grid](**options)

            self.launches.append((self.name, again))
            again()

        return launch


class _Forced(Choices):
    """The chunked kernels of a recurrence run as `how` says."""

    how: Tiled

    def tiled(self, *_: Any, **__: Any) -> Tiled:
        return self.how

    def alone(self, *_: Any, **__: Any) -> Tiled:
        return self.how


class Probe:
    """One function (a stage, if there are several) at sizes of axes, in a dtype, on a device.

    `wide`: the inputs that are float32 whatever the vectors are; `loads`: what is timed, (heads, tokens).
    """

    def __init__(
        self,
        function: Function,
        axes: Mapping[str, int],
        dtype: str,
        device: torch.device,
        wide: Collection[str] = (),
        loads: Sequence[tuple[int, int]] = LOADS,
        length: int = LENGTH,
    ) -> None:
        assert isinstance(function.kernels, TritonKernels)
        self.axes, self.dtype, self.device = dict(axes), dtype, device
        self.wide, self.loads, self.length = wide, loads, length
        self.launches: list[Launch] = []
        module, text = function.kernels.available
        self.works, self.text = module.WORK, text
        watched = self._watched(module)
        self.kernels = TritonKernels(function.recurrence, lambda: (watched, text))
        self.kernels.choices = self.forced = _Forced(function.recurrence.name, lambda: (watched, text))
        self.function = copy.copy(function)
        self.function.kernels = self.kernels
        self.names = {launch.kernel for launch in (*module.FORWARD, *module.BACKWARD)}
        self.joints = tuple(module.JOINED)

    def _watched(self, module: ModuleType) -> Any:
        names = [each.kernel for each in (*module.FORWARD, *module.BACKWARD, *module.JOINED)]
        kernels = {name: _Watched(name, getattr(module, name), self.launches) for name in [*names, "sums"]}
        return SimpleNamespace(**(vars(module) | kernels))

    def _force(self, how: Tiled) -> None:
        """From now on the kernels run so."""
        self.forced.how = how
        self.kernels.plans.clear()

    def wrong(self, how: Tiled) -> str:
        """What the kernels, run in that way, get wrong; empty if nothing."""
        self._force(how)
        return self._off(how, self._trial, self._exact) or self._off(how, self._bare, self._bare_exact)

    def _off(self, how: Tiled, trial: Trial, exact: Trial) -> str:
        """What a call gets wrong; empty if nothing."""
        try:
            found = replace(trial, save=self._save(how)).evaluate("chunked", "triton")
        except Exception as error:  # a kernel that does not run on this device is none
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        for what, value in found.items():
            off, limit = distance(value.cpu(), exact.expected[what], exact.scales[what]), self._limit(what)
            if not off <= limit:
                return f"{what}: error {off:.1e}, limit {limit:.1e}"
        return ""

    def seconds(self, how: Tiled, only: Collection[str] | None = None) -> dict[str, float]:
        """The time of each kernel, or of some, for a token and head, on average over the loads."""
        self._force(how)
        found: dict[str, list[float]] = {name: [] for name in (self.names if only is None else only)}
        for heads, tokens in self.loads:
            sizes = Sizes(1, tokens, heads, self.axes)
            recurrence = self.function.recurrence
            gates = self.function.signature.gates()
            arguments = draw(recurrence, sizes, DTYPES[self.dtype], str(self.device), gates)
            leaves = self._typed(arguments)
            self.launches.clear()
            outputs, _ = self.function(
                *(x.requires_grad_() for x in leaves), backend="triton", form="chunked", save=self._save(how)
            )
            results = (outputs,) if isinstance(outputs, Tensor) else outputs
            torch.autograd.grad(results, leaves, [torch.ones_like(x) for x in results], allow_unused=True)
            for name, again in tuple(self.launches):
                if name in found:
                    found[name].append(self._time(again) / (heads * tokens))
            self.launches.clear()
        return {name: sum(each) / len(self.loads) for name, each in found.items()}

    def _save(self, how: Tiled) -> str:
        """Both walks are one launch where nothing is kept."""
        beside = any(joint.beside and joint.kernel in how.joined for joint in self.joints)
        return "inputs" if beside else "states"

    def _time(self, launch: Callable[[], Any]) -> float:
        """The median, in seconds."""
        if self.device.type == "cuda":
            from triton.testing import do_bench

            return float(do_bench(launch, warmup=5, rep=20, return_mode="median")) * 1e-3
        return statistics.median(milliseconds(launch, self.device, seconds=0.0)) * 1e-3

    @cached_property
    def _case(self) -> Case:
        groups = {x.name: HEADS for x in self.function.recurrence.inputs if x.per_group}
        lengths = (self.length,)
        return Case(0, lengths, False, HEADS, self.axes, groups, initial=True, reverse=False, chunk_size=None)

    @cached_property
    def _trial(self) -> Trial:
        """The call in the dtype, on the device, with vectors short enough for results of moderate size."""
        scale = 1.0
        while True:
            trial = self._scaled(scale)
            results = self._stepwise(trial).expected.values()
            if scale < 0.01 or all(bool((x.abs() < LARGE).all()) for x in results):
                return trial
            scale /= 2

    def _scaled(self, scale: float) -> Trial:
        recurrence = self.function.recurrence
        gates = self.function.signature.gates()
        declared: tuple[Input | Param, ...] = (*recurrence.inputs, *recurrence.params)
        drawn = draw_arguments(recurrence, self._case, scale)
        pushed = [
            _to_the_ends(x, item.range) if item.name in gates and isinstance(item, Input) else x
            for item, x in zip(declared, drawn, strict=True)
        ]
        arguments = tuple(x.to(self.device) for x in self._typed(pushed))
        states = tuple(x.to(self.device) for x in draw_states(recurrence, self._case))
        return Trial(self.function, self._case, arguments, states)

    @cached_property
    def _exact(self) -> Trial:
        return self._stepwise(self._trial)

    @cached_property
    def _bare(self) -> Trial:
        """The call without states at either end, as most are: it runs other binaries."""
        return replace(self._trial, states=(), final=False)

    @cached_property
    def _bare_exact(self) -> Trial:
        return self._stepwise(self._bare)

    def _stepwise(self, trial: Trial) -> Trial:
        """The same call in float64, on the CPU, one token after the other."""
        arguments, states = (tuple(x.cpu().double() for x in xs) for xs in (trial.arguments, trial.states))
        return _Stepwise(self.function, self._case, arguments, states, final=trial.final)

    def _typed(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        """Vectors in the dtype, the rest in float32."""
        recurrence = self.function.recurrence
        declared: tuple[Input | Param, ...] = (*recurrence.inputs, *recurrence.params)
        return [
            x.to(DTYPES[self.dtype] if _narrow(item) and item.name not in self.wide else torch.float32)
            for item, x in zip(declared, arguments, strict=True)
        ]

    def _limit(self, what: str) -> float:
        outputs, gradients, gates = LIMITS[self.dtype]
        if not what.startswith("gradient"):
            return outputs
        recurrence, wide = self.function.recurrence, self.function.signature.gates()
        vectors = {f"gradient of '{x.name}'" for x in recurrence.inputs if x.axes and x.name not in wide}
        return gradients if what in vectors or what.startswith("gradient of initial") else gates


@dataclass(frozen=True)
class _Stepwise(Trial):
    """A trial whose expected results are those of the recurrent form."""

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        return self.evaluate("recurrent")


def _narrow(item: Input | Param) -> bool:
    return isinstance(item, Input) and bool(item.axes)


def _to_the_ends(x: Tensor, promised: Interval | None) -> Tensor:
    """A quarter of the tokens at each end of the range, or far out where there is none."""
    low, high = (promised.low, promised.high) if promised else (-FAR, FAR)
    fraction = torch.rand(x.shape[1], generator=torch.Generator().manual_seed(3))
    fraction = fraction.reshape(1, -1, *(1 for _ in x.shape[2:]))
    near_low, near_high = (min(max(end, -FAR), FAR) for end in (low, high))
    inside = 1e-3 * (near_high - near_low)  # open ends are left out
    x = torch.where(fraction < 0.25, torch.full_like(x, near_low + inside), x)
    return torch.where(fraction > 0.75, torch.full_like(x, near_high - inside), x)
