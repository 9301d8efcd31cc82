"""Reads a calendar in a separate process. Run as a module, it is that process.

A calendar with an endless recurrence, or one that would take all memory, ends only that process, and delays no page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from tocsin.core.runtime import sandboxed_process
from tocsin.oncall.calendars import ical
from tocsin.oncall.calendars.ical import ParsedCalendar, UnreadableCalendar

#: Maximum CPU seconds.
CPU_SECONDS = 20
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
    now: datetime | None = None,
    seconds: int = CPU_SECONDS,
) -> ParsedCalendar:
    """Reads a calendar as `ical.read` does, in a separate process with at most `seconds` of CPU time.

    Raises UnreadableCalendar, and RuntimeError if the process fails.
    """
    asked = {
        "people": dict(people),
        "zone": zone.key,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "now": now and now.isoformat(),
    }
    try:
        answer = json.loads(sandboxed_process.run(__name__, json.dumps(asked).encode() + b"\n" + body, seconds=seconds))
    except sandboxed_process.ResourceLimitExceeded:
        raise UnreadableCalendar(_TOO_MUCH) from None
    if problem := answer.get("problem"):
        raise UnreadableCalendar(problem)
    spans = tuple(
        (user, datetime.fromisoformat(begin), datetime.fromisoformat(end)) for user, begin, end in answer["spans"]
    )
    return ParsedCalendar(spans, tuple(answer["unknown"]), tuple(answer["flaws"]))


def main() -> None:
    """Reads the request from standard input, and writes the result to standard output."""
    sandboxed_process.limit_resources()
    asked = json.loads(sys.stdin.buffer.readline())
    since, until = datetime.fromisoformat(asked["since"]), datetime.fromisoformat(asked["until"])
    now = datetime.fromisoformat(asked["now"]) if asked["now"] else None
    answer: dict[str, object]
    try:
        found = ical.read(sys.stdin.buffer.read(), asked["people"], ZoneInfo(asked["zone"]), since, until, now=now)
    except UnreadableCalendar as error:
        answer = {"problem": str(error)}
    except MemoryError:
        answer = {"problem": _TOO_MUCH}
    else:
        spans = [[user, begin.isoformat(), end.isoformat()] for user, begin, end in found.spans]
        answer = {"spans": spans, "unknown": found.unknown, "flaws": found.flaws}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
