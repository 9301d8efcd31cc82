"""`/on-call/calendar/`: who is on call in every group, or in one, by day of a month."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.calculation import month_calendar, weekly_windows
from tocsin.oncall.calculation.month_calendar import CalendarDay
from tocsin.oncall.models import CalendarFeed
from tocsin.oncall.states import FeedKind
from tocsin.people.models import Group
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.oncall import timeline_layout
from tocsin.web.oncall.timeline_layout import DateRange, TimelineSpan
from tocsin.web.ui.forms import user_zone


@require_safe
def calendar(request: SignedInRequest) -> HttpResponse:
    """Render the month in the query string, else the current one."""
    zone = user_zone()
    today = weekly_windows.day_of(request.now, zone)
    try:
        month = month_calendar.parse_month(request.GET.get("month", ""))
    except Rejected:
        month = today
    date_range = timeline_layout.range_of(TimelineSpan.MONTH, month, zone)
    with database.transaction() as connection:
        group_ids = loader.groups_with_schedule(connection)
        groups = list(Group.objects.filter(pk__in=group_ids).order_by("name"))
        selected = next((group for group in groups if str(group.pk) == request.GET.get("group")), None)
        shown = [selected] if selected else groups
        plans = loader.plans(connection, [group.pk for group in shown], date_range.since)
    days = month_calendar.days_of_month((plans[group.pk] for group in shown), month, zone)
    feeds = CalendarFeed.objects.filter(owner=request.user, kind=FeedKind.GROUP if selected else FeedKind.ALL)
    context = {
        "range": date_range,
        "week": _first_week(date_range),
        "days": days,
        "today": today,
        # A phone shows the current month from today on.
        "earlier_days": "past" in request.GET,
        "colours": _colours(days),
        "groups": groups,
        "selected": selected,
        "feed": feeds.filter(group=selected).first(),
        "feed_kind": FeedKind.GROUP if selected else FeedKind.ALL,
        "zone": zone.key,
    }
    return render_view(request, "oncall/calendar.html", context, partials=("month",))


def _first_week(date_range: DateRange) -> list[date]:
    """Return Monday to Sunday of the week in which the month begins."""
    monday = date_range.first - timedelta(days=date_range.first.weekday())
    return [monday + timedelta(days=number) for number in range(7)]


def _colours(days: Iterable[CalendarDay]) -> dict[int, str]:
    """Return the CSS class of each user who is on call in the month."""
    user_ids = {
        entry.user_id for day in days for role in day.roles for entry in role.entries if entry.user_id is not None
    }
    return {user_id: timeline_layout.colour_class(number) for number, user_id in enumerate(sorted(user_ids))}
