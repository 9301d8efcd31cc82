"""What objects of each kind refer to: the ids by model.

Who may change an object reads and keeps these references, also those to objects of other groups: see
`boundary.refer_to`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Model

from tocsin.escalation.changes import commands as policies
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import references
from tocsin.inbound.models import ClientTable, Integration, MaintenanceWindow
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.models import HolidayCalendar, Override, Schedule, SupportHours
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group, User
from tocsin.workflows import commands as workflows
from tocsin.workflows.models import Workflow

type References = Mapping[type[Model], Iterable[int | None]]


def of_schedule(schedule: Schedule) -> References:
    """The users of its shifts and overrides, and its holiday calendars."""
    users = [user for override in schedule.overrides.all() for user in of_override(override)[User]]
    return {User: (*oncall.users_of(schedule), *users), HolidayCalendar: schedule.holiday_calendars}


def of_override(override: Override) -> References:
    """The replacing and the replaced user."""
    return {User: (override.user_id, override.instead_of_id)}


def of_support_hours(hours: SupportHours) -> References:
    """Their holiday calendars."""
    return {HolidayCalendar: hours.holiday_calendars}


def of_policy(policy: Policy) -> References:
    """What its current version refers to."""
    used = policies.references(policy)
    return {
        User: used.users,
        Group: used.groups,
        Schedule: used.schedules,
        SupportHours: used.support_hours,
        Policy: used.policies,
    }


def of_client_table(table: ClientTable) -> References:
    """The group and the policy of each client."""
    return {key: [row.get(name) for row in table.clients] for key, name in ((Group, "group"), (Policy, "policy"))}


def of_outbound(integration: OutboundIntegration) -> References:
    """The users who are matched with agents."""
    return {User: [match.user_id for match in integration.matches.all()]}


#: The models of the references in a definition.
_IN_DEFINITION: Mapping[str, type[Model]] = {
    references.POLICY: Policy,
    references.USER: User,
    references.GROUP: Group,
    references.HOURS: SupportHours,
    references.OUTBOUND: OutboundIntegration,
    references.TABLE: ClientTable,
}


def of_integration(integration: Integration) -> References:
    """Its policy, outbound integration and recipients, and those of its routes."""
    version = integration.current_version
    ids: dict[type[Model], list[int | None]] = {
        Policy: [integration.policy_id],
        OutboundIntegration: [integration.outbound_id],
        User: [user.pk for user in integration.recipient_users.all()],
        Group: [group.pk for group in integration.recipient_groups.all()],
    }
    for kind, number in references.ids_in_definition(version.definition) if version else ():
        ids.setdefault(_IN_DEFINITION[kind], []).append(number)
    return ids


def of_window(window: MaintenanceWindow) -> References:
    """The integrations and groups to which it is limited."""
    return {Integration: window.integrations, Group: window.groups}


def of_workflow(workflow: Workflow) -> References:
    """What its definition refers to."""
    used = workflows.references(workflow)
    return {User: used.users, Group: used.groups, Policy: used.policies, OutboundIntegration: used.outbound}
