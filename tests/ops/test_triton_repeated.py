"""Launches after the first: the same binary with the same arguments, without Triton's search for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnc.ops.triton_repeated import Repeated

ROOT = Path(__file__).parents[2]


class Kernel:
    """Notes how it is launched."""

    def __init__(self) -> None:
        self.arg_names = ["x", "T", "y", "BLOCK"]
        self.asm: dict[str, str] = {}
        self.launches: list[Any] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        def launch(*positional: Any, **named: Any) -> Any:
            self.launches.append((grid, positional or named))
            return self

        return launch


@pytest.mark.smoke
def test_the_binary_is_launched_with_all_arguments_in_order() -> None:
    kernel, x, y = Kernel(), torch.zeros(8), torch.zeros(8)
    again = Repeated(kernel, (3,), {"T": 5, "BLOCK": 16, "num_warps": 4, "y": None}, ("y", "x"))
    for _ in range(2):
        again((y, x))
    first, second = kernel.launches
    assert first == ((3,), {"T": 5, "BLOCK": 16, "num_warps": 4, "y": y, "x": x})
    assert second == ((3, 1, 1), (x, 5, y, 16))


@pytest.mark.smoke
def test_what_is_not_aligned_goes_through_triton() -> None:
    kernel, x = Kernel(), torch.zeros(8)
    again = Repeated(kernel, (1, 2), {"T": 5, "BLOCK": 16}, ("x", "y"))
    again((x[1:], None))  # nothing is kept of such a launch
    again((x, None))
    again((x[1:], None))
    again(((x, x[2:]), None))
    again(((x, x), None))
    assert [isinstance(arguments, dict) for _, arguments in kernel.launches] == [True] * 4 + [False]


def test_a_kernel_that_returns_nothing_goes_through_triton() -> None:
    class Interpreted(Kernel):
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
            return lambda **named: self.launches.append(named)

    kernel, x = Interpreted(), torch.zeros(8)
    again = Repeated(kernel, (1,), {}, ("x",))
    again((x,))
    again((x,))
    assert kernel.launches == [{"x": x}] * 2


# With a driver that launches nothing: what Triton hands to it, and what it is handed after that.
SCRIPT = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

handed = []
class Launcher:
    def __init__(self, *_): pass
    def __call__(self, x, y, z, stream, function, packed, metadata, enter, leave, *arguments):
        handed.append((x, y, z, stream, function, packed, *arguments))
class Utils:
    def load_binary(self, *_): return 1, 2, 32, 0, 1024
    def get_device_properties(self, _): return {"max_shared_mem": 232448, "multiprocessor_count": 132}
class Nothing:
    utils, launcher_cls = Utils(), Launcher
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, *_): return 0
    def get_active_torch_device(self): return torch.device("cpu")
driver.set_active(Nothing())

import rnnc.ops
from rnnc.ops.triton_call import Sum
from rnnc.ops.triton_launch import run_chunk_tables, run_sums

module, prepared = rnnc.ops.gla.kernels.available[0], {}
total = Sum(torch.zeros(64), torch.zeros(8), 8, 8)
for _ in range(3):
    run_sums(module, [total], prepared)
assert prepared and all(each.straight for each in prepared.values())
assert handed[0] == handed[1] == handed[2], handed
del handed[:]
bounds = torch.tensor([0, 3, 5])
for _ in range(2):
    run_chunk_tables(module, bounds, 16, 4, prepared)
same = [x for x in handed[0] if not isinstance(x, torch.Tensor)]
assert same == [x for x in handed[1] if not isinstance(x, torch.Tensor)] and handed[0][6] is bounds
assert all(a.shape == b.shape for a, b in zip(*handed) if isinstance(a, torch.Tensor))
"""


@pytest.mark.slow
def test_triton_is_handed_the_same(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = dict(os.environ) | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
