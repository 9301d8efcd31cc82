"""Lists the objects that refer to an object about to be deleted, each with the view that removes the reference. Reads
only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.urls import reverse

from tocsin.core import object_hooks
from tocsin.core.reasons import AlertRef, Reason
from tocsin.escalation.models import Policy
from tocsin.inbound.models import ClientTable, Integration, MaintenanceWindow
from tocsin.oncall.models import HolidayCalendar, Schedule, SupportHours
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group, User
from tocsin.workflows.models import Workflow

#: Per kind of reference: the model, its name column and the view that edits it.
_VIEWS: Mapping[str, tuple[type[Model], str, str]] = {
    object_hooks.ABSENCE.code: (User, "username", "user"),
    object_hooks.CLIENT_TABLE.code: (ClientTable, "name", "edit_client_table"),
    object_hooks.GROUP.code: (Group, "name", "edit_group"),
    object_hooks.HOLIDAY_CALENDAR.code: (HolidayCalendar, "name", "holiday_calendar"),
    object_hooks.INTEGRATION.code: (Integration, "name", "integration_settings"),
    object_hooks.MAINTENANCE_WINDOW.code: (MaintenanceWindow, "name", "maintenance_window"),
    object_hooks.OUTBOUND_INTEGRATION.code: (OutboundIntegration, "name", "edit_outbound"),
    object_hooks.OVERRIDE.code: (Schedule, "name", "schedule"),
    object_hooks.POLICY.code: (Policy, "name", "edit_policy"),
    object_hooks.SCHEDULE.code: (Schedule, "name", "edit_schedule"),
    object_hooks.SUPPORT_HOURS.code: (SupportHours, "name", "edit_support_hours"),
    object_hooks.WORKFLOW.code: (Workflow, "name", "edit_workflow"),
}


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """One referring object. `url` is empty if no view can edit it."""

    reason: Reason
    url: str = ""

    def __str__(self) -> str:
        return self.reason.localized()


def references_to(noun: str, number: int) -> list[ObjectReference]:
    """Return every object that refers to the given one, without duplicates."""
    found = object_hooks.references_to(noun, number)
    urls: dict[Reason, str] = {}
    for code, (model, column, view) in _VIEWS.items():
        by_name = {str(reference["name"]): reference for reference in found if reference.code == code}
        urls |= {by_name[name]: url for name, url in _urls(model, column, view, list(by_name))}
    for reference in found:
        if isinstance(alert := dict(reference.params).get("alert"), AlertRef):
            urls[reference] = reverse("alert", args=[alert.alert_id])
    return [ObjectReference(reference, urls.get(reference, "")) for reference in found]


def _urls(model: type[Model], column: str, view: str, names: list[str]) -> Iterable[tuple[Any, str]]:
    if not names:
        return
    for number, name in model._default_manager.filter(**{f"{column}__in": names}).values_list("pk", column):
        yield name, reverse(view, args=[number])
