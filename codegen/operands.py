"""What `pre` hands to the kernels after it.

The scans multiply matrices that they find in memory: where decays are per channel, the operands come scaled
by the running decays, [tokens, channels], and with them the matrices between tokens, the sums over channels
that scale rows, and the decay of the whole chunk. Otherwise only what costs much to form crosses: matrices
that come from a triangular inverse, sums over matrices between tokens that scale rows, and vectors after a
square matrix. Of micro-steps, products with a token's query are small and stay; the norms of their keys
cross, for which kernels would hold tiles in registers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array, Place
from rnnc.codegen.builder import Builder
from rnnc.codegen.lower_triangles import is_lower
from rnnc.codegen.operations import COLUMN, COLUMNS, ROW, ROWS, TIME_AXES
from rnnc.codegen.phases import is_accumulated, is_heavy, levels
from rnnc.codegen.program import Node, Program, dependents, reachable
from rnnc.codegen.schedule import GRADIENTS, PAIRS, decay_gradients, is_derivative
from rnnc.codegen.torch_sums import is_number, plain
from rnnc.dsl.normal import Normal

LEFT, RIGHT = (ROW, ROWS), (COLUMN, COLUMNS)
LIGHT = 2  # products and decays: one of each
PRODUCTS = 4  # under decays, whose derivatives a kernel forms at most
TOGETHER = 2  # of them that a loop forms with what else they lead to: with more, the registers are full


def crossing(program: Program, normal: Normal, lean: bool = False) -> tuple[Array, ...]:
    """The arrays that `pre` writes for the forward program, and later kernels read; `lean`: of matrices
    between tokens only those that come from a triangular inverse or take more than a product and its decay,
    unless decays are per channel.
    """
    frontier = _frontier(program, normal.value_axis)
    matrices = list(dict.fromkeys(unscaled(n) for n in frontier if is_matrix(n)))
    found = {node: Array(node, f"m{index}", place_of(node)) for index, node in enumerate(matrices)}
    if not per_channel(program):
        costly = any(map(_is_inverted, matrices))
        sums = dict.fromkeys(core for node in frontier for core in _sums(node))
        costly = costly or bool(sums)
        late = [m for m in matrices if m.axes == (ROW, COLUMNS) or (lean and _is_light(m))]
        kept = dict.fromkeys(matrix for matrix in matrices if matrix not in late)
        kept |= dict.fromkeys(_row_norms(frontier, normal.key_axis)) | sums
        found = {node: found.get(node) or _handed(node) for node in (kept if costly else ())}
        found |= {node: _handed(node) for node in _transformed(frontier, normal.key_axis)}
        return tuple(found.values())
    for node in frontier:
        for core in cores(node, normal.key_axis):
            if core not in found:
                found[core] = _handed(core)
    return tuple(found.values())


def _handed(node: Node) -> Array:
    return Array(node, f"x{node.number}", place_of(node))


def _is_inverted(matrix: Node) -> bool:
    """Whether a triangular inverse goes into a matrix."""
    return any(isinstance(node.op, ir.Inverse) for node in reachable([matrix]))


def _is_light(matrix: Node) -> bool:
    """Whether a walk can form a matrix beside its own work: of few products and decays between tokens."""
    return sum(map(is_heavy, reachable([matrix]))) <= LIGHT and not _is_inverted(matrix)


def _sums(node: Node) -> Iterator[Node]:
    """The factors of rows, or of the chunk, in a product that take a matrix between tokens to form."""
    node = plain(node)
    if isinstance(node.op, ir.Multiply):
        for factor in node.args:
            yield from _sums(factor)
    elif len(node.axes) < 2 and any(map(_sums_up_matrix, reachable([node]))):
        yield node


def _sums_up_matrix(node: Node) -> bool:
    summed = isinstance(node.op, ir.Dot | ir.Sum) and len(node.axes) == 1
    return summed and any(len(a.axes) == 2 and set(a.axes) <= set(ir.TIME_AXES) for a in node.args)


def _row_norms(frontier: Iterable[Node], key_axis: str) -> Iterator[Node]:
    """What the rows of tokens that have several are scaled by: formed of tiles that kernels need otherwise
    only as operands.
    """
    for node in frontier:
        yield from (core for core in cores(node, key_axis) if core.axes == (ROWS,))


def _transformed(frontier: Iterable[Node], key_axis: str) -> Iterator[Node]:
    """Tokens' vectors after a square matrix: products of all channels with all."""
    for node in frontier:
        for core in cores(node, key_axis):
            formed = reachable([core])
            if len(core.axes) == 2 and any(axis.endswith("'") for inner in formed for axis in inner.axes):
                yield core


def per_channel(program: Program) -> bool:
    """Whether a decay has a value for every channel of the key."""
    return any(isinstance(node.op, ir.DecayDot | ir.DecayDotDecay) for node in program.nodes())


def all_in_channels(program: Program, value_axis: str, micro: str | None) -> bool:
    """Whether one kernel in tiles of channels forms what is contracted over values as well: decays are per
    channel of the key, few products are under them, and a token has one row; `micro` is the axis of
    micro-steps, if there are any. Of many products, none may be under decays of the values: those need all
    tokens' tiles.

    It has states in tiles of channels, so all of them are kept. Where tokens read nothing, the sums over
    values are few, and keeping fewer states saves more.
    """
    nodes = program.nodes()
    square = any(axis.endswith("'") for node in nodes for axis in node.axes)
    solved = any(isinstance(node.op, ir.Inverse) for node in nodes)
    axes = {node.op.axis for node in nodes if isinstance(node.op, ir.DecayDot | ir.DecayDotRows)}
    most = TOGETHER if value_axis in axes else PRODUCTS
    tiled = bool(axes - {value_axis})
    return solved and tiled and micro is None and not square and 0 < len(_products(nodes)) <= most


def one_by_one(nodes: Iterable[Node]) -> bool:
    """Whether a loop over tiles of channels settles every product before the next, those with states too."""
    return len(_products(nodes)) > TOGETHER


def _products(nodes: Iterable[Node]) -> set[Node]:
    return {group.decay for group in decay_gradients(nodes).values()}


def weights(nodes: Collection[Node]) -> tuple[Node, ...]:
    """The matrices between tokens, of those nodes, that weigh the derivatives of products under decays."""
    found = (plain(group.decay.args[0]) for group in decay_gradients(nodes).values())
    return tuple(node for node in dict.fromkeys(found) if node in nodes)


def met_again(nodes: Sequence[Node], inner: Collection[Node], axis: str) -> tuple[Array, ...]:
    """What is formed of sums over tiles of the axis and, without that axis, goes into values over it, or
    into those that are `inner` to the loop: tiles that would wait in registers for each of its steps.
    """
    level = levels(nodes, axis)
    used = {plain(argument) for n in nodes if axis in n.axes or n in inner for argument in n.args}
    found = [n for n in nodes if n in used and n not in inner and axis not in n.axes and level[n] > 0]
    large = [n for n in found if len(n.axes) == 2 and n.axes[0] in TIME_AXES and n.axes[1] not in TIME_AXES]
    return tuple(map(_handed, large))


def unscaled(matrix: Node) -> Node:
    """The matrix without the factors of its rows and columns: forward and backward scale it differently."""
    factors = [plain(a) for a in matrix.args] if isinstance(matrix.op, ir.Multiply) else []
    square = [factor for factor in factors if len(factor.axes) == 2]
    return unscaled(square[0]) if len(square) == 1 and square[0].axes == matrix.axes else matrix


def cores(node: Node, key_axis: str) -> Iterator[Node]:
    """The values over the key axis, or summed over it, that a value is a product of.

    Forward and backward scale them by different vectors, so these are left out.
    """
    node = plain(node)
    if isinstance(node.op, ir.Load) or not _spans(node, key_axis):
        return
    factors = [plain(argument) for argument in node.args]
    large = [factor for factor in factors if len(factor.axes) == 2]
    if isinstance(node.op, ir.Multiply) and (len(node.axes) < 2 or len(large) == 1):
        for factor in factors:
            yield from cores(factor, key_axis)
    else:
        yield node


def _spans(node: Node, key_axis: str) -> bool:
    """Whether a value is computed from tokens' values over the key axis."""
    return any(key_axis in inner.axes and inner.axes[0] in LEFT for inner in reachable([node]))


def _frontier(program: Program, value_axis: str) -> list[Node]:
    """What does not depend on the carried state, and is used together with it or with values.

    Decays between tokens are left out: logarithms are formed anew, of inputs, to all their digits.
    """
    nodes = program.nodes()
    moving = dependents(nodes, [carry.start for carry in program.carries])
    later = {n for n in nodes if n.number in moving or value_axis in n.axes}
    needed = {plain(a) for n in later for a in (n.args[:-1] if isinstance(n.op, PAIRS) else n.args)}
    return [
        n
        for n in nodes
        if n in needed and n.number not in moving and value_axis not in n.axes and not is_number(n)
    ]


def is_matrix(node: Node) -> bool:
    """Whether a value is a matrix between tokens, or their rows."""
    return len(node.axes) == 2 and node.axes[0] in LEFT and node.axes[1] in RIGHT


def place_of(node: Node) -> Place:
    """Where a value lies between kernels."""
    match node.axes:
        case (first, second) if first in TIME_AXES and second in TIME_AXES:
            if is_lower(node):
                return "triangles" if second == COLUMNS else "triangle"
            return "pairs" if {COLUMNS} & {first, second} else "matrix"
        case (first,) if first in TIME_AXES:
            return "value" if is_plain_value(node) else "row"
        case (first, *_) if first in TIME_AXES:
            return "token"
        case _:
            return "total"


def is_plain_value(node: Node) -> bool:
    """Whether a value is neither a derivative nor zero beyond the sequence: functions of it need not be
    defined at zero.
    """
    return not is_derivative(node) and not is_zero_beyond(node, node.axes[0])


def is_zero_beyond(node: Node, row: str) -> bool:
    """Whether a value is surely zero for tokens, along the axis `row`, that are not valid."""
    if isinstance(node.op, ir.Rename):
        return is_zero_beyond(node.args[0], node.op.old if row == node.op.new else row)
    zero = [is_zero_beyond(argument, row) for argument in node.args if row in argument.axes]
    match node.op:
        case ir.Load(kind="valid") | ir.Keep(0):
            return True
        case ir.Multiply() | ir.Dot():
            return any(zero)
        case ir.Add():
            return len(zero) == len(node.args) and all(zero)
        case ir.Sum() | ir.Within():
            return all(zero)
        case ir.OverSteps(_, time, rows) if row == time:
            return is_zero_beyond(node.args[0], rows)
        case _:
            return False


def with_plain_operands(program: Program, given: Iterable[Array], builder: Builder) -> Program:
    """The program with vectors that scale a matrix in memory moved to the other side of its products.

    They are over the contracted axis; so the matrix is an operand as it was read. Masks that products under
    decays apply themselves are dropped.
    """
    memory = {array.node for array in given if array.place == "token"}
    new: dict[Node, Node] = {}
    for node in program.nodes():
        args = [new[argument] for argument in node.args]
        if isinstance(node.op, ir.Dot):
            new[node] = _plain_dot(node, args, memory, builder)
        elif isinstance(node.op, GRADIENTS) and _masks_alike(node.op, args[0].op):
            new[node] = builder.node(node.op, [*args[0].args, *args[1:]], node.axes)
        else:
            new[node] = node if list(node.args) == args else builder.node(node.op, args, node.axes)
    return replace(
        program,
        results={name: new[node] for name, node in program.results.items()},
        carries=tuple(replace(carry, end=new[carry.end]) for carry in program.carries),
    )


def _masks_alike(op: ir.DecayDotRows | ir.DecayDotColumns | ir.DecayDotDecay, mask: ir.Op) -> bool:
    """Whether the derivative of a product under decays reads nothing that the mask takes away."""
    return isinstance(mask, ir.Mask) and (op.strict or op.exclusive or not mask.strict)


def _plain_dot(node: Node, args: list[Node], memory: set[Node], builder: Builder) -> Node:
    for index, side in enumerate(args):
        core, scale = _split(side)
        if core in memory and scale and plain(args[1 - index]) not in memory:
            other = args[1 - index]
            assert isinstance(side.op, ir.Multiply)
            scaled = builder.node(ir.Multiply(side.op.coefficient), [*scale, other], other.axes)
            return builder.node(node.op, [core, scaled] if index == 0 else [scaled, core], node.axes)
    return node if list(node.args) == args else builder.node(node.op, args, node.axes)


def _split(node: Node) -> tuple[Node, list[Node]]:
    """The one matrix among the factors of a product, and the others; the node itself if there are more."""
    large = [factor for factor in node.args if len(factor.axes) == 2]
    if not isinstance(node.op, ir.Multiply) or len(large) != 1:
        return node, []
    return large[0], [factor for factor in node.args if factor is not large[0]]


def contractions(nodes: Iterable[Node], stores: Iterable[Array], value_axis: str) -> tuple[Array, ...]:
    """What a kernel over tiles of the value axis writes for one without: the sums over values that the rest
    is computed from, and all stores that are such sums or lie along the axis.
    """
    body = list(nodes)
    wanted = {array.node: array for array in stores}
    sums = [n for n in body if is_accumulated(n, value_axis)]
    found = [array for array in wanted.values() if value_axis in array.node.axes or array.node in sums]
    reached: set[Node] = set()
    stack = [array.node for array in stores if array not in found]
    while stack:
        node = stack.pop()
        if node in reached:
            continue
        reached.add(node)
        if node not in sums:
            stack.extend(plain(argument) for argument in node.args)
    names = {array.node for array in found}
    found += [Array(n, f"x{n.number}", place_of(n)) for n in sums if n in reached and n not in names]
    return tuple(found)


def in_two_loops(
    nodes: Sequence[Node], stores: Sequence[Array], axis: str, builder: Builder, first: int = 0
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The stores with what an earlier loop over tiles of the axis can add up of them taken apart, and those
    parts: written by one loop where the whole belongs, and read by the next, which would have to form them
    again; `first`: the first loop that forms stores.
    """
    level = levels(nodes, axis)
    later, early = [], []
    for array in stores:
        total = array.node
        ready = [
            index
            for index, argument in enumerate(map(plain, total.args))
            if axis in argument.axes and level.get(argument, 0) < level[total] > first
        ]
        costly = any(isinstance(n.op, GRADIENTS) for n in reachable(total.args[i] for i in ready))
        if axis not in total.axes or not isinstance(total.op, ir.Add) or not costly:
            later.append(array)
            continue
        coefficients, rest = total.op.coefficients, [i for i in range(len(total.args)) if i not in ready]
        part = ir.Add(tuple(coefficients[i] for i in ready))
        partial = builder.node(part, [total.args[i] for i in ready], total.axes)
        whole = ir.Add((Fraction(1), *(coefficients[i] for i in rest)))
        node = builder.node(whole, [partial, *(total.args[i] for i in rest)], total.axes)
        early.append(replace(array, node=partial))
        later.append(replace(array, node=node))
    return tuple(later), tuple(early)
