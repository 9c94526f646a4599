"""How far the kernels are from float64: outputs, final states, all gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.calls import Tensors, draw, form, operator
from benchmarks.entries import Call, Entry
from rnnc.ops.testing import distance
from rnnc.probing import LIMITS

Values = dict[str, Tensor]


def evaluate(
    model: str, call: Call, tensors: Tensors, cotangents: list[Tensor] | None, **options: Any
) -> Any:
    """Outputs, final states and gradients by name, and the cotangents, which are drawn if none are given."""
    op = operator(model)
    leaves = [x.detach().requires_grad_() for x in (*tensors.arguments, *tensors.states)]
    arguments, states = leaves[: len(tensors.arguments)], leaves[len(tensors.arguments) :]
    found, final = op(
        *arguments,
        initial_state=states[0] if len(states) == 1 else tuple(states) or None,
        output_final_state=call.states,
        cu_seqlens=tensors.cu_seqlens,
        reverse=call.reverse,
        chunk_size=call.chunk,
        **options,
    )
    results = named("output", op.recurrence.outputs, found)
    if final is not None:
        results |= named("final", op.recurrence.states, final)
    if cotangents is None:
        source = torch.Generator(leaves[0].device).manual_seed(2)
        cotangents = [
            torch.randn(x.shape, generator=source, device=x.device).to(x.dtype) for x in results.values()
        ]
    given = [c.to(x.dtype) for c, x in zip(cotangents, results.values(), strict=True)]
    gradients = torch.autograd.grad(list(results.values()), leaves, given, materialize_grads=True)
    names = [f"d{item.name}" for item in (*op.recurrence.inputs, *op.recurrence.params)]
    names += [f"d{state.name}" for state in op.recurrence.states if states]
    values = {what: x.detach() for what, x in results.items()}
    return values | dict(zip(names, gradients, strict=True)), cotangents


def named(prefix: str, declared: Any, values: Any) -> Values:
    """Results by name."""
    given = (values,) if isinstance(values, Tensor) else tuple(values)
    return {f"{prefix} {item.name}": x for item, x in zip(declared, given, strict=False)}


def reference(model: str, call: Call, tensors: Tensors, cotangents: list[Tensor]) -> tuple[Values, str]:
    """The same in float64, by the torch back end on the same device, and where it was computed."""
    device = tensors.arguments[0].device
    options = {"backend": "torch", "form": "chunked"}
    try:
        return evaluate(model, call, tensors.exact(), cotangents, **options)[0], device.type
    except Exception:
        if device.type == "cpu":
            raise
    here = tensors.to("cpu").exact(), [x.cpu() for x in cotangents]
    found, _ = evaluate(model, call, *here, **options)
    return {what: x.to(device) for what, x in found.items()}, "cpu"


def compare(model: str, found: Values, expected: Values, leaves: dict[str, Tensor]) -> dict[str, float]:
    """The error of every value.

    A gradient by x is about |F| / |x|, F the results: one that is far below is a difference of numbers of
    that size, and its error is measured against it.
    """
    sizes = {what: float(x.double().norm()) for what, x in expected.items()}
    total = sum(size for what, size in sizes.items() if what not in leaves)
    for what, leaf in leaves.items():
        if what in sizes:
            sizes[what] = max(sizes[what], total / max(float(leaf.double().norm()), 1e-6))
    return {what: distance(x, expected[what], sizes[what]) for what, x in found.items()}


def limit(model: str, what: str, dtype: str) -> float:
    """What the error of a value may be."""
    op = operator(model)
    outputs, gradients, gates = LIMITS[dtype]
    if not what.startswith("d"):
        return outputs
    vectors = {item.name for item in op.recurrence.inputs if item.axes} - op.signature.gates()
    states = {state.name for state in op.recurrence.states}
    return gradients if what[1:] in vectors | states else gates


def error(entry: Entry, device: str) -> dict[str, Any]:
    """The errors of a call, those beyond the limit, and whether a second call gives the same bits."""
    model, call = entry.model, entry.call
    tensors = draw(model, call, entry.dtype, device)
    found, cotangents = evaluate(model, call, tensors, None, backend="triton", form=form(model, call))
    again, _ = evaluate(model, call, tensors, cotangents, backend="triton", form=form(model, call))
    expected, where = reference(model, call, tensors, cotangents)
    op = operator(model)
    names = [
        f"d{item.name}" for item in (*op.recurrence.inputs, *op.recurrence.params, *op.recurrence.states)
    ]
    leaves = dict(zip(names, (*tensors.arguments, *tensors.states), strict=False))
    errors = compare(model, found, expected, leaves)
    beyond = [what for what, e in errors.items() if not e <= limit(model, what, entry.dtype)]
    same = all(torch.equal(x, again[what]) for what, x in found.items())
    return {
        "status": "ok" if same and not beyond else "failed",
        "errors": errors,
        "beyond": beyond,
        "deterministic": same,
        "reference": where,
    }


def graph(entry: Entry, device: str) -> dict[str, Any]:
    """Whether forward and backward, captured in a CUDA graph, give on replay what they give without."""
    if device != "cuda":
        return {"status": "not run", "reason": "CUDA graphs need a GPU"}
    model, call = entry.model, entry.call
    tensors = draw(model, call, entry.dtype, device)
    options = {"backend": "triton", "form": form(model, call)}
    expected, cotangents = evaluate(model, call, tensors, None, **options)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        found, _ = evaluate(model, call, tensors, cotangents, **options)
    captured.replay()
    torch.cuda.synchronize()
    same = all(torch.equal(x, expected[what]) for what, x in found.items())
    return {"status": "ok" if same else "failed"}
