"""What GPUs have: the limits that a program must keep, and the rates that its time is estimated from.

The numbers are the vendors'; latencies are rounded from what is published on each.
"""

from __future__ import annotations

from typing import NamedTuple


class Hardware(NamedTuple):
    """One GPU. Sizes in bytes, rates per second, latencies in seconds.

    `registers` and `shared` are those of a processor (SM, CU), `shared_program` is what one program may have
    of it. Matrix units take products of fewer than `rows` rows by slower instructions, whose operands lie in
    registers (0: all products are such). `keeps`: operands stay in shared memory from product to product.
    `device`: what a GPU that is there calls itself.
    """

    name: str
    processors: int
    lanes: int
    warps: int
    registers: int
    thread_registers: int
    shared: int
    shared_program: int
    bandwidth: float
    cache_bandwidth: float
    matrix_rate: float
    exact_rate: float  # products of float32 operands to float32's precision
    rows: int
    memory_latency: float
    product_latency: float
    keeps: bool = True
    device: str = ""


KB = 1024
SM_80 = Hardware(
    *("sm_80", 108, 32, 64, 65536, 255, 164 * KB, 163 * KB),
    *(2.0e12, 4.5e12, 312e12, 156e12 / 3, 0, 0.7e-6, 0.35e-6),
)
SM_90 = Hardware(
    *("sm_90", 132, 32, 64, 65536, 255, 228 * KB, 227 * KB),
    *(3.35e12, 7e12, 989e12, 495e12 / 3, 64, 0.7e-6, 0.25e-6),
)
SM_100 = Hardware(
    *("sm_100", 148, 32, 64, 65536, 255, 228 * KB, 227 * KB),
    *(8e12, 12e12, 2250e12, 1125e12 / 3, 64, 0.7e-6, 0.25e-6),
)
GFX942 = Hardware(
    *("gfx942", 304, 64, 32, 131072, 256, 64 * KB, 64 * KB),
    *(5.3e12, 10e12, 1307e12, 163e12, 0, 1.0e-6, 0.5e-6, False),
)
# Of the same years, with less memory and no asynchronous matrix units.
SM_86 = SM_80._replace(name="sm_86", processors=84, warps=48, shared=100 * KB, shared_program=99 * KB)
SM_120 = SM_86._replace(name="sm_120", processors=170, bandwidth=1.8e12, matrix_rate=420e12)
NVIDIA = {80: SM_80, 86: SM_86, 90: SM_90, 100: SM_100, 120: SM_120}
KNOWN = {each.name: each for each in (*NVIDIA.values(), GFX942)}


def like(name: str) -> Hardware:
    """What is known of an architecture, or of the one before it: `sm_89` is like `sm_86`."""
    if not name.startswith("sm_"):
        return GFX942
    number = int(name.removeprefix("sm_"))
    return NVIDIA[max((known for known in NVIDIA if known <= number), default=80)]
