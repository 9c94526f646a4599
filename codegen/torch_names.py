"""What the values of a plan are called in the printed function, and the lines that make them."""

from __future__ import annotations

from rnnc.codegen import operations as ir
from rnnc.codegen.names import Names
from rnnc.codegen.program import Node
from rnnc.codegen.schedule import DecayGradients, Plan, decay_gradients
from rnnc.codegen.torch_operations import BATCH, aligned, line
from rnnc.codegen.torch_overwriting import overwriting
from rnnc.codegen.torch_sums import inlined_terms, is_number, plain
from rnnc.codegen.torch_text import Statement, assignment
from rnnc.codegen.value_names import ValueNames
from rnnc.dsl.expression import Axes

RESERVED = (
    "torch tiles scan math F args valid h0 ht steps keep kept douts dht C H dtype device a b n own float"
).split()

ENDINGS = ("_rows", "_end", "_done")  # of names in the scan


class Scope:
    """Names and statements. Inside the scan, what was made before it is called by the rows of the step."""

    def __init__(self, plan: Plan, values: ValueNames, inputs: bool) -> None:
        self.overwriting = overwriting(plan, inputs)
        self.names, self.values = Names(RESERVED), values
        self.known: dict[Node, str] = {}
        self.sizes: dict[str, str] = {}
        self.statements: list[Statement] = []
        self.uses: set[str] = set()
        self.scanned = {carry.start for carry in plan.program.carries} | set(plan.scan)
        self.sliced: dict[str, tuple[str, str]] = {}  # text -> (its rows in the step, what it is made of)
        self.collected: set[Node] = set()
        self.kept: dict[Node, str] = {}  # states that the scan hands out, and to what
        self.overwritten: Node | None = None
        self.inside, self.batch = False, BATCH
        self.factored: dict[tuple[Node, str, bool], str] = {}
        self.gradients = decay_gradients((*plan.pre, *plan.post))
        results = (
            *plan.keeps,
            *plan.program.results.values(),
            *(carry.end for carry in plan.program.carries),
        )
        self.inline = inlined_terms((plan.pre, plan.scan, plan.post), set(map(plain, results)))

    # What a line asks for

    def name(self, node: Node) -> str:
        """The array, by the rows of the step inside the scan; or the number."""
        node = plain(node)
        if isinstance(node.op, ir.Const):
            return line(node, self)
        return self._rows(node, self.known[node])

    def view(self, node: Node, axes: Axes) -> str:
        """The array with the axes in this order, those it lacks of size 1."""
        if is_number(node) or self._before(node):
            return self._rows(node, aligned(self.name_outside(node), node.axes, axes))
        return aligned(self.name(node), node.axes, axes, self.batch)

    def transposed(self, node: Node) -> str:
        """The matrix with its axes swapped."""
        if self._before(node):
            return self._rows(node, f"{self.name_outside(node)}.mT")
        return f"{self.name(node)}.mT"

    def name_outside(self, node: Node) -> str:
        """The array of all steps, or the number."""
        node = plain(node)
        return line(node, self) if isinstance(node.op, ir.Const) else self.known[node]

    def factors(self, node: Node, mode: str, exclusive: bool) -> str:
        """The name of the decays' factors, computed at their first use."""
        assert not self.inside, "pairs of tokens are formed outside the scan"
        node = plain(node)
        key = (node, mode, exclusive)
        if key not in self.factored:
            self.factored[key] = self.names.fresh("f1")
            maker = "decay_factors" if mode == "log" else "product_factors"
            flag = ", exclusive=True" if exclusive else ""
            text = f"{self.factored[key]} = tiles.{maker}({self.name(node)}{flag})"
            self.statements.append(Statement([text], {self.known[node]}, {self.factored[key]}))
        self.uses.add(self.factored[key])
        return self.factored[key]

    def size(self, axis: str) -> str:
        """The name of an axis' size."""
        return "C" if axis in ir.TIME_AXES else self.sizes[axis]

    def inlined(self, node: Node) -> bool:
        """Whether a product is printed inside the one sum that needs it."""
        return node in self.inline

    def state(self, node: Node) -> str | None:
        """Where the sum at hand may overwrite the state: whether it is the scan's own; where it is kept."""
        if not self.inside or plain(node) is not self.overwritten:
            return None
        kept = self.kept.get(plain(node))
        return f"own, {kept}" if kept else "own"

    def room(self, node: Node) -> str | None:
        """Where the value may be computed, if the scan hands it out."""
        return f"{self.known[node]}_rows.room(n)" if self.inside and node in self.collected else None

    def _before(self, node: Node) -> bool:
        """Whether the scan, being printed, finds the value computed."""
        return self.inside and not is_number(node) and plain(node) not in self.scanned

    def _rows(self, node: Node, text: str) -> str:
        if not isinstance(plain(node).op, ir.Const):
            self.uses.add(self.known[plain(node)])
        if not self._before(node):
            return text
        if text not in self.sliced:
            self.sliced[text] = (self.names.fresh(f"{self.known[plain(node)]}_c"), self.known[plain(node)])
        return self.sliced[text][0]

    def fresh(self, node: Node) -> str:
        """A new name for a value, such that what the scan derives from it is free too."""
        name = self.values.name(node)
        while any(f"{name}{ending}" in self.names.taken for ending in ENDINGS):
            name = f"{name}_"
        name = self.names.fresh(name)
        self.names.taken |= {f"{name}{ending}" for ending in ENDINGS}
        return name

    # Statements

    def assign(self, node: Node) -> None:
        """Appends the line that makes the node's value, unless it has a name or needs none."""
        if isinstance(node.op, ir.Const | ir.Rename) or node in self.known or node in self.inline:
            return
        group = self.gradients.get(node)
        self.uses = set()
        if group is not None and all(plain(argument) in self.known for argument in group.decay.args):
            self._assign_gradients(group)
            return
        if isinstance(node.op, ir.AxisSize):
            self.known[node] = self.sizes[node.op.axis]
            return
        self.known[node] = self.fresh(node)
        text = line(node, self)
        made = set() if is_number(node) else {self.known[node]}
        lines = [part for step in text.split("\n") for part in assignment(self.known[node], step)]
        found = self.overwriting.texts(node, self)
        instead = {array: assignment(self.known[node], text) for array, text in found.items()}
        self.statements.append(Statement(lines, self.uses, made, instead))

    def _assign_gradients(self, group: DecayGradients) -> None:
        """The three derivatives of a decay_dot in one call."""
        decay, op = group.decay, group.decay.op
        assert isinstance(op, ir.DecayDotDecay)
        factors = self.factors(decay.args[3], op.mode, op.exclusive)
        args = [self.name(argument) for argument in decay.args[:3]]
        makes = []
        for node in group.members:
            makes.append("_" if node is None else self.fresh(node))
            if node is not None:
                self.known[node] = makes[-1]
        strict = ", strict=True" if op.strict else ""
        text = f"{', '.join(makes)} = tiles.decay_dot_grads({', '.join(args)}, {factors}{strict})"
        self.statements.append(Statement([text], self.uses, {name for name in makes if name != "_"}))
