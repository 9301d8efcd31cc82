"""Groups. See `api.oncall.on_call` for who is on call in a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.pagination import PaginationQuery
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.notify.enqueue import contact_tests
from tocsin.people.changes import groups as commands
from tocsin.people.models import Group
from tocsin.resources import registry

_NO_SUCH_CONTACT = ReasonType("api.no_such_contact", 'No contact named "{contact}" in {group}.')
_NOT_ALLOWED = ReasonType("api.user_or_admin_required", "Only {user} or an administrator may do this.")


class GroupContactTestQueuedResponse(BaseModel):
    """A test message that was queued."""

    notification_id: UUID


class GroupFields(BaseModel):
    """What is shown of a group besides its settings."""

    masked_members: list[str] = Field(description="Usernames of members whose addresses the others do not see.")


class GroupFilters(PaginationQuery):
    member: str | None = Field(default=None, description="A user's name: the groups that they are in.")


def _narrow(rows: QuerySet[Group], query: GroupFilters, _principal: Principal) -> QuerySet[Group]:
    if query.member is not None:
        rows = rows.filter(memberships__user=registry.USERS.resolve(query.member, "member"))
    return rows


def _show(groups: Sequence[Group], principal: Principal) -> Iterator[dict[str, Any]]:
    for group, spec in zip(groups, registry.GROUPS.specs(groups), strict=True):
        for contact in spec.get("contacts", ()):
            contact["address"] = principal.viewer.group_address(group, contact["channel"], contact["address"])
        masked = [m.user.username for m in group.memberships.all() if not m.shows_addresses]
        yield {**spec, "masked_members": masked}


GROUPS = ApiResource(registry.GROUPS, query=GroupFilters, narrow=_narrow, show=_show, read_only=GroupFields)
routes = GROUPS.routes


@routes.post(
    "/{id}/contacts/{label}/test",
    Permission.MANAGE_TEAMS,
    status=202,
    answers=GroupContactTestQueuedResponse,
    summary="Send a test to a contact of the group, and see in `deliveries?notification_id=` what becomes of it",
)
def test_group_contact(request: HttpRequest, id: str, label: str) -> dict[str, Any]:
    principal = caller(request)
    group = GROUPS.find_authorized(id, principal, Permission.MANAGE_TEAMS)
    contact = group.contacts.filter(label__iexact=label).first()
    if contact is None:
        raise Rejected("not_found", _NO_SUCH_CONTACT(contact=label, group=group.name))
    with database.transaction() as connection:
        sent = contact_tests.queue_group_test(connection, contact, principal.user, principal.now)
    return {"notification_id": sent}


@routes.post(
    "/{id}/members/{username}/show-addresses",
    Permission.MANAGE_SELF,
    status=204,
    answers=None,
    summary="Let the group's members see a masked member's addresses: one's own, or as an administrator",
)
def show_member_addresses(request: HttpRequest, id: str, username: str) -> None:
    principal = caller(request)
    group = GROUPS.find(id)
    user = registry.USERS.resolve(username, "username")
    if not principal.viewer.can_view_addresses_of(user.pk):
        raise Rejected("forbidden", _NOT_ALLOWED(user=user.username))
    commands.show_addresses(group, user, actor=audit_actor_of(principal), now=principal.now)


register(GROUPS)
