"""The one way the command line says no."""

from __future__ import annotations

FAILED = 1  # the spec or the check failed
USAGE = 2  # the command was used wrongly


class Refusal(Exception):
    """Ends a command with one message on standard error and an exit status; never a traceback."""

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status
