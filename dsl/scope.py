"""Which names a spec declares, and what each of them means at a line."""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rnnc.dsl.axes import Value
from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.syntax import Word

SymbolKind = Literal["axis", "input", "param", "state", "output", "let", "index"]
KIND_WORDS: dict[SymbolKind, str] = {
    "axis": "an axis",
    "input": "an input",
    "param": "a parameter",
    "state": "a state",
    "output": "an output",
    "let": "a let",
    "index": "the variable of a loop",
}
RESERVED = {
    "I": "the identity matrix",
    "inf": "infinity, in ranges",
    **dict.fromkeys(("recurrence", "input", "param", "state", "output"), "begins a declaration"),
    **dict.fromkeys(("let", "for", "in", "eigenvalues", "layer"), "begins a statement or stands in one"),
}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A declared name. `value` is None where an error has made its meaning unknown.

    For the variable of a loop, `axis` is what it counts along.
    """

    name: str
    kind: SymbolKind
    span: Span
    value: Value | None = None
    axis: str = ""


class Scope:
    """The names in sight. Every name is declared once, across all kinds."""

    def __init__(self, later: Iterable[Word] = ()) -> None:
        """`later`: the words of all lets, so that reading one too early is told from a typing error."""
        self.symbols: dict[str, Symbol] = {}
        self.read: set[str] = set()
        self._gone: dict[str, Symbol] = {}
        self._later = {word.text: word.span for word in reversed(list(later))}

    def declare(self, symbol: Symbol) -> None:
        """Add a name. Raises SpecError (`reserved-word`, `duplicate-name`); a duplicate leaves the first."""
        check_name(symbol.name, symbol.span)
        first = self.symbols.get(symbol.name) or self._gone.get(symbol.name)
        if first is not None and first.kind == symbol.kind == "index" and symbol.name not in self.symbols:
            first = None  # loops one after the other may count with the same letter
        if first is not None:
            raise SpecError([_duplicate(symbol, first)])
        self.symbols[symbol.name] = symbol

    def look_up(self, name: str, span: Span) -> Symbol:
        """What the name means; this counts as reading it. Raises SpecError (`unknown-name`, `order`)."""
        symbol = self.symbols.get(name)
        if symbol is None:
            raise SpecError([self._unknown(name, span)])
        self.read.add(name)
        return symbol

    def everything(self) -> list[Symbol]:
        """All names that were ever declared, those of loops too."""
        return [*self.symbols.values(), *self._gone.values()]

    def leave(self, names: Iterable[str]) -> None:
        """Forget the names of a loop's body."""
        for name in names:
            self._gone[name] = self.symbols.pop(name)

    def _unknown(self, name: str, span: Span) -> Diagnostic:
        if name in self._gone:
            message = f"'{name}' is known inside its loop only"
            related = ((self._gone[name].span, "declared here"),)
            return Diagnostic("unknown-name", message, span, related=related)
        if name in self._later:
            message = f"'{name}' is read before the line that declares it"
            related = ((self._later[name], "declared here"),)
            return Diagnostic("order", message, span, related=related)
        label = "not an input, parameter, let or state"
        return Diagnostic(
            "unknown-name", f"'{name}' is not declared", span, label, hints=meant(name, self.symbols)
        )


def check_name(name: str, span: Span) -> None:
    """Refuse the words that the language, or the language of the emitted files, keeps for itself."""
    if name in RESERVED:
        reason = RESERVED[name]
    elif keyword.iskeyword(name):
        reason = "a keyword of Python, in which the emitted files are written"
    elif name.startswith("__"):
        reason = "names that begin with two underscores belong to Python"
    else:
        return
    message = f"'{name}' is a reserved word"
    raise SpecError([Diagnostic("reserved-word", message, span, reason, hints=("use another name",))])


def meant(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """A hint at the known name that is most like this one, if there is one."""
    from difflib import get_close_matches

    names = sorted(known)
    by_case = [other for other in names if other.lower() == name.lower()]
    close = by_case or get_close_matches(name, names, n=1, cutoff=0.6)
    return (f"did you mean '{close[0]}'?",) if close else ()


def _duplicate(symbol: Symbol, first: Symbol) -> Diagnostic:
    message = f"'{symbol.name}' is declared twice"
    label = "every name has one meaning in a spec"
    related = ((first.span, f"first declared here, as {KIND_WORDS[first.kind]}"),)
    return Diagnostic("duplicate-name", message, symbol.span, label, related)


def counted(number: int) -> str:
    """`1 argument`, `2 arguments`."""
    return f"{number} argument{'s' * (number != 1)}"
