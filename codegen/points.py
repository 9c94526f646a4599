"""Random or symbolic values for everything a chunk is given, and the two ways to compute with them.

The token loop runs the declared statements; the scheduled programs run stage after stage, each given what
the earlier ones hand on, and in reverse for the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnc.codegen.evaluators import evaluate
from rnnc.codegen.exact import Dual, Oracle, TokenLoop, apply_dual
from rnnc.codegen.operations import ROW, VALID
from rnnc.codegen.program import Program
from rnnc.codegen.torch_module import Form
from rnnc.dsl.interpreter import run
from rnnc.dsl.recurrence import Recurrence

Values = dict[str, Any]


@dataclass(frozen=True)
class Chain:
    """The forms of all stages of a recurrence under one name, in order."""

    name: str
    stages: tuple[tuple[Recurrence, Form], ...]


class Point:
    """Values for everything a chunk is given, and the two ways to compute with them."""

    def __init__(
        self, recurrence: Recurrence, sizes: Mapping[str, int], tokens: int, length: int, make: Any
    ) -> None:
        self.recurrence, self.sizes, self.tokens, self.length = recurrence, dict(sizes), tokens, length

        def values(name: str, axes: tuple[str, ...], timed: bool) -> Any:
            shape = ([tokens] if timed else []) + [sizes[axis.rstrip("'")] for axis in axes]
            out = np.empty(shape, dtype=object)
            for index in np.ndindex(*shape):
                out[index] = make(name, index)
            return out

        self.inputs = {d.name: values(d.name, d.axes, True) for d in recurrence.inputs}
        self.params = {d.name: values(d.name, d.axes, False) for d in recurrence.params}
        self.states = {d.name: values(d.name, d.axes, False) for d in recurrence.states}
        self.cotangents = {d.name: values(f"d'{d.name}", d.axes, True) for d in recurrence.outputs}
        self.ends = {d.name: values(f"d'{d.name}", d.axes, False) for d in recurrence.states}

    def differentiable(self) -> list[tuple[str, Any]]:
        return [*self.inputs.items(), *self.params.items(), *self.states.items()]

    def loop(self, oracle: Oracle) -> tuple[Values, Values]:
        """Outputs (stacked over tokens) and final states of the token loop."""
        arithmetic = TokenLoop(self.sizes, oracle.number, oracle.apply)
        return self._run(arithmetic, self.inputs, self.params, self.states)

    def _run(
        self, arithmetic: TokenLoop, inputs: Values, params: Values, states: Values
    ) -> tuple[Values, Values]:
        tokens = {name: [np.asarray(row, dtype=object) for row in value] for name, value in inputs.items()}
        outputs, final = run(self.recurrence, arithmetic, tokens, params, states, self.length)
        aligned = {
            d.name: np.stack([np.broadcast_to(x, [self.sizes[a] for a in d.axes]) for x in outputs[d.name]])
            for d in self.recurrence.outputs
        }
        if self.tokens == 1:
            aligned = {name: np.asarray(value[0], dtype=object) for name, value in aligned.items()}
        return aligned, {d.name: final[d.name] for d in self.recurrence.states}

    def loads(self, oracle: Oracle) -> Values:
        valid = np.array(
            [oracle.number(1 if t < self.length else 0) for t in range(self.tokens)], dtype=object
        )
        inputs = self.inputs if self.tokens > 1 else {name: value[0] for name, value in self.inputs.items()}
        return {**inputs, **self.params, **self.states, VALID: valid}

    def program(self, chain: Chain, oracle: Oracle) -> Values:
        """Outputs, what is handed from stage to stage, and states at the end."""
        found: Values = {}
        for recurrence, form in chain.stages:
            given = {**self.loads(oracle), **{name: self._handed(x) for name, x in found.items()}}
            given |= self.states
            found |= self._evaluated(recurrence, form.forward.program, given, oracle)
        return found

    def _evaluated(self, recurrence: Recurrence, program: Program, loads: Values, oracle: Oracle) -> Values:
        """The results with the axes of the declarations in order, and the states."""
        sizes = {**self.sizes, ROW: self.tokens}
        found = evaluate(program, loads, sizes, oracle.program_arithmetic())
        declared = {d.name: d.axes for d in recurrence.declared}
        aligned = dict(found)
        for name, node in program.results.items():
            axes = (*((ROW,) if ROW in node.axes else ()), *declared[name.removeprefix("d'")])
            value = found[name].transpose([node.axes.index(axis) for axis in axes if axis in node.axes])
            aligned[name] = value[tuple(slice(None) if axis in node.axes else None for axis in axes)]
        return aligned

    def _handed(self, value: Any) -> Any:
        """The value as a later stage is given it: rows beyond the sequence repeat the last token's."""
        if self.tokens == 1 or not np.ndim(value) or len(value) != self.tokens:
            return value
        rows = np.minimum(np.arange(self.tokens), self.length - 1)
        return value[rows]

    def backward(self, chain: Chain, oracle: Oracle) -> Values:
        """Gradients of the loss, those of inputs with a token axis even where there is one token."""
        forward = self.program(chain, oracle) if len(chain.stages) > 1 else {}
        forward = {name: self._handed(value) for name, value in forward.items()}
        loads = {**self.loads(oracle), **forward, **self.states}
        gradients: Values = {
            f"d'{name}": np.full(np.shape(value), oracle.number(0)) for name, value in forward.items()
        }
        gradients |= {f"d'{name}": self._masked(value, oracle) for name, value in self.cotangents.items()}
        gradients |= {f"d'{name}": value for name, value in self.ends.items()}
        results: Values = {}
        for recurrence, form in reversed(chain.stages):
            given = {**loads, **gradients}
            found = self._evaluated(recurrence, form.backward.program, given, oracle)
            for item in recurrence.arguments:
                key = f"d'{item.name}"
                if key in found and item.name in forward:
                    part = found[key] if self.tokens == 1 else self._masked(found[key], oracle, True)
                    gradients[key] = np.add(gradients[key], part)
                elif key in found:
                    results[key] = np.add(results[key], found[key]) if key in results else found[key]
            results |= {f"d'{state.name}": found[f"d'{state.name}"] for state in recurrence.states}
        if self.tokens == 1:
            for name in (f"d'{name}" for name in self.inputs):
                if name in results:
                    results[name] = np.asarray(results[name], dtype=object)[None]
        return results

    def _masked(self, cotangent: Any, oracle: Oracle, always: bool = False) -> Any:
        """The cotangent with zeros beyond the sequence; of the one token where there is one."""
        if not np.ndim(cotangent):
            return cotangent
        masked = np.array(cotangent, dtype=object)
        masked[self.length :] = oracle.number(0)
        return masked if self.tokens > 1 or always else masked[0]

    def loss(self, outputs: Values, final: Values, oracle: Oracle) -> Any:
        """The sum of outputs and final states times their cotangents."""
        total = oracle.number(0)
        for name, value in outputs.items():
            weight = self.cotangents[name][: self.length] if self.tokens > 1 else self.cotangents[name][0]
            total = total + np.asarray(value * weight, dtype=object).sum()
        for name, value in final.items():
            total = total + np.asarray(value * self.ends[name], dtype=object).sum()
        return total

    def slope(self, oracle: Oracle, slopes: Values) -> Any:
        """The derivative of the loss along a direction, by running the token loop on duals."""

        def duals(values: Values) -> Values:
            make = np.frompyfunc(Dual, 2, 1)
            return {
                name: np.asarray(make(value, slopes[name]), dtype=object) for name, value in values.items()
            }

        arithmetic = TokenLoop(
            self.sizes, oracle.number, lambda f, *xs: apply_dual(oracle, f, *xs), dual=True
        )
        outputs, final = self._run(arithmetic, duals(self.inputs), duals(self.params), duals(self.states))
        return self.loss(outputs, final, oracle).slope
