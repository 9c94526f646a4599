"""Operations along time -> calls of the functions of `templates/tiles.h`."""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.c_body import Body
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import DecayGradients
from rnnc.dsl.expression import Axes

PAIRS: dict[type[ir.Op], str] = {
    ir.DecayDot: "decay_dot",
    ir.DecayDotRows: "decay_dot_rows",
    ir.DecayDotColumns: "decay_dot_columns",
    ir.DecayDotDecay: "decay_dot_decay",
}


def add_along_time(body: Body, node: Node) -> None:
    """A value over tokens, formed by a function of its own. Raises NotImplementedError for what has none."""
    body.formed(node, [f"{_call(body, node)};"])


def _call(body: Body, node: Node) -> str:
    out, flags, tokens = body.matrix(node), _flags(node), body.sizes.target.tokens
    match node.op:
        case ir.Running():
            return f"running_sum({out}, {body.matrix(node.args[0], node.axes)}, {body.extent(node)}, {flags})"
        case ir.RunningProduct():
            source = body.matrix(node.args[0], node.axes)
            return f"running_product({out}, {source}, {body.extent(node)}, {flags})"
        case ir.RunningProductAdjoint():
            given = [body.matrix(node.args[n], node.axes) for n in (0, 2)]
            return f"running_product_grad({out}, {', '.join(given)}, {body.extent(node)}, {flags})"
        case ir.LinearScan():
            given = [body.matrix(argument, node.axes) for argument in node.args]
            return f"linear_scan({out}, {', '.join(given)}, {body.extent(node)}, {flags})"
        case ir.Segment():
            return f"segment_sum({out}, {body.operand(node.args[0])}, {tokens}, {flags})"
        case ir.SegmentAdjoint(exclusive, _):
            place, source = body.operand(node), body.matrix(node.args[0])
            return f"segment_sum_grad({place}, {source}, {tokens}, {int(exclusive)})"
        case ir.Path():
            return f"path({out}, {body.operand(node.args[0])}, {tokens}, {flags})"
        case ir.PathAdjoint(exclusive, _):
            given = [body.operand(node), body.operand(node.args[0]), body.matrix(node.args[1])]
            scratch = body.scratch(f"path_scratch({tokens})")
            return f"path_grad({', '.join(given)}, {tokens}, {int(exclusive)}, {scratch})"
        case ir.Inverse():
            return f"inverse({out}, {body.matrix(node.args[0])}, {body.sizes.size(node.axes[0])})"
        case ir.InverseAdjoint():
            given, size = [body.matrix(argument) for argument in node.args], body.sizes.size(node.axes[0])
            return (
                f"inverse_grad({out}, {', '.join(given)}, {size}, {body.scratch(f'inverse_scratch({size})')})"
            )
        case ir.DecayDot() | ir.DecayDotRows() | ir.DecayDotColumns() | ir.DecayDotDecay():
            return _pairs(body, node)
        case _:
            raise NotImplementedError(f"no C for {type(node.op).__name__}")


def add_decay_gradients(body: Body, group: DecayGradients) -> None:
    """The derivatives of one product under decays: what they share is formed once."""
    made = [node for node in group.members if node is not None]
    places = [body.matrix(node) if node else "0, 0" for node in group.members]
    pairs = group.decay.args[0].axes
    body.formed_together(
        made, [f"decay_dot_grads({', '.join(places)}, {_of_pairs(body, group.decay, pairs)});"]
    )


def _pairs(body: Body, node: Node) -> str:
    """Products of tokens under decays by channel, and their gradients."""
    pairs = node.axes if isinstance(node.op, ir.DecayDot) else node.args[0].axes
    return f"{PAIRS[type(node.op)]}({body.matrix(node)}, {_of_pairs(body, node, pairs)})"


def _of_pairs(body: Body, node: Node, pairs: Axes) -> str:
    """The arguments: matrices, decays, sizes, flags, scratch."""
    assert isinstance(node.op, ir.DecayDot | ir.DecayDotRows | ir.DecayDotColumns | ir.DecayDotDecay)
    *others, decay = node.args
    tokens, log = body.sizes.target.tokens, node.op.mode == "log"
    rows, columns = (body.sizes.size(axis) // tokens for axis in pairs)
    leading = body.leading(decay.axes)
    given = [body.matrix(argument) for argument in others]
    given.append(f"{body.decays(decay) if log else body.operand(decay)}, {leading}")
    sizes = f"{tokens}, {rows}, {columns}, {body.sizes.size(node.op.axis)}"
    flags = f"{int(node.op.exclusive)}, {int(node.op.strict)}"
    if isinstance(node.op, ir.DecayDotDecay):
        flags = f"{flags}, {int(log)}"
    scratch = body.scratch(f"decay_scratch({tokens}, {rows}, {columns}, {leading})")
    return f"{', '.join(given)}, {sizes}, {flags}, {scratch}"


def _flags(node: Node) -> str:
    """Direction, exclusive and strict, those that the operation has."""
    op, parts = node.op, []
    if hasattr(op, "direction"):
        parts.append(int(op.direction == "suffix"))
    parts += [int(getattr(op, name)) for name in ("exclusive", "strict") if hasattr(op, name)]
    return ", ".join(map(str, parts))
