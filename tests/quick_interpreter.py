"""Triton's interpreter with less to do for every operation: the same results, bit for bit, in half the time.

Most of its time goes into types: names, shapes and kinds of values that were seen many times before. They are
remembered here, and where two operands are alike, or one is a number, the general way is left out. What is
not known to be the same goes the interpreter's own way; another version of Triton is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

VERSION = "3.9."
NUMBERS = {"fp32": np.float32, "int32": np.int32, "int64": np.int64}
ALIKE = {*NUMBERS, "int1"}  # of two of them no other type is made, also where one divides the other
LOWEST, HIGHEST = -(2**31), 2**31 - 1  # of int32


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Puts what is quicker in the place of the interpreter's own, until the patch is undone."""
    import triton
    from triton.runtime import interpreter

    if not triton.__version__.startswith(VERSION):
        return
    patch.setattr(interpreter, "_patch_lang", _patched_once())
    patch.setattr(interpreter, "_get_np_dtype", _remembered(interpreter._get_np_dtype))
    _quicken_types(patch)
    _quicken_operands(patch)
    patch.setattr(interpreter.ScanOps, "generic_scan", _scan)


def _patched_once() -> Callable[..., Any]:
    """The interpreter puts its own functions in the place of the language's for every launch, and then again,
    to no effect, for every call of one kernel function by another.
    """
    from triton import language
    from triton.runtime import interpreter

    original = interpreter._patch_lang

    @cache
    def modules(function: Callable[..., Any]) -> list[Any]:
        values = function.__globals__.values()
        return [x for x in (language, language.core) if any(x is value for value in values)]

    def once(function: Callable[..., Any]) -> Any:
        replaced = not any(language.core.is_builtin(module.load) for module in modules(function))
        return interpreter._LangPatchScope() if replaced else original(function)

    return once


def _remembered(numpy_type: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The type of numpy for one of Triton: names tell types apart."""
    known: dict[str, Any] = {}

    def found(dtype: Any) -> Any:
        if dtype.name not in known:
            known[dtype.name] = numpy_type(dtype)
        return known[dtype.name]

    return found


def _scan(self: Any, inputs: Sequence[Any]) -> list[Any]:
    """A scan with a function of the kernels' own: row after row, and not entry after entry."""

    def rows(x: Any) -> Any:
        moved = np.moveaxis(x.handle.data, self.axis, 0)
        return moved.reshape(len(moved), -1)

    arrays, shape = [rows(x) for x in inputs], inputs[0].handle.data.shape
    results = [np.empty_like(array) for array in arrays]
    before: Any = ()
    for number in range(shape[self.axis]):
        row = tuple(self.to_tensor(a[number], x.dtype) for a, x in zip(arrays, inputs, strict=True))
        found = self.combine_fn.fn(*before, *row) if before else row
        before = found if isinstance(found, tuple) else (found,)
        for result, value in zip(results, before, strict=True):
            result[number] = value.handle.data
    moved_shape = (shape[self.axis], *shape[: self.axis], *shape[self.axis + 1 :])
    back = (np.moveaxis(result.reshape(moved_shape), 0, self.axis) for result in results)
    return [self.to_tensor(np.ascontiguousarray(y), x.dtype) for y, x in zip(back, inputs, strict=True)]


def _quicken_types(patch: pytest.MonkeyPatch) -> None:
    """Types of blocks, and the shapes of tensors, are made once."""
    from triton.language import core

    blocks: dict[tuple[Any, ...], tuple[Any, int, str]] = {}
    shapes: dict[tuple[int, ...], tuple[Any, Any]] = {}
    make, equal = core.block_type.__init__, core.dtype.__eq__

    def block(self: Any, element_ty: Any, shape: Any) -> None:
        values = shape.values if isinstance(shape, core.tuple) else shape
        sizes = [x.value if isinstance(x, core.constexpr) else x for x in values]
        key = (element_ty.name, *sizes)
        if any(type(x) is not int for x in sizes) or key not in blocks:
            make(self, element_ty, shape)
            blocks[key] = (self.shape, self.numel, self.name)
        self.element_ty = element_ty
        self.shape, self.numel, self.name = blocks[key]

    def tensor(self: Any, handle: Any, kind: Any) -> None:
        self.handle, self.type, self.dtype = handle, kind, kind.scalar
        key = tuple(kind.shape.values) if isinstance(kind, core.block_type) else ()
        if key not in shapes:
            sizes = core.tuple([core.constexpr(size) for size in key])
            shapes[key] = (core.constexpr(math.prod(key)), sizes)
        self.numel, self.shape = shapes[key]

    patch.setattr(core.block_type, "__init__", block)
    patch.setattr(core.tensor, "__init__", tensor)
    patch.setattr(core.dtype, "__eq__", lambda self, other: self is other or equal(self, other))


def _quicken_operands(patch: pytest.MonkeyPatch) -> None:
    """Two operands of one type, an operand and a number, operands that differ in axes of length one."""
    from triton.language import core
    from triton.language.semantic import TritonSemantic
    from triton.runtime.interpreter import TensorHandle

    cast, broadcast = TritonSemantic.cast, TritonSemantic.broadcast_impl_value
    operands = TritonSemantic.binary_op_type_checking_impl
    in_range = TritonSemantic.binary_op_sanitize_overflow_impl

    def filled(value: float, like: Any) -> Any:
        """A number as a tensor like another, or None."""
        name = like.dtype.name
        fits = name == "fp32" or (type(value) is int and name in NUMBERS and LOWEST <= value <= HIGHEST)
        if not fits or type(value) not in (int, float):
            return None
        sizes = like.type.shape.values if isinstance(like.type, core.block_type) else (1,)
        return core.tensor(TensorHandle(np.full(sizes, value, NUMBERS[name]), like.dtype), like.type)

    def quick_operands(self: Any, lhs: Any, rhs: Any, *options: Any, **named: Any) -> Any:
        if isinstance(lhs, core.tensor) and isinstance(rhs, core.tensor):
            if lhs.dtype.name in ALIKE and lhs.dtype.name == rhs.dtype.name:
                return quick_broadcast(self, lhs, rhs)
        elif isinstance(lhs, core.tensor) and (number := filled(rhs, lhs)) is not None:
            return lhs, number
        elif isinstance(rhs, core.tensor) and (number := filled(lhs, rhs)) is not None:
            return number, rhs
        return operands(self, lhs, rhs, *options, **named)

    def stretched(x: Any, sizes: list[int]) -> Any:
        if x.type.shape.values == sizes:
            return x
        handle = TensorHandle(np.broadcast_to(x.handle.data, sizes), x.dtype)
        return core.tensor(handle, core.block_type(x.dtype, sizes))

    def quick_broadcast(self: Any, lhs: Any, rhs: Any) -> Any:
        one, two = (isinstance(x.type, core.block_type) for x in (lhs, rhs))
        if one and two:
            left, right = lhs.type.shape.values, rhs.type.shape.values
            if left == right:
                return lhs, rhs
            pairs = list(zip(left, right, strict=False))
            if len(left) == len(right) and all(x == y or 1 in (x, y) for x, y in pairs):
                sizes = [max(pair) for pair in pairs]
                return stretched(lhs, sizes), stretched(rhs, sizes)
        return (lhs, rhs) if not one and not two else broadcast(self, lhs, rhs)

    def quick_cast(self: Any, x: Any, dtype: Any, rounding: str | None = None) -> Any:
        return x if x.dtype is dtype else cast(self, x, dtype, rounding)

    def quick_in_range(self: Any, lhs: Any, rhs: Any, operation: Callable[..., Any]) -> None:
        if self.builder.options.debug:  # else nothing is raised, whatever is found
            in_range(self, lhs, rhs, operation)

    patch.setattr(TritonSemantic, "cast", quick_cast)
    patch.setattr(TritonSemantic, "broadcast_impl_value", quick_broadcast)
    patch.setattr(TritonSemantic, "binary_op_type_checking_impl", quick_operands)
    patch.setattr(TritonSemantic, "binary_op_sanitize_overflow_impl", quick_in_range)
