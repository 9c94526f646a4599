"""From the syntax of a spec to a checked recurrence: every name resolves, every axis matches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rnnc.dsl.axes import Value
from rnnc.dsl.conclusions import conclude, unused
from rnnc.dsl.declarations import Declarations, interval
from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.expression import Name
from rnnc.dsl.labels import base
from rnnc.dsl.layer_rules import LayerCheck
from rnnc.dsl.lowering import Lowering
from rnnc.dsl.recurrence import Assign, Claim, Let, Loop, Recurrence, Statement
from rnnc.dsl.scope import KIND_WORDS, Scope, Symbol, SymbolKind, check_name, meant
from rnnc.dsl.syntax import (
    Declaration,
    Declared,
    EigenvalueClaim,
    ForStatement,
    Item,
    LayerBlock,
    LetStatement,
    Update,
)


def check(declaration: Declaration) -> Recurrence:
    """The recurrence that the spec declares, with its warnings.

    Raises SpecError with all errors of the spec; each has a code that never changes its meaning.
    """
    checker = _Checker(declaration)
    recurrence = checker.recurrence()
    if checker.findings:
        raise SpecError(checker.findings, declaration.source, declaration.path)
    return recurrence


def _items(items: Sequence[Item]) -> Iterator[Item]:
    """All items, those of loops too."""
    for item in items:
        yield item
        if isinstance(item, ForStatement):
            yield from _items(item.body)


class _Checker:
    """One pass over a spec, in the order of the text; declarations are in sight from the first line on."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.findings: list[Diagnostic] = []
        lets = [item.word for item in _items(declaration.items) if isinstance(item, LetStatement)]
        self.scope = Scope(lets)
        self.lowering = Lowering(self.scope, self.findings)
        self.declarations = Declarations(self.lowering)
        self.assigned: dict[str, list[Span]] = {}
        self.claim: Claim | None = None
        self.layer: LayerBlock | None = None

    def recurrence(self) -> Recurrence:
        """What was declared, as far as the findings let it be."""
        declaration = self.declaration
        self._attempt(lambda: check_name(declaration.word.text, declaration.word.span))
        self.declarations.axes(declaration.axes)
        items = [item for item in declaration.items if isinstance(item, Declared)]
        self.declarations.add(items)
        statements = self._block(declaration.items, inside=False)
        self.findings += conclude(self.declarations, self.assigned, declaration.word.span)
        for block in [item for item in declaration.items if isinstance(item, LayerBlock)]:
            self._layer(block)
        return Recurrence(
            declaration.word.text,
            tuple(word.text for word in declaration.axes),
            declaration.doc,
            *self.declarations.tuples(),
            statements,
            self.claim,
            self.layer,
            unused(self.scope, self.declarations),
            declaration.source,
            declaration.path,
        )

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except SpecError as error:
            self.findings += error.diagnostics

    def _report(self, code: str, message: str, span: Span, label: str = "", *hints: str) -> None:
        self.findings.append(Diagnostic(code, message, span, label, hints=hints))

    # Statements ---------------------------------------------------------------------------------------

    def _block(self, items: Sequence[Item], inside: bool) -> tuple[Statement, ...]:
        statements = [self._statement(item, inside) for item in items]
        return tuple(statement for statement in statements if statement is not None)

    def _statement(self, item: Item, inside: bool) -> Statement | None:
        match item:
            case LetStatement():
                return self._let(item)
            case Update():
                return self._update(item, inside)
            case ForStatement():
                return self._loop(item)
            case Declared(span=span) | EigenvalueClaim(span=span) | LayerBlock(span=span) if inside:
                self._report("nesting", "this cannot stand inside a loop", span)
            case EigenvalueClaim():
                self._claim(item)
            case _:
                pass
        return None

    def _let(self, item: LetStatement) -> Let | None:
        value = self.lowering.lower(item.value)
        if value is not None and value.unknown:
            hint = "it follows from what 'I' meets in the same expression"
            self._report(
                "unknown-size",
                f"the size of 'I' in '{item.word.text}' is not known",
                item.value.span,
                "",
                hint,
            )
            value = None
        name = item.word.text
        meaning = None
        if value is not None:
            expression = Name(name, value.axes)
            meaning = Value(expression, value.axes, value.row, value.diagonal, value.traits)
        self._attempt(lambda: self.scope.declare(Symbol(name, "let", item.word.span, meaning)))
        return None if value is None else Let(name, value.expression, item.span)

    def _update(self, item: Update, inside: bool) -> Assign | None:
        target = self._target(item)
        if target is not None:
            self.assigned.setdefault(target.name, []).append(item.target.span)
        value = self.lowering.lower(item.value)
        if target is None or value is None or target.value is None:
            return None
        if target.kind == "output" and inside:
            hint = "assign it after the loop"
            self._report(
                "output-in-loop",
                f"the output '{target.name}' is assigned in a loop",
                item.target.span,
                "",
                hint,
            )
        self._check_fit(target, value, item)
        return Assign(target.name, value.expression, item.span)

    def _target(self, item: Update) -> Symbol | None:
        name, span = item.target.text, item.target.span
        symbol = self.scope.symbols.get(name)
        targets: tuple[SymbolKind, ...] = ("state", "output")
        if symbol is None:
            known = [s.name for s in self.scope.symbols.values() if s.kind in targets]
            hints = meant(name, known) or (
                f"'let {name} = ...' names a value",
                f"'state {name}[...]' declares a state",
            )
            self._report(
                "unknown-name", f"'{name}' is not declared", span, "not a state or an output", *hints
            )
            return None
        if symbol.kind not in targets:
            label = f"{KIND_WORDS[symbol.kind]}; only states and outputs stand left of '<-'"
            self._report("not-assignable", f"'{name}' cannot be assigned", span, label)
            return None
        return symbol

    def _check_fit(self, target: Symbol, value: Value, item: Update) -> None:
        assert target.value is not None
        axes = target.value.axes
        if value.unknown or sorted(value.axes) != sorted(axes):
            shape = f"[{', '.join(axes)}]" if axes else "a scalar"
            message = f"'{target.name}' is {shape}, the value is {value}"
            extra = [axis for axis in map(base, value.axes) if axis not in axes]
            hints = [f"'sum(x, {axis})' removes the axis '{axis}'" for axis in dict.fromkeys(extra)]
            self._report("axis-mismatch", message, item.value.span, "", *hints)
        if "complex" in value.traits and "complex" not in target.value.traits:
            hint = "'re(z)' is the real part" if target.kind == "output" else f"'state {target.name} complex'"
            self._report(
                "complex", f"'{target.name}' is real, the value is complex", item.value.span, "", hint
            )
        if "final" in value.traits and target.kind == "state":
            message = "a state cannot depend on the final state"
            self._report("final", message, item.value.span, "", "'final' is for outputs")

    def _loop(self, item: ForStatement) -> Loop | None:
        axis, index = item.axis.text, item.index.text
        symbol = self.scope.symbols.get(axis)
        if symbol is None or symbol.kind != "axis":
            label = KIND_WORDS[symbol.kind] if symbol else "not an axis"
            known = [s.name for s in self.scope.symbols.values() if s.kind == "axis"]
            hints = meant(axis, known) or ("a loop goes through an axis: 'for i in n:'",)
            self._report("unknown-name", f"'{axis}' is not an axis", item.axis.span, label, *hints)
        before = set(self.scope.symbols)
        self.scope.read.add(axis)
        self._attempt(lambda: self.scope.declare(Symbol(index, "index", item.index.span, axis=axis)))
        body = self._block(item.body, inside=True)
        self.scope.leave(set(self.scope.symbols) - before)
        return Loop(index, axis, body, item.span)

    def _claim(self, item: EigenvalueClaim) -> None:
        if self.claim is not None:
            related = ((self.claim.span, "first claimed here"),)
            self.findings.append(
                Diagnostic("duplicate-name", "'eigenvalues' is claimed twice", item.span, related=related)
            )
            return
        self._attempt(lambda: self._set_claim(item))

    def _set_claim(self, item: EigenvalueClaim) -> None:
        found = interval(self.lowering, item.bounds)
        if found is not None:
            self.claim = Claim(found, item.span)

    def _layer(self, block: LayerBlock) -> None:
        if self.layer is not None:
            related = ((self.layer.span, "the first one"),)
            self.findings.append(
                Diagnostic("duplicate-name", "there are two layer blocks", block.span, related=related)
            )
            return
        defaulted = frozenset(i.name for i in self.declarations.inputs if i.default is not None)
        layer = LayerCheck(self.scope.symbols, defaulted)
        self.layer = layer.check(block)
        self.findings += layer.findings
