"""Runs work on untrusted input in a separate process with limits on CPU time and memory.

Python's regular expressions, for one, block every thread of a process. In a process of its own, such work delays no
page, and exceeding a limit ends only that process.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

MAX_MEMORY_BYTES = 1024 * 1024 * 1024


class ResourceLimitExceeded(Exception):
    """The process exceeded its time or memory limit."""


def run(module: str, input_bytes: bytes, *, seconds: int, memory: int = MAX_MEMORY_BYTES) -> bytes:
    """Runs `module` as a program with `input_bytes` on standard input, and returns its standard output.

    The program must call `limit_resources` first. `seconds` limits its CPU time, `memory` its address space in bytes.
    Raises ResourceLimitExceeded at a limit, and RuntimeError if the program fails.
    """
    try:
        completed = subprocess.run(  # noqa: S603 - this very program
            [sys.executable, "-m", module, str(seconds), str(memory)],
            input=input_bytes, capture_output=True, check=False, timeout=max(2.0 * seconds, 10.0 + seconds), cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ResourceLimitExceeded from None
    if completed.returncode < 0:
        # The kernel killed it.
        raise ResourceLimitExceeded
    if completed.returncode:
        raise RuntimeError(completed.stderr.decode("utf-8", "replace")[-2000:])
    return completed.stdout


def limit_resources() -> None:
    """Applies the limits from the command line to this process, and lowers its priority."""
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.nice(10)
