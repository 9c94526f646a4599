"""Specs nobody wrote: hypothesis draws the text, and every stage has to agree about it.

A drawn recurrence is parsed, checked, normalised, proven on fractions, and run in every form in float64
against the token loop, values and all gradients, by the C back end too; and, in Triton's interpreter, by its
kernels in float32.
"""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

import rnnc
from rnnc.codegen.compiler import analyse
from rnnc.codegen.proof import rational_checks
from rnnc.ops.c_build import BuildError, find_compiler
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import FORMS, distance
from rnnc.ops.trial import draw_trial

pytestmark = pytest.mark.usefixtures("own_cache")

LIMIT = 1e-9
IN_FLOAT32 = 1e-4  # or ten times the error of the loop itself

# (declarations, expression): scalars and vectors over K of every kind of range.
DECAYS = [
    ("", "1"),
    ("", "0.9"),
    ("param r in (0, 1)", "r"),
    ("param r[K]", "sigmoid(r)"),
    ("input a", "sigmoid(a)"),
    ("input a\nparam A_log\nparam b", "exp(-exp(A_log) * softplus(a + b))"),
    ("input a", "(1 - sigmoid(a))"),
    ("input a in [0, 1]", "a"),
    ("input a in [-1, 1]", "a"),
    ("input a", "tanh(a)"),
    ("input a[K]", "exp(logsigmoid(a) / 16)"),
    ("input a[K] in (-inf, 0]", "exp(a)"),
    ("input a[K] in [0, 1]", "a"),
    ("input a[K] in [-1, 1]", "a"),
    ("input a, c[K]", "(sigmoid(a) * sigmoid(c))"),
    ("input a\nparam r[K] shared", "(sigmoid(a) * exp(-softplus(r)))"),
    ("input a[K]\nparam r shared", "exp(-exp(r) * softplus(a))"),
]
VALUE_DECAYS = [
    ("input hv[V]", "sigmoid(hv)"),
    ("input hv[V] in [0, 1]", "hv"),
    ("input hv[V]", "tanh(hv)"),
    ("param hv[V] shared", "exp(-softplus(hv))"),
]
VECTORS = [
    "unit({0})",
    "silu({0})",
    "{0} * K**-0.5",
    "sigmoid({0})",
    "tanh({0})",
    "softmax({0}, K)",
    "(elu({0}) + 1) * K**-1",
    "min({0}, 0.5)",
]
NAMES = re.compile(r"\b(a|b|c|r|A_log)\b")  # of the declarations above
GATES = ["sigmoid({0})", "2 * sigmoid({0})", "tanh({0})", "0.5", "softplus({0}) * 0.3"]
UPDATES = [
    "{S} - {g} * {u} @ ({u}.T @ {S})",
    "{g} * {u} @ ({w}.T @ {S}) + {S}",
    "(I - {g} * {u} @ {u}.T) @ {S}",
]
RIGHT_UPDATES = [
    "{S} - {g} * ({S} @ {u}) @ {u}.T",
    "{g} * ({S} @ {w}) @ {u}.T + {S}",
    "{S} @ (I - {g} * {u} @ {u}.T)",
]
# Micro-steps: {e} a unit vector along the axis that is read, {x} what is written along the other, {g} a gate.
STEPS = [
    "S - {g} * {e} @ ({e}.T @ S - {x}.T)",
    "S + {g} * {e} @ {x}.T",
]
RIGHT_STEPS = [
    "S + {g} * ({x} - S @ {e}) @ {e}.T",
    "S + {g} * {x} @ {e}.T",
]
# A state that feeds S: declaration, update ({u}: a vector over K, {g}: a gate), a vector over K of it.
FEEDING = [
    ("h[K]", "h <- {g} * h + {u}", "h"),
    ("h[K]", "h <- sigmoid({u}) * h + {u}", "tanh(h)"),
    ("h", "h <- {g} * (h + {g})", "(h * {u})"),
    ("R[V, K]", "R <- 0.8 * R + z @ {u}.T", "softmax(R.T @ v, K)"),
    ("R[V, K]", "R <- R + {g} * v @ ({u} - R.T @ v).T", "R.T @ z"),
]
READOUTS = [
    "S.T @ {q}",
    "{g} * S.T @ {q}",
    "tanh(S.T @ {q})",
    "S.T @ {q} + {s} * z",
    "unit(S.T @ {q}) * silu(z)",
    "S.T @ {q} + sum({q} * {w}, K) * z",
    "(S.T @ {q}) * (1 + sum((S.T @ {q})**2, V))**-0.5",
    "max(S.T @ {q}, z) - min({g}, 0.4) * S.T @ {w}",
    "sum((S.T @ {q}) * z, V) * (S.T @ {w})",
]


class Drawing:
    """The text of one spec, piece by piece; every piece declares what it needs."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.declarations: list[str] = []
        self.lets: list[str] = []
        self.count = 0
        self.fed: list[str] = []
        self.loops = data.draw(st.sampled_from([False, False, False, True]))
        self.delays = data.draw(st.sampled_from([False, False, True]))

    def pick(self, choices: list[str]) -> str:
        return self.data.draw(st.sampled_from(choices))

    def fresh(self, axes: str = "") -> str:
        """A new input (of a group of heads, perhaps) or, now and then, a parameter."""
        self.count += 1
        name = f"x{self.count}"
        kind = self.pick(
            ["input {0}{1}", "input {0}{1}", "input {0}{1} per group", "param {0}{1}", "param {0}{1} shared"]
        )
        self.declarations.append(kind.format(name, axes))
        return name

    def let(self, expression: str) -> str:
        """The expression, or a name for it."""
        if self.data.draw(st.booleans()):
            return f"({expression})"
        self.count += 1
        self.lets.append(f"let y{self.count} = {expression}")
        return f"y{self.count}"

    def vector(self, axis: str = "K") -> str:
        source = self.pick([self.earlier(self.fresh(f"[{axis}]")), *(self.fed if axis == "K" else [])])
        return self.let(self.pick(VECTORS).replace("K", axis).format(source))

    def gate(self) -> str:
        return self.let(self.pick(GATES).format(self.earlier(self.fresh())))

    def earlier(self, name: str) -> str:
        """The input, now and then as it was tokens ago."""
        if self.declarations[-1].startswith("param") or not self.delays:
            return name
        return self.pick(["{0}", "{0}", "{0}", "prev({0})", "delay({0}, 2)"]).format(name)

    def update(self) -> list[str]:
        """The statements of the state: a decay, reads, writes, in one statement or in several."""
        declared, decay = self.data.draw(st.sampled_from(DECAYS))
        reads = self.data.draw(st.integers(0, 2))
        right = self.data.draw(st.sampled_from([False, False, True]))
        beyond, other = self.data.draw(st.sampled_from([("", ""), ("", ""), *VALUE_DECAYS]))
        self.declarations += [*declared.splitlines(), *beyond.splitlines()]
        scale = f"{decay} * {f'{other} * ' if other else ''}S"
        across = "[K]" in declared if right else bool(other)  # a decay along the axis that is not read
        statements = []
        if reads and not across and self.data.draw(st.booleans()):  # beside the decay: the old state is read
            terms = [self.read(right) for _ in range(reads)]
            statements.append(" + ".join([scale, *terms]))
        else:
            statements.append(scale)
            for _ in range(reads):
                axis = "V" if right else "K"
                parts = {"S": "S", "g": self.gate(), "u": self.vector(axis), "w": self.vector(axis)}
                statements.append(self.pick(RIGHT_UPDATES if right else UPDATES).format(**parts))
        if self.loops:
            return [f"S <- {scale}", *self.steps(right)]
        writes = [f"{self.vector()} @ v.T" for _ in range(self.data.draw(st.integers(0 if reads else 1, 2)))]
        if writes and self.data.draw(st.booleans()):
            statements[-1] += " + " + " + ".join(writes)
        else:
            statements += [f"S + {write}" for write in writes]
        return [f"S <- {statement}" for statement in statements]

    def steps(self, right: bool) -> list[str]:
        """A loop of micro-steps: reads and writes along vectors of their own."""
        self.declarations += ["input xe[n, K]", "input xv[n, V]", "input xg[n]"]
        along, other = ("xv", "xe") if right else ("xe", "xv")
        parts = {"g": "sigmoid(xg[i])", "e": "e", "x": f"{other}[i]"}
        update = self.pick(RIGHT_STEPS if right else STEPS).format(**parts)
        return ["for i in n:", f"    let e = unit({along}[i])", f"    S <- {update}"]

    def read(self, right: bool) -> str:
        """A term that reads the state along one vector and writes along another."""
        if right:
            return f"{self.gate()} * (S @ {self.vector('V')}) @ {self.vector('V')}.T"
        return f"{self.gate()} * {self.vector()} @ ({self.vector()}.T @ S)"

    def feeding(self) -> tuple[str, str]:
        """Another state and its update; what it is read as may then stand for a vector of S."""
        declared, update, value = self.data.draw(st.sampled_from(FEEDING))
        update = update.format(u=self.vector(), g=self.gate())
        self.fed.append(f"({value.format(u=self.vector())})")
        return f"state {declared}", update

    def mixed(self) -> list[str]:
        """The statements of two states that mix: what each keeps of itself, takes of the other, and reads."""
        scalars = [
            (declared, decay) for declared, decay in DECAYS if "[" not in declared.partition(" in ")[0]
        ]
        parts = {}
        for place in ("m", "s", "t"):
            declared, parts[place] = self.data.draw(st.sampled_from(scalars))
            self.declarations += re.sub(NAMES, lambda found, p=place: p + found[0], declared).splitlines()
            parts[place] = re.sub(NAMES, lambda found, p=place: p + found[0], parts[place])
        parts |= {"g": self.gate(), "u": self.vector(), "w": self.vector()}
        lines = ["M <- {m} * M + {g} * {u} @ (v - S.T @ {w}).T", "S <- {s} * S + {t} * M"]
        if self.data.draw(st.booleans()):  # nothing is read
            lines[0] = "M <- {m} * M + {g} * {u} @ v.T"
        if self.data.draw(st.booleans()):  # in a circle
            lines[0] += " - 0.2 * S"
        return [line.format(**parts) for line in lines]

    def spec(self) -> str:
        coupled = not self.loops and self.data.draw(st.integers(0, 3)) == 0
        others = [self.feeding()] if not coupled and self.data.draw(st.booleans()) else []
        updates = [*(update for _, update in others), *(self.mixed() if coupled else self.update())]
        outputs = []
        for number in range(self.data.draw(st.integers(1, 2))):
            parts = {"q": self.vector(), "w": self.vector(), "g": self.gate(), "s": self.gate()}
            line = f"o{number} <- " + self.pick(READOUTS).format(**parts)
            outputs.append((f"o{number}[V]", line, self.data.draw(st.booleans())))
        if not coupled and self.data.draw(st.sampled_from([False, False, True])):
            outputs.append(("p[K]", f"p <- S @ {self.vector('V')}", self.data.draw(st.booleans())))
        before = [line for _, line, old in outputs if old]
        after = [line for _, line, old in outputs if not old]
        lines = ["input v[V], z[V]", *self.declarations, *self.lets]
        lines += [f"state {'M[K, V], ' * coupled}S[K, V]", *(declared for declared, _ in others)]
        lines += [f"output {', '.join(name for name, _, _ in outputs)}", *before, *updates, *after]
        return (
            f"recurrence drawn[{'n, ' * self.loops}K, V]:\n"
            + "\n".join(f"    {line}" for line in lines)
            + "\n"
        )


def draw_call(data: st.DataObject, text: str) -> Case:
    """A small call, with the corners: packed or not, groups, a state, reversed."""
    draw = data.draw
    packed = draw(st.booleans())
    lengths = draw(st.lists(st.sampled_from([0, 1, 3, 17]), min_size=1, max_size=3)) if packed else [9, 9]
    grouped = [line.split()[1].partition("[")[0] for line in text.splitlines() if line.endswith("per group")]
    return Case(
        seed=draw(st.integers(0, 99)),
        lengths=tuple(lengths),
        packed=packed,
        H=2,
        sizes={"K": draw(st.sampled_from([1, 2, 5])), "V": draw(st.sampled_from([1, 3])), "n": 2},
        groups={name: draw(st.sampled_from([1, 2])) for name in grouped},
        initial=draw(st.booleans()),
        reverse=draw(st.booleans()),
        chunk_size=16,
    )


# Each part is a run of its own, so that workers share them.
@pytest.mark.parametrize("part", range(6))
def test_all_stages_agree(part: int) -> None:
    @seed(part)
    @settings(max_examples=7, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        text = Drawing(data).spec()
        note(text)
        failed = [check for check in rational_checks(analyse(text)) if check.failure]
        assert not failed
        case = draw_call(data, text)
        trial = draw_trial(rnnc.compile(text), case)
        for form in FORMS:
            for what, value in trial.evaluate(form).items():
                error = distance(value, trial.expected[what], trial.scales[what])
                assert error <= LIMIT, f"{form}: {what}: {error:.1e}\n{case}"

    run()


@pytest.mark.parametrize("part", range(2))
def test_kernels_agree(part: int) -> None:
    pytest.importorskip("triton")

    @seed(100 + part)
    @settings(max_examples=3, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        text = Drawing(data).spec()
        note(text)
        case = draw_call(data, text)
        trial = draw_trial(rnnc.compile(text), case)
        single = trial.to(torch.float32)
        for form in ("auto", "recurrent"):  # auto: chunked, but for stages that have no such kernels
            for what, value in single.evaluate(form, backend="triton").items():
                exact, scale = trial.expected[what], trial.scales[what]
                error = distance(value, exact, scale)
                if error > IN_FLOAT32:
                    assert error <= 10 * distance(single.expected[what], exact, scale), (
                        f"{form}: {what}: {error:.1e}\n{case}"
                    )

    run()


def test_c_agrees() -> None:
    try:
        find_compiler()
    except BuildError as reason:
        pytest.skip(str(reason))

    @seed(200)
    @settings(max_examples=4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        text = Drawing(data).spec()
        note(text)
        trial = draw_trial(rnnc.compile(text), draw_call(data, text))
        for what, value in trial.evaluate("chunked", backend="c").items():
            error = distance(value, trial.expected[what], trial.scales[what])
            assert error <= LIMIT, f"{what}: {error:.1e}\n{trial.case}"

    run()
