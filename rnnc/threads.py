"""How many threads torch should use on the CPU for many small operations."""

from __future__ import annotations

import math
import time

import torch


def settle_threads() -> int:
    """Keeps torch's number of threads, or sets it to one where that is quicker, and returns it.

    Threads wait for each other after every operation; where others use the machine too, that wait is
    a time slice of the system, hundreds of times what the operation takes.
    """
    several = torch.get_num_threads()
    alone = _seconds(1)
    if several > 1 and _seconds(several, alone) < alone:
        return several
    torch.set_num_threads(1)
    return 1


def _seconds(threads: int, enough: float = math.inf) -> float:
    """How long a few hundred small products take; the measurement ends when that is `enough`."""
    torch.set_num_threads(threads)
    x = torch.ones(64, 32, 64)
    start = time.perf_counter()
    for _ in range(300):
        x = x @ x.transpose(1, 2) @ x * 1e-3
        if time.perf_counter() - start > enough:
            break
    return time.perf_counter() - start
