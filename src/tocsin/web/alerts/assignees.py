"""The people to whom an alert can be assigned: who is on call first, then their groups, then everybody else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.utils.translation import gettext as _

from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.core.db import database
from tocsin.escalation.models import EscalationRun
from tocsin.escalation.policy import policy_cache
from tocsin.escalation.policy.policy import references
from tocsin.oncall import loader
from tocsin.people.models import ContactMethod, Membership, OutOfOffice, User

_RESPONDERS = [role for role in Role if permission_scope(role, Permission.RESPOND) is not PermissionScope.NONE]


@dataclass(frozen=True, slots=True)
class Assignee:
    """A user with what to know before paging them, such as "Ann (on call, email only)"."""

    user_id: int
    text: str


@dataclass(frozen=True, slots=True)
class AssigneeGroup:
    """A heading of the list."""

    label: str
    people: tuple[Assignee, ...]


def assignees_of(alert_id: int, viewer_id: int, now: datetime) -> list[AssigneeGroup]:
    """Return the users who may respond: on call, members of the alert's groups, everybody else. Always three groups."""
    on_call, members, group_ids = _people_of_alert(alert_id, now)
    # A membership may make an observer a responder in its group.
    elevated = Membership.objects.filter(group__in=group_ids, role__in=_RESPONDERS).values("user")
    responders = User.objects.filter(Q(role__in=_RESPONDERS) | Q(pk__in=elevated), is_active=True, clients=[])
    users = {user.pk: user for user in responders.exclude(pk=viewer_id).order_by("name", "username")}
    absent = set(OutOfOffice.objects.filter(starts_at__lte=now, ends_at__gt=now).values_list("user_id", flat=True))
    methods = ContactMethod.objects.filter(is_enabled=True, awaits_code=False)
    channels: dict[int, set[str]] = {}
    for user_id, channel in methods.values_list("user_id", "channel"):
        channels.setdefault(user_id, set()).add(channel)

    def describe(user_id: int) -> Assignee:
        notes = [
            note
            for note, applies in (
                (_("on call"), user_id in on_call),
                (_("out of office"), user_id in absent),
                (_("no contact method"), not channels.get(user_id)),
                (_("email only"), channels.get(user_id) == {"email"}),
            )
            if applies
        ]
        name = users[user_id].display_name
        return Assignee(user_id, f"{name} ({', '.join(notes)})" if notes else name)

    first = [user_id for user_id in on_call if user_id in users]
    second = [user_id for user_id in users if user_id in members and user_id not in on_call]
    rest = [user_id for user_id in users if user_id not in members and user_id not in on_call]
    return [
        AssigneeGroup(label, tuple(describe(user_id) for user_id in ids))
        for label, ids in ((_("On call"), first), (_("Group members"), second), (_("Others"), rest))
    ]


def _people_of_alert(alert_id: int, now: datetime) -> tuple[list[int], set[int], set[int]]:
    """Return who is on call in the groups of the alert's escalation, in order, all members of these groups, and the
    groups."""
    run = EscalationRun.objects.filter(alert=alert_id).order_by("-pk").first()
    if run is None:
        return [], set(), set()
    with database.transaction() as connection:
        plans = policy_cache.load_plans(connection, {run.version_id})
        group_ids = set(run.recipient_groups)
        if (plan := plans.get(run.version_id)) is not None:
            group_ids |= references(plan).groups
        roles = loader.on_call(connection, group_ids, now)
    on_call = [person.user_id for group_id in sorted(roles) for person in roles[group_id]]
    members = Membership.objects.filter(group__in=group_ids).values_list("user_id", flat=True)
    return list(dict.fromkeys(on_call)), set(members), group_ids
