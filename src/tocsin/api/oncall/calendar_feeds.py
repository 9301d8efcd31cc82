"""Calendar feeds: each user's own secret URLs for calendar applications."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, model_validator

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.oncall.calendars import feeds
from tocsin.oncall.calendars.feeds import NewFeed
from tocsin.oncall.models import CalendarFeed
from tocsin.oncall.states import FeedKind
from tocsin.resources import registry
from tocsin.resources.lookup import find

routes = AuthorizedRouter("calendar-feeds")


class FeedBody(Schema):
    """A feed of your own shifts (`person`), of a group, of a schedule, or of every group (`all`)."""

    model_config = {"extra": "forbid"}

    kind: FeedKind
    group: str | None = None
    schedule: str | None = None

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if (self.kind is FeedKind.GROUP) != (self.group is not None):
            raise ValueError("give group for kind group, and only there")
        if (self.kind is FeedKind.SCHEDULE) != (self.schedule is not None):
            raise ValueError("give schedule for kind schedule, and only there")
        return self


class FeedSchema(BaseModel):
    """A calendar feed, without its address."""

    id: int
    user: str
    kind: FeedKind
    group: str | None
    schedule: str | None
    created_at: datetime
    used_at: datetime | None


class NewFeedResponse(FeedSchema):
    """A calendar feed with its address, which is shown this once."""

    url: str


@routes.get(
    "",
    Permission.VIEW_SELF,
    answers=PaginatedList[FeedSchema],
    summary="Your calendar feeds, without their addresses",
)
def list_feeds(request: HttpRequest, query: Query[PaginationQuery]) -> dict[str, Any]:
    return page(_rows(caller(request)), query, lambda page_rows: [_show(feed) for feed in page_rows])


@routes.post(
    "",
    Permission.MANAGE_SELF,
    status=201,
    answers=NewFeedResponse,
    summary="Make one; its address (`url`) is shown this once",
    extra={"requestBody": {"content": {"application/json": {"example": {"kind": "group", "group": "Service Desk"}}}}},
)
def create_feed(request: HttpRequest, body: FeedBody) -> dict[str, Any]:
    principal = caller(request)
    group = registry.GROUPS.resolve(body.group, "group") if body.group else None
    schedule = registry.SCHEDULES.resolve(body.schedule, "schedule") if body.schedule else None
    new_feed = feeds.create_feed(
        principal.user, body.kind, group=group, schedule=schedule, actor=audit_actor_of(principal), now=principal.now
    )
    return _with_address(new_feed)


@routes.get("/{int:id}", Permission.VIEW_SELF, answers=FeedSchema, summary="One of your calendar feeds")
def get_feed(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show(_find(id, caller(request)))


@routes.post(
    "/{int:id}/rotate",
    Permission.MANAGE_SELF,
    answers=NewFeedResponse,
    summary="Give it a new address; the old one ends at once",
)
def rotate_feed(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal = caller(request)
    return _with_address(feeds.rotate(_find(id, principal), actor=audit_actor_of(principal), now=principal.now))


@routes.delete("/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="End it")
def delete_feed(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    feeds.delete(_find(id, principal), actor=audit_actor_of(principal), now=principal.now)


def _rows(principal: Principal) -> QuerySet[CalendarFeed]:
    return CalendarFeed.objects.select_related("owner", "group", "schedule").filter(owner=principal.user)


def _find(feed_id: int, principal: Principal) -> CalendarFeed:
    return find(_rows(principal), str(feed_id), label="calendar feed")


def _with_address(new_feed: NewFeed) -> dict[str, Any]:
    return {**_show(new_feed.feed), "url": new_feed.url}


def _show(feed: CalendarFeed) -> dict[str, Any]:
    return {"id": feed.pk, **feeds.feed_spec(feed)}
