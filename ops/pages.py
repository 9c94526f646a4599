"""Large results in large pages: mapping memory page by page takes up to half the time of filling it."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from torch import Tensor

LARGE = 4 << 20  # smaller blocks are mostly used again
HUGE_PAGE = 2 << 20
ADVICE = 14  # MADV_HUGEPAGE of Linux


def in_large_pages(tensor: Tensor) -> Tensor:
    """The new tensor, whose memory the system is asked to map in large pages; a hint, which it may ignore."""
    size = tensor.numel() * tensor.itemsize
    if size >= LARGE and sys.platform == "linux":
        first = -(-tensor.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        length = (tensor.data_ptr() + size - first) // HUGE_PAGE * HUGE_PAGE
        _library().madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), ADVICE)
    return tensor


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
