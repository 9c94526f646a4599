"""The holes of the templates of kernels that walk the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateHoles:
    """A carried state in the text: its variable, its arrays, and its tile in them."""

    name: str
    start: str
    end: str
    kept: str
    formed: str
    own: str
    shape: str
    tile: str
    size: str
    offset: str
    mask: str


@dataclass(frozen=True, slots=True)
class StepsContext:
    """The holes of `triton_steps.py.jinja`."""

    name: str
    docstring: str
    arguments: str
    groups: Sequence[str]
    states: tuple[StateHoles, ...]
    sizes: str
    where: str
    offsets: str
    once: str
    body: str


@dataclass(frozen=True, slots=True)
class StepsBackContext:
    """The holes of `triton_steps_back.py.jinja`."""

    name: str
    docstring: str
    arguments: str
    groups: Sequence[str]
    states: tuple[StateHoles, ...]
    cotangents: tuple[StateHoles, ...]
    sizes: str
    where: str
    offsets: str
    once: str
    sums: str
    indices: tuple[str, ...]
    again: str
    body: str
    stores: str
