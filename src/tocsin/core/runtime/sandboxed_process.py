"""Work on what came from outside that may take without end, in a process of its own: it ends alone when it takes too
long or too much memory, and holds up nobody's page. (Python's regular expressions, for one, stop every thread.)"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

MEMORY = 1024 * 1024 * 1024


class ResourceLimitExceeded(Exception):
    """It took longer, or more memory, than it may."""


def run(module: str, given: bytes, *, seconds: int, memory: int = MEMORY) -> bytes:
    """What `module`, which is run as a program and calls `limit` first, writes for what it is given.

    It works for so many seconds at most, and takes so many bytes. Raises TooMuch, and RuntimeError where it fails.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this very program
            [sys.executable, "-m", module, str(seconds), str(memory)],
            input=given, capture_output=True, check=False, timeout=max(2.0 * seconds, 10.0 + seconds), cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ResourceLimitExceeded from None
    if done.returncode < 0:
        # The kernel ended it.
        raise ResourceLimitExceeded
    if done.returncode:
        raise RuntimeError(done.stderr.decode("utf-8", "replace")[-2000:])
    return done.stdout


def limit() -> None:
    """Gives this process the limits that it was started with, and lets others go first."""
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.nice(10)
