"""What the compilers said of kernels, kept in the user's cache: nothing is compiled twice."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from rnnc.compiler_processes import Compile, Report
from rnnc.kernel_jobs import Job
from rnnc.ops.cache import directory


def answers_file(arch: str) -> Path:
    """Where what compilers said is kept, for an architecture."""
    return directory().parent / "compiled" / f"{arch}.jsonl"


def answers_of(file: Path) -> dict[str, Report]:
    """What compilers said, by the key of a job; nothing if there is no such file."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return dict(json.loads(line) for line in lines)


class Answers:
    """What compilers said, by the key of a job, in a file of lines of JSON."""

    def __init__(self, file: Path, compile_one: Compile) -> None:
        self.file, self.compile_one = file, compile_one
        self.lock = threading.Lock()
        self.known = answers_of(file)
        self.compiled = 0

    def of(self, job: Job) -> Report:
        """The report on a kernel, compiled if it was not before."""
        if job.key not in self.known:
            report = self.compile_one(job.task)
            with self.lock:
                self.known[job.key] = report
                self.compiled += 1
                if "the compiler" in report.get("error", ""):  # was stopped: it may do better another time
                    return report
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([job.key, report]) + "\n")
        return self.known[job.key]
