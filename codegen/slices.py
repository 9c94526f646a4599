"""Whether a matrix product takes the axis that it sums over in slices, one for each warp.

Of a product of few rows and columns, warps hold the same rows and the same columns of the operands, whose
registers do not fit where the axis is long. In slices, every warp has its own part of the operands, and of
all results the sum is taken.
"""

from __future__ import annotations


def slices(rows: int, columns: int, inner: int, warps: int, size: int) -> int:
    """How many slices of at least 16 entries: 1, or as many as fit, where the registers are surely fewer.

    Operands have entries of `size` bytes; those of float32 are sums of two shorter numbers. Matrix units that
    take 64 rows at a time have no need of it.
    """
    most = min(warps, inner // 16)
    if rows >= 64 or most < 2:
        return 1
    down, across = 1, 1  # warps along rows and along columns, as Triton has them
    while down * across < warps:
        if rows // 16 // down >= columns / 16 / across and down < rows // 16:
            down *= 2
        else:
            across *= 2
    words = 2 if size == 4 else size / 4
    left, right = rows / min(down, max(1, rows // 16)), columns / min(across, max(1, columns // 8))
    together = words * inner * (left + right)
    apart = words * inner / most * (rows + columns) + rows * columns
    return most if 3 * apart <= 2 * together else 1
