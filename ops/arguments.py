"""From the arguments of a call to checked tensors and sizes; every refusal names the argument.

Inputs are [B, T, H, axes] ([B, T, G, axes] `per group`), parameters [H, axes] ([axes] if `shared`). Vector
inputs share one dtype, which is the outputs'; scalars, gates (what the decay is made of) and parameters may
be float32 beside bfloat16 or float16 vectors.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnc.dsl.expression import Axes
from rnnc.dsl.recurrence import Input, Param, Recurrence
from rnnc.ops.errors import ArgumentError, ArgumentTypeError

LOW = (torch.bfloat16, torch.float16)
REMEMBERED = 256  # kinds of calls
FLOATS = (torch.float32, torch.float64, *LOW)


@dataclass(slots=True)
class Sizes:
    """B, T, H and the size of every axis of the spec (which may well be called B, T or H)."""

    batch: int = -1
    length: int = -1
    heads: int = -1
    axes: dict[str, int] = field(default_factory=dict)

    def shape(self, axes: Axes) -> tuple[int, ...]:
        """[H, axes]."""
        return (self.heads, *(self.axes[base(axis)] for axis in axes))


class Bound(NamedTuple):
    """The checked tensors of a call, inputs that are left out at their default; a parameter is None there.

    `key`: the same object where all shapes, dtypes and devices are equal.
    """

    inputs: tuple[Tensor, ...]
    params: tuple[Tensor | None, ...]
    sizes: Sizes
    output_dtype: torch.dtype
    dtype: torch.dtype
    device: torch.device
    key: Hashable = None


Default = Callable[[str, Sizes, torch.dtype, torch.device], Tensor]


class Signature:
    """The inputs and parameters of a recurrence, in the order of a call.

    `gates` gives the names of the inputs that the decay is made of; it is asked only where dtypes differ.
    `default` gives the value [H, axes] of what is left out (None where nothing may be).
    """

    def __init__(
        self, recurrence: Recurrence, gates: Callable[[], frozenset[str]], default: Default | None
    ) -> None:
        self.recurrence, self.default = recurrence, default
        self.declared: tuple[Input | Param, ...] = (*recurrence.inputs, *recurrence.params)
        self.names = tuple(item.name for item in self.declared)
        self.optional = frozenset(item.name for item in self.declared if item.default is not None)
        self.gates = gates
        self._bound: dict[Hashable, tuple[Sizes, torch.dtype, object]] = {}

    def bind(
        self, args: Sequence[Any], named: Mapping[str, Any], options: Sequence[str], time: bool
    ) -> Bound:
        """The tensors of a call; without `time` the inputs are those of one token, [B, H, axes].

        `options` are the other keywords of the call, for suggestions. Raises ArgumentTypeError for missing,
        unknown and repeated arguments and for what is no tensor; ArgumentError for shapes, dtypes, devices.
        """
        values = self._match(args, named, options)
        count = len(self.recurrence.inputs)
        given = next(x for x in values if x is not None)
        device = given.device.type
        if device != "meta" and torch.is_autocast_enabled(device):
            pairs = zip(values, self.recurrence.inputs, strict=False)
            values[:count] = [x if x is None else _autocast(x, item) for x, item in pairs]
        kind = None if torch.compiler.is_compiling() else _kind(values, time)
        sizes, output_dtype, key = self._checked(values, time, kind)
        dtype = torch.float64 if output_dtype == torch.float64 else torch.float32
        if self.optional:
            lead = (sizes.batch, sizes.length) if time else (sizes.batch,)
            for n, item in enumerate(self.recurrence.inputs):
                if values[n] is None:
                    own = output_dtype if item.axes else dtype
                    values[n] = self._left_out(item, lead, sizes, own, given.device)
        inputs, params = tuple(values[:count]), tuple(values[count:])
        return Bound(inputs, params, sizes, output_dtype, dtype, given.device, key)

    def _left_out(
        self,
        item: Input,
        lead: tuple[int, ...],
        sizes: Sizes,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor:
        """An input at its default, the same for every token and head."""
        assert self.default is not None
        return self.default(item.name, sizes, dtype, device).expand(*lead, *sizes.shape(item.axes))

    def _checked(
        self, values: Sequence[Any], time: bool, kind: Hashable
    ) -> tuple[Sizes, torch.dtype, Hashable]:
        """The sizes, the dtype of the outputs, and what stands for that kind of call in keys: an object, as
        the hash of all shapes takes a microsecond. What was checked once is remembered.
        """
        if kind is None:
            return self._sizes(values, time), self._dtype(values), None
        known = self._bound.get(kind)
        if known is None:
            if len(self._bound) > REMEMBERED:
                self._bound.clear()
            known = self._bound[kind] = self._sizes(values, time), self._dtype(values), object()
        return known

    def _match(self, args: Sequence[Any], named: Mapping[str, Any], options: Sequence[str]) -> list[Any]:
        if len(args) == len(self.names) and not named and {*map(type, args)} == {Tensor}:
            return list(args)  # nothing to find out: the usual call, quickly
        if len(args) > len(self.names):
            listed = ", ".join(self.names)
            raise ArgumentTypeError(
                f"expected at most {len(self.names)} positional arguments ({listed}), got {len(args)}"
            )
        values: dict[str, Any] = dict(zip(self.names, args, strict=False))
        for name, value in named.items():
            if name not in self.names:
                raise ArgumentTypeError(_unknown(name, (*self.names, *options)))
            if name in values:
                raise ArgumentTypeError(f"{name}: given twice, by position and by name")
            values[name] = value
        missing = [name for name in self.names if name not in values and name not in self.optional]
        if missing:
            raise ArgumentTypeError("missing: " + ", ".join(f"'{name}'" for name in missing))
        for name, value in values.items():
            if not isinstance(value, Tensor) and not (value is None and name in self.optional):
                raise ArgumentTypeError(f"{name}: expected a tensor, got {type(value).__name__}")
        found = [values.get(name) for name in self.names]
        inputs = self.names[: len(self.recurrence.inputs)]
        if all(x is None for x in found[: len(inputs)]):
            raise ArgumentTypeError(
                f"missing: one of {', '.join(inputs)}, which shows how many tokens there are"
            )
        return found

    def _sizes(self, values: Sequence[Any], time: bool) -> Sizes:
        """The sizes that the tensors agree on; the first that shows a size decides it."""
        known: dict[str, int] = {}
        first, device = next((n, x.device) for n, x in zip(self.names, values, strict=True) if x is not None)
        for item, value in zip(self.declared, values, strict=True):
            if value is None:
                continue
            _fit(item, value, known, time)
            if value.device != device:
                raise ArgumentError(f"{item.name}: expected on {device} (as '{first}'), got {value.device}")
        groups = {
            x.name: v.shape[1 + time]
            for x, v in zip(self.declared, values, strict=True)
            if _grouped(x) and v is not None
        }
        heads = known["\0H"] if "\0H" in known else max([1, *groups.values()])
        for name, count in groups.items():
            if count == 0 or heads % count:
                raise ArgumentError(f"{name}: expected groups G that divide H = {heads}, got G = {count}")
        for item, value in zip(self.declared, values, strict=True):
            unknown = [axis for axis in map(base, item.axes) if axis not in known]
            if value is None and unknown:
                raise ArgumentTypeError(
                    f"missing: '{item.name}', as nothing else shows the size of {unknown[0]}"
                )
        axes = {axis: known[axis] for axis in known if not axis.startswith("\0")}
        for axis, size in (("H", heads), *axes.items()):
            if size == 0:
                raise ArgumentError(f"{axis}: expected a size of at least 1, got 0")
        return Sizes(known["\0B"], known.get("\0T", 1), heads, axes)

    def _dtype(self, values: Sequence[Any]) -> torch.dtype:
        """The dtype of the outputs."""
        floats = "float32, float64, bfloat16 or float16"
        vectors = []
        for item, value in zip(self.declared, values, strict=True):
            if value is not None and value.dtype not in FLOATS:
                raise ArgumentError(f"{item.name}: expected {floats}, got {plain(value.dtype)}")
            if isinstance(item, Input) and item.axes and value is not None:
                vectors.append((item.name, value.dtype))
        given = ((name, x.dtype) for name, x in zip(self.names, values, strict=True) if x is not None)
        vectors = vectors or [next(given)]
        mixed = len({dtype for _, dtype in vectors}) > 1
        gates: frozenset[str] = self.gates() if mixed else frozenset()
        first, dtype = next((entry for entry in vectors if entry[0] not in gates), vectors[0])
        strict = {name for name, _ in vectors} - gates
        for item, value in zip(self.declared, values, strict=True):
            if value is None or value.dtype == dtype:
                continue
            if item.name not in strict and dtype in LOW and value.dtype == torch.float32:
                continue
            raise ArgumentError(
                f"{item.name}: expected {plain(dtype)} (as '{first}'), got {plain(value.dtype)}"
            )
        return dtype

    def check_ranges(self, bound: Bound) -> None:
        """Raises ArgumentError where a value leaves the range its declaration promises; NaN passes."""
        for item, value in zip(self.declared, (*bound.inputs, *bound.params), strict=True):
            if item.range is None or value is None or not value.numel():
                continue
            low, high = item.range.low, item.range.high
            below = value <= low if item.range.low_open and low != -torch.inf else value < low
            above = value >= high if item.range.high_open and high != torch.inf else value > high
            outside = value[below | above]
            if outside.numel():
                opening, closing = "(" if item.range.low_open else "[", ")" if item.range.high_open else "]"
                promised = f"{opening}{low:g}, {high:g}{closing}"
                raise ArgumentError(f"{item.name}: promised to be in {promised}, found {outside[0].item():g}")


def check_bounds(cu_seqlens: Any, batch: int, device: torch.device) -> None:
    """Checks what can be seen of `cu_seqlens` without its values. Raises ArgumentError, ArgumentTypeError."""
    if not isinstance(cu_seqlens, Tensor):
        raise ArgumentTypeError(f"cu_seqlens: expected a tensor, got {type(cu_seqlens).__name__}")
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise ArgumentError(f"cu_seqlens: expected int32 or int64, got {plain(cu_seqlens.dtype)}")
    if cu_seqlens.dim() != 1 or len(cu_seqlens) < 2:
        raise ArgumentError(f"cu_seqlens: expected [N + 1] with N >= 1, got {list(cu_seqlens.shape)}")
    if cu_seqlens.device != device:
        raise ArgumentError(f"cu_seqlens: expected on {device}, got {cu_seqlens.device}")
    if batch != 1:
        raise ArgumentError(f"cu_seqlens: packed sequences need B = 1, got B = {batch}")


def offsets_of(cu_seqlens: Tensor, length: int) -> tuple[int, ...]:
    """The values of `cu_seqlens` for `length` tokens. Raises ArgumentError."""
    offsets = tuple(cu_seqlens.tolist())
    if offsets[0] != 0:
        raise ArgumentError(f"cu_seqlens: expected to start at 0, got {offsets[0]}")
    for i, (start, stop) in enumerate(itertools.pairwise(offsets)):
        if stop < start:
            raise ArgumentError(f"cu_seqlens: expected not to decrease, got {stop} after {start} at {i + 1}")
    if offsets[-1] != length:
        raise ArgumentError(f"cu_seqlens: expected to end at T = {length}, got {offsets[-1]}")
    return offsets


def plain(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def _kind(values: Sequence[Any], time: bool) -> Hashable:
    """Equal for tensors of equal shapes, dtypes and devices; None where sizes are symbols."""
    key = (time, *[None if x is None else (x.shape, x.dtype, x.device) for x in values])
    try:
        hash(key)
    except TypeError:
        return None
    return key


def base(axis: str) -> str:
    """The axis that a second axis of the same size stands for: `K` for `K'`."""
    return axis.rstrip("'")


def _grouped(item: Input | Param) -> bool:
    return isinstance(item, Input) and item.per_group


def _fit(item: Input | Param, value: Tensor, known: dict[str, int], time: bool) -> None:
    """Compares a shape with the sizes known so far, and learns new ones. Keys of B, T, H begin with NUL."""
    if isinstance(item, Input):
        lead = ["\0B", "\0T", "\0G" if item.per_group else "\0H"]
        if not time:
            lead.remove("\0T")
    else:
        lead = [] if item.shared else ["\0H"]
    symbols = [*lead, *map(base, item.axes)]
    learned: dict[str, int] = {}
    if len(symbols) != value.dim() or any(
        learned.setdefault(symbol, known.get(symbol, size)) != size
        for symbol, size in zip(symbols, value.shape, strict=True)
    ):
        letters = ", ".join(symbol.removeprefix("\0") for symbol in symbols)
        sizes = ", ".join(str(known.get(symbol, symbol.removeprefix("\0"))) for symbol in symbols)
        expected = f"[{letters}]" + (f" = [{sizes}]" if sizes != letters else "")
        raise ArgumentError(f"{item.name}: expected {expected}, got {list(value.shape)}")
    known.update(learned)
    known.pop("\0G", None)


def _unknown(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"the arguments are {', '.join(names)}"
    return f"{name}: unknown argument; {hint}"


def _autocast(value: Tensor, item: Input) -> Tensor:
    """The value as autocast wants it: vectors in the low precision, float64 and scalars as they are."""
    if item.axes and value.dtype in (torch.float32, *LOW):
        return value.to(torch.get_autocast_dtype(value.device.type))
    return value
