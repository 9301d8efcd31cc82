"""Writes shifts as iCalendar (RFC 5545), and reads shifts from external calendars."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from tocsin.core.reasons import Reason, Term, Text, reason_as_json, reason_from_json, sentence
from tocsin.core.runtime import child_process
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.final_schedule import OnCall

if TYPE_CHECKING:
    from icalendar import Component

_UNREADABLE = Text("The calendar cannot be read: {error}.")
_INCOMPLETE = Text("The calendar is incomplete, or its lines end incorrectly.")
_EMPTY = Text("Not a calendar: the response is empty.")
_TRUNCATED = Text("The calendar is cut off: its server was too slow or sent only part of it.")
_EVENT_FLAW = Text("{title} ({flaw})")
_INVALID_TIMES = Text("invalid times")
_INVALID_PROPERTIES = Text("invalid {names}")

#: How often calendar programs are asked to refresh.
REFRESH = timedelta(hours=1)
#: Maximum events of a calendar. One with more is rejected.
MAX_SHIFTS = 5000
#: Maximum occurrences of an event on a day. One every second would fill the memory.
MAX_OCCURRENCES_PER_DAY = 24
_PRODUCT = "-//Tocsin//On call//EN"
_BOM = b"\xef\xbb\xbf"
#: Properties that determine the times of an event. If one of them is invalid, the event is skipped or imported in part.
_TIMES = ("DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID")
#: Properties that an event may have only once, and the types of their values. icalendar also accepts a time without a
#: day, or a duration, for each of them.
_TYPES = {"DTSTART": date, "DTEND": date, "DURATION": timedelta, "RECURRENCE-ID": date}
#: Errors that the two libraries raise for invalid calendars and impossible dates; OSError for the name of a time zone,
#: which is looked up as a file.
_PARSE_ERRORS = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, OSError)


class UnreadableCalendar(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class GroupShift:
    group: str
    person: OnCall


@dataclass(frozen=True, slots=True)
class ParsedCalendar:
    """A calendar's content: (user, from, to) in order, names without a user, and the problems of single events."""

    spans: tuple[tuple[int, datetime, datetime], ...]
    unknown: tuple[str, ...]
    flaws: tuple[Reason, ...] = ()


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
                description="\n".join(map(str, person.reasons or (person.reason,))),
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
        raise UnreadableCalendar(_UNREADABLE(error=str(error)[:200])) from None
    calendar_count = sum(line.rstrip().upper() == b"BEGIN:VCALENDAR" for line in body.removeprefix(_BOM).splitlines())
    if len(calendars) < max(calendar_count, 1):
        raise UnreadableCalendar(_INCOMPLETE())
    flaws: dict[Reason, None] = {}
    found = (event for calendar in calendars for event in _events(calendar, zone, since, until, flaws))
    events = list(islice(found, MAX_SHIFTS + 1))
    if len(events) > MAX_SHIFTS:
        raise UnreadableCalendar(
            sentence("The calendar has more than {limit} events in the imported period.", limit=MAX_SHIFTS)
        )
    spans: list[tuple[int, datetime, datetime]] = []
    unknown: dict[str, None] = {}
    for event in events:
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        try:
            begin, end = _moment(_value(event, "DTSTART"), zone), _end(event, zone)
        except OverflowError:
            flaws[_EVENT_FLAW(title=_title(event), flaw=_INVALID_TIMES())] = None
            continue
        attendees = _attendees(event)
        names = [_name(value) for value in attendees if _participates(value)] if attendees else _names(event)
        user_ids = [user_ids_by_name[name.lower()] for name in names if name.lower() in user_ids_by_name]
        spans += [(user, begin, end) for user in dict.fromkeys(user_ids) if begin < end]
        if now is not None and end <= now:
            continue
        if attendees and not names:
            flaws[
                sentence(
                    "{title} on {day} (no attendee accepted)", title=_title(event), day=begin.astimezone(zone).date()
                )
            ] = None
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
        raise UnreadableCalendar(_EMPTY())
    if text[:15].upper() != b"BEGIN:VCALENDAR":
        prefix = " ".join(text[:40].decode("utf-8", "replace").split())
        raise UnreadableCalendar(sentence('Not a calendar: the response starts with "{prefix}".', prefix=prefix))
    if text[-13:].upper() != b"END:VCALENDAR":
        raise UnreadableCalendar(_TRUNCATED())


def _events(
    calendar: Component, zone: ZoneInfo, since: datetime, until: datetime, flaws: dict[Reason, None]
) -> Iterator[Component]:
    """Yields every event in the range, with each recurrence as an event of its own. The problems of an event are added
    to `flaws`, and do not affect other events."""
    import icalendar  # as above
    import recurring_ical_events

    found = calendar.walk("VEVENT")
    for event in found:
        # An event that does not end holds those that follow it, which are found themselves.
        event.subcomponents = []
    for series in _series(found):
        problems = [_EVENT_FLAW(title=_title(event), flaw=flaw) for event in series for flaw in _flaws(event, zone)]
        single = icalendar.Calendar(calendar)
        single.subcomponents = [event for event in series if _can_take_place(event)]
        try:
            yield from recurring_ical_events.of(single).between(since, until)
        except _PARSE_ERRORS:
            problems = problems or [_EVENT_FLAW(title=_title(series[0]), flaw=_INVALID_TIMES())]
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


def _flaws(event: Component, zone: ZoneInfo) -> Iterator[Reason]:
    """Yields the problems of an event: values that are invalid, or that are not imported as they are meant."""
    if invalid_keys := [key for key, _ in event.errors if key in _TIMES]:
        yield _INVALID_PROPERTIES(names=", ".join(dict.fromkeys(invalid_keys)))
    elif "DTSTART" not in event:
        yield sentence("no DTSTART")
    elif duplicates := _duplicate_keys(event):
        yield sentence("more than one {names}", names=", ".join(duplicates))
    elif mistyped := _mistyped_keys(event):
        yield _INVALID_PROPERTIES(names=", ".join(mistyped))
    elif _is_too_frequent(event):
        yield sentence("takes place more than {limit} times a day, skipped", limit=MAX_OCCURRENCES_PER_DAY)
    else:
        for zone_name in dict.fromkeys(zone_name for key in _TIMES for zone_name in _unknown_zones(event.get(key))):
            yield sentence("unknown time zone {zone}, {used} is used", zone=zone_name[:60], used=zone.key)
        if "EXRULE" in event:
            yield sentence("EXRULE is ignored: excluded dates still occur")
        if (duration := _duration(event, zone)) is None:
            yield sentence("no end, skipped")
        elif duration <= timedelta():
            yield sentence("its end is not after its start")


def _can_take_place(event: Component) -> bool:
    # Without a start, an event never takes place; with two, its time is ambiguous.
    is_ambiguous = _duplicate_keys(event) or _mistyped_keys(event)
    return bool(event.get("DTSTART")) and not is_ambiguous and not _is_too_frequent(event)


def _is_too_frequent(event: Component) -> bool:
    rules = [rule for rule in _as_list(event, "RRULE") if isinstance(rule, Mapping)]
    return sum(map(_max_occurrences_per_day, rules)) > MAX_OCCURRENCES_PER_DAY


def _max_occurrences_per_day(rule: Mapping[str, Any]) -> float:
    """An upper bound from the rule's parts, which are lists."""
    frequency = str(next(iter(rule.get("FREQ", ())), "")).upper()
    interval = max(1, int(next(iter(rule.get("INTERVAL", ())), 1)))
    finer = {"SECONDLY": (), "MINUTELY": ("BYSECOND",), "HOURLY": ("BYMINUTE", "BYSECOND")}
    parts = finer.get(frequency, ("BYHOUR", "BYMINUTE", "BYSECOND"))
    each = {"SECONDLY": 86_400, "MINUTELY": 1_440, "HOURLY": 24}.get(frequency, interval) / interval
    return each * prod(max(1, len(rule.get(part, ()))) for part in parts)


def _duplicate_keys(event: Component) -> list[str]:
    return [key for key in _TYPES if isinstance(event.get(key), list)]


def _mistyped_keys(event: Component) -> list[str]:
    valid_keys = event.keys() - {key for key, _ in event.errors}
    return [key for key, type_ in _TYPES.items() if key in valid_keys and not isinstance(_value(event, key), type_)]


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


def _title(event: Component) -> str | Term:
    return str(event.get("SUMMARY", "")).strip()[:100] or Term("an event without a title")


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


# ---------- ical subprocess
# Reads a calendar in a separate process. Run as a module, it is that process.
# A calendar with an endless recurrence, or one that would take all memory, ends only that process, and delays no page.


CPU_SECONDS = 20
_TOO_LARGE = Text(
    "The calendar takes too long or too much memory to read. It is very large, or an event repeats every few seconds."
)


def read_in_subprocess(
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
        raise UnreadableCalendar(reason_from_json(problem))
    spans = tuple(
        (user, datetime.fromisoformat(begin), datetime.fromisoformat(end)) for user, begin, end in response["spans"]
    )
    return ParsedCalendar(spans, tuple(response["unknown"]), tuple(map(reason_from_json, response["flaws"])))


def main() -> None:
    child_process.limit_resources()
    request = json.loads(sys.stdin.buffer.readline())
    since, until = datetime.fromisoformat(request["since"]), datetime.fromisoformat(request["until"])
    now = datetime.fromisoformat(request["now"]) if request["now"] else None
    response: dict[str, object]
    try:
        calendar = read(sys.stdin.buffer.read(), request["people"], ZoneInfo(request["zone"]), since, until, now=now)
    except UnreadableCalendar as error:
        response = {"problem": reason_as_json(error.reason)}
    except MemoryError:
        response = {"problem": reason_as_json(_TOO_LARGE())}
    else:
        spans = [[user, begin.isoformat(), end.isoformat()] for user, begin, end in calendar.spans]
        response = {"spans": spans, "unknown": calendar.unknown, "flaws": list(map(reason_as_json, calendar.flaws))}
    json.dump(response, sys.stdout)


if __name__ == "__main__":
    main()
