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
from tocsin.resources.registry import GROUPS
from tocsin.web.http.authorization import may
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.oncall import readiness, swaps, timeline_layout
from tocsin.web.oncall.schedules import coverage_warnings, describe_shift
from tocsin.web.oncall.timeline_layout import DateRange, TimelineSegment, TimelineSpan
from tocsin.web.ui.forms import user_zone

#: Range of selectable dates, with a margin to the limits of date arithmetic on both sides.
_FIRST, _LAST = date(1970, 2, 1), date(2190, 1, 1)


@require_safe
def group_schedule(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the group's timeline, with coverage warnings for the next 60 days and the readiness of the next shifts."""
    group = find_object(GROUPS, number)
    zone = user_zone()
    span_name = request.GET.get("show", "")
    span = TimelineSpan(span_name) if span_name in list(TimelineSpan) else TimelineSpan.WEEK
    today = weekly_windows.day_of(request.now, zone)
    date_range = timeline_layout.range_of(span, _day(request.GET.get("day", ""), today), zone)
    plan, warnings = _plan(group, date_range.since, request.now)
    layout = timeline_layout.draw(
        plan, final_schedule.timeline(plan, date_range.since, date_range.until), date_range, request.now
    )
    schedules = list(Schedule.objects.filter(group=group).prefetch_related("imports", overrides.prefetched()))
    names = commands.display_names(schedules)
    context = {
        "group": group,
        "layout": layout,
        "has_holidays": any(tick.holiday for tick in layout.ticks),
        "spans": list(TimelineSpan),
        "as_list": request.GET.get("view") == "list",
        "warnings": warnings,
        "readiness": readiness.of_group(group, request.now),
        "schedules": [
            (schedule, describe_shift.lines(schedule.definition, names), overrides.current(schedule, request.now))
            for schedule in schedules
        ],
        "swap_requests": swaps.requests_received(request.user, request.now),
        "may_change": may(request, Permission.MANAGE_TEAMS, group),
        "zone": zone.key,
    }
    return render_view(request, "oncall/group_schedule.html", context, partials=("timeline",))


def segment_url(segment: TimelineSegment, group_id: int, date_range: DateRange) -> str:
    """Return the URL of the reassign form, prefilled with the segment."""
    fields = {
        "role": segment.role,
        "user": segment.user_id,
        "schedule": segment.schedule,
        "from": _within(segment.since, date_range.since).isoformat(),
        "to": _within(segment.until, date_range.until).isoformat(),
    }
    return f"{reverse('reassign', args=[group_id])}?{urlencode({k: v for k, v in fields.items() if v})}"


def _within(at: datetime | None, bound: datetime) -> datetime:
    return at or bound


def _plan(group: Group, since: datetime, now: datetime) -> tuple[GroupPlan, Sequence[str]]:
    """Return the group's plan from `since`, and its coverage warnings from now on as sentences."""
    with database.transaction() as connection:
        plan = loader.plan(connection, group.pk, min(since, now)) or GroupPlan(group.pk, group.name)
        findings = coverage_warnings.findings_of_plans(
            connection, {group.pk: plan}, now, coverage_checks.COVERAGE_HORIZON
        )
    return plan, coverage_warnings.sentences(findings[group.pk], now)


def _day(text: str, today: date) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return today
    return min(max(day, _FIRST), _LAST)
