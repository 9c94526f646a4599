"""What is searched for configurations, and what was found for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rnnc.codegen.resources import Configuration
from rnnc.codegen.tiling_record import Measured
from rnnc.compiler_processes import Report
from rnnc.kernel_jobs import Subject


@dataclass(frozen=True)
class Target:
    """A recurrence at sizes of axes, in a dtype, for an architecture."""

    subject: Subject
    arch: str
    dtype: str
    axes: Mapping[str, int]

    def __str__(self) -> str:
        sizes = " ".join(f"{axis}={size}" for axis, size in self.axes.items())
        return f"{self.subject.name} {self.dtype} {sizes}"


@dataclass
class Found:
    """What was found for a target: by kernel and configuration; `done` if the search came to its end."""

    target: Target
    kernels: dict[str, dict[Configuration, Report]] = field(default_factory=dict)
    done: bool = False

    def rows(self) -> Iterator[dict[str, Any]]:
        """One record per kernel and configuration."""
        for kernel, reports in self.kernels.items():
            for configuration, report in reports.items():
                known = {"model": self.target.subject.name, "kernel": kernel, "dtype": self.target.dtype}
                yield known | {"sizes": dict(self.target.axes)} | configuration._asdict() | report


def findings_of(reports: Mapping[Configuration, Report]) -> dict[Configuration, Measured]:
    """What the choice needs to know of reports; errors are left out."""
    return {
        how: Measured(said["registers"], said["stack"], said["shared"])
        for how, said in reports.items()
        if "error" not in said
    }
