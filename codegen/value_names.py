"""What the values of a form are called: words of the field, derived from what the values are.

Inputs, states and lets keep their names. Of the chunked form, with D the decay:

    log2_D; G, G_before, G_after, G_C: G[i], G[i-1], G[C]/G[i], G[C]; G_ij: G[i]/G[j]; log2_G and so on
    P, inv: what reads see of the writes before them, and (I - P)^-1; U: what is written
    A: readouts against writes, without the factors of its rows and columns

`dx` is the gradient in x, `qk` a product of q and k, `x_sum` the sum of x along an axis, `rnorm_k` 1/|k|,
`x_scaled` x times factors, `o_1` a part of o.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import count

from rnnc.codegen import operations as ir
from rnnc.codegen.arrays import Array
from rnnc.codegen.builder import Builder
from rnnc.codegen.canonical import leaves
from rnnc.codegen.names import Names
from rnnc.codegen.notation import norm_of, squared
from rnnc.codegen.program import Carry, Node, dependents, reachable
from rnnc.codegen.symbols import Symbols
from rnnc.codegen.torch_sums import is_number, plain
from rnnc.dsl.normal import Normal
from rnnc.dsl.recurrence import Let, unrolled

LONGEST = 18  # letters
POWERS = {2: "_squared", 3: "_cubed"}
RUNNING = {
    ("prefix", False): "G",
    ("prefix", True): "G_before",
    ("suffix", True): "G_after",
    ("suffix", False): "G_from",
}


class ValueNames:
    """One name for each value of the programs, whichever kernel or function it occurs in."""

    def __init__(
        self,
        roots: Iterable[Node],
        results: Mapping[Node, str],
        carries: Iterable[Carry],
        normal: Normal,
        builder: Builder,
    ) -> None:
        """Of all that the roots are computed from; `results` and `carries` are those of the programs."""
        recurrence = normal.recurrence
        self.nodes = reachable(roots)
        loads = [n for n in self.nodes if isinstance(n.op, ir.Load)]
        gradients = [n for n in loads if isinstance(n.op, ir.Load) and n.op.name.startswith("d'")]
        self.derived = dependents(self.nodes, gradients)
        declared = [item.name for item in (*recurrence.declared, *recurrence.states)]
        self.declared = {*declared, *(f"d'{name}" for name in declared)}
        lets = (s.name for s in unrolled(recurrence.statements) if isinstance(s, Let))
        self.names = Names(name.replace("'", "") for name in (*self.declared, *lets))
        self.users: dict[Node, list[Node]] = {}
        for node in self.nodes:
            for argument in node.args:
                self.users.setdefault(plain(argument), []).append(node)
        self.stems: dict[Node, str | None] = {}
        found = Symbols(self.nodes, self.derived, carries, normal, builder)
        self.canonical, self.products, self.symbols = found.canonical, found.products, found.of
        self._gradients(builder)
        self.called = {node: _load(node) for node in loads}
        for node, name in results.items():
            self.called.setdefault(plain(node), name.replace("'", ""))
        self.results = {node for node in map(plain, results) if not isinstance(node.op, ir.Load)}
        for node, name in self.symbols.items():
            if node not in self.called:
                self.called[node] = name if node in found.lets else self.names.fresh(name)

    def name(self, node: Node) -> str:
        """The name of a value, new when it is asked for for the first time."""
        node = plain(node)
        if node not in self.called:
            self.called[node] = self.names.fresh(self._stem(node) or self._part(node))
        return self.called[node]

    def of_array(self, array: Array) -> str:
        """The name of what is in memory: what the spec declares keeps its name."""
        own = isinstance(array.node.op, ir.Load) or array.name in self.declared
        return array.name.replace("'", "") if own else self.name(array.node)

    def is_symbol(self, node: Node) -> bool:
        """Whether a value stands in the equations of the form, or in the spec."""
        name = self.symbols.get(plain(node))
        return plain(node) in self.results or (name is not None and not name.startswith("log2_G"))

    def _gradients(self, builder: Builder) -> None:
        """What `differentiate` formed, and what took its place since."""
        for node in self.nodes:
            value = builder.gradients.value_of(node)
            if value is None or node in self.symbols or isinstance(node.op, ir.Load) or is_number(node):
                continue
            if stem := self._stem(value):
                self.symbols[node] = f"d{stem}"
                self.stems.pop(node, None)

    # Other names

    def _stem(self, node: Node) -> str | None:
        """What a value is called for what it is made of; None where that would be long, or say nothing."""
        node = plain(node)
        if node not in self.stems:
            self.stems[node] = None
            stem = self.symbols.get(node) or self._derived_stem(node)
            self.stems[node] = stem if stem is not None and len(stem) <= LONGEST else None
        return self.stems[node]

    def _derived_stem(self, node: Node) -> str | None:
        if isinstance(node.op, ir.Load):
            return _load(node)
        if is_number(node):
            return _number_stem(node)
        stems = [self._stem(argument) for argument in node.args if not is_number(argument)]
        (first, *_) = [*stems, None]
        match node.op:
            case ir.Solve():
                return "U"
            case ir.Dot() | ir.DecayDot():
                return _joined(stems[:2])
            case ir.Multiply():
                return self._product_stem(node)
            case ir.Add():
                if (vector := norm_of(node)) is not None:
                    return _prefixed("norm2", self._stem(vector), "_eps")
                return None
            case ir.Sum():
                if (vector := squared(node)) is not None:
                    return _prefixed("norm2", self._stem(vector))
                return _prefixed("", first, "_sum")
            case ir.Apply("rsqrt") if (vector := norm_of(node.args[0])) is not None:
                return _prefixed("rnorm", self._stem(vector))
            case ir.Apply("reciprocal"):
                return _prefixed("one_over", first)
            case ir.Apply("select"):
                return _prefixed("", self._stem(plain(node.args[2])), "_or_start")
            case ir.Apply(function):
                return _prefixed(function, first)
            case ir.Keep() | ir.Within() | ir.Broadcast():
                return first
            case ir.Max():
                return _prefixed("max", first)
            case ir.Mask():
                return _prefixed("", first, "_lower")
            case ir.Flatten() | ir.Repeat():
                return _prefixed("", first, "_rows")
            case ir.OverSteps() | ir.OverTokens():
                return _prefixed("", first, "_sum")
            case ir.Block(row, column):
                return _prefixed("", first, f"_{row + 1}{column + 1}")
            case _:
                return None

    def _product_stem(self, node: Node) -> str | None:
        """Of factors over the same axes, all; where one is over more than the others, that one."""
        factors = [plain(argument) for argument in node.args if not is_number(argument)]
        parts = leaves(node)
        known = self.products.get(self.canonical.product(parts))
        if known is not None and node.op == ir.Multiply(1) and len(factors) == len(node.args):
            return known
        largest = [factor for factor in factors if len(factor.axes) == len(node.axes)]
        if len(largest) == 1:
            return _prefixed("", self._stem(largest[0]), "_scaled")
        if len(largest) < len(factors):
            return None
        if len(set(parts)) == 1 and len(parts) in POWERS:
            return _prefixed("", self._stem(parts[0]), POWERS[len(parts)])
        return self._short([self._stem(factor) for factor in factors]) or self._known_product(parts)

    def _known_product(self, parts: list[Node]) -> str | None:
        """Of factors that have a name together, that and the others."""
        own = Counter(map(self.canonical.key, parts))
        for keys, name in sorted(self.products.items(), key=lambda item: -len(item[0])):
            rest = own - Counter(keys)
            if rest.total() == len(parts) - len(keys):
                others = [part for part in parts if self.canonical.key(part) in rest]
                if found := self._short([name, *map(self._stem, others)]):
                    return found
        return None

    def _short(self, stems: list[str | None]) -> str | None:
        found = _joined(stems)
        return found if found is not None and len(found) <= LONGEST else None

    def _part(self, node: Node) -> str:
        """A part of the nearest value that has a name; what derivatives need too is no part of these."""
        reached = self._users(node)
        named = [user for user in reached if user in self.symbols or user in self.called]
        plain_ones = [user for user in named if user.number not in self.derived]
        nearest = (plain_ones or named)[:1] if node.number not in self.derived else named[:1]
        whole = next((self.symbols.get(user) or self.called[user] for user in nearest), "x")
        number = next(n for n in count(1) if f"{whole}_{n}" not in self.names.taken)
        return f"{whole}_{number}"

    def _users(self, node: Node) -> list[Node]:
        """What is computed of a value, the nearest first."""
        reached: dict[Node, None] = {}
        waiting = [node]
        for each in waiting:
            for user in map(plain, self.users.get(each, ())):
                if user not in reached:
                    reached[user] = None
                    waiting.append(user)
        return list(reached)


def _load(node: Node) -> str:
    assert isinstance(node.op, ir.Load)
    return "valid" if node.op.kind == "valid" else node.op.name.replace("'", "")


def _number_stem(node: Node) -> str | None:
    """Of a constant, the size of an axis, and a function of one."""
    match node.op:
        case ir.NamedConst(name):
            return name
        case ir.AxisSize(axis):
            return axis.rstrip("'")
        case ir.Apply(function):
            return _prefixed(function, _number_stem(node.args[0]))
        case ir.Multiply(1):
            return _joined([_number_stem(argument) for argument in node.args])
        case _:
            return None


def _joined(stems: list[str | None]) -> str | None:
    """`qk`, `do_S`: single letters stand side by side."""
    if any(stem is None for stem in stems):
        return None
    words = [stem for stem in stems if stem is not None]
    return ("" if all(len(word) == 1 for word in words) else "_").join(words)


def _prefixed(prefix: str, stem: str | None, suffix: str = "") -> str | None:
    return None if stem is None else f"{prefix}_{stem}{suffix}".removeprefix("_")
