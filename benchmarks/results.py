"""Results on disk: a line of JSON for each entry as soon as it is done, and all of a run in one file."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.entries import Entry

Answer = dict[str, Any]


def commit() -> str:
    """The commit of the repository, with a mark where files differ from it."""
    try:
        head, changes = (
            subprocess.run(
                ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head[:12] + ("+" if changes else "")


@dataclass
class Results:
    """The answers for one commit on one device with one set of versions (`stamp`), in `folder`."""

    folder: Path
    stamp: Mapping[str, str]
    answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "_", str(self.stamp["device"])).strip("_").lower()

    @property
    def lines(self) -> Path:
        return self.folder / f"{self.name}.jsonl"

    def read(self) -> None:
        """Takes over what an earlier run with the same stamp has done; a line that is not whole is left."""
        if not self.lines.is_file():
            return
        for text in self.lines.read_text("utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if line.get("stamp") == dict(self.stamp):
                self.answers[Entry.of(line["entry"]).key] = line["answer"]

    def done(self, entry: Entry) -> bool:
        """Whether there is a result that another run would not change."""
        answer = self.answers.get(entry.key)
        return answer is not None and answer["status"] in ("ok", "failed")

    def add(self, entry: Entry, answer: Answer) -> None:
        """Keeps an answer, and appends its line in one piece."""
        self.answers[entry.key] = answer
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {"stamp": dict(self.stamp), "entry": entry.as_dict(), "answer": answer}
        handle = os.open(self.lines, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (json.dumps(line) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def write(self, seconds: float) -> Path:
        """All answers of this stamp in one file, written beside and renamed."""
        entries = [json.loads(key) | {"answer": answer} for key, answer in self.answers.items()]
        report = {"stamp": dict(self.stamp), "seconds": round(seconds, 1), "entries": entries}
        path = self.folder / f"{self.name}.json"
        beside = path.with_suffix(".json.part")
        beside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
        return path
