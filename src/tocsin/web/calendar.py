"""iCalendar feeds of shifts."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpResponse
from django.views.decorators.http import require_safe

from tocsin.access import boundary
from tocsin.core.db import database
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calendars import feeds, ical
from tocsin.oncall.calendars.ical import GroupShift
from tocsin.oncall.models import CalendarFeed, FeedKind
from tocsin.resources import visibility
from tocsin.web.http.request import SignedInRequest

# ---------- views
# `/calendar/TOKEN.ics`: the shifts of a user, a group, a schedule or every group as an iCalendar feed, authenticated
# by its token.


#: The period that a feed covers, before and after now.
FEED_PAST_PERIOD = timedelta(days=31)
FEED_FUTURE_PERIOD = timedelta(days=180)


@login_not_required
@require_safe
def feed(request: SignedInRequest, token: str) -> HttpResponse:
    """Serve the feed of the token; 404 for an unknown one."""
    calendar_feed = feeds.verify(token, request.now)
    if calendar_feed is None:
        raise Http404("There is no such calendar.")
    boundary.enter(visibility.boundary_of_user(calendar_feed.owner))
    if not _is_visible(calendar_feed):
        raise Http404("There is no such calendar.")
    since, until = request.now - FEED_PAST_PERIOD, request.now + FEED_FUTURE_PERIOD
    body = ical.write(
        feeds.name_of(calendar_feed),
        _shifts(calendar_feed, since, until),
        since,
        until,
        request.now,
        include_names=calendar_feed.kind != FeedKind.PERSON,
    )
    response = HttpResponse(body, content_type="text/calendar; charset=utf-8")
    response["Cache-Control"] = "private, max-age=300"
    response["Content-Disposition"] = 'inline; filename="on-call.ics"'
    return response


def _is_visible(calendar_feed: CalendarFeed) -> bool:
    """Return whether the owner still sees the group of the feed."""
    limit = boundary.current()
    group_id = calendar_feed.schedule.group_id if calendar_feed.schedule else calendar_feed.group_id
    return limit is None or group_id is None or group_id in limit.groups


def _shifts(calendar_feed: CalendarFeed, since: datetime, until: datetime) -> list[GroupShift]:
    """Return the shifts of the feed, including bounded periods in which the group's member order applies."""
    with database.transaction() as connection:
        match FeedKind(calendar_feed.kind):
            case FeedKind.PERSON:
                group_ids = loader.groups_of(connection, [calendar_feed.owner_id])
            case FeedKind.GROUP:
                group_ids = frozenset({calendar_feed.group_id} if calendar_feed.group_id else ())
            case FeedKind.SCHEDULE:
                group_ids = frozenset({calendar_feed.schedule.group_id} if calendar_feed.schedule else ())
            case FeedKind.ALL:
                group_ids = loader.groups_with_schedule(connection)
        plans = loader.plans(connection, group_ids, since)
    return [
        GroupShift(plan.name, person)
        for plan in plans.values()
        for person in final_schedule.timeline(plan, since, until).segments
        if _belongs(calendar_feed, person) and (person.schedule or (person.since and person.until))
    ]


def _belongs(calendar_feed: CalendarFeed, person: final_schedule.OnCall) -> bool:
    match FeedKind(calendar_feed.kind):
        case FeedKind.PERSON:
            return person.user_id == calendar_feed.owner_id
        case FeedKind.GROUP:
            return True
        case FeedKind.SCHEDULE:
            return calendar_feed.schedule is not None and person.schedule == calendar_feed.schedule.name
        case FeedKind.ALL:
            return bool(person.schedule)
