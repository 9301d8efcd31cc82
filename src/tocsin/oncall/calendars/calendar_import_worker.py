"""Imports the external iCal calendars of shifts: one in each run, and each again after an interval.

The last import stays in force while a calendar cannot be read; the error is stored with it.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import HttpClient
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.oncall.calendars import ical_subprocess
from tocsin.oncall.calendars.ical import ParsedCalendar, UnreadableCalendar
from tocsin.oncall.changes.specs import write_moment
from tocsin.people import encrypted_addresses

log = logging.getLogger(__name__)

INTERVAL = timedelta(minutes=1)
#: Delay after a successful import, and after a failed one.
REFRESH_INTERVAL = timedelta(minutes=15)
AFTER_FAILURE = timedelta(minutes=5)
#: The period around now from which events are imported.
LOOK_BACK = timedelta(days=32)
LOOK_AHEAD = timedelta(days=400)
#: Maximum seconds for one calendar, including redirects. Each run imports one, so that slow servers do not block the
#: task.
FETCH_TIMEOUT = 20.0
#: Maximum invalid events that are named in the error.
MAX_NAMED_EVENTS = 5
#: Maximum size of a calendar, in bytes.
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

_PEOPLE = "SELECT id, lower(email) AS email, lower(username) AS username, lower(name) AS name FROM people_user"

# Not applied if the URL has changed in the meantime: it is another calendar then.
_DONE = """
UPDATE oncall_calendarimport
SET read_at = %(now)s, due_at = %(due)s, error = %(error)s, unknown = %(unknown)s, spans = %(spans)s
WHERE id = %(id)s AND url = %(url)s
"""

_FAILED = "UPDATE oncall_calendarimport SET due_at = %(due)s, error = %(error)s WHERE id = %(id)s AND url = %(url)s"


def loop() -> PeriodicTask:
    """Returns the periodic task."""
    client = HttpClient()
    return PeriodicTask("calendar imports", lambda: turn(client, clock.now()), INTERVAL, frozenset({"config"}))


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> None:
    """Makes calendars due earlier by `by`, after a clock rollback by that much."""
    connection.execute(
        "UPDATE oncall_calendarimport SET due_at = due_at - %s WHERE id IN ("
        "SELECT id FROM oncall_calendarimport WHERE due_at > %s ORDER BY id FOR UPDATE)",
        (by, now),
    )


def turn(client: HttpClient, now: datetime) -> bool:
    """Imports the calendar that is due first. Returns True if more may be due."""
    with database.transaction() as connection:
        # Claimed by postponing it: other nodes skip it, and if this node dies, another retries it later.
        row = database.row(connection, _CLAIM, {"now": now, "later": now + AFTER_FAILURE})
        if row is None:
            return False
        people = _people(list(database.rows(connection, _PEOPLE)))
        zone = _zone(connection, row["schedule_id"], row["shift"])
    if zone is None:
        return True
    try:
        read = ical_subprocess.read(
            _fetch(client, encrypted_addresses.unseal(row["url"])),
            people,
            zone,
            now - LOOK_BACK,
            now + LOOK_AHEAD,
            now=now,
        )
        _keep(row, read, now)
    except (Temporary, Permanent, UnreadableCalendar) as error:
        _fail(row, str(error), now)
    except Exception as error:  # one calendar's failure must not affect the others
        if database.is_unavailable(error):
            raise
        log.exception("The calendar import %s failed.", row["id"])
        _fail(row, "Something in it could not be understood; the log says what.", now)
    return True


def _fetch(client: HttpClient, url: str) -> bytes:
    end = time.monotonic() + FETCH_TIMEOUT
    for _ in range(MAX_REDIRECTS + 1):
        left = max(0.1, end - time.monotonic())
        answer = client.request("GET", url, headers=_ACCEPT, most_bytes=MAX_CALENDAR_BYTES, deadline=left)
        if answer.status in (301, 302, 303, 307, 308) and "location" in answer.headers:
            url = urljoin(url, answer.headers["location"])
            continue
        if answer.status != 200:
            raise Temporary(f"Its server answers {answer.status}.")
        if len(answer.body) >= MAX_CALENDAR_BYTES:
            raise Permanent(f"It is bigger than {MAX_CALENDAR_BYTES // 1024 // 1024} MB.")
        return answer.body
    raise Permanent("Its address leads from one to the next without end.")


def _zone(connection: database.Connection, schedule_id: int, shift: str) -> ZoneInfo | None:
    """Returns the time zone of the shift; None if it no longer exists."""
    row = database.row(connection, _ZONE, (schedule_id,))
    if row is None:
        return None
    stored = [held for held in row["definition"]["shifts"] if held["name"] == shift and "time_zone" in held]
    return ZoneInfo(stored[0]["time_zone"] if stored else row["time_zone"])


def _people(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Returns user ids by e-mail address, username and name. A name that two users share is left out."""
    found: dict[str, int] = {}
    names = [row["name"] for row in rows if row["name"]]
    for row in rows:
        if row["name"] and names.count(row["name"]) == 1:
            found[row["name"]] = row["id"]
    found |= {row["username"]: row["id"] for row in rows}
    return found | {row["email"]: row["id"] for row in rows if row["email"]}


def _keep(row: dict[str, Any], read: ParsedCalendar, now: datetime) -> None:
    spans = [[user, write_moment(since), write_moment(until)] for user, since, until in read.spans]
    given = {
        "id": row["id"],
        "url": row["url"],
        "now": now,
        "due": now + REFRESH_INTERVAL,
        "error": _said(read.flaws),
        "unknown": Jsonb(list(read.unknown)[:50]),
        "spans": Jsonb(spans),
    }
    with database.transaction() as connection:
        connection.execute(_DONE, given)


def _said(flaws: tuple[str, ...]) -> str:
    """Returns the error text for events that are skipped or imported in part."""
    if not flaws:
        return ""
    more = f"; and {len(flaws) - MAX_NAMED_EVENTS} more" if len(flaws) > MAX_NAMED_EVENTS else ""
    return f"Left out, or not taken as meant: {'; '.join(flaws[:MAX_NAMED_EVENTS])}{more}."[:500]


def _fail(row: dict[str, Any], problem: str, now: datetime) -> None:
    with database.transaction() as connection:
        connection.execute(
            _FAILED, {"id": row["id"], "url": row["url"], "due": now + AFTER_FAILURE, "error": problem[:500]}
        )
