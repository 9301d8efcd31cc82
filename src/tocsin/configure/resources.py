"""The resources of the configuration in dependency order, with the commands that change each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.db.models import Model, QuerySet
from django.utils.translation import gettext_noop as _

from tocsin.access.audit import AuditActor
from tocsin.core.runtime import clock
from tocsin.escalation.changes import commands as policies
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import client_tables
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.models import ClientTable, Integration, MaintenanceWindow
from tocsin.notify.models import Provider
from tocsin.notify.providers import commands as providers
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.models import HolidayCalendar, Schedule, SupportHours
from tocsin.outbound import commands as outbound
from tocsin.outbound.models import OutboundIntegration
from tocsin.people import encrypted_addresses
from tocsin.people.changes import groups, out_of_office, reminder_rules
from tocsin.people.changes import users as people
from tocsin.people.models import Group, User
from tocsin.workflows import commands as workflows
from tocsin.workflows.models import Workflow

SETTINGS = "settings"

#: Means that every key may contain secrets.
EVERY_KEY = "*"


class SaveResource(Protocol):
    """Creates an object, or updates `existing` to the spec."""

    def __call__(
        self, spec: Mapping[str, object], *, existing: Any = None, actor: AuditActor, now: datetime
    ) -> Any: ...


class DeleteResource(Protocol):
    """Deletes an object. Raises Rejected if it is in use."""

    def __call__(self, row: Any, /, *, actor: AuditActor, now: datetime) -> None: ...


class SaveDeferredField(Protocol):
    """Sets one key of an object once all objects exist. Returns False if nothing changed."""

    def __call__(self, row: Any, value: object, /, *, actor: AuditActor, now: datetime) -> bool: ...


@dataclass(frozen=True, slots=True)
class Resource:
    """One top-level key of the YAML."""

    key: str
    #: The singular for messages.
    label: str
    rows: Callable[[], QuerySet[Any]]
    #: The object's spec, with secrets if the second argument is true.
    spec: Callable[[Any, bool], dict[str, Any]]
    save: SaveResource
    delete: DeleteResource
    name_key: str = "name"
    #: The keys below which `{env: NAME}` and `{file: PATH}` are allowed.
    secret_keys: frozenset[str] = frozenset()
    #: Keys that refer to later resources or to other objects of the same kind, saved last. If omitted, they stay
    #: unchanged.
    deferred_fields: Mapping[str, SaveDeferredField] = field(default_factory=dict)
    #: The names of objects of the same kind that a spec refers to; those are saved first.
    depends_on: Callable[[Mapping[str, Any]], Iterable[str]] = lambda spec: ()

    def find(self, name: str) -> Model | None:
        """The object with that name, case-insensitively."""
        row: Model | None = self.rows().filter(**{f"{self.name_key}__iexact": name}).first()
        return row

    def list_all(self) -> Iterable[Model]:
        """All objects, sorted by name."""
        return self.rows().order_by(self.name_key)

    def name(self, row: Model) -> str:
        """An object's name."""
        return str(getattr(row, self.name_key))


def _handover_policies(spec: Mapping[str, Any]) -> Iterable[str]:
    end = spec.get("end")
    name = end.get("policy") if isinstance(end, Mapping) else None
    return (name,) if isinstance(name, str) else ()


def _without_secrets(spec: Callable[[Any], dict[str, Any]]) -> Callable[[Any, bool], dict[str, Any]]:
    return lambda row, with_secrets: spec(row)


def _with_addresses(spec: Callable[[Any], dict[str, Any]], key: str) -> Callable[[Any, bool], dict[str, Any]]:
    """Includes addresses that contain secrets in plain text only if secrets are requested."""

    def spec_with_addresses(row: Any, with_secrets: bool) -> dict[str, Any]:
        result = spec(row)
        if with_secrets and key in result:
            result[key] = [
                {**method, "address": encrypted_addresses.decrypt_if_encrypted(method["address"])}
                for method in result[key]
            ]
        return result

    return spec_with_addresses


def _user_spec(user: User) -> dict[str, Any]:
    """The user's spec, including the keys saved by `late`."""
    spec = people.user_spec(user)
    if user.reminders:
        spec["reminders"] = user.reminders
    if absences := [out_of_office.nested_spec(absence) for absence in out_of_office.current(user, clock.now())]:
        spec["out_of_office"] = absences
    return spec


#: An object refers only to earlier resources: saved in this order, deleted in reverse.
RESOURCES: tuple[Resource, ...] = (
    Resource(
        key="users",
        label=_("user"),
        rows=User.objects.all,
        spec=_with_addresses(_user_spec, "contact_methods"),
        secret_keys=frozenset({"contact_methods"}),
        save=people.save_user,
        delete=people.delete_user,
        name_key="username",
        deferred_fields={"out_of_office": out_of_office.replace_all, "reminders": reminder_rules.replace_all},
    ),
    Resource(
        key="groups",
        label=_("group"),
        rows=Group.objects.all,
        spec=_with_addresses(groups.group_spec, "contacts"),
        secret_keys=frozenset({"contacts"}),
        save=groups.save_group,
        delete=groups.delete_group,
    ),
    Resource(
        key="holiday_calendars",
        label=_("holiday calendar"),
        rows=HolidayCalendar.objects.all,
        spec=_without_secrets(oncall.holiday_calendar_spec),
        save=oncall.save_holiday_calendar,
        delete=oncall.delete_holiday_calendar,
    ),
    Resource(
        key="schedules",
        label=_("schedule"),
        rows=Schedule.objects.all,
        spec=lambda row, with_secrets: oncall.schedule_spec(row, with_secrets=with_secrets),
        save=oncall.save_schedule,
        delete=oncall.delete_schedule,
        secret_keys=frozenset({"shifts"}),
    ),
    Resource(
        key="support_hours",
        label=_("support hours"),
        rows=SupportHours.objects.all,
        spec=_without_secrets(oncall.support_hours_spec),
        save=oncall.save_support_hours,
        delete=oncall.delete_support_hours,
    ),
    Resource(
        key="escalation_policies",
        label=_("escalation policy"),
        rows=Policy.objects.all,
        spec=_without_secrets(policies.policy_spec),
        save=policies.save_policy,
        delete=policies.delete_policy,
        depends_on=_handover_policies,
    ),
    Resource(
        key="client_tables",
        label=_("client table"),
        rows=ClientTable.objects.all,
        spec=_without_secrets(client_tables.client_table_spec),
        save=client_tables.save_client_table,
        delete=client_tables.delete_client_table,
    ),
    Resource(
        key="outbound_integrations",
        label=_("outbound integration"),
        rows=OutboundIntegration.objects.all,
        spec=lambda row, with_secrets: outbound.outbound_spec(row, with_secrets=with_secrets),
        save=outbound.save_outbound,
        delete=outbound.delete_outbound,
        secret_keys=frozenset({EVERY_KEY}),
    ),
    Resource(
        key="integrations",
        label=_("integration"),
        rows=Integration.objects.all,
        spec=lambda row, with_secrets: integrations.integration_spec(row, with_secrets=with_secrets),
        save=integrations.save_integration,
        delete=integrations.delete_integration,
        secret_keys=frozenset({"token", "credentials"}),
    ),
    Resource(
        key="maintenance_windows",
        label=_("maintenance window"),
        rows=MaintenanceWindow.objects.all,
        spec=_without_secrets(maintenance_windows.window_spec),
        save=maintenance_windows.save_window,
        delete=maintenance_windows.delete_window,
    ),
    Resource(
        key="workflows",
        label=_("workflow"),
        rows=Workflow.objects.all,
        spec=_without_secrets(workflows.workflow_spec),
        save=workflows.save_workflow,
        delete=workflows.delete_workflow,
    ),
    Resource(
        key="providers",
        label=_("provider"),
        rows=Provider.objects.all,
        spec=lambda row, with_secrets: providers.provider_spec(row, with_secrets=with_secrets),
        save=providers.save_provider,
        delete=providers.delete_provider,
        secret_keys=frozenset({EVERY_KEY}),
    ),
)

#: The top-level keys in the order of a file.
TOP_KEYS = (SETTINGS, *(resource.key for resource in RESOURCES))
