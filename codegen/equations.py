"""The equations of a recurrence as text: its normal form with the spec's own names, and the derived forms.

The symbols of the forms (D, w, v, f, q, ...) get an underscore where the spec uses the name itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from rnnc.codegen.chunk_equations import chunk_templates, recurrent_rows
from rnnc.codegen.coupled_equations import (
    coupled_chunked_lines,
    coupled_recurrent_lines,
    coupled_symbols,
)
from rnnc.codegen.scan_equations import scan_chunk, scan_token
from rnnc.dsl.abbreviations import Abbreviations
from rnnc.dsl.expression import Add, Constant, Expression, Multiply, Name, Select, Sum, map_children, names
from rnnc.dsl.normal import Coupled, Elementwise, Normal, Readout, Write
from rnnc.dsl.pretty import pretty
from rnnc.dsl.ranges import inference
from rnnc.dsl.recurrence import Let, Loop, unrolled

SYMBOLS = re.compile(r"(?<![#^])\b(D|E|T|w|v|f|q|r|u|G|H|P|A|B|U|C)(?=\d*\b|\d*_#|_[rXY])")


def normal_equations(normal: Normal) -> str:
    """The recurrence and its chunked form, as they stand in the header of a generated module."""
    shortened = Shortened(normal)
    lines = [*shortened.token_lines(), *(f"  {line}" for line in shortened.let_lines()), ""]
    lines.append(f"In a chunk of {chunk_size(normal)} tokens with the {incoming(normal)}:")
    lines += [f"  {line}" for line in (*shortened.symbol_lines(), *chunked_lines(normal))]
    return "\n".join(lines)


def incoming(normal: Normal) -> str:
    """What a chunk starts from, in words."""
    if normal.coupled is None:
        return f"incoming state {normal.state}_in"
    return f"incoming states {', '.join(f'{name}_in' for name in normal.coupled.states)}"


def chunk_size(normal: Normal) -> str:
    """The symbol for the number of tokens in a chunk."""
    return _symbols(normal, "C")


def _symbols(normal: Normal, text: str) -> str:
    """The text with every symbol that the spec uses as a name of something else marked by underscores."""
    taken = _declared(normal) - _same(normal)

    def free(match: re.Match[str]) -> str:
        name = match[1]
        while name in taken:
            name += "_"
        return name

    return SYMBOLS.sub(free, text)


def _of_states(normal: Normal, text: str) -> str:
    """As `_symbols`; what follows `#` is a state's own name."""
    return _symbols(normal, text).replace("#", "")


def _declared(normal: Normal) -> set[str]:
    recurrence = normal.recurrence
    lets = (statement.name for statement in unrolled(recurrence.statements) if isinstance(statement, Let))
    inputs, params = (d.name for d in recurrence.inputs), (d.name for d in recurrence.params)
    outputs = (d.name for d in recurrence.outputs)
    states = (state.name for state in recurrence.states)
    return {*states, *recurrence.axes, *inputs, *params, *outputs, *lets}


def _same(normal: Normal) -> set[str]:
    """The symbols that stand for the spec's own value of that name."""
    pairs = [("D", normal.decay), ("E", normal.value_decay)]
    if normal.elementwise is not None:
        pairs.append(("v", normal.elementwise.added))
    if len(normal.writes) == 1:
        pairs += [("w", normal.writes[0].key), ("v", normal.writes[0].value), ("f", normal.writes[0].read)]
    if normal.coupled is not None and len(normal.coupled.writes) == 1:
        pairs.append(("v", normal.coupled.writes[0].value))
    if len(normal.readouts) == 1:
        pairs.append(("q", normal.readouts[0].query))
    return {symbol for symbol, value in pairs if isinstance(value, Name) and value.name == symbol}


class Shortened:
    """A normal form whose expressions use the names of lets again."""

    def __init__(self, normal: Normal) -> None:
        self.normal = normal
        self.known = inference(normal.recurrence)
        self._names = Abbreviations(normal.recurrence, self.known)
        loops = [s for s in normal.recurrence.statements if isinstance(s, Loop)]
        self.loop = loops[0] if normal.micro is not None else None

    def text(self, expression: Expression) -> str:
        """An expression as text, with the names of lets; inside the loop, of one micro-step."""
        return pretty(_indexed(self._names.shorten(expression), self.loop))

    def token_lines(self) -> list[str]:
        """`S[t] = ...` and `o[t] = ...`, of one token."""
        normal = self.normal
        lines = self._update_lines()
        for name, value in normal.outputs:
            lines.append(f"{name}[t] = {pretty(self._with_readouts(self._names.shorten(value)))}")
        return lines

    def let_lines(self) -> list[str]:
        """The lets that the lines above use, directly or not, in order."""
        used = {name for part in _expressions(self.normal) for name in names(self._names.shorten(part))}
        lets = [s for s in unrolled(self.normal.recurrence.statements) if isinstance(s, Let)]
        for let in reversed(lets):
            if let.name in used:
                used |= names(let.value)
        return [f"{let.name} = {pretty(let.value)}" for let in lets if let.name in used]

    def symbol_lines(self) -> list[str]:
        """What the symbols of the chunked form stand for."""
        normal = self.normal
        if normal.coupled is not None:
            rows = coupled_symbols(normal.coupled, self.text, lambda symbol: _of_states(normal, symbol))
            return [*(row for row in rows if row), *self._queries()]
        decays = (("D", normal.decay), ("E", normal.value_decay))
        rows = [self._definition(symbol, decay) for symbol, decay in decays if decay is not None]
        counted = len(normal.writes) > 1
        for number, write in enumerate(ordered(normal), 1):
            rows.append(self._write_line(write, str(number) if counted else ""))
        if normal.elementwise is not None and normal.elementwise.added is not None:
            rows.append(self._definition("v", normal.elementwise.added))
        return [row for row in (*rows, *self._queries()) if row]

    def _queries(self) -> list[str]:
        normal = self.normal
        rows = (self._definition(f"q{_number(normal, r)}", r.query) for r in normal.readouts)
        return [row for row in rows if row]

    def _definition(self, symbol: str, value: Expression) -> str:
        """`symbol = value`, or nothing where the spec's own name is the symbol."""
        text = self.text(value)
        itself = isinstance(value, Name) and value.name == symbol
        return "" if itself else f"{_symbols(self.normal, symbol)} = {text}"

    def _write_line(self, write: Write, index: str) -> str:
        parts = [self._definition(f"w{index}", write.key)]
        if write.value is not None:
            parts.append(self._definition(f"v{index}", write.value))
        if write.read_of_decayed is not None:
            parts.append(_symbols(self.normal, f"f{index} = D f'{index}"))
            parts.append(f"{_symbols(self.normal, 'f')}'{index} = {self.text(write.read_of_decayed)}")
        elif write.read is not None:
            parts.append(self._definition(f"f{index}", write.read))
        return ",  ".join(part for part in parts if part)

    def output_lines(self) -> list[str]:
        """The outputs in terms of the readouts r."""
        symbols = {
            readout.name: Name(_symbols(self.normal, f"r{_number(self.normal, readout)}"), ())
            for readout in self.normal.readouts
        }

        states = {key: Name(name, self.normal.axes) for key, name in _tokens(self.normal).items()}
        symbols |= {key: replace(name, name=name.name.replace("t", "i")) for key, name in states.items()}

        def visit(node: Expression) -> Expression:
            return symbols.get(node.name, node) if isinstance(node, Name) else map_children(node, visit)

        return [
            f"{name} = {pretty(visit(self._names.shorten(value)))}" for name, value in self.normal.outputs
        ]

    def _coupled_lines(self, coupled: Coupled) -> list[str]:
        """`S[t] = ...` of every state, in terms of the old ones."""
        old = [Name(f"{name}[t-1]", self.normal.axes) for name in coupled.states]
        written = []
        for write in coupled.writes:
            terms = [] if write.value is None else [self._names.shorten(write.value)]
            for state, read in zip(old, write.reads, strict=True):
                if read is not None:
                    terms.append(_contracted(self._names.shorten(read), state, self.normal.key_axis))
            written.append(terms[0] if len(terms) == 1 else Add(tuple(terms)))
        lines = []
        for a, name in enumerate(coupled.states):
            pairs = zip(coupled.mixing[a], old, strict=True)
            parts = [
                state if d == Constant(Fraction(1)) else _product([self._names.shorten(d), state])
                for d, state in pairs
                if d is not None
            ]
            for write, value in zip(coupled.writes, written, strict=True):
                key = write.keys[a]
                if key is not None:
                    parts.append(_product([self._names.shorten(key), value]))
            lines.append(f"{name}[t] = {pretty(parts[0] if len(parts) == 1 else Add(tuple(parts)))}")
        return lines

    def _update_lines(self) -> list[str]:
        normal = self.normal
        if normal.coupled is not None:
            return self._coupled_lines(normal.coupled)
        old, new = (Name(f"{normal.state}[{time}]", normal.state_axes) for time in ("t-1", "t"))
        decayed = _product([*map(self._names.shorten, normal.decays), old])
        if normal.elementwise is not None:
            added = normal.elementwise.added
            terms = [decayed] if added is None else [decayed, self._names.shorten(added)]
            return [f"{new.name} = {pretty(Add(tuple(terms)))}"]
        if self.loop is None:
            update = Add((decayed, *(self._written(write, old) for write in normal.writes)))
            return [f"{new.name} = {pretty(update)}"]
        step = Add((new, *(_indexed(self._written(write, new), self.loop) for write in normal.writes)))
        head = f"for {self.loop.index} in {self.loop.axis}:"
        return [f"{new.name} = {pretty(decayed)}", head, f"    {new.name} <- {pretty(step)}"]

    def _written(self, write: Write, old: Name) -> Expression:
        terms = [] if write.value is None else [self._names.shorten(write.value)]
        if write.read is not None:
            terms.append(self._read(write.read, old))
        sides = [self._names.shorten(write.key), terms[0] if len(terms) == 1 else Add(tuple(terms))]
        if self.normal.axes == self.normal.state_axes:
            return _product(sides)
        scalars, key = _split(sides[0], self.normal.key_axis)
        return _product([*scalars, sides[1], *key])

    def _read(self, read: Expression, old: Name) -> Expression:
        """A read of the old state; before a loop it has decayed already."""
        found = _contracted(self._names.shorten(read), old, self.normal.key_axis)
        decay = self.normal.value_decay
        if decay is None or self.loop is not None:
            return found
        factors, rest = _split(found, self.normal.value_axis)
        return _product([*factors, self._names.shorten(decay), *rest])

    def _with_readouts(self, expression: Expression) -> Expression:
        """The expression with `q^T S` in place of the readouts' names."""
        readouts = {readout.name: readout for readout in self.normal.readouts}
        if isinstance(expression, Name) and expression.name in readouts:
            readout = readouts[expression.name]
            state = Name(f"{readout.state}[{'t-1' if readout.old else 't'}]", self.normal.state_axes)
            return _contracted(self._names.shorten(readout.query), state, readout.over)
        if isinstance(expression, Name):
            return replace(expression, name=_tokens(self.normal).get(expression.name, expression.name))
        return map_children(expression, self._with_readouts)


def _tokens(normal: Normal) -> dict[str, str]:
    """The names by which outputs read a state without a key axis, as they are printed."""
    state = normal.state
    return {Elementwise.new(state): f"{state}[t]", Elementwise.old(state): f"{state}[t-1]"}


def _indexed(expression: Expression, loop: Loop | None) -> Expression:
    """What lies along the axis of the loop, of one micro-step."""
    if loop is None:
        return expression
    if isinstance(expression, Name) and loop.axis in expression.axes:
        return Select(expression, loop.axis, loop.index)
    return map_children(expression, lambda part: _indexed(part, loop))


def ordered(normal: Normal) -> list[Write]:
    """The writes as the chunked form stacks them: those that read first."""
    return [*normal.reads, *(write for write in normal.writes if write.read is None)]


def recurrent_lines(normal: Normal) -> list[str]:
    """The form of one token: reads of the old state, the update, the readout."""
    many = len(normal.writes) > 1
    lines = []
    updates = []
    if normal.coupled is not None:
        return [_of_states(normal, line) for line in coupled_recurrent_lines(normal, normal.coupled)]
    if normal.elementwise is not None:
        return [_symbols(normal, line).replace("#", normal.state) for line in scan_token(normal)]
    if normal.micro is not None:
        return _with_readouts(normal, recurrent_rows(normal))
    decays = [
        symbol for symbol, decay in (("D", normal.decay), ("E", normal.value_decay)) if decay is not None
    ]
    if "E" in decays and normal.reads:  # of what has decayed
        lines.append(f"# = {decays.pop()} * #")
    for number, write in enumerate(ordered(normal), 1):
        index = str(number) if many else ""
        if write.read is None:
            updates.append(f"w{index} v{index}^T")
            continue
        value = f"v{index} + " if write.value is not None else ""
        lines.append(f"u{index} = {value}#^T f{index}")
        updates.append(f"w{index} u{index}^T")
    lines.append(" + ".join([f"# = {' * '.join([*decays, '#'])}", *updates]))
    return _with_readouts(normal, lines)


def _with_readouts(normal: Normal, update: Sequence[str]) -> list[str]:
    """The lines of the update between those of the readouts before and after it."""
    readouts = [
        (f"r{_number(normal, r)} = #{'^T' if r.over == normal.key_axis else ''} q{_number(normal, r)}", r.old)
        for r in normal.readouts
    ]
    lines = [line for line, old in readouts if old]
    lines += update
    lines += [line for line, old in readouts if not old]
    return [_stated(normal, line) for line in lines]


def chunked_lines(normal: Normal) -> list[str]:
    """The chunked form, without what this recurrence does not have."""
    if normal.coupled is not None:
        return [_of_states(normal, line) for line in coupled_chunked_lines(normal, normal.coupled)]
    if normal.elementwise is not None:
        return [_symbols(normal, line).replace("#", normal.state) for line in scan_chunk(normal)]
    numbers = [_number(normal, readout) for readout in normal.readouts]
    return [_stated(normal, line) for line in chunk_templates(normal, numbers)]


def _stated(normal: Normal, template: str) -> str:
    """The line with the state's name for `#`; S^T where the reads contract the second axis."""
    line, name = _symbols(normal, template), normal.state
    if normal.axes == normal.state_axes:
        return line.replace("#", name)
    line = re.sub(r"#(_in|_out)?\^T", rf"{name}\1", line)
    return re.sub(r"#(_in|_out)?", rf"{name}\1^T", line)


def _number(normal: Normal, readout: Readout) -> str:
    return str(normal.readouts.index(readout) + 1) if len(normal.readouts) > 1 else ""


def _expressions(normal: Normal) -> list[Expression]:
    writes = [part for w in normal.writes for part in (w.key, w.value, w.read) if part is not None]
    if normal.coupled is not None:
        vectors = (part for w in normal.coupled.writes for part in (*w.keys, w.value, *w.reads))
        writes = [part for part in vectors if part is not None]
    queries = [readout.query for readout in normal.readouts]
    if normal.elementwise is not None and normal.elementwise.added is not None:
        writes.append(normal.elementwise.added)
    return [*normal.decays, *writes, *queries, *(value for _, value in normal.outputs)]


def _product(factors: Sequence[Expression]) -> Expression:
    """The factors multiplied, nested products opened."""
    flat = [inner for f in factors for inner in (f.factors if isinstance(f, Multiply) else (f,))]
    return Multiply(tuple(flat))


def _split(product: Expression, axis: str) -> tuple[list[Expression], list[Expression]]:
    """The factors without the axis, and those with it."""
    factors = product.factors if isinstance(product, Multiply) else (product,)
    return [f for f in factors if axis not in f.axes], [f for f in factors if axis in f.axes]


def _contracted(vector: Expression, state: Name, axis: str) -> Expression:
    """`state.T @ vector`, scalar factors in front."""
    outside, inside = _split(vector, axis)
    body = Sum(Multiply((state, *inside)), axis)
    return Multiply((*outside, body)) if outside else body
