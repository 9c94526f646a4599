"""The equations of a state whose entries do not mix, as templates: `#` stands for the state's name."""

from __future__ import annotations

from rnnc.dsl.normal import Normal


def scan_token(normal: Normal) -> list[str]:
    """One token of a state whose entries do not mix."""
    return [_scan(normal, "#", "D * #", "v")]


def scan_chunk(normal: Normal) -> list[str]:
    """The tokens of a chunk, and the state after it."""
    assert normal.elementwise is not None
    added = normal.elementwise.added is not None
    if normal.decay is None:
        return ["#[i] = #_in + sum_{j <= i} v[j]", "#_out = #_in + sum_j v[j]"] if added else ["#[i] = #_in"]
    lines = ["G[i] = D[1] * ... * D[i],  G[0] = 1"]
    if added and normal.decay.axes == normal.elementwise.axes:
        lines += ["u[i] = D[i] u[i-1] + v[i],  u[0] = 0, as a scan"]
    elif added:
        lines += ["u[i] = sum_{j <= i} (G[i]/G[j]) v[j], as a product of matrices"]
    return [
        *lines,
        _scan(normal, "#[i]", "G[i] * #_in", "u[i]"),
        _scan(normal, "#_out", "G[C] * #_in", "sum_j (G[C]/G[j]) v[j]"),
    ]


def _scan(normal: Normal, left: str, kept: str, added: str) -> str:
    assert normal.elementwise is not None
    kept = kept.removeprefix("D * ") if normal.decay is None else kept
    return f"{left} = {kept}" + (f" + {added}" if normal.elementwise.added is not None else "")
