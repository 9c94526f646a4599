"""Proofs hold for what the compiler makes, fail for what it did not, and say what they checked."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from rnnc.codegen import operations as ir
from rnnc.codegen import summary_proof
from rnnc.codegen.builder import Builder
from rnnc.codegen.compiler import Compiled, analyse
from rnnc.codegen.program import Carry, Node, Program
from rnnc.codegen.proof import prove, rational_checks
from rnnc.codegen.summaries import Transition, transition
from rnnc.codegen.summary_proof import composition
from rnnc.codegen.torch_module import Form

ROOT = Path(__file__).parents[2]
SPECS = sorted([*ROOT.glob("ops/*.rnn"), *ROOT.glob("examples/*.rnn")])
MUTATED = """recurrence r[K, V]:
    input q[K], k[K], e[K], v[V], a{axis}, b
    state S[K, V]
    output o[V]
    S <- {decay} * S - b * k @ (k.T @ S) - e @ (e.T @ S) + b * k @ v.T
    o <- tanh(S.T @ q) + b * v
"""


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_is_proven(path: Path) -> None:
    begin = time.process_time()
    proof = prove(analyse(path.read_text("utf-8"), path.name))
    assert time.process_time() - begin < 10  # 5 are promised
    assert proof, str(proof)
    assert {check.kind for check in proof.checks} == {"symbolic", "rational"}
    assert {check.form for check in proof.checks} == {"chunked", "recurrent"}
    assert f"proven ({len(proof.checks)} identities" in str(proof)
    assert "Not covered: rounding" in str(proof)


OPERATIONS = [
    "S + k @ v.T",
    "0.5 * S + (k * (1 + b * b)**-0.5) @ (k.T @ S)",
    "(1 - sigmoid(b)) * S + k @ v.T",
]
OPERATIONS += ["sigmoid(b)**0.5 * S + softmax(k, K) @ v.T", "S - (k / norm(k)) @ (k.T @ S) / (1 + b * b)"]
OUTPUTS = ["S.T @ q", "(S.T @ q) / (1 + norm(S.T @ q))", "max(S.T @ q, v)", "(S.T @ q) * (R @ q).T @ q"]


@pytest.mark.parametrize("update", OPERATIONS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_functions_have_in_common_is_known(update: str, output: str) -> None:
    lines = ["input q[K], k[K], v[V], b", "param R[K, K]", "state S[K, V]", "output o[V]"]
    lines += [f"S <- {update}", f"o <- {output}"]
    text = "recurrence r[K, V]:\n" + "".join(
        f"    {line}\n" for line in lines if "R" in output or "R[" not in line
    )
    checks = list(rational_checks(analyse(text)))
    assert checks
    assert not [check for check in checks if check.failure]


def mutations(node: Node) -> Iterator[ir.Op]:
    """Operations that differ in one thing from the node's."""
    op = node.op
    for name in ("exclusive", "strict", "transposed"):
        # Flags of masked values that are masked again make no difference; these do.
        if hasattr(op, name) and not isinstance(
            op, ir.Mask | ir.Segment | ir.SegmentAdjoint | ir.Path | ir.PathAdjoint
        ):
            yield replace(op, **{name: not getattr(op, name)})
    match op:
        case ir.Add(coefficients):
            for i in range(len(coefficients)):
                changed = (*coefficients[:i], coefficients[i] + Fraction(1, 3), *coefficients[i + 1 :])
                yield ir.Add(changed)
        case ir.Multiply(coefficient):
            yield ir.Multiply(-coefficient)
        case ir.Running(direction, exclusive) | ir.RunningProduct(direction, exclusive):
            yield type(op)("suffix" if direction == "prefix" else "prefix", exclusive)
        case ir.Deinterleave(index, count):
            yield ir.Deinterleave((index + 1) % count, count)
        case _:
            pass


def mutated(program: Program, victim: Node, op: ir.Op) -> Program:
    """The program with another operation in one place."""
    new: dict[Node, Node] = {}
    for node in program.nodes():
        args = tuple(new[argument] for argument in node.args)
        new[node] = Node(op if node is victim else node.op, args, node.axes, node.number)
    return replace(
        program,
        results={name: new[node] for name, node in program.results.items()},
        carries=tuple(replace(c, start=new.get(c.start, c.start), end=new[c.end]) for c in program.carries),
    )


def with_program(compiled: Compiled, form: Form, direction: str, program: Program) -> Compiled:
    changed = replace(form, **{direction: replace(getattr(form, direction), program=program)})  # type: ignore[arg-type]
    copy = Compiled(compiled.recurrence, compiled.normal, (), compiled.declared)
    copy.__dict__["forms"] = (changed,)
    return copy


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("decay", ["", "a", "exp(-a)", "exp(-a)*"])
def test_one_wrong_operation_is_found(decay: str, direction: str) -> None:
    """Every corrupted program is caught: a coefficient, a mask, an order of summation, a transposition."""
    axis, decay = ("[K]", decay[:-1]) if decay.endswith("*") else ("", decay)
    compiled = analyse(MUTATED.format(axis=axis, decay=decay or "1"))
    form = compiled.forms[0]
    program = getattr(form, direction).program
    draw = random.Random(5)
    found = [(node, op) for node in program.nodes() for op in mutations(node)]
    assert len(found) > 20
    for victim, op in draw.sample(found, 12):
        wrong = with_program(compiled, form, direction, mutated(program, victim, op))
        failed = [check for check in rational_checks(wrong) if check.failure]
        assert failed, f"{victim!r} {victim.op} as {op} was not noticed:\n{program}"


@pytest.mark.parametrize("name", ["gated_delta_net", "gla", "delta_product"])
def test_what_stretches_make_of_the_state(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is proven, and a term too few is found out."""
    compiled = analyse((ROOT / f"ops/{name}.rnn").read_text("utf-8"))
    sizes = dict.fromkeys(compiled.recurrence.axes, 4)
    assert composition(compiled, sizes, 2, 1) == ""

    def wrong(carry: Carry, builder: Builder, value_axis: str) -> Transition:
        found = transition(carry, builder, value_axis)
        half = builder.node(ir.Multiply(Fraction(1, 2)), [found.carry.end], found.carry.end.axes)
        return replace(found, carry=replace(found.carry, end=half))

    monkeypatch.setattr(summary_proof, "transition", wrong)
    assert composition(compiled, sizes, 2, 1) == ": the state is not M S + N"


def test_sequences_are_not_split_where_states_mix() -> None:
    compiled = analyse((ROOT / "ops/titans_linear.rnn").read_text("utf-8"))
    assert composition(compiled, dict.fromkeys(compiled.recurrence.axes, 4), 2, 1) is None
