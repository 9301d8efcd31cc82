"""`/calendar/TOKEN.ics`: the shifts of a user, group or schedule as an iCalendar feed, authenticated by its token."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpResponse
from django.views.decorators.http import require_safe

from tocsin.core.db import database
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calendars import feeds, ical
from tocsin.oncall.calendars.ical import GroupShift
from tocsin.oncall.models import CalendarFeed
from tocsin.oncall.states import FeedKind
from tocsin.web.http.request import SignedInRequest

#: The period that a feed covers, before and after now.
FEED_LOOK_BACK = timedelta(days=31)
FEED_LOOK_AHEAD = timedelta(days=180)


@login_not_required
@require_safe
def feed(request: SignedInRequest, token: str) -> HttpResponse:
    """Serve the feed of the token; 404 for an unknown one."""
    found = feeds.verify(token, request.now)
    if found is None:
        raise Http404("There is no such calendar.")
    since, until = request.now - FEED_LOOK_BACK, request.now + FEED_LOOK_AHEAD
    body = ical.write(
        feeds.name_of(found),
        _turns(found, since, until),
        since,
        until,
        request.now,
        names_people=found.kind != FeedKind.PERSON,
    )
    response = HttpResponse(body, content_type="text/calendar; charset=utf-8")
    response["Cache-Control"] = "private, max-age=300"
    response["Content-Disposition"] = 'inline; filename="on-call.ics"'
    return response


def _turns(found: CalendarFeed, since: datetime, until: datetime) -> list[GroupShift]:
    """Return the shifts of the feed, including bounded periods in which the group's member order applies."""
    with database.transaction() as connection:
        match FeedKind(found.kind):
            case FeedKind.PERSON:
                groups = loader.groups_of(connection, [found.owner_id])
            case FeedKind.GROUP:
                groups = frozenset({found.group_id} if found.group_id else ())
            case FeedKind.SCHEDULE:
                groups = frozenset({found.schedule.group_id} if found.schedule else ())
        plans = loader.plans(connection, groups, since)
    return [
        GroupShift(plan.name, person)
        for plan in plans.values()
        for person in final_schedule.timeline(plan, since, until).segments
        if _belongs(found, person) and (person.schedule or (person.since and person.until))
    ]


def _belongs(found: CalendarFeed, person: final_schedule.OnCall) -> bool:
    match FeedKind(found.kind):
        case FeedKind.PERSON:
            return person.user_id == found.owner_id
        case FeedKind.GROUP:
            return True
        case FeedKind.SCHEDULE:
            return found.schedule is not None and person.schedule == found.schedule.name
