"""Where values lie in the workspace: places are used again once nothing reads them any more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rnnc.codegen.c_body import Statement


def arranged(
    statements: Sequence[Statement], lasting: Mapping[str, int], lanes: int
) -> tuple[list[str], int]:
    """The declarations of all places, and how many numbers they take; `lasting` are there all the way."""
    end = len(statements)
    lives = {name: (-1, end, _whole(size, lanes)) for name, size in lasting.items()}
    for number, statement in enumerate(statements):
        for name, size in statement.makes:
            lives[name] = (number, number, _whole(size, lanes))
    for number, statement in enumerate(statements):
        for name in {word for line in statement.lines for word in re.findall(r"\w+", line)} & lives.keys():
            first, last, size = lives[name]
            lives[name] = (first, max(last, number), size)
    at: dict[str, int] = {}
    for name, (first, last, size) in sorted(lives.items(), key=lambda life: (-life[1][2], life[1][0])):
        taken = sorted(
            (at[other], at[other] + lives[other][2])
            for other in at
            if lives[other][0] <= last and first <= lives[other][1]
        )
        place = 0
        for low, high in taken:
            if place + size <= low:
                break
            place = max(place, high)
        at[name] = place
    room = max((at[name] + lives[name][2] for name in at), default=0)
    order = sorted(at, key=lambda name: lives[name][0])
    return [f"real *const {name} = work + {at[name]};" for name in order], room


def _whole(size: int, lanes: int) -> int:
    """The size in whole cache lines."""
    return -(-size // lanes) * lanes
