"""Form -> the form that kernels are planned from.

What a GPU has no single tile operation for becomes others: stacked rows values of their own (`unstacking`),
micro-steps rows (`flattening`), a softmax an exponential divided by its sum, so that an axis can be walked
tile by tile. Sums take the order in which the kernels have their parts at hand (`reassociation`).
"""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.builder import Builder
from rnnc.codegen.flattening import flatten
from rnnc.codegen.operands import per_channel
from rnnc.codegen.program import Node, Program
from rnnc.codegen.reassociation import reassociate
from rnnc.codegen.rewriting import rewritten
from rnnc.codegen.torch_module import Form, scheduled
from rnnc.codegen.unstacking import is_stacked, unstack
from rnnc.codegen.value_operands import scale_values


def kernel_form(form: Form, value_axis: str, micro: str | None = None) -> Form:
    """The form of the same mathematics, scheduled anew; `micro` is the axis of micro-steps, if there are any.

    Raises NotImplementedError for micro-steps that cannot be rows.
    """
    builder = form.builder
    programs = [form.forward.program, form.backward.program]
    nodes = [node for program in programs for node in program.nodes()]
    programs = [without_softmax(program, builder) for program in programs]
    if micro is not None:
        programs = flatten(programs, builder, micro)
    elif any(map(is_stacked, nodes)):
        programs = unstack(programs, builder)
    if not any(map(per_channel, programs)):  # products under decays look for their masks
        programs = [masks_inside(programs[0], builder), programs[1]]
    if not value_axis:  # a state of one number
        programs = [rewritten(program, builder, _in_scans) for program in programs]
    programs = [reassociate(program, builder, value_axis, micro) for program in programs]
    return scheduled(programs, builder, last=lambda program: scale_values(program, builder, value_axis))


def masks_inside(program: Program, builder: Builder) -> Program:
    """The forward program with the factors of rows and columns of a triangle outside its mask, where they can
    leave the products that it is an operand of. (A backward one forms gradients by them of the triangle.)
    """
    return rewritten(program, builder, _masked)


def _masked(node: Node, args: list[Node], build: Builder) -> Node | None:
    """mask(s[i] t[j] x[i,j]) as s[i] t[j] mask(x[i,j])."""
    if not isinstance(node.op, ir.Mask) or not isinstance(args[0].op, ir.Multiply):
        return None
    vectors = [factor for factor in args[0].args if len(factor.axes) < 2]
    square = [factor for factor in args[0].args if len(factor.axes) == 2]
    if not vectors or len(square) != 1 or square[0].axes != node.axes:
        return None
    return build.multiply([*vectors, build.mask(square[0], node.op.strict)], args[0].op.coefficient)


# P[i] = D[1] ... D[i]:   dD[t] = P[t-1] c[t],  c[t] = dP[t] + D[t+1] c[t+1]
def _in_scans(node: Node, args: list[Node], build: Builder) -> Node | None:
    """The gradient of running products by a scan of its own: chunks of numbers are too long for matrices
    between their tokens.
    """
    if not isinstance(node.op, ir.RunningProductAdjoint) or len(node.axes) > 1:
        return None
    decay, _, grad = args
    suffix, exclusive = node.op.direction == "suffix", node.op.exclusive
    others = build.node(ir.RunningProduct(node.op.direction, True), [decay], node.axes)
    if suffix and not exclusive:  # from i to t lies the decay of i too
        scan = build.node(ir.LinearScan("prefix", True), [decay, build.multiply([decay, grad])], node.axes)
        return build.multiply([others, build.add([(1, grad), (1, scan)])])
    op = ir.LinearScan("prefix" if suffix else "suffix", exclusive)
    return build.multiply([others, build.node(op, [decay, grad], node.axes)])


def without_softmax(program: Program, builder: Builder) -> Program:
    """The program with exponentials divided by their sums: tiles have no softmax of their own."""
    if not any(isinstance(node.op, ir.Softmax) for node in program.nodes()):
        return program
    return rewritten(program, builder, _divided)


def _divided(node: Node, args: list[Node], build: Builder) -> Node | None:
    """exp(x - max x) / sum exp(x - max x), which overflows nowhere."""
    if not isinstance(node.op, ir.Softmax):
        return None
    axis, (x,) = node.op.axis, args
    largest = build.node(ir.Max(axis), [x], tuple(a for a in x.axes if a != axis))
    raised = build.apply("exp", build.add([(1, x), (-1, largest)]))
    raised = build.node(ir.Within(axis), [raised], raised.axes)
    return build.multiply([raised, build.apply("reciprocal", build.sum(raised, axis))])
