"""Processes that compile kernels for GPUs that need not be there, by `rnnc.offline_worker`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

Report = dict[str, Any]
Compile = Callable[[Mapping[str, Any]], Report]
PATIENCE = 10


@contextmanager
def processes(workers: int, seconds: float) -> Iterator[Compile]:
    """A function that compiles a task in one of several processes without Triton's interpreter.

    A kernel that takes more than `seconds` of a processor has that for a report; so has one that takes
    `PATIENCE` times as long, however little it was let run.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_ALWAYS_COMPILE"] = "1"  # the seconds are those of the compiler, not of its cache
    command = [sys.executable, "-W", "ignore", "-m", "rnnc.offline_worker"]
    idle: SimpleQueue[Any] = SimpleQueue()

    def start() -> Any:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def compile_one(task: Mapping[str, Any]) -> Report:
        process = idle.get() or start()
        begin = time.monotonic()
        timer = threading.Timer(seconds * PATIENCE, process.kill)
        timer.start()
        process.stdin.write(json.dumps({**task, "seconds": seconds}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        timer.cancel()
        if not answer:
            idle.put(None)
            status = process.wait()
            if status == -getattr(signal, "SIGXCPU", 0) or time.monotonic() - begin >= seconds * PATIENCE:
                return {"error": f"the compiler was stopped after {seconds:.0f} seconds"}
            return {"error": f"the compiler ended with status {status}"}
        idle.put(process)
        result: Report = json.loads(answer)
        return result

    for _ in range(workers):
        idle.put(None)
    try:
        yield compile_one
    finally:
        while not idle.empty():
            process = idle.get()
            if process is not None:
                process.communicate()
