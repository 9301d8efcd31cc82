"""Every kind of configurable object, with the commands that change it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from django.db.models import Model, Prefetch
from django.utils.translation import gettext_noop as _

from tocsin.access.roles import Permission
from tocsin.calls import routes as call_routes
from tocsin.catalogue.kinds import load_kinds
from tocsin.core import hooks
from tocsin.core.reasons import Reason, sentence
from tocsin.core.runtime import clock
from tocsin.core.validation.inputs import ABSENCE_REFERENCE
from tocsin.escalation import commands as policies
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import PolicySpec
from tocsin.identity import commands as identity_providers
from tocsin.identity.commands import IdentityProviderSpec
from tocsin.identity.models import IdentityProvider
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import specs
from tocsin.inbound.models import ClientTable, Integration
from tocsin.notify import notices
from tocsin.notify.models import ClientReport, Provider
from tocsin.notify.providers import commands as providers
from tocsin.notify.providers.commands import ProviderSpec
from tocsin.notify.providers.pool import KINDS
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.changes import overrides
from tocsin.oncall.changes.specs import ScheduleOverrideSpec, ScheduleSpec
from tocsin.oncall.models import HolidayCalendar, Override, Schedule, SupportHours
from tocsin.outbound import commands as outbound
from tocsin.outbound.connectors.interfaces import OutboundSpec
from tocsin.outbound.delivery.results import KINDS as CONNECTORS
from tocsin.outbound.models import OutboundIntegration
from tocsin.people import addresses
from tocsin.people.changes import api_tokens, groups, out_of_office, users
from tocsin.people.changes.flat_objects import FlatObject
from tocsin.people.changes.users import GroupSpec, UserSpec
from tocsin.people.models import Group, ServiceAccount, User
from tocsin.resources.resource import EVERY_KEY, DeferredField, References, Resource, ResourceViews
from tocsin.workflows import commands as workflows
from tocsin.workflows import views
from tocsin.workflows.definition import WorkflowSpec
from tocsin.workflows.models import Workflow

# ---------- examples
# An example of each kind of object, for the documentation of the API.


USER = {
    "username": "carol",
    "name": "Carol Clark",
    "email": "carol@example.org",
    "role": "responder",
    "time_zone": "Europe/Zurich",
    "contact_methods": [{"label": "Email-Official", "channel": "email", "address": "carol@example.org"}],
}

GROUP = {
    "name": "Night Desk",
    "time_zone": "Europe/Zurich",
    "members": [{"user": "alice", "roles": ["primary"]}],
}

SERVICE_ACCOUNT = {"name": "deploy-bot", "role": "manager", "groups": ["Night Desk"]}
IDENTITY_PROVIDER = {
    "name": "Keycloak",
    "preset": "keycloak",
    "issuer": "https://sso.example.org/realms/example",
    "client_id": "tocsin",
    "client_secret": "secret",  # nosec B105 # an example
    "sign_up": True,
    "allowed_domains": ["example.org"],
    "default_role": "observer",
    "roles": [
        {
            "claim": "Service Desk",
            "role": "responder",
            "groups": [{"group": "Service Desk", "on_call_roles": ["primary"]}],
        }
    ],
}

HOLIDAY_CALENDAR = {
    "name": "Zurich",
    "country": "CH",
    "region": "ZH",
    "days": [{"date": "12-24", "name": "Christmas Eve"}],
}

SCHEDULE = {
    "name": "Service Desk 24x7",
    "group": "Service Desk",
    "time_zone": "Europe/Zurich",
    "shifts": [
        {
            "name": "Weekly",
            "rotate": {
                "every": "1w",
                "at": "09:00",
                "on": "monday",
                "users": ["alice", "bob"],
                "roles": ["primary", "secondary"],
            },
            "start": "2026-01-05",
        }
    ],
}

OVERRIDE = {
    "name": "Xmas swap",
    "schedule": "Service Desk 24x7",
    "user": "alice",
    "from": "2026-12-24T17:00",
    "to": "2026-12-26T08:00",
    "role": "primary",
}

SUPPORT_HOURS_EXAMPLE = {
    "name": "Office hours",
    "time_zone": "Europe/Zurich",
    "windows": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}],
}

POLICY = {
    "name": "Standard",
    "default_priority": "high",
    "acknowledge": {"effect": "stop", "timeout": "30m"},
    "repeat": {"times": 2, "every": "10m"},
    "steps": [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"roles": ["secondary"]}, "after": "5m"},
    ],
}

CLIENT_TABLE = {
    "name": "Customers",
    "clients": [{"client": "Acme", "group": "Service Desk", "escalation_policy": "Standard"}],
}

CLIENT_REPORT = {"client": "Acme", "address": "service@acme.example", "language": "en"}

OUTBOUND_INTEGRATION = {
    "name": "Halo", "kind": "haloitsm", "base_url": "https://acme.haloitsm.com", "client_id": "…",
    "client_secret": "…",  # nosec B105 # an example
    "sync": {"acknowledge": {"note": True}, "assign": {"note": True, "agent": True}, "close": {"note": True}},
}  # fmt: skip

INTEGRATION = {
    "name": "HaloITSM",
    "kind": "haloitsm",
    "escalation_policy": "Standard",
    "recipients": {"groups": ["Service Desk"]},
    "settings": {"halo_address": "https://acme.haloitsm.com"},
}

MAINTENANCE_WINDOW = {
    "name": "Patch night",
    "repeat": "monthly",
    "days": ["2nd tue"],
    "from": "22:00",
    "to": "02:00",
    "time_zone": "Europe/Zurich",
    "tags": {"environment": "production"},
    "action": "hold",
}

WORKFLOW = {
    "name": "Not acknowledged in 5 minutes",
    "trigger": {"on": "unacknowledged", "for": "5m"},
    "start": {"field": "priority", "operator": "one of", "value": ["critical", "high"]},
    "actions": [
        {"do": "notify", "groups": ["Service Desk"], "roles": ["lead"], "subject": "No response: <subject>"},
        {"do": "halo", "text": "Not acknowledged for 5 minutes."},
    ],
}

PROVIDER = {
    "name": "Phones", "kind": "twilio", "account_sid": "AC0123456789abcdef0123456789abcdef",
    "auth_token": "…",  # nosec B105 # an example
    "from_number": "+41445550100", "order": 1,
}  # fmt: skip

CALL_ROUTE = {
    "name": "Night hotline",
    "group": "Service Desk",
    "numbers": ["+41445550100"],
    "provider": "Phones",
    "escalation_policy": "Standard",
    "greeting": "Example service desk.",
    "menu": [
        {"key": 1, "label": "network problems", "group": "Service Desk"},
        {"key": 2, "label": "everything else", "voicemail": True},
    ],
}


# ---------- references
# What objects of each kind refer to: the ids by model.
#
# Who may change an object reads and keeps these references, also those to objects of other groups: see
# `boundary.refer_to`. What an object refers to, or is owned by, cannot be deleted: see `REFERENCE_FINDERS`.


def of_schedule(schedule: Schedule) -> References:
    """The users of its shifts, and its holiday calendars."""
    return {User: oncall.users_of(schedule), HolidayCalendar: schedule.holiday_calendars}


def of_override(override: Override) -> References:
    """The replacing and the replaced user."""
    return {User: (override.user_id, override.instead_of_id)}


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


#: The models of the references in a definition.
_IN_DEFINITION: Mapping[str, type[Model]] = {
    specs.POLICY: Policy,
    specs.USER: User,
    specs.GROUP: Group,
    specs.HOURS: SupportHours,
    specs.OUTBOUND: OutboundIntegration,
    specs.TABLE: ClientTable,
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
    for kind, number in specs.ids_in_definition(version.definition) if version else ():
        ids.setdefault(_IN_DEFINITION[kind], []).append(number)
    return ids


def of_workflow(workflow: Workflow) -> References:
    """What its definition refers to."""
    models = {"users": User, "groups": Group, "policies": Policy, "outbound": OutboundIntegration}
    return {models[kind]: ids for kind, ids in workflows.references(workflow).items()}


def _decrypt_addresses(spec: dict[str, Any], key: str) -> dict[str, Any]:
    """The spec with the addresses below `key` in plain text, those that contain secrets too."""
    if key in spec:
        spec[key] = [{**method, "address": addresses.decrypt_if_encrypted(method["address"])} for method in spec[key]]
    return spec


def _schedule_spec(
    schedule: Schedule, names: tuple[Mapping[int, str], Mapping[int, str]] | None = None
) -> dict[str, Any]:
    users, calendars = names or (None, None)
    return oncall.schedule_spec(schedule, users, calendars=calendars)


def _unknown_kind(known: Callable[[], Collection[str]]) -> Callable[[Any], Reason | None]:
    """Objects of a kind that a newer version has cannot be read."""
    return lambda row: (
        None
        if row.kind in known()
        else sentence("{name} has the kind {kind}, which this version does not know.", name=row.name, kind=row.kind)
    )


def _handover_policies(spec: Mapping[str, Any]) -> Iterable[str]:
    end = spec.get("end")
    name = end.get("policy") if isinstance(end, Mapping) else None
    return (name,) if isinstance(name, str) else ()


def _of_flat[M: Model](flat: FlatObject[M, Any], **options: Any) -> Resource[M]:
    """Returns the resource of a flat object, which a group owns unless the `options` say otherwise."""
    described: dict[str, Any] = {
        "rows": lambda: flat.model._default_manager.select_related("group"),
        "spec": flat.spec,
        "spec_type": flat.spec_type,
        "load_names": flat.names,
        "save": flat.save,
        "references": flat.references,
    }
    return Resource(**described | options)


USERS = Resource[User](
    key="users",
    label=_("user"),
    plural=_("Users"),
    rows=lambda: User.objects.prefetch_related("contact_methods"),
    spec=users.user_spec,
    spec_type=UserSpec,
    spec_with_secrets=lambda user: _decrypt_addresses(users.user_spec(user), "contact_methods"),
    secret_keys=frozenset({"contact_methods"}),
    save=users.save_user,
    delete_command=users.delete_user,
    change_permission=Permission.ADMINISTER,
    owner="",
    name_column="username",
    search_columns=("name",),
    deferred_fields={
        "reminders": DeferredField(
            lambda user: user.reminders,
            users.replace_all,
            users.ReminderSpec,
            "Reminders of shifts, at most three. Default: unchanged.",
        ),
        "out_of_office": DeferredField(
            lambda user: [out_of_office.nested_spec(absence) for absence in out_of_office.current(user, clock.now())],
            out_of_office.replace_all,
            out_of_office.AbsenceSpec,
            "Current and future absences. Default: unchanged.",
        ),
    },
    example=USER,
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
    example=GROUP,
    views=ResourceViews("groups", "group", "edit_group"),
)

SERVICE_ACCOUNTS = _of_flat(
    api_tokens.SERVICE_ACCOUNTS,
    key="service_accounts",
    label=_("service account"),
    plural=_("Service accounts"),
    rows=lambda: ServiceAccount.objects.prefetch_related("service_groups"),
    delete_command=api_tokens.delete_service_account,
    change_permission=Permission.ADMINISTER,
    see_permission=Permission.ADMINISTER,
    owner="",
    example=SERVICE_ACCOUNT,
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
    references=lambda row: {Group: [grant["group"] for mapping in row.roles for grant in mapping["groups"]]},
    example=IDENTITY_PROVIDER,
    reference=identity_providers.IDENTITY_PROVIDER,
    views=ResourceViews("identity_providers", "identity_provider", "identity_provider"),
)

HOLIDAY_CALENDARS = _of_flat(
    oncall.HOLIDAY_CALENDARS,
    key="holiday_calendars",
    label=_("holiday calendar"),
    plural=_("Holiday calendars"),
    change_permission=Permission.MANAGE_TEAMS,
    example=HOLIDAY_CALENDAR,
    reference=hooks.HOLIDAY_CALENDAR,
    views=ResourceViews("holiday_calendars", "holiday_calendar", "holiday_calendar"),
)

SCHEDULES = Resource[Schedule](
    key="schedules",
    label=_("schedule"),
    plural=_("Schedules"),
    rows=lambda: Schedule.objects.select_related("group").prefetch_related(overrides.prefetched()),
    spec=_schedule_spec,
    spec_type=ScheduleSpec,
    load_names=lambda rows: (oncall.user_names(rows), oncall.calendar_names()),
    spec_with_secrets=oncall.schedule_state,
    secret_keys=frozenset({"shifts"}),
    # A spec with overrides replaces the existing ones.
    state=oncall.schedule_state,
    save=oncall.save_schedule,
    change_permission=Permission.MANAGE_TEAMS,
    references=of_schedule,
    mentions=lambda schedule: {User: [pk for one in schedule.overrides.all() for pk in of_override(one)[User]]},
    example=SCHEDULE,
    reference=hooks.SCHEDULE,
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
    mentions=of_override,
    example=OVERRIDE,
    views=ResourceViews("on_call", "override", "override"),
)

SUPPORT_HOURS = _of_flat(
    oncall.SUPPORT_HOURS,
    key="support_hours",
    label=_("support hours"),
    plural=_("Support hours"),
    change_permission=Permission.MANAGE_TEAMS,
    example=SUPPORT_HOURS_EXAMPLE,
    reference=hooks.SUPPORT_HOURS,
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
    references=of_policy,
    unreadable=policies.unreadable,
    example=POLICY,
    reference=hooks.POLICY,
    views=ResourceViews("policies", "policy", "edit_policy"),
)

CLIENT_TABLES = _of_flat(
    specs.CLIENT_TABLES,
    key="client_tables",
    label=_("client table"),
    plural=_("Client tables"),
    change_permission=Permission.MANAGE_ROUTING,
    example=CLIENT_TABLE,
    reference=hooks.CLIENT_TABLE,
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
    mentions=lambda row: {User: [match.user_id for match in row.matches.all()]},
    unreadable=_unknown_kind(lambda: CONNECTORS),
    example=OUTBOUND_INTEGRATION,
    reference=hooks.OUTBOUND_INTEGRATION,
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
    references=of_integration,
    unreadable=_unknown_kind(load_kinds),
    example=INTEGRATION,
    reference=hooks.INTEGRATION,
    views=ResourceViews("integrations", "integration", "integration_settings"),
)

MAINTENANCE_WINDOWS = _of_flat(
    maintenance_windows.WINDOWS,
    key="maintenance_windows",
    label=_("maintenance window"),
    plural=_("Maintenance windows"),
    delete_command=maintenance_windows.delete_window,
    change_permission=Permission.MANAGE_ROUTING,
    unreadable=maintenance_windows.unreadable,
    example=MAINTENANCE_WINDOW,
    reference=hooks.MAINTENANCE_WINDOW,
    views=ResourceViews("maintenance", "maintenance_window", "maintenance_window"),
)

WORKFLOWS = Resource[Workflow](
    key="workflows",
    label=_("workflow"),
    plural=_("Workflows"),
    rows=lambda: views.with_runs(Workflow.objects.select_related("group")),
    spec=workflows.workflow_spec,
    spec_type=WorkflowSpec,
    load_names=workflows.names_of,
    save=workflows.save_workflow,
    delete_command=workflows.delete_workflow,
    change_permission=Permission.MANAGE_ROUTING,
    references=of_workflow,
    unreadable=workflows.unreadable,
    example=WORKFLOW,
    reference=hooks.WORKFLOW,
    views=ResourceViews("workflows", "workflow", "edit_workflow"),
)

PROVIDERS = Resource[Provider](
    key="providers",
    label=_("provider"),
    plural=_("Providers"),
    rows=Provider.objects.all,
    spec=providers.provider_spec,
    spec_type=ProviderSpec,
    kind_specs=tuple(map(providers.spec_of, KINDS)),
    state=providers.provider_state,
    spec_with_secrets=partial(providers.provider_spec, with_secrets=True),
    unreadable=_unknown_kind(lambda: KINDS),
    secret_keys=frozenset({EVERY_KEY}),
    save=providers.save_provider,
    delete_command=providers.delete_provider,
    change_permission=Permission.ADMINISTER,
    see_permission=Permission.ADMINISTER,
    owner="",
    example=PROVIDER,
    views=ResourceViews("providers", "provider", "provider"),
)

CLIENT_REPORTS = _of_flat(
    notices.CLIENT_REPORTS,
    key="client_reports",
    label=_("client report"),
    plural=_("Client reports"),
    rows=ClientReport.objects.all,
    change_permission=Permission.ADMINISTER,
    see_permission=Permission.ADMINISTER,
    owner="",
    name_column="client",
    search_columns=("address",),
    example=CLIENT_REPORT,
    views=ResourceViews("client_reports", "client_report", "client_report"),
)

CALL_ROUTES = _of_flat(
    call_routes.CALL_ROUTES,
    key="call_routes",
    label=_("call route"),
    plural=_("Call routes"),
    change_permission=Permission.MANAGE_ROUTING,
    example=CALL_ROUTE,
    reference=hooks.CALL_ROUTE,
    views=ResourceViews("call_routes", "call_route", "call_route"),
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
    CLIENT_REPORTS,
    MAINTENANCE_WINDOWS,
    WORKFLOWS,
    PROVIDERS,
    CALL_ROUTES,
)


def _find_referring(model: type[Model], number: int) -> Iterator[Reason]:
    """Yields what refers to an object or is owned by it."""
    for resource in RESOURCES:
        is_owned = model is Group and resource.group_lookup is not None
        if resource.reference is None or not (is_owned or resource.references):
            continue
        for row in resource.rows():
            referred = resource.references(row).get(model, ()) if resource.references else ()
            if number in referred or (is_owned and resource.owner_group_id(row) == number):
                yield resource.reference(name=resource.name(row))


#: By object type, a function that finds what prevents an object's deletion by its id.
REFERENCE_FINDERS: Mapping[str, Callable[[int], Iterator[Reason]]] = {
    resource.object_type: partial(_find_referring, resource.rows().model) for resource in RESOURCES
}
