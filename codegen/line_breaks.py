"""Long lines of emitted Python broken as ruff format breaks them: at the last bracket, then at its commas."""

from __future__ import annotations

import re
from collections.abc import Iterator

WIDTH = 110
CLOSING = {")": "(", "]": "[", "}": "{"}
# What stands before a bracket that is broken: a call, with what it is assigned to or the key that it is for.
HEAD = re.compile(r'(([\w, ]+ [-+]?= |\w+=|"[^"]*": )?[\w.]*)')
CAST = re.compile(r"\.to\([\w.]+\)$")  # short: the bracket before it is broken
# Operators, those that bind least first.
OPERATORS = (("&",), ("+", "-"), ("*", "/"))


def broken(text: str) -> str:
    """The lines of a text, none longer than `WIDTH` where it can be broken.

    Comments stay as they are, and what stands between `# fmt: off` and `# fmt: on`.
    """
    lines, on = list[str](), True
    for line in text.split("\n"):
        on = line == "# fmt: on" or (on and line != "# fmt: off")
        lines += _line(line) if on else [line]
    return "\n".join(lines)


def bare(text: str) -> str:
    """The text without brackets around all of it."""
    return text[1:-1] if text.startswith("(") and _opening(text) == 0 else text


def _line(line: str) -> list[str]:
    content = line.lstrip(" ")
    if len(line) <= WIDTH or content.startswith(("#", '"""')) or "  # " in content:
        return [line]
    return _statement(content, len(line) - len(content))


def _statement(text: str, indent: int) -> list[str]:
    """A statement, or a part of one that may end in a comma, in lines of that indentation."""
    space, comma = " " * indent, "," if text.endswith(",") else ""
    if indent + len(text) <= WIDTH:
        return [space + text]
    core = text.removesuffix(",")
    bracket = _bracket(core, indent)
    if bracket is not None:
        start, end = bracket
        body = _body(core[start + 1 : end], indent + 4)
        return [space + core[: start + 1], *body, f"{space}{core[end:]}{comma}"]
    target, equals, value = core.partition(" = ")
    if equals and target.isidentifier():
        return [f"{space}{target} = (", *_sum(value, indent + 4), f"{space})"]
    lines = _sum(core, indent)
    return [*lines[:-1], lines[-1] + comma]


def _bracket(text: str, indent: int) -> tuple[int, int] | None:
    """Where the bracket opens and closes that is broken; None where the text is broken at operators."""
    cast = CAST.search(text)
    if cast is not None and indent + cast.start() + len(".to(") <= WIDTH:
        return cast.start() + len(".to"), len(text) - 1
    end = len(text) - 1 if cast is None else cast.start() - 1
    start = _opening(text[: end + 1])
    if start is not None and (HEAD.fullmatch(text[:start]) or _is_one_operation(text, start, indent)):
        return start, end
    return None


def _is_one_operation(text: str, start: int, indent: int) -> bool:
    """Whether an assignment is of two operands, of which the second may be broken at its bracket."""
    target, equals, value = text.partition(" = ")
    fits = indent + max(start + 1, 4 + len(text) - start - 2) <= WIDTH
    return bool(equals) and target.isidentifier() and len(_operands(value)) == 2 and fits


def _body(body: str, indent: int) -> list[str]:
    """What stands in brackets: in one line, or each part in its own."""
    parts = list(_parts(body, ","))
    alone = len(parts) == 2 and not parts[1]  # a tuple of one
    if indent + len(body) <= WIDTH and not (body.endswith(",") and not alone):
        return [" " * indent + body]
    if len(parts) == 1:
        return _sum(body, indent)
    return [line for part in parts if part for line in _statement(f"{part},", indent)]


def _sum(text: str, indent: int) -> list[str]:
    """An expression, broken at its operators that bind least."""
    if indent + len(text) <= WIDTH:
        return [" " * indent + text]
    return [" " * indent + part for part in _operands(text)]


def _operands(text: str) -> list[str]:
    """The operands of the operators that bind least, each but the first with its operator in front."""
    for operators in OPERATORS:
        parts = [text]
        for operator in operators:
            parts = [piece for part in parts for piece in _at(part, operator)]
        if len(parts) > 1:
            return parts
    return [text]


def _at(text: str, operator: str) -> Iterator[str]:
    """The operands of an operator, each but the first with it in front."""
    for number, part in enumerate(_parts(text, f" {operator} ")):
        yield part if number == 0 else f"{operator} {part}"


def _parts(text: str, separator: str) -> Iterator[str]:
    """The text split where the separator stands outside brackets and quotes, without spaces around."""
    depth, start, quote = 0, 0, ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in CLOSING.values():
            depth += 1
        elif letter in CLOSING:
            depth -= 1
        elif depth == 0 and at >= start and text.startswith(separator, at):
            yield text[start:at].strip()
            start = at + len(separator)
    yield text[start:].strip()


def _opening(text: str) -> int | None:
    """Where the bracket opens that closes at the end of the text."""
    if text[-1:] not in CLOSING:
        return None
    stack: list[int] = []
    quote = ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in CLOSING.values():
            stack.append(at)
        elif letter in CLOSING:
            start = stack.pop()
            if at == len(text) - 1:
                return start
    return None
