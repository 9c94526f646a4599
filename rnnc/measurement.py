"""Times of an operator on this machine's device, beside the peers that are installed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.recurrence import Initialiser, Recurrence
from rnnc.ops.arguments import Sizes
from rnnc.ops.errors import UnavailableError
from rnnc.ops.initialisers import INITIALISERS
from rnnc.ops.testing import distance
from rnnc.peers import PEERS

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SECONDS, MOST = 1.5, 50  # a time is taken for so long, or so many runs
Call = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """What was found of one candidate; medians in milliseconds, or in `note` why there are none.

    `error` is that of the outputs against the naive loop in float64, relative, root mean square.
    """

    name: str
    forward_ms: float | None = None
    both_ms: float | None = None
    error: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data."""
        return asdict(self)


def draw(
    recurrence: Recurrence, sizes: Sizes, dtype: torch.dtype, device: str, gates: Collection[str] = ()
) -> list[Tensor]:
    """Vectors in `dtype` of length about one, except for `gates`, and scalars per token in float32, normal;
    parameters about as a layer starts them.
    """
    source = torch.Generator(device).manual_seed(1)
    torch.manual_seed(1)
    lead = (sizes.batch, sizes.length)
    arguments = []
    for item in recurrence.inputs:
        x = torch.randn((*lead, *sizes.shape(item.axes)), generator=source, device=device)
        if item.axes and item.name not in gates:
            x *= math.prod(x.shape[3:]) ** -0.5
        if item.range is not None:
            low, high = max(item.range.low, -4.0), min(item.range.high, 4.0)
            x = low + (high - low) * torch.sigmoid(x)
        arguments.append(x.to(dtype) if item.axes else x)
    for param in recurrence.params:
        shape = sizes.shape(param.axes)[param.shared :]
        start = initial(param.initialiser, shape)
        if param.range is None:  # a bonus that starts at zero would not be seen
            start = start + 0.1 * torch.randn(shape)
        arguments.append(start.to(device))
    return arguments


def initial(start: Initialiser | None, shape: tuple[int, ...]) -> Tensor:
    """What a layer starts a parameter with."""
    if start is None:
        return torch.zeros(shape)
    arguments = [initial(a, shape) if isinstance(a, Initialiser) else a for a in start.arguments]
    nested = [a for a in arguments if isinstance(a, Tensor)]
    if start.name == "fixed":
        return nested[0]
    return INITIALISERS[start.name](*arguments, *([] if nested else [shape]))


def measure(operator: Any, builtin: bool, sizes: Sizes, dtype: str, device: str) -> Iterator[Row]:
    """A row for each back end, the naive loop and each peer of a built-in; those that cannot say why."""
    arguments = draw(operator.recurrence, sizes, DTYPES[dtype], device, operator.signature.gates())
    expected = _outputs(operator.reference(*(x.double() for x in arguments))[0])
    candidates: dict[str, Call] = {
        "rnnc, torch": lambda *x: operator(*x, backend="torch")[0],
        "naive loop": lambda *x: operator.reference(*x)[0],
    }
    if device == "cpu":
        candidates = {"rnnc, c": lambda *x: operator(*x, backend="c")[0]} | candidates
    if device == "cuda":
        candidates = {"rnnc, triton": lambda *x: operator(*x, backend="triton")[0]} | candidates
    for peer in PEERS.get(operator.name, ()) if builtin else ():
        try:
            name = f"{peer.package} {' '.join(filter(None, (peer.version(), peer.variant)))}"
        except ImportError as error:
            yield Row(peer.name, note=str(error))
            continue
        if peer.device == device:
            candidates[name] = peer.call
        else:
            yield Row(name, note=f"runs on a device of type '{peer.device}'")
    for name, call in candidates.items():
        yield _row(name, call, arguments, expected)


def _row(name: str, call: Call, arguments: list[Tensor], expected: list[Tensor]) -> Row:
    leaves = [x.detach().requires_grad_() for x in arguments]

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return _outputs(call(*leaves))

    def both() -> None:
        outputs = _outputs(call(*leaves))
        torch.autograd.grad(torch.stack([x.float().square().mean() for x in outputs]).sum(), leaves)

    try:
        found = forward()
        error = max(distance(x, e, float(e.norm())) for x, e in zip(found, expected, strict=True))
        device = leaves[0].device
        first, second = (statistics.median(milliseconds(run, device)) for run in (forward, both))
        return Row(name, first, second, error)
    except UnavailableError as reason:
        return Row(name, note=str(reason))


def _outputs(values: Any) -> list[Tensor]:
    return [values] if isinstance(values, Tensor) else list(values)


def milliseconds(
    run: Callable[[], Any],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    seconds: float = SECONDS,
) -> list[float]:
    """What each of some runs took, after one that warms up."""
    run()
    taken: list[float] = []
    begin = time.perf_counter()
    while not taken or (len(taken) < MOST and time.perf_counter() - begin < seconds):
        _wait(device)
        start = clock()
        run()
        _wait(device)
        taken.append((clock() - start) * 1e3)
    return taken


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
