"""The exact checks: every scheduled form equals the token loop, and its backward pass the loop's derivative.

Two kinds. *Symbolic*, at C = 3 tokens and axes of size 2: outputs, final state and every gradient are
compared as polynomials in all inputs, the incoming state, the cotangents and the unknown values of the
functions. *Rational*, at larger and odd sizes and with rows beyond the sequence: as fractions at random
points, the gradient along random directions. A chunk starts from any state, so that equality for one chunk
is equality for sequences of chunks.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from rnnc.codegen.compiler import Compiled
from rnnc.codegen.evaluators import evaluate
from rnnc.codegen.exact import Dual, Oracle, TokenLoop, apply_dual, random_fraction, rationals
from rnnc.codegen.operations import ROW, VALID
from rnnc.codegen.polynomials import Polynomials, polynomials
from rnnc.codegen.program import Program
from rnnc.codegen.torch_module import Form
from rnnc.dsl.interpreter import run
from rnnc.dsl.recurrence import Recurrence

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One identity that was checked; `failure` names what differs, or is empty."""

    form: str
    kind: str
    sizes: str
    what: str
    failure: str = ""


@dataclass(frozen=True)
class Proof:
    """The result of `prove`: true when everything holds; its text is the statement and its limits."""

    name: str
    checks: tuple[Check, ...]
    seconds: float

    def __bool__(self) -> bool:
        return all(not check.failure for check in self.checks)

    def __str__(self) -> str:
        verdict = "proven" if self else "NOT proven"
        lines = [f"{self.name}: {verdict} ({len(self.checks)} identities, {self.seconds:.1f} s)", ""]
        for check in self.checks:
            mark = "FAILED" if check.failure else "ok"
            lines.append(
                f"  {mark:6} {check.form:9} {check.kind:8} {check.sizes:22} {check.what}{check.failure}"
            )
        lines += [
            "",
            "Stated: for every input and incoming state, the scheduled program of one chunk (or token) gives",
            "the outputs and the state of the declared statements run token by token, and its backward",
            "program the derivatives of both. Symbolic checks are identities of polynomials; rational checks",
            "are equalities at random fractions. Values of exp, sigmoid and the like are unknowns that",
            "depend on their argument alone, with derivatives from the compiler's table.",
            "Not covered: rounding, the printed text and the libraries that run it (property tests compare",
            "those).",
        ]
        return "\n".join(lines)


def prove(compiled: Compiled) -> Proof:
    """Check all identities of a compiled recurrence."""
    begin = time.perf_counter()
    checks: list[Check] = []
    for form in compiled.forms:
        for tokens, steps in _symbolic_sizes(compiled.recurrence, form):
            checks += _symbolic(compiled.recurrence, form, tokens, steps)
    checks += rational_checks(compiled)
    checks.sort(key=lambda check: [form.name for form in compiled.forms].index(check.form))
    return Proof(compiled.recurrence.name, tuple(checks), time.perf_counter() - begin)


def rational_checks(compiled: Compiled) -> Iterator[Check]:
    """The quick part of a proof: identities at random fractions."""
    for form in compiled.forms:
        for tokens, length in ((5, 5), (4, 3)) if form.name == "chunked" else ((1, 1),):
            yield from _rational(compiled.recurrence, form, tokens, length)


def _sizes(recurrence: Recurrence, first: int, second: int, steps: int) -> dict[str, int]:
    """`second` for the value axis of the state, `steps` for that of a loop, `first` for all others."""
    sizes = dict.fromkeys(recurrence.axes, first) | {recurrence.states[0].axes[-1]: second}
    return sizes | dict.fromkeys(recurrence.loops, steps)


def _symbolic_sizes(recurrence: Recurrence, form: Form) -> Iterator[tuple[int, int]]:
    """Tokens and micro-steps: enough of each to meet each other, with at most four rows in a row."""
    tokens = 3 if form.name == "chunked" else 1
    if not recurrence.loops:
        yield tokens, 1
    else:
        yield from ((tokens, 1), (2, 2)) if tokens > 1 else ((1, 3),)


def _symbolic(recurrence: Recurrence, form: Form, tokens: int, steps: int) -> Iterator[Check]:
    for unknowns in (64, 128, 256, 512, 1024):
        try:
            yield from _symbolic_in(polynomials(unknowns), recurrence, form, tokens, steps)
            return
        except OverflowError:
            continue


def _symbolic_in(
    ring: Polynomials, recurrence: Recurrence, form: Form, tokens: int, steps: int
) -> list[Check]:
    sizes = _sizes(recurrence, 2, 2, steps)
    point = _Point(recurrence, sizes, tokens, tokens, lambda name, index: ring.variable(name, index))
    outputs, final = point.loop(ring.oracle)
    found = point.program(form, ring.oracle)
    where = _describe(form, tokens, tokens, sizes)
    relations = ring.oracle.relations()
    values = _compare(
        form.name, "symbolic", where, {**outputs, **final}, found, "outputs and state", relations
    )
    loss = point.loss(outputs, final, ring.oracle)
    expected = {
        f"d'{name}": np.asarray(ring.gradients(loss, values), dtype=object)
        for name, values in point.differentiable()
    }
    gradients = point.backward(form, ring.oracle)
    return [
        values,
        _compare(form.name, "symbolic", where, expected, gradients, "all gradients", ring.oracle.relations()),
    ]


def _rational(recurrence: Recurrence, form: Form, tokens: int, length: int) -> Iterator[Check]:
    sizes = _sizes(recurrence, 9, 4, 4)  # squares: roots of sizes are exact
    draw = random.Random(tokens * 8 + length)
    oracle = rationals(length)
    point = _Point(recurrence, sizes, tokens, length, lambda name, index: random_fraction(draw))
    outputs, final = point.loop(oracle)
    found = {
        name: value[:length] if name in outputs and tokens > 1 else value
        for name, value in point.program(form, oracle).items()
    }
    where = _describe(form, tokens, length, sizes)
    yield _compare(form.name, "rational", where, {**outputs, **final}, found, "outputs and state")
    gradients = point.backward(form, oracle)
    slopes = {
        name: np.vectorize(lambda _: random_fraction(draw), otypes=[object])(values)
        for name, values in point.differentiable()
    }
    expected = point.slope(oracle, slopes)
    along = sum(
        (
            np.sum(np.multiply(gradients[f"d'{name}"], slope))
            for name, slope in slopes.items()
            if f"d'{name}" in gradients
        ),
        Fraction(0),
    )
    failure = "" if along == expected else ": differs"
    yield Check(form.name, "rational", where, "all gradients, along a random direction", failure)


def _describe(form: Form, tokens: int, length: int, sizes: Mapping[str, int]) -> str:
    chunk = f"C={tokens} T={length} " if form.name == "chunked" else ""
    return chunk + " ".join(f"{axis}={size}" for axis, size in sizes.items())


def _compare(
    form: str,
    kind: str,
    sizes: str,
    expected: Values,
    found: Values,
    what: str,
    relations: Sequence[Any] = (),
) -> Check:
    """Whether all values are equal, modulo the relations (polynomials that are zero)."""
    wrong = []
    for name, value in expected.items():
        other = np.broadcast_to(np.asarray(found.get(name, 0), dtype=object), np.shape(value))
        left = np.asarray(value, dtype=object)
        if not all(_equal(left[i], other[i], relations) for i in np.ndindex(*left.shape)):
            wrong.append(f"'{name}'")
    return Check(form, kind, sizes, what, f": {', '.join(wrong)} differ" if wrong else "")


def _equal(left: Any, right: Any, relations: Sequence[Any]) -> bool:
    return bool(left == right) or bool(relations and not (left - right).rem(list(relations)))


class _Point:
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

    def program(self, form: Form, oracle: Oracle) -> Values:
        sizes = {**self.sizes, ROW: self.tokens}
        found = evaluate(form.forward.program, self.loads(oracle), sizes, oracle.program_arithmetic())
        return self._as_declared(form.forward.program, found)

    def _as_declared(self, program: Program, found: Values) -> Values:
        """The results with their axes in the order of the declarations."""
        recurrence = self.recurrence
        declared = {d.name: d.axes for d in recurrence.declared}
        aligned = dict(found)
        for name, node in program.results.items():
            axes = [axis for axis in (ROW, *declared[name.removeprefix("d'")]) if axis in node.axes]
            aligned[name] = found[name].transpose([node.axes.index(axis) for axis in axes])
        return aligned

    def backward(self, form: Form, oracle: Oracle) -> Values:
        """Gradients of the loss, those of inputs with a token axis even where there is one token."""
        cotangents = {}
        for name, value in self.cotangents.items():
            masked = value.copy()
            masked[self.length :] = oracle.number(0)
            cotangents[f"d'{name}"] = masked if self.tokens > 1 else masked[0]
        ends = {f"d'{name}": value for name, value in self.ends.items()}
        loads = {**self.loads(oracle), **cotangents, **ends}
        sizes = {**self.sizes, ROW: self.tokens}
        found = evaluate(form.backward.program, loads, sizes, oracle.program_arithmetic())
        found = self._as_declared(form.backward.program, found)
        if self.tokens == 1:
            for name in self.inputs:
                if f"d'{name}" in found:
                    found[f"d'{name}"] = np.asarray(found[f"d'{name}"], dtype=object)[None]
        return found

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
