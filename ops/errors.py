"""What an operator raises and warns of: one clear sentence, never about the machinery."""

from __future__ import annotations


class RnncError(Exception):
    """Anything an operator refuses."""


class ArgumentError(RnncError, ValueError):
    """An argument of the wrong shape, dtype, device or value."""


class ArgumentTypeError(RnncError, TypeError):
    """An argument that is missing, unknown, given twice, or not a tensor."""


class UnavailableError(RnncError, NotImplementedError):
    """A combination of back end and form, or a feature, that this version does not have."""


class SpecWarning(UserWarning):
    """What is doubtful in a spec that compiles: rendered as `rnnc check` does."""


class SpecFileError(RnncError, OSError):
    """A spec that could not be read."""
