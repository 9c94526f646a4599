"""The naive token loop on tensors: what every other form is compared with.

Slow and simple on purpose; autograd differentiates it. Values are [B, H, axes], a dimension 1 where they
would be repeated.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rnnc.dsl.expression import Axes
from rnnc.dsl.functions import UNIT_EPSILON
from rnnc.dsl.interpreter import carried, evaluate, run
from rnnc.dsl.recurrence import Param, Recurrence
from rnnc.ops.arguments import Sizes

Tensors = tuple[Tensor, ...]

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "abs": torch.abs,
    "sign": torch.sign,
    "max": torch.maximum,
    "min": torch.minimum,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "logsigmoid": functional.logsigmoid,
    "elu": functional.elu,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
}


class TorchArithmetic:
    """Tensors [B, H, axes] in one dtype on one device."""

    def __init__(self, extents: Mapping[str, int], dtype: torch.dtype, device: torch.device) -> None:
        self.extents, self.dtype, self.device = extents, dtype, device
        self.constants: dict[Fraction, Tensor] = {}

    def extent(self, axis: str) -> int:
        return self.extents[axis.rstrip("'")]

    def constant(self, value: Fraction) -> Tensor:
        if value not in self.constants:
            self.constants[value] = torch.full((1, 1), float(value), dtype=self.dtype, device=self.device)
        return self.constants[value]

    def identity(self, axis: str) -> Tensor:
        return torch.eye(self.extent(axis), dtype=self.dtype, device=self.device)[None, None]

    def zeros(self, axes: Axes) -> Tensor:
        sizes = [self.extent(axis) for axis in axes]
        return torch.zeros(1, 1, *sizes, dtype=self.dtype, device=self.device)

    def add(self, operands: Sequence[Tensor], axes: Sequence[Axes], result: Axes) -> Tensor:
        first, *rest = (_reorder(x, a, result) for x, a in zip(operands, axes, strict=True))
        for term in rest:
            first = first + term
        return first

    def multiply(self, operands: Sequence[Tensor], axes: Sequence[Axes], result: Axes) -> Tensor:
        first, *rest = (_reorder(x, a, result) for x, a in zip(operands, axes, strict=True))
        for factor in rest:
            first = first * factor
        return first

    def power(self, base: Tensor, exponent: Fraction) -> Tensor:
        return base ** (exponent.numerator if exponent.denominator == 1 else float(exponent))

    def call(
        self, function: str, operands: Sequence[Tensor], axes: Sequence[Axes], result: Axes, axis: str | None
    ) -> Tensor:
        aligned = [_reorder(x, a, result) for x, a in zip(operands, axes, strict=True)]
        if axis is None:
            return _FUNCTIONS[function](*torch.broadcast_tensors(*aligned))
        (x,), dim = aligned, 2 + result.index(axis)
        x = self.align(x, result, result)
        if function == "unit":
            return x * torch.rsqrt((x * x).sum(dim, keepdim=True) + UNIT_EPSILON)
        if function == "softmax":
            return torch.softmax(x, dim)
        raise NotImplementedError(f"'{function}' along an axis")

    def sum(self, value: Tensor, axes: Axes, axis: str) -> Tensor:
        return self._along(value, axes, axis).sum(2 + axes.index(axis))

    def contract(self, operands: Sequence[Tensor], axes: Sequence[Axes], axis: str, result: Axes) -> Tensor:
        letters = dict(zip(dict.fromkeys((*result, axis)), string.ascii_letters, strict=False))
        full = [self._along(x, a, axis) if axis in a else x for x, a in zip(operands, axes, strict=True)]
        terms = ["..." + "".join(letters[each] for each in a) for a in axes]
        repeated: Tensor = torch.einsum(
            f"{','.join(terms)}->...{''.join(letters[each] for each in result)}", *full
        )
        return repeated

    def select(self, value: Tensor, axes: Axes, axis: str, index: int) -> Tensor:
        return self._along(value, axes, axis).select(2 + axes.index(axis), index)

    def align(self, value: Tensor, axes: Axes, result: Axes) -> Tensor:
        value = _reorder(value, axes, result)
        return value.expand(*value.shape[:2], *(self.extent(axis) for axis in result))

    def _along(self, value: Tensor, axes: Axes, axis: str) -> Tensor:
        """The value with `axis` at its full size."""
        shape = list(value.shape)
        shape[2 + axes.index(axis)] = self.extent(axis)
        return value.expand(shape)


def _reorder(value: Tensor, axes: Axes, result: Axes) -> Tensor:
    """[B, H, axes] as [B, H, result], a dimension of 1 for what is missing."""
    if axes == result:
        return value
    present = [axis for axis in result if axis in axes]
    value = value.permute(0, 1, *(2 + axes.index(axis) for axis in present))
    return value[(slice(None), slice(None), *(slice(None) if axis in axes else None for axis in result))]


def default(
    recurrence: Recurrence, name: str, sizes: Sizes, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The value of what is left to its default: [H, axes], of a shared parameter [axes]."""
    arithmetic = TorchArithmetic(sizes.axes, dtype, device)
    item = next(item for item in recurrence.arguments if item.name == name)
    assert item.default is not None
    value = evaluate(item.default, arithmetic, {})
    value = arithmetic.align(value, item.default.axes, item.axes)[0]
    shared = isinstance(item, Param) and item.shared
    return value[0] if shared else value.expand(sizes.shape(item.axes))


def token_loop(
    recurrence: Recurrence,
    inputs: Tensors,
    params: Tensors,
    initial: Tensors,
    sizes: Sizes,
    offsets: tuple[int, ...] | None,
    reverse: bool,
) -> tuple[Tensors, Tensors]:
    """Outputs [B, T, H, axes] and what is carried [N, H, axes], in the dtype of `initial`."""
    dtype = initial[0].dtype
    inputs = tuple(
        x.to(dtype).repeat_interleave(sizes.heads // x.shape[2], 2)
        if x.shape[2] != sizes.heads
        else x.to(dtype)
        for x in inputs
    )
    if offsets is None:
        return _sequences(recurrence, inputs, params, initial, sizes, reverse)
    runs = [
        _sequences(
            recurrence,
            tuple(x[:, start:stop] for x in inputs),
            params,
            tuple(state[n : n + 1] for state in initial),
            sizes,
            reverse,
        )
        for n, (start, stop) in enumerate(itertools.pairwise(offsets))
    ]
    outputs = tuple(torch.cat(parts, 1) for parts in zip(*(run[0] for run in runs), strict=True))
    return outputs, tuple(torch.cat(parts) for parts in zip(*(run[1] for run in runs), strict=True))


def _sequences(
    recurrence: Recurrence,
    inputs: Tensors,
    params: Tensors,
    initial: Tensors,
    sizes: Sizes,
    reverse: bool,
) -> tuple[Tensors, Tensors]:
    """Sequences of one length."""
    batch, length = inputs[0].shape[:2]
    arithmetic = TorchArithmetic(sizes.axes, initial[0].dtype, initial[0].device)
    arrays = carried(recurrence)
    tokens: dict[str, Any] = {
        item.name: (x.flip(1) if reverse else x).unbind(1)
        for item, x in zip(recurrence.inputs, inputs, strict=True)
    }
    learned = {
        item.name: value.to(arithmetic.dtype)[None, None] if item.shared else value.to(arithmetic.dtype)[None]
        for item, value in zip(recurrence.params, params, strict=True)
    }
    start = {array.name: value for array, value in zip(arrays, initial, strict=True)}
    values, last = run(recurrence, arithmetic, tokens, learned, start, length)

    def whole(value: Tensor, axes: Axes) -> Tensor:
        return value.expand(batch, *sizes.shape(axes))

    outputs = []
    for output in recurrence.outputs:
        steps = [whole(value, output.axes) for value in values[output.name]]
        shape = (batch, 0, *sizes.shape(output.axes))
        stacked = torch.stack(steps, 1) if steps else inputs[0].new_zeros(shape)
        outputs.append(stacked.flip(1) if reverse else stacked)
    return tuple(outputs), tuple(whole(last[array.name], array.axes) for array in arrays)
