"""Draws the lanes of the on-call calendar: positioned bars, or an agenda. Pure.

Decides nothing: who is on call, and why, is in `oncall.calculation.lanes`. `oncall/lanes.html` prints a drawing on
every page that has one. A position is in percent of the width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.urls import reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from tocsin.oncall.calculation import coverage_checks, weekly_windows
from tocsin.oncall.calculation.final_schedule import CoverageGap, LayerSegment, OnCall
from tocsin.oncall.calculation.lanes import AbsenceBand, Collision, Duty, Lane, Lanes
from tocsin.oncall.calculation.schedules import later, sooner
from tocsin.web.oncall import shift_forms
from tocsin.web.ui.formatting import initials

# ---------- range


class View(StrEnum):
    """What the calendar shows."""

    DAY = "day"
    WEEKS = "weeks"
    MONTH = "month"
    #: The range of the coverage checks, with their problems.
    COVERAGE = "coverage"
    #: Two weeks as a list.
    AGENDA = "agenda"

    @property
    def label(self) -> str:
        match self:
            case View.DAY:
                return _("Day")
            case View.WEEKS:
                return _("Two weeks")
            case View.MONTH:
                return _("Month")
            case View.COVERAGE:
                return _("60 days")
            case View.AGENDA:
                return _("Agenda")

    @property
    def phone_label(self) -> str:
        return _("Three days") if self is View.WEEKS else self.label


#: The days of each view; a month has its own.
_LENGTHS = {
    View.DAY: 1,
    View.WEEKS: 14,
    View.COVERAGE: coverage_checks.COVERAGE_HORIZON.days,
    View.AGENDA: 14,
}
#: A phone shows so many days of two weeks.
_PHONE_DAYS = 3


@dataclass(frozen=True, slots=True)
class DateRange:
    """The days from `first` to before `end`."""

    view: View
    first: date
    end: date
    zone: ZoneInfo

    @property
    def since(self) -> datetime:
        return weekly_windows.midnight(self.first, self.zone)

    @property
    def until(self) -> datetime:
        return weekly_windows.midnight(self.end, self.zone)

    @property
    def earlier(self) -> date:
        """The first day of the preceding range."""
        if self.view is View.MONTH:
            return (self.first - timedelta(days=1)).replace(day=1)
        return self.first - (self.end - self.first)

    @property
    def on_phone(self) -> DateRange:
        """The part that a phone shows."""
        if self.view is not View.WEEKS:
            return self
        return replace(self, end=self.first + timedelta(days=_PHONE_DAYS))

    @property
    def name(self) -> str:
        """Such as "3 – 16 Dec 2026", "December 2026" or "Thursday 3 December 2026"."""
        if self.view is View.DAY:
            return date_format(self.first, pgettext("date format", "l j F Y"))
        if self.view is View.MONTH:
            return date_format(self.first, "F Y")
        last = self.end - timedelta(days=1)
        begin = date_format(self.first, pgettext("date format", "j M"))
        return f"{begin} – {date_format(last, pgettext('date format', 'j M Y'))}"


def range_of(view: View, day: date, zone: ZoneInfo) -> DateRange:
    """Return the month that contains `day`, or the days from it on."""
    if view is View.MONTH:
        first = day.replace(day=1)
        return DateRange(view, first, weekly_windows.next_month(first), zone)
    return DateRange(view, day, day + timedelta(days=_LENGTHS[view]), zone)


# ---------- drawing

#: Rounding tolerance in percent: bars that overlap by less are on one level.
_TOLERANCE = 0.001
#: A shift with more bars in the range would be unreadable and is omitted; shorter ranges show it.
_MAX_BARS_PER_SHIFT = 200
#: Number of distinct colours for users.
COLOURS = 8
#: Height of an absence, which nobody presses, in pixels.
_ABSENCE_LEVEL = 26
#: A bar that is narrower is no link, since a finger or an unsteady hand cannot hit it. The script opens it by a click.
_MIN_LINK_WIDTH = 26
_MIN_HOLIDAY_WIDTH = 44
#: Estimated widths in pixels: of a letter, of initials, and of the space beside a bar's text.
_LETTER, _INITIALS, _PADDING = 7, 22, 14


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where lanes are drawn: an estimate of the width of a row's bars, and the height of a bar's level, in pixels."""

    width: int
    level: int


#: Bars are 4 pixels lower than their level: on a phone as high as a finger needs.
DESK, PHONE, SIDE = Canvas(900, 36), Canvas(350, 48), Canvas(330, 36)


class RowKind(StrEnum):
    #: Who is on call in a role of a group.
    LANE = "lane"
    #: One shift, whether or not it is effective.
    SHIFT = "shift"
    ABSENCES = "absences"


@dataclass(frozen=True, slots=True)
class Band:
    """A period behind or above the bars: a holiday, a collision."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar(Band):
    """A period of a row. Its `words` say all of it; its `text` is what fits."""

    #: CSS classes: `user-3`, `gap`, `away`, `order`, `hidden`.
    tone: str
    initials: str
    text: str
    words: str
    url: str = ""
    is_link: bool = False
    #: The parts in which the user has another duty.
    collisions: Sequence[Band] = ()
    level: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    kind: RowKind
    group_id: int
    group: str
    #: The role of a lane, the name of a shift.
    label: str
    bars: Sequence[Bar]
    #: The number of levels of bars, and the height of one in pixels.
    levels: int
    level: int
    role: str = ""
    #: The schedule that an override of the lane would change, and the layer of a shift.
    schedule: str = ""
    layer: int = 0
    holidays: Sequence[Band] = ()
    #: Where bars begin and end: what is dragged snaps to it.
    edges: str = ""
    is_first_of_group: bool = False

    @property
    def bar(self) -> int:
        """The height of a bar."""
        return self.level - 4

    @property
    def middle(self) -> int:
        return self.level // 2

    @property
    def baseline(self) -> int:
        """Where the text of a bar stands."""
        return self.middle + 5


@dataclass(frozen=True, slots=True)
class Tick:
    """A day of the grid, or two hours or more, with its label where there is room."""

    x: float
    width: float
    label: str = ""
    holiday: str = ""
    is_off: bool = False
    is_today: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lanes as rows. `now` is the position of the current time, or None if it is out of the range."""

    rows: Sequence[Row]
    ticks: Sequence[Tick]
    now: float | None
    #: The boundaries of the days as ISO times, and the minutes to which a drag rounds: for the script.
    midnights: str
    step: int
    is_narrow: bool
    has_groups: bool
    has_holidays: bool


@dataclass(frozen=True, slots=True)
class AgendaEntry:
    """An assignment or a gap. Without `people` no one is on call."""

    duty: Duty
    people: Sequence[OnCall]
    since: datetime | None
    until: datetime | None
    collisions: Sequence[str] = ()

    @property
    def url(self) -> str:
        """The URL of the reassign form."""
        return segment_url(self.duty, self.since, self.until, self.people)


@dataclass(frozen=True, slots=True)
class AgendaDay:
    """A day on which a shift begins; the first one has those that last already."""

    day: date
    is_today: bool
    holidays: str
    entries: Sequence[AgendaEntry]


def colour_class(user_id: int) -> str:
    """Return the CSS class of a user's colour, the same on every page."""
    return f"user-{user_id % COLOURS}"


def draw(
    shown: Lanes, now: datetime, zone: ZoneInfo, canvas: Canvas, *, has_links: bool = True, of_one_group: bool = False
) -> Drawing:
    """Lay out lanes. Those of one group do not name it, and each is followed by its shifts, the highest layer first."""
    layout = _Layout(shown, now, zone, canvas, has_links)
    rows = list(layout.rows(has_shifts=of_one_group))
    ticks, days = list(layout.ticks()), len(shown.days)
    return Drawing(
        rows,
        ticks,
        layout.position(now) if shown.since <= now < shown.until else None,
        " ".join(at.isoformat() for at in [*(day.since for day in shown.days), shown.until]),
        15 if days == 1 else 60 if days <= _PHONE_DAYS else 360 if days <= _LENGTHS[View.WEEKS] else 1440,
        canvas is not DESK,
        not of_one_group,
        any(tick.holiday for tick in ticks),
    )


def drawings(
    lanes_of: Callable[[DateRange], Lanes], date_range: DateRange, now: datetime, *, of_one_group: bool = False
) -> list[tuple[str, Drawing]]:
    """Return the drawing of a desk and that of a phone, each with the CSS class that hides it from the other."""
    ranges = (("hide-phone", date_range, DESK), ("show-phone", date_range.on_phone, PHONE))
    return [
        (style, draw(lanes_of(part), now, part.zone, canvas, of_one_group=of_one_group))
        for style, part, canvas in ranges
    ]


class _Layout:
    def __init__(self, shown: Lanes, now: datetime, zone: ZoneInfo, canvas: Canvas, has_links: bool) -> None:
        self._shown, self._now, self._zone, self._canvas, self._has_links = shown, now, zone, canvas, has_links

    def position(self, at: datetime) -> float:
        share = (at - self._shown.since) / (self._shown.until - self._shown.since)
        return round(min(100.0, max(0.0, share * 100)), 4)

    def ticks(self) -> Iterator[Tick]:
        shown, today = self._shown, weekly_windows.day_of(self._now, self._zone)
        names = _holidays_by_day(shown)
        if len(shown.days) == 1:
            (day,) = shown.days
            hours = 2 if self._canvas is DESK else 4
            moments = [
                weekly_windows.instant(datetime.combine(day.day, time(hour)), self._zone)
                for hour in range(0, 24, hours)
            ]
            for number, (begin, end) in enumerate(zip(moments, [*moments[1:], day.until], strict=True)):
                yield Tick(*self._span(begin, end), f"{number * hours:02d}:00")
            return
        for day in shown.days:
            span = self._span(day.since, day.until)
            room = span[1] * self._canvas.width / 100
            holidays = names.get(day.day, "")
            # Where there is no room for its name, a holiday is only shaded.
            label, name = self._day_label(day.day, room), holidays if room >= _MIN_HOLIDAY_WIDTH else ""
            yield Tick(*span, label, name, day.day.weekday() > 4 or bool(holidays), day.day == today, holidays)

    def rows(self, *, has_shifts: bool) -> Iterator[Row]:
        group_id = None
        for lane in self._shown.lanes:
            if group_id not in (None, lane.duty.group_id):
                yield from self._absences(group_id)
            yield replace(self._lane(lane), is_first_of_group=lane.duty.group_id != group_id)
            group_id = lane.duty.group_id
            if has_shifts:
                yield from self._shifts(lane)
        yield from self._absences(group_id)

    def _lane(self, lane: Lane) -> Row:
        shown, duty = self._shown, lane.duty
        bars = [self._bar(lane, people) for people in _assignments(lane)]
        bars += [self._gap(lane, gap) for gap in lane.gaps]
        holidays = [
            Band(*self._span(one.day.since, one.day.until)) for one in shown.holidays if one.group_id == duty.group_id
        ]
        ends = {end for one in lane.segments for end in (one.since, one.until) if end is not None}
        ends |= {end for gap in lane.gaps for end in (gap.since, gap.until)}
        edges = sorted(end for end in ends if shown.since <= end <= shown.until)
        leveled, levels = _leveled(bars)
        return Row(
            RowKind.LANE, duty.group_id, duty.group, shift_forms.role_name(duty.role),
            leveled, levels, self._canvas.level, str(duty.role), _schedule_of(lane),
            holidays=holidays, edges=" ".join(at.isoformat() for at in edges),
        )  # fmt: skip

    def _bar(self, lane: Lane, people: Sequence[OnCall]) -> Bar:
        """Return the bar of a user, or of several whom the group's own order puts on call together."""
        first, is_one = people[0], len(people) == 1
        name = " → ".join(one.name for one in people)
        collisions = _collisions(self._shown, lane.duty, people)
        reasons = [reason.localized() for reason in first.reasons or (first.reason,)]
        words = [
            f"{name}, {shift_forms.role_name(lane.duty.role)}",
            shift_forms.format_period(first.since, first.until),
            *([_("out of office, no cover")] if first.is_absent else []),
            *reasons,
            *(_describe_collision(one, lane.duty) for one in collisions),
        ]
        tone = "away" if first.is_absent else colour_class(first.user_id) if first.schedule else "order"
        url = segment_url(lane.duty, first.since, first.until, people)
        bar = self._named_bar(first.since, first.until, tone, name, ". ".join(words), url, is_one=is_one)
        bands = [self._span(later(first.since, one.since), sooner(first.until, one.until)) for one in collisions]
        return replace(bar, collisions=[Band(*band) for band in bands])

    def _gap(self, lane: Lane, gap: CoverageGap) -> Bar:
        times = shift_forms.format_period(gap.since, gap.until)
        words = _("No %(role)s on call, %(when)s") % {"role": shift_forms.role_name(gap.role), "when": times}
        url = segment_url(lane.duty, gap.since, gap.until)
        return self._named_bar(gap.since, gap.until, "gap", _("no one"), words, url, is_one=False)

    def _shifts(self, lane: Lane) -> Iterator[Row]:
        by_shift: dict[tuple[int, str, str], list[LayerSegment]] = {}
        for one in lane.shifts:
            by_shift.setdefault((-one.layer, one.schedule, one.shift), []).append(one)
        # One shift alone is the lane once more.
        is_plain = len(by_shift) == 1 and not any(one.hidden_by for one in lane.shifts)
        for (layer, schedule, shift), segments in () if is_plain else sorted(by_shift.items()):
            if len(segments) <= _MAX_BARS_PER_SHIFT:
                leveled, levels = _leveled([self._shift_bar(one) for one in segments])
                duty = lane.duty
                yield Row(
                    RowKind.SHIFT, duty.group_id, duty.group, shift, leveled, levels, self._canvas.level,
                    schedule=schedule, layer=-layer,
                )  # fmt: skip

    def _shift_bar(self, one: LayerSegment) -> Bar:
        words = [one.name, shift_forms.format_period(one.since, one.until)]
        tone = colour_class(one.user_id)
        if one.hidden_by:
            words.append(_("Ignored: %(why)s") % {"why": one.hidden_by.localized()})
            tone += " hidden"
        return self._named_bar(one.since, one.until, tone, one.name, ". ".join(words))

    def _absences(self, group_id: int | None) -> Iterator[Row]:
        bands = [one for one in self._shown.absences if one.group_id == group_id]
        if bands:
            leveled, levels = _leveled([self._absence_bar(one) for one in bands])
            yield Row(
                RowKind.ABSENCES, bands[0].group_id, bands[0].group, _("Out of office"), leveled, levels, _ABSENCE_LEVEL
            )

    def _absence_bar(self, one: AbsenceBand) -> Bar:
        cover = _("covered by %(name)s") % {"name": one.cover} if one.cover else _("no cover")
        words = [
            _("%(name)s is out of office") % {"name": one.name},
            shift_forms.format_period(one.since, one.until),
            cover,
        ]
        tone = "absence" if one.cover else "absence uncovered"
        return self._named_bar(one.since, one.until, tone, f"{one.name}, {cover}", ". ".join(words), name=one.name)

    def _named_bar(
        self, since: datetime | None, until: datetime | None, tone: str, text: str, words: str, url: str = "",
        *, is_one: bool = True, name: str = "",
    ) -> Bar:  # fmt: skip
        """Return a bar with as much of its text as fits."""
        x, width = self._span(since, until)
        own = initials(name or text) if is_one else ""
        room = width * self._canvas.width / 100 - _PADDING
        texts = (text, text.partition(" ")[0]) if is_one else (text,)
        needed = _INITIALS + 6 if own else 0
        fitting = next((one for one in texts if needed + len(one) * _LETTER <= room), "")
        shown = own if room >= _INITIALS - 12 else ""
        if not is_one and not fitting and room > 3 * _LETTER:
            fitting = text[: int(room / _LETTER) - 1] + "…"
        is_link = bool(url) and self._has_links and width * self._canvas.width / 100 >= _MIN_LINK_WIDTH
        return Bar(x, width, tone, shown, fitting, words, url if self._has_links else "", is_link)

    def _span(self, since: datetime | None, until: datetime | None) -> tuple[float, float]:
        begin = self.position(since) if since else 0.0
        return begin, round((self.position(until) if until else 100.0) - begin, 4)

    def _day_label(self, day: date, width: float) -> str:
        """Return the label of a day, by the room that there is: its weekday, its number, or only each Monday's."""
        if width >= 90:
            return shift_forms.day(day)
        if width >= 44:
            return date_format(day, pgettext("date format", "j M") if day.day == 1 else pgettext("date format", "D j"))
        if width >= 20:
            return str(day.day)
        if day.weekday() != 0:
            return ""
        return date_format(day, pgettext("date format", "j M")) if day.day <= 7 else str(day.day)


def _assignments(lane: Lane) -> list[list[OnCall]]:
    """Return the segments of a lane one by one, except those of the group's own order: they are one assignment."""
    grouped: dict[object, list[OnCall]] = {}
    for index, one in enumerate(lane.segments):
        grouped.setdefault(index if one.schedule or one.is_absent else (one.since, one.until), []).append(one)
    return list(grouped.values())


def _schedule_of(lane: Lane) -> str:
    """Return the schedule that an override of the lane changes, or ""."""
    names = [*(one.schedule for one in lane.shifts), *(one.schedule for one in lane.segments)]
    return next((name for name in names if name), "")


def _leveled(bars: Iterable[Bar]) -> tuple[list[Bar], int]:
    """Set levels so that overlapping bars do not cover each other; return the bars and the number of levels."""
    ends: list[float] = []
    leveled: list[Bar] = []
    for bar in sorted(bars, key=lambda candidate: candidate.x):
        # The tolerance prevents rounding from moving an adjacent bar to the next level.
        level = next((number for number, end in enumerate(ends) if end <= bar.x + _TOLERANCE), len(ends))
        ends[level : level + 1] = [bar.x + bar.width]
        leveled.append(replace(bar, level=level))
    return leveled, max(len(ends), 1)


def _holidays_by_day(shown: Lanes) -> dict[date, str]:
    names: dict[date, dict[str, None]] = {}
    for one in shown.holidays:
        names.setdefault(one.day.day, {})[one.name] = None
    return {day: ", ".join(of_day) for day, of_day in names.items()}


def _collisions(shown: Lanes, duty: Duty, people: Sequence[OnCall]) -> list[Collision]:
    """Return the collisions of an assignment. Of several people in the group's own order the first one counts."""
    person = people[0]
    return [
        one
        for one in shown.collisions
        if one.user_id == person.user_id and duty in one.duties and coverage_checks.overlap_in_time(one, person)
    ]


def _describe_collision(one: Collision, duty: Duty) -> str:
    """Return what the user is on call for besides, and when."""
    (other,) = (other for other in one.duties if other != duty)
    when = shift_forms.format_period(one.since, one.until)
    role = shift_forms.role_name(other.role)
    return _("Also %(role)s of %(group)s, %(when)s") % {"role": role, "group": other.group, "when": when}


def agenda(shown: Lanes, now: datetime, zone: ZoneInfo) -> list[AgendaDay]:
    """Return the days on which an assignment or a gap begins. Roles that no shift assigns never change."""
    entries: dict[date, list[AgendaEntry]] = {}
    for lane in shown.lanes:
        if not lane.is_scheduled:
            continue
        found = [AgendaEntry(lane.duty, (), gap.since, gap.until) for gap in lane.gaps]
        for people in _assignments(lane):
            collisions = [_describe_collision(one, lane.duty) for one in _collisions(shown, lane.duty, people)]
            found.append(AgendaEntry(lane.duty, people, people[0].since, people[0].until, collisions))
        for entry in found:
            day = weekly_windows.day_of(max(entry.since or shown.since, shown.since), zone)
            entries.setdefault(day, []).append(entry)
    today, names = weekly_windows.day_of(now, zone), _holidays_by_day(shown)
    return [
        AgendaDay(
            day, day == today, names.get(day, ""),
            sorted(entries[day], key=lambda one: (one.since or shown.since, one.duty.group.casefold())),
        )
        for day in sorted(entries)
    ]  # fmt: skip


def segment_url(duty: Duty, since: datetime | None, until: datetime | None, people: Sequence[OnCall] = ()) -> str:
    """Return the URL of the reassign form, prefilled with the period, and with who is on call if it is one user."""
    person = people[0] if len(people) == 1 else None
    fields = {
        "role": str(duty.role),
        "user": person.user_id if person else None,
        "schedule": person.schedule if person else None,
        "from": since.isoformat() if since else None,
        "to": until.isoformat() if until else None,
    }
    return f"{reverse('reassign', args=[duty.group_id])}?{urlencode({k: v for k, v in fields.items() if v})}"
