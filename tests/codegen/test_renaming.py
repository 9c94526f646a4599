"""Renaming of a module's names in its text."""

from __future__ import annotations

import pytest

from rnnc.codegen.renaming import rename

BEFORE = """
@block
def block(size: block, other=block) -> block:
    # block, the word
    def inner(block):
        return block.block(block=block)
    é = [block(block=x) for x in "block"]
    return inner(lambda block: block) + block(é)

class Tile(block):
    block: int = 3

    def wide(self) -> int:
        block = self.block
        return block
"""
AFTER = """
@tile
def tile(size: tile, other=tile) -> tile:
    # block, the word
    def inner(block):
        return block.block(block=block)
    é = [tile(block=x) for x in "block"]
    return inner(lambda block: block) + tile(é)

class Tile(tile):
    block: int = 3

    def wide(self) -> int:
        block = self.block
        return block
"""


def test_what_is_of_the_module_is_renamed_and_nothing_else() -> None:
    assert rename(BEFORE, {"block": "tile"}) == AFTER
    assert rename(BEFORE, {}) == BEFORE
    assert rename("x = 1", {"y": "z"}) == "x = 1"


@pytest.mark.parametrize("text", ["block = 1", "def f():\n    return block", "block.x = block"])
def test_single_places(text: str) -> None:
    assert rename(text, {"block": "tile"}) == text.replace("block", "tile")
