"""Memory in large pages: a hint that changes no value."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from rnnc.ops.pages import HUGE_PAGE, LARGE, in_large_pages


@pytest.mark.parametrize("size", [0, 3, LARGE // 4, LARGE + 5, 5 * HUGE_PAGE])
def test_values_stay(size: int) -> None:
    x = torch.arange(size, dtype=torch.int32)
    assert in_large_pages(x) is x
    assert torch.equal(x, torch.arange(size, dtype=torch.int32))


@pytest.mark.skipif(sys.platform != "linux", reason="the advice is that of Linux")
def test_advice_is_given() -> None:
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("this system maps no large pages")
    x = in_large_pages(torch.empty(64 << 20, dtype=torch.uint8)).fill_(1)
    first = -(-x.data_ptr() // HUGE_PAGE) * HUGE_PAGE
    found = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            low, high = (int(part, 16) for part in head.split("-"))
            found = low <= first < high
        elif found and head == "VmFlags:":
            assert "hg" in line.split()
            return
    pytest.fail("the mapping is not there")
