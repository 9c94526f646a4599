"""Plan -> the same plan with fewer operations in the scan, which is as long as there are chunks.

A row scale of a matrix product with the state goes to the operand that is known before: all chunks at once.
A product of the shape of the state that is only added to it is formed there, not for all chunks before; one
that only reads it is formed there too, so that the states of all chunks are not collected. A product over
tokens that is only added to one with the state is formed there too: its sum is in the caches; so is one that
is only added after the scan. Products with
the states that were kept are formed together, chunk after chunk: these are much to read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.contractions import share_contractions
from rnnc.codegen.pair_products import gather_pair_products
from rnnc.codegen.program import Node, Program
from rnnc.codegen.schedule import Plan, cut
from rnnc.codegen.torch_sums import can_inline, is_number, plain


def for_torch(plan: Plan, builder: Builder) -> Plan:
    """The plan with scales moved out of the scan, and products that are added to a state moved into it."""
    fused = plan.fused or not plan.post
    program = share_contractions(plan.program, plan.given, builder)
    program = gather_pair_products(program, plan.given, builder)
    plan = cut(program, plan.given, plan.keeps, fused)
    program, new = _with_scales_before(plan, builder)
    given, keeps = ([new.get(node, node) for node in nodes] for nodes in (plan.given, plan.keeps))
    plan = _with_terms(_with_products(cut(program, given, keeps, fused)))
    return _with_late_terms(_with_readers_of_kept(_with_readers(plan)))


def _users(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for argument in node.args:
            users.setdefault(argument, []).append(node)
    return users


def _with_scales_before(plan: Plan, builder: Builder) -> tuple[Program, dict[Node, Node]]:
    """s[i] (l[i,k] @ S)[i,v] as (s[i] l[i,k]) @ S, where s and l do not depend on the state."""
    users = _users((*plan.pre, *plan.scan, *plan.post))
    moving = {carry.start for carry in plan.program.carries} | set(plan.scan)
    new: dict[Node, Node] = {}
    for node in plan.program.nodes():
        args = [new[argument] for argument in node.args]
        added = node in plan.scan or _only_term(node, plan, users)
        product = _scaled_product(node, moving, users) if added else None
        if product is not None:
            assert isinstance(node.op, ir.Multiply)
            left, right = (new[operand] for operand in product.args)
            scales = [new[argument] for argument in node.args if argument is not product]
            scaled = builder.node(ir.Multiply(node.op.coefficient), [*scales, left], left.axes)
            new[node] = builder.node(product.op, [scaled, right], node.axes)
        else:
            made = node if args == list(node.args) else builder.node(node.op, args, node.axes)
            new[node] = _outer(made, builder) if node in plan.scan else made
    program = replace(
        plan.program,
        results={name: new[value] for name, value in plan.program.results.items()},
        carries=tuple(replace(carry, end=new[carry.end]) for carry in plan.program.carries),
    )
    return program, new


def _outer(node: Node, builder: Builder) -> Node:
    """A product of factors over either of two axes as one of two vectors: a sum adds it unformed."""
    if not isinstance(node.op, ir.Multiply) or len(node.axes) != 2 or any(map(is_number, node.args)):
        return node
    sides = [[a for a in node.args if a.axes == (axis,)] for axis in node.axes]
    scalars = [a for a in node.args if not a.axes]
    if not all(sides) or len(node.args) != len(sides[0]) + len(sides[1]) + len(scalars):
        return node
    sides[0] = [*scalars, *sides[0]]
    vectors = [
        side[0] if len(side) == 1 else builder.node(ir.Multiply(1), side, side[-1].axes) for side in sides
    ]
    return builder.node(node.op, vectors, node.axes)


def _scaled_product(node: Node, moving: set[Node], users: dict[Node, list[Node]]) -> Node | None:
    """The matrix product that the node scales by row, if nothing else needs it."""
    if not isinstance(node.op, ir.Multiply):
        return None
    products = [argument for argument in node.args if isinstance(argument.op, ir.Dot)]
    if len(products) != 1 or products[0].axes != node.axes or len(node.axes) != 2:
        return None
    (product,) = products
    scales = [argument for argument in node.args if argument is not product]
    by_row = all(set(scale.axes) <= {node.axes[0]} and plain(scale) not in moving for scale in scales)
    known = plain(product.args[0]) not in moving and (node not in moving or plain(product.args[1]) in moving)
    arrays = any(not is_number(scale) for scale in scales)
    return product if by_row and known and arrays and users[product] == [node] else None


def _with_products(plan: Plan) -> Plan:
    """Products that one sum of the scan, the new state, takes alone are moved there."""
    users = _users((*plan.pre, *plan.scan, *plan.post))
    wanted = {plain(node) for node in (*plan.keeps, *plan.program.results.values())}
    ends = {carry.end for carry in plan.program.carries} & set(plan.scan)
    inside: set[Node] = set()
    for node in reversed(plan.pre):
        single = len(users.get(node, [])) == 1 and node not in wanted
        if not single or len(node.axes) != 2 or set(node.axes) & set(ir.TIME_AXES):
            continue
        (user,) = users[node]
        numbers = isinstance(node.op, ir.Multiply) and all(
            is_number(a) or a.axes == node.axes for a in node.args
        )
        if (user in ends and numbers and any(_alone(a, users) for a in node.args)) or (
            isinstance(node.op, ir.Dot) and (user in inside or (user in ends and isinstance(user.op, ir.Add)))
        ):
            inside.add(node)
    moved = tuple(node for node in plan.pre if node in inside)
    return replace(
        plan, pre=tuple(node for node in plan.pre if node not in inside), scan=(*moved, *plan.scan)
    )


def _only_term(node: Node, plan: Plan, users: dict[Node, list[Node]]) -> bool:
    """Whether all that needs the array over time is a sum of the scan, once."""
    found = users.get(node, [])
    if len(found) != 1 or found[0] not in plan.scan or not isinstance(found[0].op, ir.Add):
        return False
    timed = len(node.axes) == 2 and bool(set(node.axes) & set(ir.TIME_AXES))
    wanted = {plain(each) for each in (*plan.keeps, *plan.program.results.values())}
    return timed and node.axes == found[0].axes and node not in wanted


def _with_terms(plan: Plan) -> Plan:
    """Products before the scan that a sum in it adds to its own are moved there."""
    users = _users((*plan.pre, *plan.scan, *plan.post))
    moved = [
        node
        for node in plan.pre
        if can_inline(node)
        and _only_term(node, plan, users)
        and (isinstance(node.op, ir.Dot) or not any(isinstance(plain(a).op, ir.Dot) for a in node.args))
    ]
    pre = tuple(node for node in plan.pre if node not in moved)
    return replace(plan, pre=pre, scan=(*moved, *plan.scan))


def _with_late_terms(plan: Plan) -> Plan:
    """Products before the scan that one sum after it takes alone are formed there, in the sum."""
    users = _users((*plan.pre, *plan.scan, *plan.post))
    wanted = {plain(each) for each in (*plan.keeps, *plan.program.results.values())}
    after = set(plan.post)
    moved = {
        node
        for node in plan.pre
        if can_inline(node) and node not in wanted and len(users.get(node, [])) == 1
        if users[node][0] in after and isinstance(users[node][0].op, ir.Add)
    }
    return replace(
        plan,
        pre=tuple(node for node in plan.pre if node not in moved),
        post=tuple(sorted(after | moved, key=lambda node: node.number)),
    )


def _alone(node: Node, users: dict[Node, list[Node]]) -> bool:
    """Whether the node is a matrix product with one user."""
    return isinstance(node.op, ir.Dot) and len(users[node]) == 1


def _with_readers(plan: Plan) -> Plan:
    """What comes after the scan and reads the states is done in it, up to values that are smaller."""
    users = _users((*plan.pre, *plan.scan, *plan.post))
    wanted = {plain(node) for node in (*plan.keeps, *plan.program.results.values())}
    after = set(plan.post)
    moved: set[Node] = set()
    for start in {carry.start for carry in plan.program.carries} - wanted:
        readers = _readers(start, users, after, wanted)
        if readers is not None:
            moved |= readers
    if not moved:
        return plan
    return replace(
        plan,
        scan=(*plan.scan, *(node for node in plan.post if node in moved)),
        post=tuple(node for node in plan.post if node not in moved),
    )


def _readers(
    start: Node, users: dict[Node, list[Node]], after: set[Node], wanted: set[Node]
) -> set[Node] | None:
    """The nodes after the scan that need the state, if all they lead to is smaller than it."""
    found: set[Node] = set()
    waiting = [user for user in users.get(start, []) if user in after]
    while waiting:
        node = waiting.pop()
        if any(argument in after and argument not in found for argument in node.args):
            return None
        found.add(node)
        if set(start.axes) <= set(node.axes):
            if node in wanted:
                return None
            waiting += [user for user in users.get(node, []) if user not in found]
    return found


def _with_readers_of_kept(plan: Plan) -> Plan:
    """Matrix products with a kept state that the scan does not wait for are formed in it, if it, or another
    of them, reads that state too.
    """
    kept = {node for node in plan.given if not set(node.axes) & set(ir.TIME_AXES)}
    users = _users((*plan.pre, *plan.scan, *plan.post))
    scan, after = set(plan.scan), set(plan.post)
    moved: set[Node] = set()
    later: set[Node] = set()
    for node in (*plan.pre, *plan.post):
        if not isinstance(node.op, ir.Dot) or not set(node.axes) & set(ir.TIME_AXES):
            continue
        led_to = _led_to(node, users)
        waits = any(plain(argument) in after for argument in node.args)
        if kept & set(map(plain, node.args)) and not waits and not led_to & scan:
            moved.add(node)
            later |= led_to
    readers = [node for node in {*plan.scan, *moved} if kept & set(map(plain, node.args))]
    if not moved or len(readers) < 2 or later & moved:
        return plan
    later |= {node for node in plan.pre if _joins(node, users, later)}
    order = sorted({*plan.post, *later} - moved, key=lambda node: node.number)
    return replace(
        plan,
        pre=tuple(node for node in plan.pre if node not in moved | later),
        scan=(*plan.scan, *sorted(moved, key=lambda node: node.number)),
        post=tuple(order),
    )


def _joins(node: Node, users: dict[Node, list[Node]], sums: set[Node]) -> bool:
    """Whether the node is a product that one of the sums takes alone, and is printed with it."""
    added = users.get(node, [])
    return (
        isinstance(node.op, ir.Multiply)
        and len(added) == 1
        and isinstance(added[0].op, ir.Add)
        and added[0] in sums
    )


def _led_to(node: Node, users: dict[Node, list[Node]]) -> set[Node]:
    """Everything that needs the node."""
    found: set[Node] = set()
    waiting = [*users.get(node, [])]
    while waiting:
        user = waiting.pop()
        if user not in found:
            found.add(user)
            waiting += users.get(user, [])
    return found
