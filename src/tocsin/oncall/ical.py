"""iCalendar (RFC 5545), both ways: shifts as a calendar, and the turns that a calendar elsewhere has. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from tocsin.oncall import windows
from tocsin.oncall.rota import OnCall

if TYPE_CHECKING:
    from icalendar import Component

#: How often programs are asked to look again.
REFRESH = timedelta(hours=1)
#: Of a calendar so many turns are taken; one with more is refused.
MOST_TURNS = 5000
_PRODUCT = "-//Tocsin//On call//EN"
#: What makes a turn: an event in which one of these cannot be understood is left out, or taken in part.
_TIMES = ("DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID")


class Unreadable(Exception):
    """This is no calendar whose turns can be taken: a sentence."""


@dataclass(frozen=True, slots=True)
class GroupTurn:
    """Somebody on call in a group."""

    group: str
    person: OnCall


@dataclass(frozen=True, slots=True)
class Read:
    """What a calendar says: (user, from, to) in order, the names in it that are nobody here, and what is wrong with
    single events of it."""

    spans: tuple[tuple[int, datetime, datetime], ...]
    unknown: tuple[str, ...]
    flaws: tuple[str, ...] = ()


def write(
    name: str, turns: Iterable[GroupTurn], since: datetime, until: datetime, now: datetime, *, names_people: bool
) -> bytes:
    """The turns as a calendar, cut to the range. `names_people`: each event begins with who it is."""
    # Imported here: most processes never write one.
    import icalendar

    calendar = icalendar.Calendar.new(
        name=name, prodid=_PRODUCT, refresh_interval=REFRESH, uid=_uid(name), last_modified=now
    )
    for turn in turns:
        person = turn.person
        begin, end = max(person.since or since, since), min(person.until or until, until)
        if begin >= end:
            continue
        role = f"{person.role} of {turn.group}"
        title = f"{person.name}: {role}" if names_people else f"On call: {role}"
        if person.is_absent:
            title += " (out of office, nobody covers)"
        calendar.add_component(
            icalendar.Event.new(
                uid=_uid(turn.group, person.role, str(person.user_id), (person.since or since).isoformat()),
                summary=title,
                description="\n".join(person.reasons or (person.reason,)),
                start=begin,
                end=end,
                stamp=now,
            )
        )
    return bytes(calendar.to_ical())


def read(body: bytes, people: Mapping[str, int], zone: ZoneInfo, since: datetime, until: datetime) -> Read:
    """The turns of a calendar in the range. `people` has users by lower-case e-mail, username and name.

    An event is somebody's by its attendees, else its organizer, else its title. A time without a zone is local in
    `zone`; a whole day is one there. Events that cannot be understood are left out and named. Raises Unreadable.
    """
    # Imported here, as above.
    import icalendar
    import recurring_ical_events

    _refuse_other(body)
    try:
        calendar = icalendar.Calendar.from_ical(body)
        flaws = _flaws(calendar, zone)
        events = recurring_ical_events.of(calendar, skip_bad_series=True).between(since, until)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError) as error:
        # What the two libraries raise for what is no calendar, or one with impossible dates in it.
        raise Unreadable(f"It is not a calendar that can be read: {str(error)[:200]}.") from None
    if len(events) > MOST_TURNS:
        raise Unreadable(f"It has {len(events)} events in the time looked at; {MOST_TURNS} are taken at most.")
    spans: list[tuple[int, datetime, datetime]] = []
    unknown: dict[str, None] = {}
    for event in events:
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        begin, end = _moment(_value(event, "DTSTART"), zone), _end(event, zone)
        found = [people[name.lower()] for name in _names(event) if name.lower() in people]
        if found:
            unknown |= dict.fromkeys(_strangers(event, people))
        else:
            unknown[(_names(event) or ("an event without a title",))[0][:200]] = None
        spans += [(user, begin, end) for user in dict.fromkeys(found) if begin < end]
    return Read(tuple(sorted(set(spans), key=lambda span: (span[1], span[2], span[0]))), tuple(unknown), flaws)


def _refuse_other(body: bytes) -> None:
    """Raises Unreadable for what is no calendar at all, or only the beginning of one."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise Unreadable("It is not a calendar: it is empty.")
    if text[:15].upper() != b"BEGIN:VCALENDAR":
        begins = " ".join(text[:40].decode("utf-8", "replace").split())
        raise Unreadable(f'It is not a calendar: it begins with "{begins}".')
    if text[-13:].upper() != b"END:VCALENDAR":
        raise Unreadable("It is not a calendar to its end: its server was too slow, or sent only a part.")


def _flaws(calendar: Component, zone: ZoneInfo) -> tuple[str, ...]:
    """What is wrong with single events. Those without a beginning are taken out: they are never on."""
    found: dict[str, None] = {}
    for event in calendar.walk("VEVENT"):
        title = str(event.get("SUMMARY", "")).strip()[:100] or "an event without a title"
        wrong = [key for key, _ in event.errors if key in _TIMES]
        begins = event.get("DTSTART")
        if wrong:
            found[f"{title} ({', '.join(dict.fromkeys(wrong))} cannot be understood)"] = None
        elif begins is None:
            found[f"{title} (no DTSTART)"] = None
        elif (named := begins.params.get("TZID")) and isinstance(begins.dt, datetime) and begins.dt.tzinfo is None:
            found[f"{title} (time zone {str(named)[:60]} is not known, {zone.key} is taken)"] = None
    calendar.subcomponents = [part for part in calendar.subcomponents if part.name != "VEVENT" or "DTSTART" in part]
    return tuple(found)


def _names(event: Component) -> tuple[str, ...]:
    """Whom the event may be about: all of the first kind of property that it has."""
    for key in ("ATTENDEE", "ORGANIZER"):
        held = event.get(key)
        values: Sequence[object] = held if isinstance(held, list) else [held] if held is not None else []
        addresses = [str(value) for value in values]
        if addresses:
            return tuple(address.split(":", 1)[-1].strip() for address in addresses)
    title = str(event.get("SUMMARY", "")).strip()
    # "Alice: primary of Desk" and "On call: Alice" are both common.
    parts = [part.strip() for part in title.split(":")] if ":" in title else []
    return tuple(name for name in (title, *parts) if name)


def _strangers(event: Component, people: Mapping[str, int]) -> Iterator[str]:
    """Attendees that are nobody here, where another one is somebody; rooms and the like are not meant."""
    held = event.get("ATTENDEE")
    for value in held if isinstance(held, list) else [held] if held is not None else []:
        address = str(value).split(":", 1)[-1].strip()
        if address.lower() not in people and str(value.params.get("CUTYPE", "")).upper() not in ("ROOM", "RESOURCE"):
            yield address[:200]


def _end(event: Component, zone: ZoneInfo) -> datetime:
    start = _value(event, "DTSTART")
    if "DTEND" in event:
        return _moment(_value(event, "DTEND"), zone)
    if "DURATION" in event:
        lasts: timedelta = _value(event, "DURATION")
        return _moment(start, zone) + lasts
    return _moment(start, zone) if isinstance(start, datetime) else _moment(start + timedelta(days=1), zone)


def _value(event: Component, key: str) -> Any:
    """A date, moment or duration of the event; of one that has no such property nobody asks."""
    held: Any = event[key]
    return held.dt


def _moment(value: date | datetime, zone: ZoneInfo) -> datetime:
    if not isinstance(value, datetime):
        return windows.midnight(value, zone)
    return windows.instant(value, zone) if value.tzinfo is None else value.astimezone(UTC)


def _uid(*parts: str) -> str:
    return f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}@tocsin"
