"""A group's schedule as a timeline by day, week or month, with its schedules and their actions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from urllib.parse import urlencode

from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from tocsin.access.roles import Permission
from tocsin.core.db import database
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks, final_schedule, weekly_windows
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.changes import commands, overrides
from tocsin.oncall.models import Schedule
from tocsin.people.models import Group
from tocsin.web.groups.views import find
from tocsin.web.http.authorization import may
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.oncall import swaps, timeline_layout
from tocsin.web.oncall.schedules import coverage_warnings, describe_shift
from tocsin.web.oncall.timeline_layout import DateRange, TimelineSegment, TimelineSpan
from tocsin.web.ui.forms import reader_zone

#: Range of selectable dates, with a margin to the limits of date arithmetic on both sides.
_FIRST, _LAST = date(1970, 2, 1), date(2190, 1, 1)


@require_safe
def group_schedule(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the group's timeline, with coverage warnings for the next 60 days."""
    group = find(number)
    zone = reader_zone()
    wanted = request.GET.get("show", "")
    span = TimelineSpan(wanted) if wanted in list(TimelineSpan) else TimelineSpan.WEEK
    today = weekly_windows.day_of(request.now, zone)
    shown = timeline_layout.range_of(span, _day(request.GET.get("day", ""), today), zone)
    plan, wrong = _plan(group, shown.since, request.now)
    drawn = timeline_layout.draw(plan, final_schedule.timeline(plan, shown.since, shown.until), shown, request.now)
    schedules = list(Schedule.objects.filter(group=group).prefetch_related("imports", overrides.prefetched()))
    names = commands.display_names(schedules)
    context = {
        "group": group,
        "drawn": drawn,
        "has_holidays": any(tick.holiday for tick in drawn.ticks),
        "spans": list(TimelineSpan),
        "as_list": request.GET.get("view") == "list",
        "troubles": wrong,
        "schedules": [
            (one, describe_shift.lines(one.definition, names), overrides.current(one, request.now)) for one in schedules
        ],
        "asked_of_me": swaps.asked_of(request.user, request.now),
        "may_change": may(request, Permission.TEAMS, group),
        "zone": zone.key,
    }
    return page(request, "oncall/schedule.html", context, parts=("timeline",))


def link_to(piece: TimelineSegment, group_id: int, shown: DateRange) -> str:
    """Return the URL of the reassign form, prefilled with the segment."""
    fields = {
        "role": piece.role,
        "user": piece.user_id,
        "schedule": piece.schedule,
        "from": _within(piece.since, shown.since).isoformat(),
        "to": _within(piece.until, shown.until).isoformat(),
    }
    return f"{reverse('stand_in', args=[group_id])}?{urlencode({k: v for k, v in fields.items() if v})}"


def _within(at: datetime | None, bound: datetime) -> datetime:
    return at or bound


def _plan(group: Group, since: datetime, now: datetime) -> tuple[GroupPlan, Sequence[str]]:
    """Return the group's plan from `since`, and its coverage warnings from now on as sentences."""
    with database.transaction() as connection:
        plan = loader.plan(connection, group.pk, min(since, now)) or GroupPlan(group.pk, group.name)
        wrong = coverage_warnings.of_plans(connection, {group.pk: plan}, now, coverage_checks.COVERAGE_HORIZON)
    return plan, coverage_warnings.sentences(wrong[group.pk], now)


def _day(text: str, today: date) -> date:
    try:
        wanted = date.fromisoformat(text)
    except ValueError:
        return today
    return min(max(wanted, _FIRST), _LAST)
