"""Groups. See `api.oncall.on_call` for who is on call in a group."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find_named
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.notify.enqueue import contact_tests
from tocsin.people.changes import groups as commands
from tocsin.people.models import Group, User

_NO_SUCH_CONTACT = ReasonType("api.no_such_contact", 'There is no contact "{contact}" in {group}.')
_NOT_ALLOWED = ReasonType("api.user_or_admin_required", "Only {user} or an administrator may do this.")

routes = AuthorizedRouter("groups")

EXAMPLE = {
    "name": "Night Desk",
    "time_zone": "Europe/Zurich",
    "members": [{"user": "alice", "roles": ["primary"]}],
}


class GroupContactTestQueuedResponse(BaseModel):
    """A test message that was queued."""

    notification_id: UUID


class GroupFilters(PaginationQuery):
    name: str | None = None
    member: str | None = Field(default=None, description="A user's name: the groups that they are in.")


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Groups")
def list_groups(request: HttpRequest, query: Query[GroupFilters]) -> dict[str, Any]:
    principal, rows = caller(request), _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.member is not None:
        user = find_named(User.objects.all(), query.member, label="user", field="member", name_column="username")
        rows = rows.filter(memberships__user=user)
    return page(rows, query, lambda page_rows: [_show(group, principal) for group in page_rows])


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
        sent = contact_tests.queue_group_test(connection, principal.user.pk, contact.pk, principal.now)
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
    user = find_named(User.objects.all(), username, label="user", field="username", name_column="username")
    if not principal.viewer.can_view_addresses_of(user.pk):
        raise Rejected("forbidden", _NOT_ALLOWED(user=user.username))
    commands.show_addresses(group, user, actor=audit_actor_of(principal), now=principal.now)


def _rows() -> QuerySet[Group]:
    return Group.objects.prefetch_related("memberships__user", "contacts")


def _show(group: Group, principal: Principal) -> dict[str, Any]:
    spec = commands.group_spec(group)
    for contact in spec.get("contacts", ()):
        contact["address"] = principal.viewer.group_address(group, contact["channel"], contact["address"])
    masked = [m.user.username for m in group.memberships.all() if not m.shows_addresses]
    return {"id": group.pk, **spec, "masked_members": masked}


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Group | None) -> Group:
    return commands.save_group(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)


def _delete(group: Group, actor: AuditActor, principal: Principal) -> None:
    commands.delete_group(group, actor=actor, now=principal.now)


GROUPS = ApiResource(
    routes=routes,
    label="group",
    change_permission=Permission.MANAGE_TEAMS,
    rows=_rows,
    to_spec=commands.group_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda group: group.pk,
    example=EXAMPLE,
    read_only_keys=frozenset({"id", "masked_members"}),
)
register(GROUPS)
