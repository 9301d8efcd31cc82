"""Groups, and who is on call in one at an instant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.audit import Actor
from tocsin.access.roles import Action
from tocsin.api.config_nouns import ConfigNoun, Spec, register
from tocsin.api.gate import Caller, caller, changer
from tocsin.api.lookup import Moment, find_named
from tocsin.api.paging import Page, PageQuery, page
from tocsin.api.routes import Routes
from tocsin.core import database
from tocsin.oncall import lookup
from tocsin.people import groups as commands
from tocsin.people.members import MemberRole
from tocsin.people.models import Group, User

routes = Routes("groups")

EXAMPLE = {
    "name": "Night Desk",
    "time_zone": "Europe/Zurich",
    "members": [{"user": "alice", "roles": ["primary"]}],
}


class GroupFilters(PageQuery):
    name: str | None = None
    member: str | None = Field(default=None, description="A user's name: the groups that they are in.")


class OnCallShape(BaseModel):
    """One person on call."""

    role: MemberRole
    user: str
    since: datetime | None
    until: datetime | None
    reason: str


class OnCallAnswer(BaseModel):
    """Who is on call: roles in order, users in the order in which they would be called."""

    at: datetime
    on_call: list[OnCallShape]


@routes.get("", Action.SEE, answers=Page[dict[str, Any]], summary="Groups")
def list_groups(request: HttpRequest, query: Query[GroupFilters]) -> dict[str, Any]:
    who, rows = caller(request), _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.member is not None:
        user = find_named(User.objects.all(), query.member, what="user", field="member", by="username")
        rows = rows.filter(memberships__user=user)
    return page(rows, query, lambda found: [_show(group, who) for group in found])


@routes.get("/{id}/on-call", Action.SEE, answers=OnCallAnswer, summary="Who is on call in it, now or `at` a moment")
def on_call(request: HttpRequest, id: str, at: Query[Moment | None] = None) -> dict[str, Any]:
    group = GROUPS.find(id)
    moment = at or caller(request).now
    with database.transaction() as connection:
        people = lookup.on_call(connection, [group.pk], moment).get(group.pk, ())
    usernames = dict(User.objects.filter(pk__in=[p.user_id for p in people]).values_list("pk", "username"))
    return {
        "at": moment,
        "on_call": [
            {
                "role": person.role,
                "user": usernames[person.user_id],
                "since": person.since,
                "until": person.until,
                "reason": person.reason,
            }
            for person in people
        ],
    }


def _rows() -> QuerySet[Group]:
    return Group.objects.prefetch_related("memberships__user", "contacts")


def _show(group: Group, who: Caller) -> dict[str, Any]:
    spec = commands.group_spec(group)
    for contact in spec.get("contacts", ()):
        contact["address"] = who.viewer.group_address(group, contact["channel"], contact["address"])
    return {"id": group.pk, **spec}


def _save(spec: Spec, /, *, caller: Caller, existing: Group | None) -> Group:
    return commands.save_group(spec, existing=existing, actor=changer(caller), now=caller.now)


def _delete(group: Group, actor: Actor, who: Caller) -> None:
    commands.delete_group(group, actor=actor, now=who.now)


GROUPS = ConfigNoun(
    routes=routes,
    what="group",
    action=Action.TEAMS,
    rows=_rows,
    spec_of=commands.group_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner=lambda group: group.pk,
    example=EXAMPLE,
)
register(GROUPS)
