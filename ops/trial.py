"""One random call of an operator, evaluated in any form and dtype: values and all gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.interpreter import carried
from rnnc.ops.operator import Operator
from rnnc.ops.random_cases import Case, draw_arguments, draw_states

LARGE = 1e3  # inputs are scaled down until results stay below: beyond, rounding alone decides

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """One call of an operator: the case, the arguments (inputs, then parameters), the initial states."""

    operator: Any  # an Operator
    case: Case
    arguments: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    save: str = "auto"
    final: bool = True  # whether the final states are asked for

    def to(self, dtype: torch.dtype) -> Trial:
        """The same call with arguments of another dtype."""
        arguments, states = (tuple(x.to(dtype) for x in xs) for xs in (self.arguments, self.states))
        return replace(self, arguments=arguments, states=states)

    @cached_property
    def expected(self) -> Tensors:
        """What the naive loop gives."""
        return self.evaluate(None)

    @cached_property
    def scales(self) -> dict[str, float]:
        """The size against which the error of each result is measured.

        A gradient with respect to x is about |F| / |x|, F the results. One far below that (through a unit
        vector of size 1, say) is a difference of numbers of that size, and its error is measured against it.
        """
        sizes = {what: float(value.double().norm()) for what, value in self.expected.items()}
        leaves = self._leaves(self.arguments, self.states)
        total = sum(size for what, size in sizes.items() if what not in leaves)
        for what, leaf in leaves.items():
            sizes[what] = max(sizes[what], total / max(float(leaf.double().norm()), 1e-6))
        return sizes

    def evaluate(self, form: str | None, backend: str = "torch") -> Tensors:
        """Outputs, final states, and the gradients of a random functional of them; None is the naive loop."""
        arguments, states = ([x.clone().requires_grad_() for x in xs] for xs in (self.arguments, self.states))
        bounds = self.case.cu_seqlens
        bounds = None if bounds is None else bounds.to(self.arguments[0].device)
        options: dict[str, Any] = {"cu_seqlens": bounds, "reverse": self.case.reverse}
        if form is not None:
            options |= {"form": form, "backend": backend, "save": self.save}
        if form == "chunked":
            options["chunk_size"] = self.case.chunk_size
        call = self.operator.reference if form is None else self.operator
        options |= {"initial_state": _initial(states), "output_final_state": self.final}
        outputs, final = call(*arguments, **options)
        found = self._outputs(outputs)
        found |= _named("final", carried(self.operator.recurrence), final) if self.final else {}
        leaves = self._leaves(arguments, states)
        functional = torch.stack([(cotangent(x, i) * x).sum() for i, x in enumerate(found.values())]).sum()
        gradients = torch.autograd.grad(functional, list(leaves.values()), allow_unused=True)
        found = {what: value.detach() for what, value in found.items()}
        pairs = zip(leaves.items(), gradients, strict=True)
        return found | {what: torch.zeros_like(leaf) if g is None else g for (what, leaf), g in pairs}

    @torch.no_grad()
    def continued(self, cut: int) -> Tensors:
        """The outputs after the first `cut` tokens: a call on those, then a `step` for each of the others."""
        count = len(self.operator.recurrence.inputs)
        inputs, params = self.arguments[:count], self.arguments[count:]
        before = [x[:, :cut] for x in inputs]
        _, state = self.operator(
            *before, *params, initial_state=_initial(self.states), output_final_state=True
        )
        steps = []
        for t in range(cut, self.case.leading[1]):
            outputs, state = self.operator.step(*(x[:, t] for x in inputs), *params, state=state)
            steps.append(_tuple(outputs))
        return self._outputs(tuple(torch.stack(parts, 1) for parts in zip(*steps, strict=True)))

    def _outputs(self, values: Any) -> Tensors:
        return _named("output", self.operator.recurrence.outputs, values)

    def _leaves(self, arguments: Iterable[Tensor], states: Iterable[Tensor]) -> Tensors:
        recurrence = self.operator.recurrence
        leaves = _named("gradient of", (*recurrence.inputs, *recurrence.params), tuple(arguments))
        return leaves | _named("gradient of initial", carried(recurrence), tuple(states))


def draw_trial(operator: Operator, case: Case) -> Trial:
    """The float64 trial of a case, with arguments under which the results stay of moderate size.

    Where states of any sign give no numbers (the root of a mean of squares), none is negative.
    """
    drawn = tuple(draw_states(operator.recurrence, case)) if case.initial else ()
    trial = _moderate(operator, case, drawn)
    if any(bool(x.isnan().any()) for x in trial.expected.values()):
        trial = _moderate(operator, case, tuple(x.abs() for x in drawn))
    return trial


def _moderate(operator: Operator, case: Case, states: tuple[Tensor, ...]) -> Trial:
    scale = 1.0
    while True:
        arguments = tuple(draw_arguments(operator.recurrence, case, scale))
        trial = Trial(operator, case, arguments, states).to(torch.float64)
        if scale < 0.01 or all(bool((x.abs() < LARGE).all()) for x in trial.expected.values()):
            return trial
        scale /= 2


def _initial(states: Iterable[Tensor]) -> Any:
    """States as a call takes them."""
    given = tuple(states)
    return None if not given else given[0] if len(given) == 1 else given


def _named(prefix: str, declared: Iterable[Any], values: Any) -> Tensors:
    return {f"{prefix} '{x.name}'": value for x, value in zip(declared, _tuple(values), strict=False)}


def _tuple(values: Any) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)


def cotangent(x: Tensor, number: int) -> Tensor:
    """The same random numbers for every form and dtype."""
    source = torch.Generator().manual_seed(number)
    return torch.randn(x.shape, generator=source).to(x)
