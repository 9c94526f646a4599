"""The normal form of a state of one axis, or none, whose entries do not mix: h[t] = D[t] * h[t-1] + v[t].

Each entry goes its own way, so that all of a sequence is an associative scan of pairs (D, v). What an output
reads is the state itself, after the update or before it, in any expression.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from rnnc.dsl.algebra import relabel, substitute
from rnnc.dsl.diagnostics import NOWHERE, Diagnostic, Span, SpecError
from rnnc.dsl.expansion import expand, to_expression
from rnnc.dsl.expression import Name
from rnnc.dsl.normal import Elementwise, Normal
from rnnc.dsl.polynomial import UNIT, ZERO, Atom, Leaf, Monomial, Polynomial, single
from rnnc.dsl.recurrence import Assign, Let, Recurrence, State, Statement


def is_elementwise(recurrence: Recurrence) -> bool:
    """Whether the recurrence has one state, of one axis or none."""
    return len(recurrence.states) == 1 and len(recurrence.states[0].axes) < 2


def elementwise(recurrence: Recurrence) -> Normal:
    """The normal form of such a recurrence. Raises SpecError, without a place, for what does not have one."""
    return _Substitution(recurrence, recurrence.states[0]).normal()


@dataclass
class _Substitution:
    """Runs the statements symbolically; `versions[n]` is the state after n updates, in terms of the old."""

    recurrence: Recurrence
    state: State
    lets: dict[str, Polynomial] = field(default_factory=dict)
    versions: list[Polynomial] = field(default_factory=list)
    outputs: list[tuple[str, Polynomial]] = field(default_factory=list)
    updated: Span = NOWHERE  # the last update of the state

    def normal(self) -> Normal:
        self.versions.append(self._leaf(self.state.name, self.state.axes, 0))
        for statement in self.recurrence.statements:
            try:
                match statement:
                    case Let(name, value):
                        self.lets[name] = expand(value, self._lookup)
                    case Assign(self.state.name, value):
                        self.versions.append(self._in_old(expand(value, self._lookup)))
                        self.updated = value.span
                    case Assign(output, value):
                        self.outputs.append((output, expand(value, self._lookup)))
                    case _:
                        message = f"micro-steps of the state '{self.state.name}' cannot be compiled yet"
                        hint = "a loop is for states with a key and a value axis"
                        raise SpecError([Diagnostic("unsupported", message, statement.span, hints=(hint,))])
            except SpecError as error:
                raise SpecError([_placed(each, statement) for each in error.diagnostics]) from None
        try:
            decay, added = self._sorted(self.versions[-1])
        except SpecError as error:
            raise SpecError([replace(each, span=self.updated) for each in error.diagnostics]) from None
        axis = self.state.axes[0] if self.state.axes else ""
        return Normal(
            recurrence=self.recurrence,
            state=self.state.name,
            key_axis=axis,
            value_axis=axis,
            decay=None if decay == UNIT else to_expression(decay),
            writes=(),
            readouts=(),
            outputs=tuple((name, to_expression(self._named(value))) for name, value in self.outputs),
            elementwise=Elementwise(self.state.axes, to_expression(added) if added.terms else None),
        )

    def _lookup(self, name: Name) -> Polynomial:
        if name.name in self.lets:
            return self.lets[name.name]
        version = len(self.versions) - 1 if name.name == self.state.name else None
        return self._leaf(name.name, name.axes, version)

    @staticmethod
    def _leaf(name: str, axes: tuple[str, ...], version: int | None) -> Polynomial:
        return single(Atom(Leaf(name, axes, version)))

    def _in_old(self, polynomial: Polynomial, keep: int = 0) -> Polynomial:
        """The polynomial with every version of the state but the old one (and `keep`) written out."""

        def change(leaf: Leaf) -> Polynomial | None:
            if leaf.version in (None, 0, keep):
                return None
            assert leaf.version is not None
            labels = dict(zip(self.state.axes, leaf.labels, strict=True))
            return relabel(self.versions[leaf.version], labels)

        return substitute(polynomial, change)

    def _sorted(self, update: Polynomial) -> tuple[Polynomial, Polynomial]:
        """The decay, and what is added."""
        decay = added = ZERO
        for monomial, coefficient in update.terms:
            reading = [factor for factor in monomial if self._reads(factor[0])]
            if not reading:
                added = added + Polynomial(((monomial, coefficient),))
                continue
            rest: Monomial = tuple(factor for factor in monomial if factor not in reading)
            if reading != [(Atom(Leaf(self.state.name, self.state.axes, 0)), Fraction(1))]:
                raise SpecError([self._refused()])
            decay = decay + Polynomial(((rest, coefficient),))
        return decay, added

    def _reads(self, atom: Atom) -> bool:
        return any(name == self.state.name for name, _ in atom.leaves)

    def _refused(self) -> Diagnostic:
        state = self.state
        shape = f"[{', '.join(state.axes)}]" if state.axes else ""
        message = f"the entries of the state '{state.name}{shape}' mix in its update"
        hints = (
            "handled is a decay for every entry and what is added: h <- f * h + x",
            "a state with a key and a value axis may be read along the key, f.T @ S",
        )
        return Diagnostic("unsupported", message, hints=hints)

    def _named(self, output: Polynomial) -> Polynomial:
        """The output in the state after the update and before it, by their names."""
        last = len(self.versions) - 1
        names = {last: Elementwise.new(self.state.name), 0: Elementwise.old(self.state.name)}

        def change(leaf: Leaf) -> Polynomial | None:
            if leaf.version is None:
                return None
            return self._leaf(names[leaf.version], leaf.labels, None)

        return substitute(self._in_old(output, last), change)


def _placed(finding: Diagnostic, statement: Statement) -> Diagnostic:
    return finding if finding.span != NOWHERE else replace(finding, span=statement.span)
