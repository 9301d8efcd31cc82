"""Calendar feeds: each user's own secret URLs for calendar applications."""

from __future__ import annotations

from typing import Any, Self

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import model_validator

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, caller, changer
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find, find_named
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.oncall.calendars import feeds
from tocsin.oncall.calendars.feeds import NewFeed
from tocsin.oncall.models import CalendarFeed, Schedule
from tocsin.oncall.states import FeedKind
from tocsin.people.models import Group

routes = AuthorizedRouter("calendar-feeds")


class FeedBody(Schema):
    """A feed of your own shifts (`person`), of a group, or of a schedule."""

    model_config = {"extra": "forbid"}

    kind: FeedKind
    group: str | None = None
    schedule: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind is FeedKind.GROUP) != (self.group is not None):
            raise ValueError("give group for kind group, and only there")
        if (self.kind is FeedKind.SCHEDULE) != (self.schedule is not None):
            raise ValueError("give schedule for kind schedule, and only there")
        return self


@routes.get(
    "", Permission.OWN, answers=PaginatedList[dict[str, Any]], summary="Your calendar feeds, without their addresses"
)
def list_feeds(request: HttpRequest, query: Query[PaginationQuery]) -> dict[str, Any]:
    return page(_rows(caller(request)), query, lambda found: [_show(feed) for feed in found])


@routes.post(
    "",
    Permission.OWN,
    status=201,
    summary="Make one; its address (`url`) is shown this once",
    extra={"requestBody": {"content": {"application/json": {"example": {"kind": "group", "group": "Service Desk"}}}}},
)
def create_feed(request: HttpRequest, body: FeedBody) -> dict[str, Any]:
    who = caller(request)
    group = find_named(Group.objects.all(), body.group, what="group", field="group") if body.group else None
    schedule = (
        find_named(Schedule.objects.all(), body.schedule, what="schedule", field="schedule") if body.schedule else None
    )
    made = feeds.make(who.user, body.kind, group=group, schedule=schedule, actor=changer(who), now=who.now)
    return _with_address(made)


@routes.get("/{int:id}", Permission.OWN, summary="One of your calendar feeds")
def get_feed(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show(_find(id, caller(request)))


@routes.post("/{int:id}/rotate", Permission.OWN, summary="Give it a new address; the old one ends at once")
def rotate_feed(request: HttpRequest, id: Number) -> dict[str, Any]:
    who = caller(request)
    return _with_address(feeds.rotate(_find(id, who), actor=changer(who), now=who.now))


@routes.delete("/{int:id}", Permission.OWN, status=204, answers=None, summary="End it")
def delete_feed(request: HttpRequest, id: Number) -> None:
    who = caller(request)
    feeds.delete(_find(id, who), actor=changer(who), now=who.now)


def _rows(who: Principal) -> QuerySet[CalendarFeed]:
    return CalendarFeed.objects.select_related("owner", "group", "schedule").filter(owner=who.user)


def _find(number: int, who: Principal) -> CalendarFeed:
    return find(_rows(who), str(number), what="calendar feed")


def _with_address(made: NewFeed) -> dict[str, Any]:
    return {**_show(made.feed), "url": made.url}


def _show(feed: CalendarFeed) -> dict[str, Any]:
    return {"id": feed.pk, **feeds.feed_spec(feed)}
