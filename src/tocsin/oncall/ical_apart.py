"""Reads a calendar in a process of its own: one whose rules repeat without end, or that would take all memory, ends
alone, and holds up nobody's page. Run as a module it is that process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from tocsin.oncall import ical
from tocsin.oncall.ical import Read, Unreadable

#: It may work for so many seconds, and so long by the clock on the wall.
CPU_SECONDS = 20
WALL_SECONDS = 40.0
#: And take so many bytes.
MEMORY = 1024 * 1024 * 1024
_TOO_MUCH = (
    "It takes too long, or too much memory, to be read: it is very big, or an event in it repeats every few seconds."
)


def read(
    body: bytes,
    people: Mapping[str, int],
    zone: ZoneInfo,
    since: datetime,
    until: datetime,
    *,
    seconds: int = CPU_SECONDS,
) -> Read:
    """As `ical.read`, in a process of its own that works for so many seconds at most. Raises Unreadable, and
    RuntimeError where that process fails.
    """
    asked = {
        "people": dict(people),
        "zone": zone.key,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "seconds": seconds,
    }
    try:
        done = subprocess.run(  # noqa: S603 - this very program
            [sys.executable, "-m", __name__],
            input=json.dumps(asked).encode() + b"\n" + body,
            capture_output=True, check=False, timeout=max(WALL_SECONDS, 2.0 * seconds), cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unreadable(_TOO_MUCH) from None
    if done.returncode < 0:
        # The kernel ended it.
        raise Unreadable(_TOO_MUCH)
    if done.returncode:
        raise RuntimeError(done.stderr.decode("utf-8", "replace")[-2000:])
    answer = json.loads(done.stdout)
    if problem := answer.get("problem"):
        raise Unreadable(problem)
    spans = tuple(
        (user, datetime.fromisoformat(begin), datetime.fromisoformat(end)) for user, begin, end in answer["spans"]
    )
    return Read(spans, tuple(answer["unknown"]), tuple(answer["flaws"]))


def main() -> None:
    """Reads what stands on standard input, and writes what it says to standard output."""
    asked = json.loads(sys.stdin.buffer.readline())
    resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"], asked["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(10)
    since, until = datetime.fromisoformat(asked["since"]), datetime.fromisoformat(asked["until"])
    answer: dict[str, object]
    try:
        found = ical.read(sys.stdin.buffer.read(), asked["people"], ZoneInfo(asked["zone"]), since, until)
    except Unreadable as error:
        answer = {"problem": str(error)}
    except MemoryError:
        answer = {"problem": _TOO_MUCH}
    else:
        spans = [[user, begin.isoformat(), end.isoformat()] for user, begin, end in found.spans]
        answer = {"spans": spans, "unknown": found.unknown, "flaws": found.flaws}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
