"""Other ways to call the kernels: in a compiled graph, under autocast, with more than 2^31 elements, under a
memory checker, in training.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.calls import Tensors, draw, form, operator, parts
from benchmarks.entries import Call, Entry
from benchmarks.errors import compare, evaluate, limit, named, reference
from rnnc.ops.function import Function

Answer = dict[str, Any]


def traced(entry: Entry, device: str) -> Answer:
    """Whether torch.compile, in one graph, gives what the call without it gives; forward and gradients.

    Under autocast float32 vectors are what the vectors of lower precision are.
    """
    model, call = entry.model, entry.call
    op, tensors = operator(model), draw(model, call, entry.dtype, device)
    options = {"backend": "triton", "form": form(model, call)}

    def run(*arguments: Tensor) -> Any:
        return op(*arguments, **options)[0]

    torch.compiler.reset()
    plain = _gradients(run, tensors.arguments)
    graph = _gradients(torch.compile(run, fullgraph=True, backend="aot_eager"), tensors.arguments)
    wide = tuple(x.float() for x in tensors.arguments)
    with torch.autocast(device, dtype=tensors.arguments[0].dtype):
        (cast,) = _list(run(*wide))[:1]
    errors = {"autocast": _distance(cast, plain[0])}
    errors |= {
        f"traced {number}": _distance(*pair) for number, pair in enumerate(zip(graph, plain, strict=True))
    }
    beyond = [what for what, error in errors.items() if not error <= 1e-2]
    return {"status": "failed" if beyond else "ok", "errors": errors, "beyond": beyond}


def _gradients(run: Callable[..., Any], arguments: Iterable[Tensor]) -> list[Tensor]:
    """Outputs, then gradients."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    found = _list(run(*leaves))
    cotangents = [torch.ones_like(x) for x in found]
    return [*found, *torch.autograd.grad(found, leaves, cotangents, materialize_grads=True)]


def _list(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm().clamp_min(1e-30))


def large(entry: Entry, device: str) -> Answer:
    """The errors of the last sequence and two last heads, where every array has more than 2^31 elements."""
    model, call = entry.model, entry.call
    recurrence, tensors = operator(model).recurrence, draw(model, call, entry.dtype, device)
    inputs, few = len(recurrence.inputs), min(2, call.H)
    leaves = [x.requires_grad_() for x in tensors.arguments]
    found = operator(model)(*leaves, backend="triton", form=form(model, call))[0]
    results = named("output", recurrence.outputs, found)
    cotangents = [torch.randn_like(x) for x in results.values()]
    gradients = torch.autograd.grad(list(results.values()), leaves[:inputs], cotangents)
    values = results | {f"d{x.name}": g for x, g in zip(recurrence.inputs, gradients, strict=True)}
    some = [x.detach()[-1:, :, -few:] for x in tensors.arguments[:inputs]]
    last = Tensors((*some, *(x.detach()[-few:] for x in tensors.arguments[inputs:])), (), None)
    part = replace(call, B=1, H=few)
    expected, where = reference(model, part, last, [x[-1:, :, -few:] for x in cotangents])
    sliced = {what: x.detach()[-1:, :, -few:] for what, x in values.items()}
    names = {f"d{x.name}": tensor for x, tensor in zip(recurrence.inputs, some, strict=True)}
    errors = compare(model, sliced, expected, names)
    beyond = [what for what, error in errors.items() if not error <= limit(model, what, entry.dtype)]
    count = min(x.numel() for x in tensors.arguments[:inputs] if x.dim() > 3)
    status = "failed" if beyond else "ok"
    return {"status": status, "errors": errors, "beyond": beyond, "reference": where, "elements": count}


def sanitized(entry: Entry, seconds: float = 85.0) -> Answer:
    """What compute-sanitizer says of a call, forward and backward, in a process of its own."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"status": "not run", "reason": "compute-sanitizer is not on the PATH"}
    if not torch.cuda.is_available():
        return {"status": "not run", "reason": "compute-sanitizer needs a GPU"}
    own = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.checks", json.dumps(entry.as_dict())]
    command = [tool, "--tool", entry.who, "--error-exitcode", "99", *own]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"status": "not run", "reason": f"{entry.who}: no result within {seconds:.0f} s"}
    said = [line for line in done.stdout.splitlines() if line.startswith("=========")]
    return {"status": "ok" if done.returncode == 0 else "failed", "reason": "\n".join(said[-6:])[:600]}


def demo(device: str, steps: int = 60) -> Answer:
    """Whether the loss of the character model falls as far with the kernels as in torch."""
    import rnnc
    from rnnc.examples.character_model import CharacterModel, reference_text, train
    from rnnc.examples.demo import SPEC

    losses = {}
    text = torch.tensor([ord(letter) % 128 for letter in reference_text()], device=device)
    few: dict[str, int] = {} if device == "cuda" else {"B": 1, "T": 40}
    small: dict[str, int] = {} if device == "cuda" else {"d_model": 16, "num_heads": 2}
    for backend in ("triton", "torch"):
        torch.manual_seed(0)
        model = CharacterModel(rnnc.compile(SPEC.read_text(encoding="utf-8")), 128, **small)
        for block in model.modules():
            if hasattr(block, "recurrence"):
                block.recurrence.forward = partial(block.recurrence.forward, backend=backend)  # type: ignore[union-attr]
        losses[backend] = list(train(model.to(device), text, steps, **few))[-1]
    near = abs(losses["triton"] - losses["torch"]) < 0.1
    return {"status": "ok" if near else "failed", "losses": losses}


def cover(models: Iterable[str]) -> list[str]:
    """Few models whose kernels have all roles that there are."""
    roles = {model: {role for part in parts(operator(model)) for role in _roles(part)} for model in models}
    left, found = set().union(*roles.values()), []
    while left:
        best = max(roles, key=lambda model: len(roles[model] & left))
        found.append(best)
        left -= roles[best]
    return found


def _roles(part: Function) -> set[str]:
    kernels: Any = part.kernels
    if isinstance(kernels.generated, str):
        return set()
    module, _ = kernels.generated
    return {launch.role for group in (module.FORWARD, module.BACKWARD) for launch in group}


if __name__ == "__main__":
    given = Entry.of(json.loads(sys.argv[1]))
    whole: Call = given.call
    evaluate(
        given.model,
        whole,
        draw(given.model, whole, given.dtype, "cuda"),
        None,
        backend="triton",
        form=form(given.model, whole),
    )
    torch.cuda.synchronize()
