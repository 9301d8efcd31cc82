"""Lists the objects that refer to an object about to be deleted, each with the view that removes the reference. Reads
only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.urls import reverse

from tocsin.core import object_hooks
from tocsin.escalation.models import Policy
from tocsin.inbound.models import ClientTable, Integration, MaintenanceWindow
from tocsin.oncall.models import HolidayCalendar, Schedule, SupportHours
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group, User
from tocsin.workflows.models import Workflow

#: Per object type: the prefix used by `core.object_hooks`, the model, its name column and the view that edits it.
_NAMES: tuple[tuple[str, type[Model], str, str], ...] = (
    ("an override of schedule ", Schedule, "name", "schedule"),
    ("schedule ", Schedule, "name", "edit_schedule"),
    ("escalation policy ", Policy, "name", "edit_policy"),
    ("outbound integration ", OutboundIntegration, "name", "edit_outbound"),
    ("integration ", Integration, "name", "integration_settings"),
    ("client table ", ClientTable, "name", "edit_client_table"),
    ("support hours ", SupportHours, "name", "edit_support_hours"),
    ("holiday calendar ", HolidayCalendar, "name", "holiday_calendar"),
    ("group ", Group, "name", "edit_group"),
    ("workflow ", Workflow, "name", "edit_workflow"),
    ("maintenance window ", MaintenanceWindow, "name", "maintenance_window"),
    ("the absence of ", User, "username", "user"),
)


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """One referring object as text. `url` is empty if no view can edit it."""

    text: str
    url: str = ""

    def __str__(self) -> str:
        return self.text


def references_to(noun: str, number: int) -> list[ObjectReference]:
    """Return every object that refers to the given one, without duplicates."""
    texts = [str(reference) for reference in object_hooks.references_to(noun, number)]
    urls: dict[str, str] = {}
    for beginning, model, column, view in _NAMES:
        names = [text.removeprefix(beginning) for text in texts if text not in urls and text.startswith(beginning)]
        urls |= {f"{beginning}{name}": url for name, url in _urls(model, column, view, names)}
    alerts = ((text, text.removeprefix("alert #")) for text in texts if text.startswith("alert #"))
    urls |= {
        text: reverse("alert", args=[int(alert_number)]) for text, alert_number in alerts if alert_number.isdecimal()
    }
    return [ObjectReference(text, urls.get(text, "")) for text in texts]


def _urls(model: type[Model], column: str, view: str, names: list[str]) -> Iterable[tuple[Any, str]]:
    if not names:
        return
    for number, name in model._default_manager.filter(**{f"{column}__in": names}).values_list("pk", column):
        yield name, reverse(view, args=[number])
