"""iCalendar (RFC 5545), both ways: shifts as a calendar, and the turns that a calendar elsewhere has. Pure."""

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

#: How often programs are asked to look again.
REFRESH = timedelta(hours=1)
#: Of a calendar so many turns are taken; one with more is refused.
MAX_SHIFTS = 5000
_PRODUCT = "-//Tocsin//On call//EN"
_BOM = b"\xef\xbb\xbf"
#: What makes a turn: an event in which one of these cannot be understood is left out, or taken in part.
_TIMES = ("DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID")
#: Of these an event has one at most.
_ONCE = ("DTSTART", "DTEND", "DURATION", "RECURRENCE-ID")
#: What the two libraries raise for what is no calendar, or one with impossible dates in it.
_BROKEN = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)


class UnreadableCalendar(Exception):
    """This is no calendar whose turns can be taken: a sentence."""


@dataclass(frozen=True, slots=True)
class GroupShift:
    """Somebody on call in a group."""

    group: str
    person: OnCall


@dataclass(frozen=True, slots=True)
class ParsedCalendar:
    """What a calendar says: (user, from, to) in order, the names in it that are nobody here, and what is wrong with
    single events of it."""

    spans: tuple[tuple[int, datetime, datetime], ...]
    unknown: tuple[str, ...]
    flaws: tuple[str, ...] = ()


def write(
    name: str, turns: Iterable[GroupShift], since: datetime, until: datetime, now: datetime, *, names_people: bool
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


def read(
    body: bytes,
    people: Mapping[str, int],
    zone: ZoneInfo,
    since: datetime,
    until: datetime,
    *,
    now: datetime | None = None,
) -> ParsedCalendar:
    """The turns of a calendar in the range. `people` has users by lower-case e-mail, username and name. Of turns
    that are over at `now` it is not told that they are nobody's.

    An event is somebody's by its attendees, else its organizer, else its title. A time without a zone is local in
    `zone`; a whole day is one there. Events that cannot be understood are left out and named. Raises Unreadable.
    """
    # Imported here, as above.
    import icalendar

    _refuse_other(body)
    try:
        calendars = icalendar.Calendar.from_ical(body, multiple=True)
    except _BROKEN as error:
        raise UnreadableCalendar(f"It is not a calendar that can be read: {str(error)[:200]}.") from None
    begun = sum(line.rstrip().upper() == b"BEGIN:VCALENDAR" for line in body.removeprefix(_BOM).splitlines())
    if len(calendars) < max(begun, 1):
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
        invited = _invited(event)
        names = [_name(value) for value in invited if _comes(value)] if invited else _names(event)
        found = [people[name.lower()] for name in names if name.lower() in people]
        spans += [(user, begin, end) for user in dict.fromkeys(found) if begin < end]
        if now is not None and end <= now:
            continue
        if invited and not names:
            flaws[f"{_title(event)} on {begin.astimezone(zone):%Y-%m-%d} (whoever is invited does not come)"] = None
        elif not found:
            unknown[(names or ("an event without a title",))[0][:200]] = None
        elif invited:
            unknown |= dict.fromkeys(name[:200] for name in names if name.lower() not in people)
    return ParsedCalendar(
        tuple(sorted(set(spans), key=lambda span: (span[1], span[2], span[0]))), tuple(unknown), tuple(flaws)
    )


def _refuse_other(body: bytes) -> None:
    """Raises Unreadable for what is no calendar at all, or only the beginning of one."""
    text = body.removeprefix(_BOM).strip()
    if not text:
        raise UnreadableCalendar("It is not a calendar: it is empty.")
    if text[:15].upper() != b"BEGIN:VCALENDAR":
        begins = " ".join(text[:40].decode("utf-8", "replace").split())
        raise UnreadableCalendar(f'It is not a calendar: it begins with "{begins}".')
    if text[-13:].upper() != b"END:VCALENDAR":
        raise UnreadableCalendar("It is not a calendar to its end: its server was too slow, or sent only a part.")


def _events(
    calendar: Component, zone: ZoneInfo, since: datetime, until: datetime, flaws: dict[str, None]
) -> Iterator[Component]:
    """Every event of the calendar in the range, each time one of its own. What is wrong with one is added to `flaws`,
    and keeps no other from being taken."""
    import icalendar  # as above
    import recurring_ical_events

    for series in _series(calendar.walk("VEVENT")):
        wrong = [f"{_title(event)} ({flaw})" for event in series for flaw in _flaws(event, zone)]
        alone = icalendar.Calendar(calendar)
        # Without a beginning it is never on; with two, nobody knows when.
        alone.subcomponents = [event for event in series if event.get("DTSTART") and not _doubles(event)]
        try:
            yield from recurring_ical_events.of(alone).between(since, until)
        except _BROKEN:
            wrong = wrong or [f"{_title(series[0])} (its times cannot be understood)"]
        flaws |= dict.fromkeys(wrong)


def _series(events: Iterable[Component]) -> Iterator[list[Component]]:
    """Each event with the changes to single times of it. Several with the same id are taken one by one, since not all
    calendars give each its own; of several versions of one, the newest is."""
    same: dict[str, list[Component]] = {}
    for number, event in enumerate(events):
        same.setdefault(str(event.get("UID") or f"the one at {number}"), []).append(event)
    for several in same.values():
        whole = [event for event in several if "RECURRENCE-ID" not in event]
        newest = max(map(_version, whole), default=0)
        first, *others = [[event] for event in whole if _version(event) == newest] or [[]]
        yield [*first, *(event for event in several if "RECURRENCE-ID" in event)]
        yield from others


def _version(event: Component) -> int:
    held = event.get("SEQUENCE")
    return held if isinstance(held, int) else 0


def _flaws(event: Component, zone: ZoneInfo) -> Iterator[str]:
    """What is wrong with the event, or is not taken as it is meant."""
    if wrong := [key for key, _ in event.errors if key in _TIMES]:
        yield f"{', '.join(dict.fromkeys(wrong))} cannot be understood"
    elif "DTSTART" not in event:
        yield "no DTSTART"
    elif doubles := _doubles(event):
        yield f"{', '.join(doubles)} is there twice"
    else:
        for named in dict.fromkeys(named for key in _TIMES for named in _unknown_zones(event.get(key))):
            yield f"time zone {named[:60]} is not known, {zone.key} is taken"
        if "EXRULE" in event:
            yield "EXRULE is not minded: it is on then too"
        if (lasts := _lasts(event, zone)) is None:
            yield "it has no end, and is left out"
        elif lasts <= timedelta():
            yield "its end is not after its beginning"


def _doubles(event: Component) -> list[str]:
    return [key for key in _ONCE if isinstance(event.get(key), list)]


def _unknown_zones(held: Any) -> Iterator[str]:
    """The names of time zones of a property that are not known: its moments are without one then."""
    for value in held if isinstance(held, list) else [held]:
        if named := getattr(value, "params", {}).get("TZID"):
            moments = [one.dt for one in getattr(value, "dts", [value])]
            begins = [moment[0] if isinstance(moment, tuple) else moment for moment in moments]
            if any(isinstance(moment, datetime) and moment.tzinfo is None for moment in begins):
                yield str(named)


def _lasts(event: Component, zone: ZoneInfo) -> timedelta | None:
    """How long it is on; None for a moment without an end."""
    if isinstance(_value(event, "DTSTART"), datetime) and "DTEND" not in event and "DURATION" not in event:
        return None
    try:
        return _end(event, zone) - _moment(_value(event, "DTSTART"), zone)
    except OverflowError:
        return timedelta.max


def _title(event: Component) -> str:
    return str(event.get("SUMMARY", "")).strip()[:100] or "an event without a title"


def _listed(event: Component, key: str) -> list[Any]:
    held: Any = event.get(key)
    return held if isinstance(held, list) else [held] if held is not None else []


def _invited(event: Component) -> list[Any]:
    """Its attendees; rooms and the like are not meant."""
    return [value for value in _listed(event, "ATTENDEE") if _said(value, "CUTYPE") not in ("ROOM", "RESOURCE")]


def _comes(attendee: Any) -> bool:
    """Whether the attendee has not said no, passed it on, or is only told of it."""
    is_away = _said(attendee, "PARTSTAT") in ("DECLINED", "DELEGATED")
    return not is_away and _said(attendee, "ROLE") != "NON-PARTICIPANT"


def _said(value: Any, parameter: str) -> str:
    return str(value.params.get(parameter, "")).upper()


def _name(value: Any) -> str:
    """The address of an attendee or organizer, without `mailto:`; the mail beside it where it is none."""
    address, mail = str(value), str(value.params.get("EMAIL", "")).strip()
    return mail if mail and not address.lower().startswith("mailto:") else address.split(":", 1)[-1].strip()


def _names(event: Component) -> list[str]:
    """Whom an event to which nobody is invited may be about: its organizer, or what its title says."""
    if organizers := _listed(event, "ORGANIZER"):
        return [_name(value) for value in organizers]
    title = str(event.get("SUMMARY", "")).strip()
    # "Alice: primary of Desk" and "On call: Alice" are both common.
    parts = [part.strip() for part in title.split(":")] if ":" in title else []
    return [name for name in (title, *parts) if name]


def _end(event: Component, zone: ZoneInfo) -> datetime:
    start = _value(event, "DTSTART")
    if "DTEND" in event:
        end = _value(event, "DTEND")
        # Some programs end a whole day where it begins.
        is_that_day = end == start and not isinstance(start, datetime)
        return _moment(end + timedelta(days=1) if is_that_day else end, zone)
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
        return weekly_windows.midnight(value, zone)
    return weekly_windows.instant(value, zone) if value.tzinfo is None else value.astimezone(UTC)


def _uid(*parts: str) -> str:
    return f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}@tocsin"
