"""The equations of micro-steps, and of scans, as templates: `#` stands for the state's name."""

from __future__ import annotations

from rnnc.dsl.normal import Normal


def recurrent_rows(normal: Normal) -> list[str]:
    """The form of one token: the decay, one solve for its micro-steps."""
    lines = [] if normal.decay is None else ["# = D * #"]
    if normal.reads:
        lines.append("P[i,j] = f[i]^T w[j],  j < i")
        lines.append(f"U = (I - P)^-1 ({_right(normal, 'f #')})")
    return [*lines, f"# = # + w^T {'U' if normal.reads else 'v'}"]


def chunked_rows(normal: Normal) -> list[str]:
    """The chunked form up to its readouts: the micro-steps of all tokens as rows."""
    decays = normal.decay is not None
    lines = [f"one row m for each of the {normal.micro} micro-steps of a token, t(m) its token"]
    if decays:
        lines.append("G[i] = D[1] * ... * D[i],  G[0] = 1")
    if normal.reads:
        ratio = "(G[t(m)]/G[t(l)]) " if decays else ""
        lines.append(f"P[m,l] = f[m]^T {ratio}w[l],  l < m")
        lines.append(f"U = (I - P)^-1 ({_right(normal, '(f * G) #_in' if decays else 'f #_in')})")
    return lines


def _right(normal: Normal, read: str) -> str:
    """What a row writes without the rows before it."""
    terms = ["v"] if any(write.value is not None for write in normal.reads) else []
    plain = len(normal.writes) > len(normal.reads)
    return " + ".join([*terms, read, *(["P_rp v_p"] if plain else [])])


def readout_rows(decays: bool, reads: bool, number: str, old: bool) -> list[str]:
    """A readout of the tokens, from the rows of theirs and those before."""
    row, bound = ("G[i-1]", "t(l) < i") if old else ("G[i]", "t(l) <= i")
    ratio = f"({row}/G[t(l)]) " if decays else ""
    start = f"(q{number} * {row if old else 'G'}) #_in" if decays else f"q{number} #_in"
    return [
        f"A{number}[i,l] = q{number}[i]^T {ratio}w[l],  {bound}",
        f"r{number} = A{number} {'U' if reads else 'v'} + {start}",
    ]


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
