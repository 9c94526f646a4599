"""What is formed in the place of what it takes: only of what nothing needs after it, and never a caller's."""

from __future__ import annotations

import re

import pytest
import torch

from rnnc.codegen.torch_text import Statement, with_deletions
from rnnc.ops import gated_delta_net, mamba2, tiles


def statements(*later: set[str]) -> list[Statement]:
    first = Statement(["a = f(x)"], {"x"}, {"a"})
    scaled = Statement(["b = s * a"], {"s", "a"}, {"b"}, {"a": ["b = tiles.scale_(a, s)"]})
    return [first, scaled, *(Statement([f"c{i} = g()"], uses, {f"c{i}"}) for i, uses in enumerate(later))]


@pytest.mark.parametrize(
    ("later", "returned", "in_place"),
    [([], {"b"}, True), ([{"b"}], {"c0"}, True), ([{"a"}], {"b", "c0"}, False), ([], {"a", "b"}, False)],
)
def test_only_what_nothing_needs(later: list[set[str]], returned: set[str], in_place: bool) -> None:
    lines = with_deletions(statements(*later), returned)
    assert ("b = tiles.scale_(a, s)" in lines) is in_place
    assert ("b = s * a" in lines) is not in_place


def test_a_pass_that_is_followed_by_another_keeps_its_inputs() -> None:
    """The states are computed again from what the backward pass then reads."""
    source = gated_delta_net.source
    passes = dict(re.findall(r"^def (\w+)\((.*?)(?=^def |\Z)", source, re.MULTILINE | re.DOTALL))
    overwritten = {name: set(re.findall(r"scale_\((\w+),", text)) for name, text in passes.items()}
    assert {"q", "k"} <= overwritten["chunked_forward"]
    assert not {"q", "k"} & overwritten["chunked_states"]


@pytest.mark.parametrize("op", [gated_delta_net, mamba2], ids=lambda op: op.recurrence.name)
@pytest.mark.parametrize("save", ["auto", "inputs"])
@pytest.mark.parametrize("length", [16, 37])
def test_the_tensors_of_a_call_stay(op: object, save: str, length: int) -> None:
    recurrence = op.recurrence  # type: ignore[attr-defined]
    torch.manual_seed(0)
    inputs = [torch.rand(1, length, 2, *(4 for _ in d.axes)) for d in recurrence.inputs]
    params = [torch.rand(2, *(4 for _ in d.axes)) for d in recurrence.params]
    given = [x.requires_grad_() for x in (*inputs, *params)]
    before = [x.detach().clone() for x in given]
    out = op(*given, chunk_size=16, save=save)[0]  # type: ignore[operator]
    first = torch.autograd.grad(out.sum(), given, retain_graph=True)
    again = torch.autograd.grad(out.sum(), given)
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))


def test_scale_records_gradients() -> None:
    x, s = torch.rand(2, 3), torch.rand(2, 1, requires_grad=True)
    with torch.no_grad():
        assert tiles.scale_(x, s, 2).data_ptr() == x.data_ptr()
    found = tiles.scale_(x, s, 2)
    assert found.data_ptr() != x.data_ptr()
    torch.testing.assert_close(found, x * s * 2)
    assert tiles.scale_(x[:1], torch.rand(2, 1)).shape == (2, 3)


def test_the_factor_that_nothing_needs_holds_the_product() -> None:
    texts = {"a": ["c = tiles.product_(a, b)"], "b": ["c = tiles.product_(b, a)"]}
    made = [Statement([f"{name} = f()"], set(), {name}) for name in "ab"]
    product = Statement(["c = a * b"], {"a", "b"}, {"c"}, texts)
    later = Statement(["d = g(a, c)"], {"a", "c"}, {"d"})
    assert "c = tiles.product_(b, a)" in with_deletions([*made, product, later], {"d"})
    assert "c = a * b" in with_deletions([*made, product, later], {"b", "d"})


def test_products_and_functions_in_place() -> None:
    x, s = torch.rand(2, 3), torch.rand(2, 3, requires_grad=True)
    expected = x * s.detach() * 2
    recorded = tiles.product_(x, s, 2)
    torch.testing.assert_close(torch.autograd.grad(recorded.sum(), s)[0], 2 * x)
    powers = tiles.apply_(torch.exp2_, s)
    torch.testing.assert_close(torch.autograd.grad(powers.sum(), s)[0], s.exp2() * tiles.LN2)
    with torch.no_grad():
        found = tiles.product_(x, s, 2)
        assert found.data_ptr() == x.data_ptr()
        torch.testing.assert_close(found, expected)
        assert tiles.product_(x[:1], s).shape == (2, 3)
        assert tiles.apply_(torch.exp2_, found).data_ptr() == x.data_ptr()
        torch.testing.assert_close(found, expected.exp2())
