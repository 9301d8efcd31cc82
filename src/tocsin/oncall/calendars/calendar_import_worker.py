"""Imports the external iCal calendars of shifts: one in each run, and each again after an interval.

The last import stays in force while a calendar cannot be read; the error is stored with it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb

from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import NO_REASON, Reason, Text, joined, sentence
from tocsin.core.runtime import clock
from tocsin.core.runtime.clock import Timers
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.spec import write_moment
from tocsin.oncall.calendars import ical
from tocsin.oncall.calendars.ical import UnreadableCalendar
from tocsin.people import addresses
from tocsin.people.sql import load_people

log = logging.getLogger(__name__)

_MORE = Text("and {count} more", "and {count} more")

INTERVAL = timedelta(minutes=1)
#: Delay after a successful import, and after a failed one.
REFRESH_INTERVAL = timedelta(minutes=15)
RETRY_INTERVAL = timedelta(minutes=5)
#: The period around now from which events are imported.
PAST_WINDOW = timedelta(days=32)
FUTURE_WINDOW = timedelta(days=400)
#: Maximum seconds for one calendar, including redirects. Each run imports one, so that slow servers do not block the
#: task.
FETCH_TIMEOUT = 20.0
MAX_NAMED_EVENTS = 5
MAX_CALENDAR_BYTES = 5 * 1024 * 1024
MAX_REDIRECTS = 3
_ACCEPT = {"Accept": "text/calendar, */*;q=0.1"}

_CLAIM = """
UPDATE oncall_calendarimport SET due_at = %(later)s
WHERE id = (
    SELECT id FROM oncall_calendarimport WHERE due_at <= %(now)s ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, url, schedule_id, shift
"""

_ZONE = "SELECT time_zone, definition FROM oncall_schedule WHERE id = %s"


def calendar_import_task() -> PeriodicTask:
    client = HttpClient()
    return PeriodicTask("calendar imports", lambda: run_once(client, clock.now()), INTERVAL, frozenset({"config"}))


def run_once(client: HttpClient, now: datetime) -> bool:
    """Imports the calendar that is due first. Returns True if more may be due."""
    with database.transaction() as connection:
        # Claimed by postponing it: other nodes skip it, and if this node dies, another retries it later.
        row = database.row(connection, _CLAIM, {"now": now, "later": now + RETRY_INTERVAL})
        if row is None:
            return False
        user_ids_by_name = _user_ids_by_name(load_people(connection))
        zone = _zone(connection, row["schedule_id"], row["shift"])
    if zone is None:
        return True
    try:
        body = _fetch(client, addresses.decrypt_address(row["url"]))
        calendar = ical.read_in_subprocess(
            body, user_ids_by_name, zone, now - PAST_WINDOW, now + FUTURE_WINDOW, now=now
        )
        _store(
            row,
            read_at=now,
            due_at=now + REFRESH_INTERVAL,
            error=_describe_flaws(calendar.flaws),
            unknown=Jsonb(list(calendar.unknown)[:50]),
            spans=Jsonb([[user, write_moment(since), write_moment(until)] for user, since, until in calendar.spans]),
        )
    except (UnreadableCalendar, Temporary) as error:
        _store(row, due_at=now + RETRY_INTERVAL, error=error.reason)
    except Permanent as error:
        problem = joined(error.reason, error.remedy_reason, separator=" ")
        _store(row, due_at=now + RETRY_INTERVAL, error=problem)
    except Exception as error:  # one calendar's failure must not affect the others
        if database.is_unavailable(error):
            raise
        log.exception("The calendar import %s failed.", row["id"])
        problem = sentence("The calendar could not be imported. The log has the details.")
        _store(row, due_at=now + RETRY_INTERVAL, error=problem)
    return True


def _fetch(client: HttpClient, url: str) -> bytes:
    deadline = time.monotonic() + FETCH_TIMEOUT
    for _ in range(MAX_REDIRECTS + 1):
        remaining_seconds = max(0.1, deadline - time.monotonic())
        response = client.request("GET", url, headers=_ACCEPT, max_bytes=MAX_CALENDAR_BYTES, deadline=remaining_seconds)
        if response.status in (301, 302, 303, 307, 308) and "location" in response.headers:
            url = urljoin(url, response.headers["location"])
            continue
        if response.status != 200:
            raise Temporary(sentence("The calendar server returned {status}.", status=str(response.status)))
        if len(response.body) >= MAX_CALENDAR_BYTES:
            raise Permanent(
                sentence("The calendar is larger than {megabytes} MB.", megabytes=MAX_CALENDAR_BYTES // 1024 // 1024)
            )
        return response.body
    raise Permanent(sentence("Its URL redirects too many times."))


def _zone(connection: database.Connection, schedule_id: int, shift: str) -> ZoneInfo | None:
    """Returns the time zone of the shift; None if it no longer exists."""
    row = database.row(connection, _ZONE, (schedule_id,))
    if row is None:
        return None
    own_zones = (one["time_zone"] for one in row["definition"]["shifts"] if one["name"] == shift and "time_zone" in one)
    return ZoneInfo(next(own_zones, row["time_zone"]))


def _user_ids_by_name(people: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Returns user ids by e-mail address, username and name, in lower case. A name that two users share is left out."""
    names = Counter(row["name"].lower() for row in people)
    user_ids = {row["name"].lower(): row["id"] for row in people if row["name"] and names[row["name"].lower()] == 1}
    user_ids |= {row["username"].lower(): row["id"] for row in people}
    return user_ids | {row["email"].lower(): row["id"] for row in people if row["email"]}


def _store(row: Mapping[str, Any], **columns: object) -> None:
    """Stores what became of an import, unless its URL has changed in the meantime: it is another calendar then."""
    changes = ", ".join(f"{name} = %({name})s" for name in columns)
    statement = f"UPDATE oncall_calendarimport SET {changes} WHERE id = %(id)s AND url = %(url)s"
    with database.transaction() as connection:
        connection.execute(database.literal(statement), {**columns, "id": row["id"], "url": row["url"]})


def _describe_flaws(flaws: tuple[Reason, ...]) -> Reason:
    """Returns the error for events that are skipped or imported in part."""
    if not flaws:
        return NO_REASON
    others = len(flaws) - MAX_NAMED_EVENTS
    return sentence(
        "Skipped, or imported only in part: {flaws}.",
        flaws=joined(*flaws[:MAX_NAMED_EVENTS], _MORE(count=others) if others > 0 else NO_REASON),
    )


TIMERS = Timers("oncall_calendarimport", ("due_at",))
