"""Specs with other names, and with gates written as functions of other gates: syntax to syntax."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.parser import parse
from rnnc.dsl.syntax import (
    Apply,
    Declaration,
    Declared,
    EigenvalueClaim,
    ForStatement,
    Item,
    LayerBlock,
    LetStatement,
    Reference,
    Syntax,
    Word,
)

ARGUMENTS = ("input", "param")


def bare(declaration: Declaration) -> Declaration:
    """The declaration without what is no part of its meaning: the layer block and the claim."""
    kept = (item for item in declaration.items if not isinstance(item, LayerBlock | EigenvalueClaim))
    return replace(declaration, items=tuple(kept))


def renamed(declaration: Declaration, names: Mapping[str, str]) -> Declaration:
    """The declaration with inputs, parameters, states, outputs and axes renamed, all at once.

    A let or an index in the way of a new name steps aside. Raises SpecError (code `rename`) for names that
    are not there and for two that would become one.
    """
    public = {item.word.text for item in _declared(declaration)} | {axis.text for axis in declaration.axes}
    for name in names:
        if name not in public:
            raise _wrong(f"'{name}' cannot be renamed: not an input, parameter, state, output or axis")
    after = [names.get(name, name) for name in sorted(public)]
    for name in after:
        if after.count(name) > 1:
            raise _wrong(f"two names would become '{name}'")
    moves = dict(names)
    private = _private(declaration)
    taken = {*after, *private}
    for name in sorted(private & set(after)):
        aside = next(text for text in (f"{name}_{i}" for i in range(1, len(taken) + 2)) if text not in taken)
        moves[name] = aside
        taken.add(aside)

    def move(node: Any) -> Any:
        match node:
            case Word(text):
                return replace(node, text=moves.get(text, text))
            case Reference(name):
                return replace(node, name=moves.get(name, name))
            case Apply(arguments=arguments):
                return replace(node, arguments=tuple(map(move, arguments)))
            case _:
                return _rebuilt(node, move)

    changed: Declaration = replace(
        declaration,
        axes=tuple(map(move, declaration.axes)),
        items=tuple(map(move, declaration.items)),
    )
    return changed


def with_gate(declaration: Declaration, other: Declaration, name: str, text: str) -> Declaration:
    """The declaration with its input or parameter `name` as a let of the expression in the other's names.

    Raises SpecError where the text is no expression or reads names that neither of the two declares.
    """
    value = _expression(name, text)
    theirs = {item.word.text: item for item in _declared(other) if item.kind in ARGUMENTS}
    own = {item.word.text for item in _declared(declaration)}
    wanted = dict.fromkeys(node.name for node in _references(value))
    new = [theirs[each] for each in wanted if each in theirs and each not in own]
    items: list[Item] = []
    for item in declaration.items:
        if isinstance(item, Declared) and item.word.text == name:
            items += [*new, LetStatement(Word(name), value)]
        else:
            items.append(item)
    return replace(declaration, items=tuple(items))


def arguments(declaration: Declaration) -> frozenset[str]:
    """The names of the inputs and parameters."""
    return frozenset(item.word.text for item in _declared(declaration) if item.kind in ARGUMENTS)


def _expression(name: str, text: str) -> Syntax:
    try:
        (item,) = parse(f"recurrence gate:\n    let {name} = {text}\n", "--let").items
    except (SpecError, ValueError):
        raise _wrong(f"'{text}' is not an expression") from None
    if not isinstance(item, LetStatement):
        raise _wrong(f"'{text}' is not an expression")
    return item.value


def _declared(declaration: Declaration) -> Iterator[Declared]:
    return (item for item in declaration.items if isinstance(item, Declared))


def _private(declaration: Declaration) -> set[str]:
    """The names of lets and of indices, in loops too."""
    found: set[str] = set()
    waiting = list(declaration.items)
    while waiting:
        item = waiting.pop()
        if isinstance(item, LetStatement):
            found.add(item.word.text)
        elif isinstance(item, ForStatement):
            found.add(item.index.text)
            waiting += item.body
    return found


def _references(node: Any) -> Iterator[Reference]:
    if isinstance(node, Reference):
        yield node
    for part in _parts(node):
        yield from _references(part)


def _parts(node: Any) -> Iterator[Any]:
    if is_dataclass(node):
        for each in fields(node):
            value = getattr(node, each.name)
            yield from value if isinstance(value, tuple) else (value,)


def _rebuilt(node: Any, change: Callable[[Any], Any]) -> Any:
    if not is_dataclass(node) or isinstance(node, type):
        return node
    changes = {}
    for each in fields(node):
        value = getattr(node, each.name)
        if isinstance(value, tuple):
            changes[each.name] = tuple(map(change, value))
        elif is_dataclass(value) and each.compare:
            changes[each.name] = change(value)
    return replace(node, **changes)


def _wrong(message: str) -> SpecError:
    return SpecError([Diagnostic("rename", message)])
