"""The equations of a chunk, and of a token's micro-steps, as templates: `#` stands for the state's name."""

from __future__ import annotations

from collections.abc import Sequence

from rnnc.dsl.normal import Normal, Readout


def recurrent_rows(normal: Normal) -> list[str]:
    """The form of one token with micro-steps: the decay, one solve for its micro-steps."""
    decays = [
        symbol for symbol, decay in (("D", normal.decay), ("E", normal.value_decay)) if decay is not None
    ]
    lines = [f"# = {' * '.join(decays)} * #"] if decays else []
    if normal.reads:
        lines.append("P[i,j] = f[i]^T w[j],  j < i")
        lines.append(f"U = (I - P)^-1 ({_right(normal, 'f #', '')})")
    return [*lines, f"# = # + w^T {'U' if normal.reads else 'v'}"]


def chunk_templates(normal: Normal, numbers: Sequence[str]) -> list[str]:
    """The chunked form, without what this recurrence does not have; the readouts by their numbers."""
    keys, values = normal.decay is not None, normal.value_decay is not None
    lines = []
    if normal.micro is not None:
        lines.append(f"one row m for each of the {normal.micro} micro-steps of a token, t(m) its token")
    if keys:
        lines.append("G[i] = D[1] * ... * D[i],  G[0] = 1")
    if values:
        lines.append("H[i] = E[1] * ... * E[i],  H[0] = 1")
    if normal.reads:
        lines += _solve(normal)
    for number, readout in zip(numbers, normal.readouts, strict=True):
        lines += _readout(normal, number, readout)
    totals = "".join(symbol for symbol, there in (("G[C] * ", keys), ("H[C] * ", values)) if there)
    row, column = ("[l]", "[t(l)]") if normal.micro is not None else ("", "")
    weights = f"(w{row} * G[C]/G{column})^T" if keys else "w^T"
    written = "U" if normal.reads else "v"
    written = f"({written}{row} * H[C]/H{column})" if values else written
    return [*lines, f"#_out = {totals}#_in + {weights} {written}"]


def _solve(normal: Normal) -> list[str]:
    """U, the values that are written: the reads see the writes before them in the chunk."""
    keys, reading = normal.decay is not None, len(normal.reads)
    after = keys and all(write.read_of_decayed is not None for write in normal.reads)
    plain = len(normal.writes) > reading
    per = "" if normal.value_decay is None else "/H"
    if normal.micro is not None:
        ratio = "(G[t(m)]/G[t(l)]) " if keys else ""
        lines = [f"P[m,l] = f[m]^T {ratio}w[l],  l < m"]
        return [*lines, _solved(per, "P", _right(normal, "(f * G) #_in" if keys else "f #_in", per))]
    read, row = ("f'", "G[i]") if after else ("f", "G[i-1]")
    ratio = f"({row}/G[j]) " if keys else ""
    lines = [f"P[i,j] = {read}[i]^T {ratio}w[j],  j < i"]
    if reading > 1:
        lines.append(f"one row for each of the {reading} reads of a token, which see the same old state")
    start = f"({read} * {'G' if after else row}) #_in" if keys else f"{read} #_in"
    lines.append(_solved(per, "P_rr" if plain else "P", _right(normal, start, per)))
    if plain:
        lines.append("_r are the writes that read, _p those that do not: there U = v")
    return lines


def _solved(per: str, matrix: str, right: str) -> str:
    return f"U{per} = (I - {matrix})^-1 ({right})"


def _right(normal: Normal, read: str, per: str) -> str:
    """What a row writes without the rows before it; the values divided by what `per` says."""
    terms = [f"v{per}"] if any(write.value is not None for write in normal.reads) else []
    plain = len(normal.writes) > len(normal.reads)
    return " + ".join([*terms, read, *([f"P_rp v_p{per}"] if plain else [])])


def _readout(normal: Normal, number: str, readout: Readout) -> list[str]:
    """A readout of the tokens, from the rows of theirs and those before."""
    column, of_column, bound = ("l", "t(l)", "t(l)") if normal.micro is not None else ("j", "j", "j")
    bound = f"{bound} {'<' if readout.old else '<='} i"
    row = "i-1" if readout.old else "i"
    over_key = readout.over == normal.key_axis
    decays = [("G", normal.decay), ("H", normal.value_decay)]
    (read, first), (kept, second) = decays if over_key else decays[::-1]
    written = "U" if normal.reads else "v"
    pairs, left, right = ("A", "w", written) if over_key else ("B", written, "w")
    ratio = f"({read}[{row}]/{read}[{of_column}]) " if first is not None else ""
    query = f"(q{number} * {read}{'[i-1]' if readout.old else ''})" if first is not None else f"q{number}"
    start = f"{query} #_in" if over_key else f"{query} #_in^T"
    matrix = f"{pairs}{number}"
    if second is not None:
        matrix = f"({matrix} * {kept}[{row}]/{kept}[{of_column}])"
        start = f"{kept}{'[i-1]' if readout.old else ''} * ({start})"
    return [
        f"{pairs}{number}[i,{column}] = q{number}[i]^T {ratio}{left}[{column}],  {bound}",
        f"r{number} = {matrix} {right} + {start}",
    ]
