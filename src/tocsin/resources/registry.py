"""Every kind of configurable object, with the commands that change it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from django.db.models import Prefetch
from django.utils.translation import gettext_noop as _

from tocsin.access.roles import Permission
from tocsin.catalogue.kinds import load_kinds
from tocsin.core import object_hooks
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.runtime import clock
from tocsin.escalation.changes import commands as policies
from tocsin.escalation.models import Policy
from tocsin.escalation.policy.policy import PolicySpec
from tocsin.identity import commands as identity_providers
from tocsin.identity.models import IdentityProvider
from tocsin.identity.specs import IdentityProviderSpec
from tocsin.inbound.admin import client_tables, specs
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.models import ClientTable, Integration, MaintenanceWindow
from tocsin.notify.models import Provider
from tocsin.notify.providers import commands as providers
from tocsin.notify.providers import specs as provider_specs
from tocsin.notify.providers.specs import ProviderSpec
from tocsin.notify.registry import KINDS
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.changes import overrides
from tocsin.oncall.changes.specs import HolidayCalendarSpec, ScheduleOverrideSpec, ScheduleSpec, SupportHoursSpec
from tocsin.oncall.models import HolidayCalendar, Override, Schedule, SupportHours
from tocsin.outbound import commands as outbound
from tocsin.outbound.connectors.interfaces import OutboundSpec
from tocsin.outbound.connectors.registry import KINDS as CONNECTORS
from tocsin.outbound.models import OutboundIntegration
from tocsin.people import encrypted_addresses
from tocsin.people.changes import groups, out_of_office, reminder_rules, service_accounts
from tocsin.people.changes import users as people
from tocsin.people.changes.service_accounts import ServiceAccountSpec
from tocsin.people.changes.specs import GroupSpec, UserSpec
from tocsin.people.models import Group, ServiceAccount, User
from tocsin.people.reasons import ABSENCE_REFERENCE
from tocsin.resources import examples, references
from tocsin.resources.resource import EVERY_KEY, DeferredField, Resource, ResourceViews
from tocsin.workflows import commands as workflows
from tocsin.workflows.definition.specs import WorkflowSpec
from tocsin.workflows.models import Workflow
from tocsin.workflows.views import health

_UNKNOWN_KIND = ReasonType("resource.unknown_kind", "{name} has the kind {kind}, which this version does not know.")


def _decrypt_addresses(spec: dict[str, Any], key: str) -> dict[str, Any]:
    """The spec with the addresses below `key` in plain text, those that contain secrets too."""
    if key in spec:
        spec[key] = [
            {**method, "address": encrypted_addresses.decrypt_if_encrypted(method["address"])} for method in spec[key]
        ]
    return spec


def _schedule_spec(
    schedule: Schedule, names: tuple[Mapping[int, str], Mapping[int, str]] | None = None
) -> dict[str, Any]:
    users, calendars = names or (None, None)
    return oncall.schedule_spec(schedule, users, calendars=calendars)


def _schedule_names(schedules: Sequence[Schedule]) -> tuple[Mapping[int, str], Mapping[int, str]]:
    return oncall.user_names(schedules), oncall.calendar_names()


def _unknown_kind(known: Callable[[], Collection[str]]) -> Callable[[Any], Reason | None]:
    """Objects of a kind that a newer version has cannot be read."""
    return lambda row: None if row.kind in known() else _UNKNOWN_KIND(name=row.name, kind=row.kind)


def _handover_policies(spec: Mapping[str, Any]) -> Iterable[str]:
    end = spec.get("end")
    name = end.get("policy") if isinstance(end, Mapping) else None
    return (name,) if isinstance(name, str) else ()


USERS = Resource[User](
    key="users",
    label=_("user"),
    plural=_("Users"),
    rows=lambda: User.objects.prefetch_related("contact_methods"),
    spec=people.user_spec,
    spec_type=UserSpec,
    spec_with_secrets=lambda user: _decrypt_addresses(people.user_spec(user), "contact_methods"),
    secret_keys=frozenset({"contact_methods"}),
    save=people.save_user,
    delete_command=people.delete_user,
    change_permission=Permission.ADMINISTER,
    owner="",
    name_column="username",
    search_columns=("name",),
    deferred_fields={
        "reminders": DeferredField(
            lambda user: user.reminders,
            reminder_rules.replace_all,
            reminder_rules.ReminderSpec,
            "Reminders of shifts, at most three. Default: unchanged.",
        ),
        "out_of_office": DeferredField(
            lambda user: [out_of_office.nested_spec(absence) for absence in out_of_office.current(user, clock.now())],
            out_of_office.replace_all,
            out_of_office.AbsenceSpec,
            "Current and future absences. Default: unchanged.",
        ),
    },
    example=examples.USER,
    reference=ABSENCE_REFERENCE,
    views=ResourceViews("users", "user", "user"),
)

GROUPS = Resource[Group](
    key="groups",
    label=_("group"),
    plural=_("Groups"),
    rows=lambda: Group.objects.prefetch_related("memberships__user", "contacts"),
    spec=groups.group_spec,
    spec_type=GroupSpec,
    spec_with_secrets=lambda group: _decrypt_addresses(groups.group_spec(group), "contacts"),
    secret_keys=frozenset({"contacts"}),
    save=groups.save_group,
    change_permission=Permission.MANAGE_TEAMS,
    owner="pk",
    example=examples.GROUP,
    views=ResourceViews("groups", "group", "edit_group"),
)

SERVICE_ACCOUNTS = Resource[ServiceAccount](
    key="service_accounts",
    label=_("service account"),
    plural=_("Service accounts"),
    rows=lambda: ServiceAccount.objects.prefetch_related("service_groups"),
    spec=service_accounts.service_account_spec,
    spec_type=ServiceAccountSpec,
    save=service_accounts.save_service_account,
    delete_command=service_accounts.delete_service_account,
    change_permission=Permission.ADMINISTER,
    see_permission=Permission.ADMINISTER,
    owner="",
    example=examples.SERVICE_ACCOUNT,
    views=ResourceViews("service_accounts", "service_account", "service_account"),
)

IDENTITY_PROVIDERS = Resource[IdentityProvider](
    key="identity_providers",
    label=_("identity provider"),
    plural=_("Identity providers"),
    rows=IdentityProvider.objects.all,
    spec=identity_providers.provider_spec,
    spec_type=IdentityProviderSpec,
    load_names=lambda rows: identity_providers.group_names(),
    state=identity_providers.provider_state,
    spec_with_secrets=partial(identity_providers.provider_spec, with_secrets=True),
    secret_keys=frozenset({"client_secret", "metadata", "certificates"}),
    save=identity_providers.save_provider,
    delete_command=identity_providers.delete_provider,
    change_permission=Permission.ADMINISTER,
    see_permission=Permission.ADMINISTER,
    owner="",
    example=examples.IDENTITY_PROVIDER,
    views=ResourceViews("identity_providers", "identity_provider", "identity_provider"),
)

HOLIDAY_CALENDARS = Resource[HolidayCalendar](
    key="holiday_calendars",
    label=_("holiday calendar"),
    plural=_("Holiday calendars"),
    rows=lambda: HolidayCalendar.objects.select_related("group"),
    spec=oncall.holiday_calendar_spec,
    spec_type=HolidayCalendarSpec,
    save=oncall.save_holiday_calendar,
    change_permission=Permission.MANAGE_TEAMS,
    example=examples.HOLIDAY_CALENDAR,
    reference=object_hooks.HOLIDAY_CALENDAR,
    views=ResourceViews("holiday_calendars", "holiday_calendar", "holiday_calendar"),
)

SCHEDULES = Resource[Schedule](
    key="schedules",
    label=_("schedule"),
    plural=_("Schedules"),
    rows=lambda: Schedule.objects.select_related("group").prefetch_related(overrides.prefetched()),
    spec=_schedule_spec,
    spec_type=ScheduleSpec,
    load_names=_schedule_names,
    spec_with_secrets=oncall.schedule_state,
    secret_keys=frozenset({"shifts"}),
    # A spec with overrides replaces the existing ones.
    state=oncall.schedule_state,
    save=oncall.save_schedule,
    change_permission=Permission.MANAGE_TEAMS,
    references=references.of_schedule,
    example=examples.SCHEDULE,
    reference=object_hooks.SCHEDULE,
    views=ResourceViews("on_call", "schedule", "edit_schedule"),
)

#: Not a key of the YAML: a schedule contains its overrides there.
OVERRIDES = Resource[Override](
    key="overrides",
    label=_("override"),
    plural=_("Overrides"),
    rows=lambda: Override.objects.select_related("schedule__group", "user", "instead_of", "created_by"),
    spec=overrides.override_spec,
    spec_type=ScheduleOverrideSpec,
    save=overrides.save_override,
    delete_command=overrides.delete_override,
    change_permission=Permission.MANAGE_TEAMS,
    owner="schedule.group_id",
    references=references.of_override,
    example=examples.OVERRIDE,
    views=ResourceViews("on_call", "override", "override"),
)

SUPPORT_HOURS = Resource[SupportHours](
    key="support_hours",
    label=_("support hours"),
    plural=_("Support hours"),
    rows=lambda: SupportHours.objects.select_related("group"),
    spec=oncall.support_hours_spec,
    spec_type=SupportHoursSpec,
    load_names=lambda rows: oncall.calendar_names(),
    save=oncall.save_support_hours,
    change_permission=Permission.MANAGE_TEAMS,
    references=references.of_support_hours,
    example=examples.SUPPORT_HOURS,
    reference=object_hooks.SUPPORT_HOURS,
    views=ResourceViews("support_hours", "edit_support_hours", "edit_support_hours"),
)

POLICIES = Resource[Policy](
    key="escalation_policies",
    label=_("escalation policy"),
    plural=_("Escalation policies"),
    rows=lambda: Policy.objects.select_related("group", "current_version"),
    spec=policies.policy_spec,
    spec_type=PolicySpec,
    load_names=policies.reference_names,
    save=policies.save_policy,
    delete_command=policies.delete_policy,
    change_permission=Permission.MANAGE_TEAMS,
    depends_on=_handover_policies,
    references=references.of_policy,
    unreadable=policies.unreadable,
    example=examples.POLICY,
    reference=object_hooks.POLICY,
    views=ResourceViews("policies", "policy", "edit_policy"),
)

CLIENT_TABLES = Resource[ClientTable](
    key="client_tables",
    label=_("client table"),
    plural=_("Client tables"),
    rows=lambda: ClientTable.objects.select_related("group"),
    spec=client_tables.client_table_spec,
    spec_type=client_tables.ClientTableSpec,
    load_names=lambda rows: client_tables.table_names(),
    save=client_tables.save_client_table,
    change_permission=Permission.MANAGE_ROUTING,
    references=references.of_client_table,
    example=examples.CLIENT_TABLE,
    reference=object_hooks.CLIENT_TABLE,
    views=ResourceViews("client_tables", "edit_client_table", "edit_client_table"),
)

OUTBOUND_INTEGRATIONS = Resource[OutboundIntegration](
    key="outbound_integrations",
    label=_("outbound integration"),
    plural=_("Outbound integrations"),
    rows=lambda: OutboundIntegration.objects.select_related("group", "status").prefetch_related("matches__user"),
    spec=outbound.outbound_spec,
    spec_type=OutboundSpec,
    kind_specs=tuple(kind.spec for kind in CONNECTORS.values()),
    state=outbound.outbound_state,
    spec_with_secrets=partial(outbound.outbound_spec, with_secrets=True),
    secret_keys=frozenset({EVERY_KEY}),
    save=outbound.save_outbound,
    change_permission=Permission.MANAGE_ROUTING,
    references=references.of_outbound,
    unreadable=_unknown_kind(lambda: CONNECTORS),
    example=examples.OUTBOUND_INTEGRATION,
    reference=object_hooks.OUTBOUND_INTEGRATION,
    views=ResourceViews("outbound_integrations", "outbound", "edit_outbound"),
)

INTEGRATIONS = Resource[Integration](
    key="integrations",
    label=_("integration"),
    search_columns=("kind",),
    plural=_("Inbound integrations"),
    rows=lambda: Integration.objects.select_related("group", "policy", "current_version", "outbound").prefetch_related(
        # An integration names its recipients, also those of other groups.
        "recipient_users",
        Prefetch("recipient_groups", Group._base_manager.all()),
    ),
    spec=integrations.integration_spec,
    spec_type=specs.IntegrationSpec,
    load_names=lambda rows: specs.load_reference_names(),
    state=integrations.integration_state,
    spec_with_secrets=partial(integrations.integration_spec, with_secrets=True),
    secret_keys=frozenset({"token", "credentials"}),
    save=integrations.save_integration,
    delete_command=integrations.delete_integration,
    change_permission=Permission.MANAGE_ROUTING,
    references=references.of_integration,
    unreadable=_unknown_kind(load_kinds),
    example=examples.INTEGRATION,
    reference=object_hooks.INTEGRATION,
    views=ResourceViews("integrations", "integration", "integration_settings"),
)

MAINTENANCE_WINDOWS = Resource[MaintenanceWindow](
    key="maintenance_windows",
    label=_("maintenance window"),
    plural=_("Maintenance windows"),
    rows=lambda: MaintenanceWindow.objects.select_related("group"),
    spec=maintenance_windows.window_spec,
    spec_type=maintenance_windows.MaintenanceWindowSpec,
    load_names=lambda rows: maintenance_windows.window_names(),
    save=maintenance_windows.save_window,
    delete_command=maintenance_windows.delete_window,
    change_permission=Permission.MANAGE_ROUTING,
    references=references.of_window,
    unreadable=maintenance_windows.unreadable,
    example=examples.MAINTENANCE_WINDOW,
    reference=object_hooks.MAINTENANCE_WINDOW,
    views=ResourceViews("maintenance", "maintenance_window", "maintenance_window"),
)

WORKFLOWS = Resource[Workflow](
    key="workflows",
    label=_("workflow"),
    plural=_("Workflows"),
    rows=lambda: health.with_runs(Workflow.objects.select_related("group")),
    spec=workflows.workflow_spec,
    spec_type=WorkflowSpec,
    load_names=workflows.names_of,
    save=workflows.save_workflow,
    delete_command=workflows.delete_workflow,
    change_permission=Permission.MANAGE_ROUTING,
    references=references.of_workflow,
    unreadable=workflows.unreadable,
    example=examples.WORKFLOW,
    reference=object_hooks.WORKFLOW,
    views=ResourceViews("workflows", "workflow", "edit_workflow"),
)

PROVIDERS = Resource[Provider](
    key="providers",
    label=_("provider"),
    plural=_("Providers"),
    rows=Provider.objects.all,
    spec=providers.provider_spec,
    spec_type=ProviderSpec,
    kind_specs=tuple(map(provider_specs.spec_of, KINDS)),
    state=providers.provider_state,
    spec_with_secrets=partial(providers.provider_spec, with_secrets=True),
    unreadable=_unknown_kind(lambda: KINDS),
    secret_keys=frozenset({EVERY_KEY}),
    save=providers.save_provider,
    delete_command=providers.delete_provider,
    change_permission=Permission.ADMINISTER,
    see_permission=Permission.ADMINISTER,
    owner="",
    example=examples.PROVIDER,
    views=ResourceViews("providers", "provider", "provider"),
)

#: An object refers only to earlier resources: saved in this order, deleted in reverse.
RESOURCES: tuple[Resource[Any], ...] = (
    USERS,
    GROUPS,
    SERVICE_ACCOUNTS,
    IDENTITY_PROVIDERS,
    HOLIDAY_CALENDARS,
    SCHEDULES,
    SUPPORT_HOURS,
    POLICIES,
    CLIENT_TABLES,
    OUTBOUND_INTEGRATIONS,
    INTEGRATIONS,
    MAINTENANCE_WINDOWS,
    WORKFLOWS,
    PROVIDERS,
)
