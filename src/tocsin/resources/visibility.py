"""What each viewer may see: the boundary of a viewer, and the filter of each bounded model. The only place that knows.

With `visibility: groups`, one sees what belongs to a group in which one has a role, what one was paged about, and what
one owns. An object without a group is the administrators'. A client observer sees the alerts of the own clients.
Queries with SQL of their own limit alerts by `alerts_sql`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from tocsin.access import boundary
from tocsin.access.boundary import Boundary, Filter
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.access.roles import Role
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.core.config import settings_store
from tocsin.core.ids import first_uuid7
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun, Policy, PolicyVersion
from tocsin.inbound.models import (
    ClientTable,
    DelayedAlert,
    GroupMember,
    Heartbeat,
    InboundMessage,
    Integration,
    IntegrationVersion,
    MaintenanceWindow,
    PinnedSender,
)
from tocsin.notify.models import Delivery, MailReply, Notification, PushDevice, SandboxMessage
from tocsin.oncall.models import (
    CalendarFeed,
    CalendarImport,
    HandoverNote,
    HolidayCalendar,
    Override,
    Schedule,
    SupportHours,
    SwapRequest,
)
from tocsin.outbound.models import (
    AgentMatch,
    Call,
    Exchange,
    IntegrationStatus,
    LookUp,
    OutboundIntegration,
    TicketLink,
    Webhook,
)
from tocsin.people import permissions
from tocsin.people.models import (
    ContactMethod,
    Group,
    GroupContact,
    Membership,
    OutOfOffice,
    OutOfOfficeCover,
    User,
)
from tocsin.people.permissions import Viewer
from tocsin.workflows.models import Limit, Workflow, WorkflowRun

NOTHING = Q(pk__in=())

#: An alert into which another was merged stays visible for those who were paged about the other this recently.
_MERGED_WITHIN = timedelta(days=30)


def boundary_of_user(user: User) -> Boundary | None:
    """Returns what `user` may see; None for everything."""
    # Nothing is loaded for the others, who are most.
    return boundary_of(permissions.viewer(user)) if user.clients or _is_limited(Role(user.role)) else None


def _is_limited(role: Role) -> bool:
    return role is not Role.ADMIN and settings_store.get(settings_store.VISIBILITY) == "groups"


def boundary_of(viewer: Viewer) -> Boundary | None:
    """Returns what the viewer may see; None for everything."""
    if viewer.clients is not None:
        # Without a client that the owner sees too, a token sees nothing.
        return Boundary(viewer.user_id, clients=tuple(sorted(viewer.clients)) or ("",))
    if not viewer.is_limited_to_groups and not _is_limited(viewer.role):
        return None
    # A token that is limited to groups sees nothing of its owner's besides.
    user_id = 0 if viewer.is_limited_to_groups else viewer.user_id
    with boundary.unbounded():
        owned = Integration.objects.filter(group__in=viewer.groups).order_by().values_list("pk", flat=True)
        recent = Notification.objects.filter(user=user_id, pk__gte=first_uuid7(clock.now() - _MERGED_WITHIN))
        merged = recent.filter(alert__merged_into__isnull=False).values_list("alert__merged_into", flat=True)
        return Boundary(user_id, viewer.groups, frozenset(owned), frozenset(filter(None, merged.order_by())))


def alert_condition(limit: Boundary) -> Q:
    """Returns the condition for alerts."""
    if limit.clients:
        condition = NOTHING
        for name in limit.clients:
            condition |= Q(client__iexact=name) if name else NOTHING
        return condition & Q(is_test=False)
    paged = Notification.objects.filter(alert=OuterRef("pk"), user=limit.user_id)
    return (
        Q(integration__in=limit.integrations)
        | Q(group_ids__overlap=list(limit.groups))
        | Q(owner=limit.user_id)
        | Q(pk__in=limit.alerts)
        | Q(Exists(paged))
    )


def groups_of_alert(alert: Alert) -> frozenset[int]:
    """Returns the ids of the groups to which an alert belongs."""
    owner = alert.integration.group_id if alert.integration is not None else None
    return frozenset(alert.group_ids) | ({owner} if owner is not None else set())


#: The condition of `alert_condition` for an alert `a`, with the parameters of `alert_parameters`. It is not in a query
#: without a boundary.
_ALERT_SQL = """(a.integration_id = ANY(%(visible_integrations)s) OR a.group_ids && %(visible_groups)s::bigint[]
  OR a.owner_id = %(viewer)s
  OR a.id = ANY(%(visible_alerts)s)
  OR EXISTS (SELECT FROM notify_notification v WHERE v.alert_id = a.id AND v.user_id = %(viewer)s))"""
_CLIENT_SQL = "(upper(a.client) = ANY(%(visible_clients)s) AND NOT a.is_test)"


def _about_visible_alert(limit: Boundary) -> Q:
    return Q(Exists(Alert.objects.filter(alert_condition(limit), pk=OuterRef("alert"))))


def _of_group(path: str) -> Filter:
    return _only_groups(lambda limit: Q(**{f"{path}__in": limit.groups}))


def _only_groups(condition: Filter) -> Filter:
    """Client observers see nothing of it."""
    return lambda limit: NOTHING if limit.clients else condition(limit)


def _of_user(path: str) -> Filter:
    return lambda limit: Q(**{path: limit.user_id})


def _members(limit: Boundary) -> Any:
    return Membership.objects.filter(group__in=limit.groups).values("user")


def _of_member(path: str) -> Filter:
    """The viewer's own, and those of the members of the own groups."""
    return lambda limit: (
        Q(**{path: limit.user_id})
        if limit.clients
        else Q(**{path: limit.user_id}) | Q(**{f"{path}__in": _members(limit)})
    )


def _either(*conditions: Filter) -> Filter:
    def combined(limit: Boundary) -> Q:
        result = conditions[0](limit)
        for condition in conditions[1:]:
            result |= condition(limit)
        return result

    return combined


_ABOUT_ALERT = _only_groups(_about_visible_alert)
_OF_INTEGRATION = _only_groups(lambda limit: Q(integration__in=limit.integrations))
_OF_OUTBOUND = _of_group("integration__group")


def _audited(limit: Boundary) -> Q:
    """Entries of the own groups. Who may read them is up to `people.permissions`."""
    return Q(group_id__in=limit.groups)


FILTERS: dict[type[Model], Filter] = {
    ApiToken: _of_user("user"),
    AuditEntry: _only_groups(_audited),
    Alert: alert_condition,
    AlertEvent: _about_visible_alert,
    Acknowledgement: _about_visible_alert,
    Policy: _of_group("group"),
    PolicyVersion: _of_group("policy__group"),
    EscalationRun: _about_visible_alert,
    Integration: _only_groups(lambda limit: Q(pk__in=limit.integrations)),
    PinnedSender: _OF_INTEGRATION,
    IntegrationVersion: _OF_INTEGRATION,
    InboundMessage: _either(_OF_INTEGRATION, _ABOUT_ALERT),
    DelayedAlert: _OF_INTEGRATION,
    GroupMember: _ABOUT_ALERT,
    MaintenanceWindow: _of_group("group"),
    Heartbeat: _OF_INTEGRATION,
    ClientTable: _of_group("group"),
    Notification: _either(_of_user("user"), _of_group("group_contact__group"), _ABOUT_ALERT),
    Delivery: _either(_of_user("user"), _of_group("notification__group_contact__group"), _ABOUT_ALERT),
    SandboxMessage: _either(_of_user("user"), _ABOUT_ALERT),
    PushDevice: _of_user("user"),
    MailReply: _either(_of_user("user"), _ABOUT_ALERT),
    HolidayCalendar: _of_group("group"),
    Schedule: _of_group("group"),
    SupportHours: _of_group("group"),
    Override: _either(_of_group("schedule__group"), _of_user("user")),
    SwapRequest: _either(_of_group("schedule__group"), _of_user("requester"), _of_user("requested_user")),
    CalendarFeed: _of_user("owner"),
    CalendarImport: _of_group("schedule__group"),
    HandoverNote: _of_group("schedule__group"),
    OutboundIntegration: _of_group("group"),
    IntegrationStatus: _OF_OUTBOUND,
    Webhook: _OF_OUTBOUND,
    # A call about an alert says what the alert says.
    Call: _only_groups(lambda limit: _about_visible_alert(limit) | Q(alert=None, integration__group__in=limit.groups)),
    Exchange: _only_groups(
        lambda limit: (
            Q(call=None, integration__group__in=limit.groups)
            | Q(call__alert=None, integration__group__in=limit.groups)
            | Q(Exists(Alert.objects.filter(alert_condition(limit), pk=OuterRef("call__alert"))))
        )
    ),
    LookUp: _OF_OUTBOUND,
    AgentMatch: _OF_OUTBOUND,
    TicketLink: _ABOUT_ALERT,
    User: _of_member("pk"),
    ContactMethod: _of_member("user"),
    Group: _of_group("pk"),
    Membership: _either(_of_group("group"), _of_user("user")),
    GroupContact: _of_group("group"),
    OutOfOffice: _of_member("user"),
    OutOfOfficeCover: _of_group("group"),
    Workflow: _of_group("group"),
    Limit: _of_group("workflow__group"),
    WorkflowRun: _ABOUT_ALERT,
}


def visible(model: type[Model]) -> QuerySet[Any]:
    """Returns the rows of a bounded model that the viewer sees."""
    rows: QuerySet[Any] = model.objects.all()  # type: ignore[attr-defined]
    return rows


def alerts_sql() -> str:
    """Returns " AND …" for an alert `a` of a statement of its own, with the parameters of `alerts_parameters`; "" if
    everything is visible."""
    limit = boundary.current()
    if limit is None:
        return ""
    return f" AND {_CLIENT_SQL if limit.clients else _ALERT_SQL}"


def alerts_parameters() -> dict[str, object]:
    """Returns the parameters of `alerts_sql`."""
    limit = boundary.current()
    if limit is None:
        return {}
    return {
        "viewer": limit.user_id,
        "visible_groups": sorted(limit.groups),
        "visible_integrations": sorted(limit.integrations),
        "visible_alerts": sorted(limit.alerts),
        "visible_clients": [name.upper() for name in limit.clients],
    }


def install() -> None:
    """Registers the filters of all bounded models."""
    boundary.register(FILTERS)
