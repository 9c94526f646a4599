"""The equations of states that mix, as templates: `#` stands before the name of a state."""

from __future__ import annotations

from collections.abc import Callable

from rnnc.dsl.expression import Expression
from rnnc.dsl.normal import Coupled, CoupledWrite, Normal

Text = Callable[[Expression], str]


def ordered(coupled: Coupled) -> list[CoupledWrite]:
    """The writes as the chunked form stacks them: those that read first."""
    return sorted(coupled.writes, key=lambda write: not write.reading)


def coupled_symbols(coupled: Coupled, text: Text, symbol: Callable[[str], str]) -> list[str]:
    """What D, the keys, the values and the reads are; `symbol` says how a symbol is spelled."""
    rows = ("[" + ", ".join("0" if d is None else text(d) for d in row) + "]" for row in coupled.mixing)
    lines = [f"{symbol('D')} = [{', '.join(rows)}], of ({', '.join(coupled.states)})"]
    many = len(coupled.writes) > 1
    for number, write in enumerate(ordered(coupled), 1):
        n = str(number) if many else ""
        named = [(f"w{n}_#{name}", key) for name, key in zip(coupled.states, write.keys, strict=True)]
        named.append((f"v{n}", write.value))
        named += [(f"f{n}_#{name}", read) for name, read in zip(coupled.states, write.reads, strict=True)]
        spelled = [(symbol(name), text(value)) for name, value in named if value is not None]
        lines.append(",  ".join(f"{name} = {value}" for name, value in spelled if name != value))
    return lines


def coupled_recurrent_lines(normal: Normal, coupled: Coupled) -> list[str]:
    """The form of one token."""
    lines, many = [], len(coupled.writes) > 1
    lines += _readouts(normal, old=True)
    written: dict[str, list[str]] = {name: [] for name in coupled.states}
    for number, write in enumerate(ordered(coupled), 1):
        n = str(number) if many else ""
        update = f"v{n}"
        if write.reading:
            terms = [] if write.value is None else [update]
            pairs = zip(coupled.states, write.reads, strict=True)
            terms += [f"#{name}^T f{n}_#{name}" for name, read in pairs if read is not None]
            update = f"u{n}"
            lines.append(f"{update} = {' + '.join(terms)}")
        for name, key in zip(coupled.states, write.keys, strict=True):
            if key is not None:
                written[name].append(f"w{n}_#{name} {update}^T")
    stacked = ", ".join(f"#{name}" for name in coupled.states)
    added = ", ".join(" + ".join(terms) or "0" for terms in written.values())
    lines.append(f"({stacked}) = D ({stacked}) + ({added})")
    lines += _readouts(normal, old=False)
    return lines


def coupled_chunked_lines(normal: Normal, coupled: Coupled) -> list[str]:
    """The chunked form; X and Y go through the states."""
    reading = [write for write in coupled.writes if write.reading]
    plain, update = len(coupled.writes) > len(reading), "U" if reading else "v"
    lines = [
        "X and Y go through the states, over which D, T and G are matrices",
        "T[i,j] = D[i] ... D[j+1],  T[j,j] = I;  G[i] = D[i] ... D[1],  G[0] = I",
    ]
    if reading:
        own = "v + " if any(write.value is not None for write in reading) else ""
        others = " + P_rp v_p" if plain else ""
        lines.append("P[i,j] = sum_XY T[i-1,j]_XY f_X[i]^T w_Y[j],  j < i")
        if len(reading) > 1:
            lines.append(f"one row for each of the {len(reading)} reads of a token, which see the old states")
        solve = "P_rr" if plain else "P"
        lines.append(f"U = (I - {solve})^-1 ({own}sum_XY (G[i-1]_XY f_X) Y_in{others})")
    if reading and plain:
        lines.append("_r are the writes that read, _p those that do not: there U = v")
    for n, readout in enumerate(normal.readouts):
        q, s = _number(normal, n), readout.state
        row, bound = ("i-1", "j < i") if readout.old else ("i", "j <= i")
        lines.append(f"A{q}[i,j] = sum_Y T[{row},j]_#{s},Y q{q}[i]^T w_Y[j],  {bound}")
        lines.append(f"r{q} = A{q} {update} + sum_Y (G[{row}]_#{s},Y q{q}) Y_in")
    lines.append(f"X_out = sum_Y G[C]_XY Y_in + (sum_Y T[C,j]_XY w_Y[j])^T {update}")
    return lines


def _readouts(normal: Normal, old: bool) -> list[str]:
    found = ((_number(normal, n), each) for n, each in enumerate(normal.readouts) if each.old == old)
    return [f"r{n} = #{readout.state}^T q{n}" for n, readout in found]


def _number(normal: Normal, index: int) -> str:
    return str(index + 1) if len(normal.readouts) > 1 else ""
