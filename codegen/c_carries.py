"""What is carried from chunk to chunk: read before the walk, handed on after each chunk, written at the end.

A state has two places that change roles after every chunk. Where the states are kept for the backward pass,
they lie in memory, and what a chunk makes of one is formed where the next reads it.
"""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.c_arrays import Arrays
from rnnc.codegen.c_body import Statement
from rnnc.codegen.c_loops import loops, offset
from rnnc.codegen.c_values import Index, Loop
from rnnc.codegen.program import Carry, Node


def in_place(arrays: Arrays, carry: Carry) -> None:
    """What a state becomes is formed where the next chunk reads it, if it has the same axes."""
    values, end, place = arrays.body.values, carry.end, f"next_{state_of(carry)}"
    own = end in values.stored and not isinstance(end.op, ir.Load) and end.axes == carry.start.axes
    if own and end.axes and values.called[end] not in arrays.body.given:
        values.called[end] = place
        arrays.body.given.add(place)


def begin(arrays: Arrays, carry: Carry) -> None:
    """Reads what is carried into the sequence; names it, in every chunk."""
    state, start, sizes = state_of(carry), carry.start, arrays.body.sizes
    room, size, back = sizes.room(start.axes), sizes.count(start.axes), arrays.back
    read = arrays.pointer(f"{'end' if back else 'start'} {state}")
    kept = arrays.pointer(f"kept {state}", written=not back)
    slots = f"{kept} + (firsts[n] * H + h * chunks) * {room}"
    place = f"first_{state}" if back else f"(keeps && chunks ? {slots} : first_{state})"
    arrays.lasting |= {f"first_{state}": room, f"other_{state}": room}
    arrays.before += [
        f"real *at_{state} = {place}, *next_{state} = other_{state};",
        *arrays.copied(start.axes, f"at_{state}[{{at}}] = {read}[(n * H + h) * {size} + {{from}}];"),
    ]
    _named(arrays, start, f"at_{state}")
    if back:
        for node in arrays.body.values.nodes:
            if isinstance(node.op, ir.Load) and node.op.kind == "state" and node.op.name == state:
                _named(arrays, node, f"({slots} + (chunks - 1 - step) * {room})")
    else:
        following = f"step + 1 < chunks ? at_{state} + {room} : other_{state}"
        lines = ("if (keeps)", f"    next_{state} = {following};")
        arrays.body.statements.append(Statement(lines))


def end(arrays: Arrays, carry: Carry) -> None:
    """Forms what a state becomes, if it is not formed in place yet."""
    values, place, axes = arrays.body.values, f"next_{state_of(carry)}", carry.start.axes
    if values.called.get(carry.end) == place:
        return
    strides = arrays.body.sizes.strides(axes)

    def line(index: Index, loop: Loop) -> str:
        return f"{place}[{offset(index, axes, strides)}] = {values.text(carry.end, index, loop)};"

    arrays.need(carry.end)
    arrays.body.plain(loops(arrays.body.sizes, axes, line))


def hand_on(arrays: Arrays, carry: Carry) -> None:
    """The places change roles; after the last chunk, the state is written."""
    state, size = state_of(carry), arrays.body.sizes.count(carry.start.axes)
    swap = f"{{ real *const old = at_{state}; at_{state} = next_{state}; next_{state} = old; }}"
    arrays.body.statements.append(Statement((swap,)))
    target = arrays.pointer(f"{'start' if arrays.back else 'end'} {state}", written=True)
    text = f"{target}[(n * H + h) * {size} + {{from}}] = at_{state}[{{at}}];"
    arrays.after += arrays.copied(carry.start.axes, text)


def state_of(carry: Carry) -> str:
    """The name of the state that is carried, or whose cotangent is."""
    return carry.name.removeprefix("d'")


def _named(arrays: Arrays, node: Node, place: str) -> None:
    """Names a state that lies somewhere."""
    name = arrays.body.values.called.get(node)
    arrays.loaded.add(node)
    if name is not None:
        text = f"const real *{name} = {place};" if node.axes else f"const real {name} = {place}[0];"
        arrays.body.statements.append(Statement((text,)))
