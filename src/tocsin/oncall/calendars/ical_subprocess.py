"""Reads a calendar in a separate process. Run as a module, it is that process.

A calendar with an endless recurrence, or one that would take all memory, ends only that process, and delays no page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason, Text, reason_from
from tocsin.core.runtime import child_process
from tocsin.oncall.calendars import ical
from tocsin.oncall.calendars.ical import ParsedCalendar, UnreadableCalendar

#: Maximum CPU seconds.
CPU_SECONDS = 20
_TOO_LARGE = Text(
    "The calendar takes too long or too much memory to read. It is very large, or an event repeats every few seconds."
)


def read(
    body: bytes,
    user_ids_by_name: Mapping[str, int],
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
    request = {
        "people": dict(user_ids_by_name),
        "zone": zone.key,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "now": now and now.isoformat(),
    }
    try:
        response = json.loads(child_process.run(__name__, json.dumps(request).encode() + b"\n" + body, seconds=seconds))
    except child_process.ResourceLimitExceeded:
        raise UnreadableCalendar(_TOO_LARGE()) from None
    if problem := response.get("problem"):
        raise UnreadableCalendar(_reason(problem))
    spans = tuple(
        (user, datetime.fromisoformat(begin), datetime.fromisoformat(end)) for user, begin, end in response["spans"]
    )
    return ParsedCalendar(spans, tuple(response["unknown"]), tuple(map(_reason, response["flaws"])))


def _reason(stored: Mapping[str, Any]) -> Reason:
    return reason_from(stored["code"], stored["data"])


def _stored(reason: Reason) -> dict[str, object]:
    return {"code": reason.code, "data": reason.data}


def main() -> None:
    """Reads the request from standard input, and writes the result to standard output."""
    child_process.limit_resources()
    request = json.loads(sys.stdin.buffer.readline())
    since, until = datetime.fromisoformat(request["since"]), datetime.fromisoformat(request["until"])
    now = datetime.fromisoformat(request["now"]) if request["now"] else None
    response: dict[str, object]
    try:
        calendar = ical.read(
            sys.stdin.buffer.read(), request["people"], ZoneInfo(request["zone"]), since, until, now=now
        )
    except UnreadableCalendar as error:
        response = {"problem": _stored(error.reason)}
    except MemoryError:
        response = {"problem": _stored(_TOO_LARGE())}
    else:
        spans = [[user, begin.isoformat(), end.isoformat()] for user, begin, end in calendar.spans]
        response = {"spans": spans, "unknown": calendar.unknown, "flaws": list(map(_stored, calendar.flaws))}
    json.dump(response, sys.stdout)


if __name__ == "__main__":
    main()
