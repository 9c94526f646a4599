"""What an operator raises: one clear sentence about the argument, never about the machinery."""

from __future__ import annotations


class RnncError(Exception):
    """Anything an operator refuses."""


class ArgumentError(RnncError, ValueError):
    """An argument of the wrong shape, dtype, device or value."""


class ArgumentTypeError(RnncError, TypeError):
    """An argument that is missing, unknown, given twice, or not a tensor."""


class UnavailableError(RnncError, NotImplementedError):
    """A combination of back end and form, or a feature, that this version does not have."""


class SpecFileError(RnncError, OSError):
    """A spec that could not be read."""
