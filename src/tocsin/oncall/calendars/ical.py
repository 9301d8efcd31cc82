"""Writes shifts as iCalendar (RFC 5545), and reads shifts from external calendars. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.final_schedule import OnCall

if TYPE_CHECKING:
    from icalendar import Component

#: How often calendar programs are asked to refresh.
REFRESH = timedelta(hours=1)
#: Maximum events of a calendar. One with more is rejected.
MAX_SHIFTS = 5000
_PRODUCT = "-//Tocsin//On call//EN"
_BOM = b"\xef\xbb\xbf"
#: Properties that determine the times of an event. If one of them is invalid, the event is skipped or imported in part.
_TIMES = ("DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID")
#: Properties that an event may have only once.
_ONCE = ("DTSTART", "DTEND", "DURATION", "RECURRENCE-ID")
#: Errors that the two libraries raise for invalid calendars and impossible dates.
_PARSE_ERRORS = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)


class UnreadableCalendar(Exception):
    """The data is not a calendar that can be imported. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class GroupShift:
    """A user on call in a group."""

    group: str
    person: OnCall


@dataclass(frozen=True, slots=True)
class ParsedCalendar:
    """A calendar's content: (user, from, to) in order, names without a user, and the problems of single events."""

    spans: tuple[tuple[int, datetime, datetime], ...]
    unknown: tuple[str, ...]
    flaws: tuple[str, ...] = ()


def write(
    name: str, shifts: Iterable[GroupShift], since: datetime, until: datetime, now: datetime, *, include_names: bool
) -> bytes:
    """Returns the shifts as a calendar, cut to the range. With `include_names`, titles begin with the user's name."""
    # Imported here, because most processes never write a calendar.
    import icalendar

    calendar = icalendar.Calendar.new(
        name=name, prodid=_PRODUCT, refresh_interval=REFRESH, uid=_uid(name), last_modified=now
    )
    for shift in shifts:
        person = shift.person
        begin, end = max(person.since or since, since), min(person.until or until, until)
        if begin >= end:
            continue
        role = f"{person.role} of {shift.group}"
        title = f"{person.name}: {role}" if include_names else f"On call: {role}"
        if person.is_absent:
            title += " (out of office, nobody covers)"
        calendar.add_component(
            icalendar.Event.new(
                uid=_uid(shift.group, person.role, str(person.user_id), (person.since or since).isoformat()),
                summary=title,
                description="\n".join(person.reasons or (person.reason,)),
                start=begin,
                end=end,
                stamp=now,
            )
        )
    return bytes(calendar.to_ical())


def read(
    body: bytes,
    user_ids_by_name: Mapping[str, int],
    zone: ZoneInfo,
    since: datetime,
    until: datetime,
    *,
    now: datetime | None = None,
) -> ParsedCalendar:
    """Reads a calendar's events in the range.

    `user_ids_by_name` contains user ids by lower-case e-mail address, username and name. An event belongs to its
    attendees, else its organizer, else the name in its title. Events that are over at `now` are not reported as
    unknown. A time without a zone is local in `zone`, and so is an all-day event. Invalid events are skipped and
    reported. Raises UnreadableCalendar.
    """
    # Imported here, as above.
    import icalendar

    _reject_non_calendar(body)
    try:
        calendars = icalendar.Calendar.from_ical(body, multiple=True)
    except _PARSE_ERRORS as error:
        raise UnreadableCalendar(f"It is not a calendar that can be read: {str(error)[:200]}.") from None
    calendar_count = sum(line.rstrip().upper() == b"BEGIN:VCALENDAR" for line in body.removeprefix(_BOM).splitlines())
    if len(calendars) < max(calendar_count, 1):
        problem = "it is not whole, or its lines do not end as they must"
        raise UnreadableCalendar(f"It is not a calendar that can be read: {problem}.")
    flaws: dict[str, None] = {}
    events = [event for calendar in calendars for event in _events(calendar, zone, since, until, flaws)]
    if len(events) > MAX_SHIFTS:
        raise UnreadableCalendar(f"It has {len(events)} events in the time looked at; {MAX_SHIFTS} are taken at most.")
    spans: list[tuple[int, datetime, datetime]] = []
    unknown: dict[str, None] = {}
    for event in events:
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        begin, end = _moment(_value(event, "DTSTART"), zone), _end(event, zone)
        attendees = _attendees(event)
        names = [_name(value) for value in attendees if _participates(value)] if attendees else _names(event)
        user_ids = [user_ids_by_name[name.lower()] for name in names if name.lower() in user_ids_by_name]
        spans += [(user, begin, end) for user in dict.fromkeys(user_ids) if begin < end]
        if now is not None and end <= now:
            continue
        if attendees and not names:
            flaws[f"{_title(event)} on {begin.astimezone(zone):%Y-%m-%d} (whoever is invited does not come)"] = None
        elif not user_ids:
            unknown[(names or ("an event without a title",))[0][:200]] = None
        elif attendees:
            unknown |= dict.fromkeys(name[:200] for name in names if name.lower() not in user_ids_by_name)
    return ParsedCalendar(
        tuple(sorted(set(spans), key=lambda span: (span[1], span[2], span[0]))), tuple(unknown), tuple(flaws)
    )


def _reject_non_calendar(body: bytes) -> None:
    """Raises UnreadableCalendar if the data is no calendar, or only the beginning of one."""
    text = body.removeprefix(_BOM).strip()
    if not text:
        raise UnreadableCalendar("It is not a calendar: it is empty.")
    if text[:15].upper() != b"BEGIN:VCALENDAR":
        prefix = " ".join(text[:40].decode("utf-8", "replace").split())
        raise UnreadableCalendar(f'It is not a calendar: it begins with "{prefix}".')
    if text[-13:].upper() != b"END:VCALENDAR":
        raise UnreadableCalendar("It is not a calendar to its end: its server was too slow, or sent only a part.")


def _events(
    calendar: Component, zone: ZoneInfo, since: datetime, until: datetime, flaws: dict[str, None]
) -> Iterator[Component]:
    """Yields every event in the range, with each recurrence as an event of its own. The problems of an event are added
    to `flaws`, and do not affect other events."""
    import icalendar  # as above
    import recurring_ical_events

    for series in _series(calendar.walk("VEVENT")):
        problems = [f"{_title(event)} ({flaw})" for event in series for flaw in _flaws(event, zone)]
        single = icalendar.Calendar(calendar)
        # Without a start, an event never takes place; with two, its time is ambiguous.
        single.subcomponents = [event for event in series if event.get("DTSTART") and not _duplicate_keys(event)]
        try:
            yield from recurring_ical_events.of(single).between(since, until)
        except _PARSE_ERRORS:
            problems = problems or [f"{_title(series[0])} (its times cannot be understood)"]
        flaws |= dict.fromkeys(problems)


def _series(events: Iterable[Component]) -> Iterator[list[Component]]:
    """Yields each event with the changes to its single recurrences.

    Several events with the same UID are treated separately, because not all calendars use unique ones. Of several
    versions of one event, the latest is used.
    """
    events_by_uid: dict[str, list[Component]] = {}
    for number, event in enumerate(events):
        events_by_uid.setdefault(str(event.get("UID") or f"the one at {number}"), []).append(event)
    for versions in events_by_uid.values():
        base_events = [event for event in versions if "RECURRENCE-ID" not in event]
        newest = max(map(_version, base_events), default=0)
        first, *others = [[event] for event in base_events if _version(event) == newest] or [[]]
        yield [*first, *(event for event in versions if "RECURRENCE-ID" in event)]
        yield from others


def _version(event: Component) -> int:
    sequence = event.get("SEQUENCE")
    return sequence if isinstance(sequence, int) else 0


def _flaws(event: Component, zone: ZoneInfo) -> Iterator[str]:
    """Yields the problems of an event: values that are invalid, or that are not imported as they are meant."""
    if invalid_keys := [key for key, _ in event.errors if key in _TIMES]:
        yield f"{', '.join(dict.fromkeys(invalid_keys))} cannot be understood"
    elif "DTSTART" not in event:
        yield "no DTSTART"
    elif duplicates := _duplicate_keys(event):
        yield f"{', '.join(duplicates)} is there twice"
    else:
        for zone_name in dict.fromkeys(zone_name for key in _TIMES for zone_name in _unknown_zones(event.get(key))):
            yield f"time zone {zone_name[:60]} is not known, {zone.key} is taken"
        if "EXRULE" in event:
            yield "EXRULE is not minded: it is on then too"
        if (duration := _duration(event, zone)) is None:
            yield "it has no end, and is left out"
        elif duration <= timedelta():
            yield "its end is not after its beginning"


def _duplicate_keys(event: Component) -> list[str]:
    return [key for key in _ONCE if isinstance(event.get(key), list)]


def _unknown_zones(property_value: Any) -> Iterator[str]:
    """Yields the unknown time zones of a property. Their times are parsed without a zone."""
    for value in property_value if isinstance(property_value, list) else [property_value]:
        if zone_name := getattr(value, "params", {}).get("TZID"):
            moments = [one.dt for one in getattr(value, "dts", [value])]
            starts = [moment[0] if isinstance(moment, tuple) else moment for moment in moments]
            if any(isinstance(moment, datetime) and moment.tzinfo is None for moment in starts):
                yield str(zone_name)


def _duration(event: Component, zone: ZoneInfo) -> timedelta | None:
    """Returns the event's length; None for a moment without an end."""
    if isinstance(_value(event, "DTSTART"), datetime) and "DTEND" not in event and "DURATION" not in event:
        return None
    try:
        return _end(event, zone) - _moment(_value(event, "DTSTART"), zone)
    except OverflowError:
        return timedelta.max


def _title(event: Component) -> str:
    return str(event.get("SUMMARY", "")).strip()[:100] or "an event without a title"


def _as_list(event: Component, key: str) -> list[Any]:
    value: Any = event.get(key)
    return value if isinstance(value, list) else [value] if value is not None else []


def _attendees(event: Component) -> list[Any]:
    """Returns the event's attendees, without rooms and resources."""
    return [
        value for value in _as_list(event, "ATTENDEE") if _upper_parameter(value, "CUTYPE") not in ("ROOM", "RESOURCE")
    ]


def _participates(attendee: Any) -> bool:
    """Returns whether the attendee participates: has not declined or delegated, and is not merely informed."""
    is_away = _upper_parameter(attendee, "PARTSTAT") in ("DECLINED", "DELEGATED")
    return not is_away and _upper_parameter(attendee, "ROLE") != "NON-PARTICIPANT"


def _upper_parameter(value: Any, parameter: str) -> str:
    return str(value.params.get(parameter, "")).upper()


def _name(value: Any) -> str:
    """Returns an attendee's or organizer's address without `mailto:`, else the EMAIL parameter."""
    address, mail = str(value), str(value.params.get("EMAIL", "")).strip()
    return mail if mail and not address.lower().startswith("mailto:") else address.split(":", 1)[-1].strip()


def _names(event: Component) -> list[str]:
    """Returns the names that an event without attendees may belong to: its organizer, or the parts of its title."""
    if organizers := _as_list(event, "ORGANIZER"):
        return [_name(value) for value in organizers]
    title = str(event.get("SUMMARY", "")).strip()
    # "Alice: primary of Desk" and "On call: Alice" are both common.
    parts = [part.strip() for part in title.split(":")] if ":" in title else []
    return [name for name in (title, *parts) if name]


def _end(event: Component, zone: ZoneInfo) -> datetime:
    start = _value(event, "DTSTART")
    if "DTEND" in event:
        end = _value(event, "DTEND")
        # Some programs end an all-day event on the day on which it begins.
        is_that_day = end == start and not isinstance(start, datetime)
        return _moment(end + timedelta(days=1) if is_that_day else end, zone)
    if "DURATION" in event:
        duration: timedelta = _value(event, "DURATION")
        return _moment(start, zone) + duration
    return _moment(start, zone) if isinstance(start, datetime) else _moment(start + timedelta(days=1), zone)


def _value(event: Component, key: str) -> Any:
    """Returns a date, time or duration of the event, which must have that property."""
    prop: Any = event[key]
    return prop.dt


def _moment(value: date | datetime, zone: ZoneInfo) -> datetime:
    if not isinstance(value, datetime):
        return weekly_windows.midnight(value, zone)
    return weekly_windows.instant(value, zone) if value.tzinfo is None else value.astimezone(UTC)


def _uid(*parts: str) -> str:
    return f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}@tocsin"
