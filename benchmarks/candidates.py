"""What is timed side by side: the project's operator, peers, the naive loop, the compiled chunked form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.calls import form, operator
from benchmarks.entries import Entry
from rnnc import peers
from rnnc.ops.layout import arrange
from rnnc.peers import PEERS, Peer

OWN, NAIVE, COMPILED = "rnnc", "naive loop", "torch.compile"
IN_TORCH = "rnnc in torch"  # what a CPU without a C compiler has
DISPATCHING = "fla-core, dispatching"  # to other packages' kernels, where it finds them
UNCHECKED = "fla-core, unchecked"  # whatever it says of the version of Triton
Function = Callable[..., Any]


def candidates(model: str, device: str) -> list[str]:
    """Who can be asked for a model on a kind of device, the project's own first; few are installed."""
    names = [OWN, *(peer.name for peer in PEERS.get(model, ()) if peer.device == device)]
    return names + ([DISPATCHING, UNCHECKED, COMPILED] if device == "cuda" else [IN_TORCH])


def environment(who: str) -> dict[str, str]:
    """What must be set before the candidate's package is imported: it has a process of its own if any is."""
    variables = {DISPATCHING: {"FLA_DISABLE_BACKEND_DISPATCH": "0"}, UNCHECKED: {peers.UNCHECKED: "1"}}
    return variables.get(who, {})


def peer(entry: Entry) -> Peer | None:
    """The library that an entry is about."""
    name = "fla-core" if entry.who in (DISPATCHING, UNCHECKED) else entry.who
    return next((each for each in PEERS.get(entry.model, ()) if each.name == name), None)


def function(entry: Entry, backend: str) -> Function:
    """The candidate on the operator's arguments: its outputs."""
    found = peer(entry)
    if found is not None:
        return found.call
    op = operator(entry.model)
    if entry.who == NAIVE:
        return lambda *arguments: op.reference(*arguments)[0]
    if entry.who == COMPILED:
        return compiled(entry)
    backend = "torch" if entry.who == IN_TORCH else backend
    options = {"form": form(entry.model, entry.call) if backend == "triton" else "chunked"}
    return lambda *arguments: op(*arguments, backend=backend, chunk_size=entry.call.chunk, **options)[0]


def compiled(entry: Entry, tokens: int = 64) -> Function:
    """The chunked form in torch, its gradients torch's own, all of it given to torch.compile."""
    op, call = operator(entry.model), entry.call
    axes = call.axes(op.recurrence)
    shapes = [tuple(axes[axis] for axis in array.axes) for array in op.carry.arrays]

    def run(*arguments: Tensor) -> Any:
        count = len(op.recurrence.inputs)
        layout = arrange(call.B, call.T, None, tokens, False, arguments[0].device)
        steps, last = list(layout.steps), len(layout.steps)
        inputs = [layout.gather(x, call.H, torch.float32, 0, last, repeat=True) for x in arguments[:count]]
        learned = zip(arguments[count:], op.shared, strict=True)
        params = [p.float()[None, None] if shared else p.float()[None] for p, shared in learned]
        states = tuple(arguments[0].new_zeros((call.B, call.H, *s), dtype=torch.float32) for s in shapes)
        valid = layout.valid(torch.float32, 0, last)
        rows, *_ = op.module.chunked_forward((*inputs, *params), valid, states, steps, False)
        return tuple(_tokens(row, call.B, last, call.T).to(arguments[0].dtype) for row in rows)

    return torch.compile(run)


def _tokens(rows: Tensor, batch: int, chunks: int, length: int) -> Tensor:
    """[chunks * B, H, C, axes] as [B, T, H, axes]."""
    x = rows.unflatten(0, (chunks, batch)).transpose(0, 1).transpose(2, 3)
    return x.flatten(1, 2)[:, :length]
