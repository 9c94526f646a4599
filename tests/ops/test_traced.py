"""Under torch.compile a call is one node, with the values and gradients of the eager call."""

from __future__ import annotations

import pytest
import torch

from rnnc.ops import delta_net


def arguments(B: int, T: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = (B, T, 2, 4), (B, T, 2, 4), (B, T, 2, 3), (B, T, 2)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def call(*leaves, **options):
    o, final = delta_net(*leaves[:-1], initial_state=leaves[-1], output_final_state=True, **options)
    return o.sin().sum() + final.cos().sum()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("T", [40, 0])
def test_compiles_as_a_whole(packed, T):
    torch.compiler.reset()
    options = {"cu_seqlens": torch.tensor([0, T // 3, T])} if packed else {"reverse": True}
    state = torch.randn(2 if packed else 1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    leaves = (*arguments(1, T), state)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    found, expected = compiled(*leaves, **options), call(*leaves, **options)
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    if packed:  # other sequences, the same graph
        other = {"cu_seqlens": torch.tensor([0, 0, T])}
        torch.testing.assert_close(compiled(*leaves, **other), call(*leaves, **other))


def test_a_step_compiles():
    torch.compiler.reset()
    one = [x[:, 0] for x in arguments(2, 1)]
    state = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    compiled = torch.compile(
        lambda *x: delta_net.step(*x, state=state)[0], fullgraph=True, backend="aot_eager"
    )
    with torch.no_grad():
        torch.testing.assert_close(compiled(*one), delta_net.step(*one, state=state)[0])


def test_one_operator_node():
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(lambda *x: delta_net(*x)[0], fullgraph=True, backend=counter)
    compiled(*(x.detach() for x in arguments(1, 20)))
    targets = [str(node.target) for node in counter.graphs[0].graph.nodes if node.op == "call_function"]
    assert sum("rnnc_ops_traced" in target for target in targets) == 1


def test_wrong_shapes_are_refused_while_tracing():
    torch.compiler.reset()
    q, k, v, b = arguments(2, 20)
    compiled = torch.compile(lambda *x: delta_net(*x)[0], fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"v: expected \[B, T, H, V\]"):
        compiled(q, k, v[:, :5], b)
