"""How lower triangular matrices lie in memory: without most of what is zero.

Rows are in blocks of 8, each as long as its last row: row i up to column 8 * (i // 8) + 7. So every row
starts at a multiple of 8 entries, and is read in whole vectors.
"""

from __future__ import annotations

TRIANGLES = ("triangle", "triangles")  # the places of such matrices


def triangle_entries(rows: int, columns: int) -> int:
    """How many entries are kept of a matrix [rows, columns]; `columns`: as many for every row.

    >>> triangle_entries(64, 64), triangle_entries(64, 128)
    (2304, 4608)
    """
    return rows * (rows + 8) // 2 * (columns // rows)
