"""Worker processes that are ended when they take too long and started again when they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks import ROOT

Answer = dict[str, Any]
FATAL = ("CUDA error", "illegal memory access", "device-side assert", "AcceleratorError")


class Worker:
    """One process; started when first asked, and again after it ended."""

    def __init__(
        self, mode: str, log: Path, threads: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        self.mode, self.log, self.threads, self.environment = mode, log, threads, environment or {}
        self.process: subprocess.Popen[str] | None = None

    def ask(self, request: Any, seconds: float) -> Answer:
        """The answer, or an error after `seconds`; a process that is then still busy is ended."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        start = time.monotonic()
        line = ""
        with suppress(OSError):  # a process that ended: there is no answer
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        timer.cancel()
        if not line:
            status = process.wait()
            spent = round(time.monotonic() - start, 2)
            late = spent >= seconds
            reason = f"ended after {spent} s" if late else f"the process ended with status {status}"
            return {"status": "error", "reason": reason, "took": spent}
        answer: Answer = json.loads(line)
        if any(text in str(answer.get("reason", "")) for text in FATAL):
            self.close()  # the device's context is lost
        return answer

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = dict(os.environ) | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(self.threads)}
        environment |= {"TRITON_INTERPRET": "1" if self.mode == "dry" else "0"} | dict(self.environment)
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", self.mode],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("a"),
            text=True,
        )


class Pool:
    """Several workers; requests are taken in order while there is time."""

    def __init__(self, mode: str, count: int, log: Path) -> None:
        self.mode, self.workers = mode, [Worker(mode, log) for _ in range(count)]

    def run(
        self, requests: Iterable[tuple[Any, Any]], count: int, deadline: float, seconds: float
    ) -> Iterator[tuple[Any, Answer]]:
        """(name, answer) of each (name, request), as they come, by the first `count` workers.

        After the deadline (of `time.monotonic`) none is begun, and what runs is ended: these are 'not run'.
        """
        idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers[:count]:
            idle.put(worker)

        def one(request: Any) -> Answer:
            left = deadline - time.monotonic()
            if left <= 0:
                return {"status": "not run", "reason": "no time was left"}
            worker = idle.get()
            try:
                answer = worker.ask(request, min(seconds, max(left, 1.0)))
            finally:
                idle.put(worker)
            late = str(answer.get("reason", "")).startswith("ended after") and left < seconds
            return {"status": "not run", "reason": "no time was left"} if late else answer

        with ThreadPoolExecutor(max(1, min(count, len(self.workers)))) as threads:
            waiting: dict[Future[Answer], Any] = {}
            for name, request in requests:
                waiting[threads.submit(one, request)] = name
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()

    def close(self) -> None:
        """Ends all processes."""
        for worker in self.workers:
            worker.close()
