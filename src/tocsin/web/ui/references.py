"""What still needs an object that somebody wants to delete, each with the page that lets go of it. Reads only."""

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

#: How `core.object_hooks` names things, what they are, by which column, and the page that changes one.
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
    """One thing, in words; `url` is empty where there is no page of it."""

    text: str
    url: str = ""

    def __str__(self) -> str:
        return self.text


def of(noun: str, number: int) -> list[ObjectReference]:
    """Everything that needs that object, each thing once."""
    texts = object_hooks.of(noun, number)
    pages: dict[str, str] = {}
    for beginning, model, column, view in _NAMES:
        names = [text.removeprefix(beginning) for text in texts if text not in pages and text.startswith(beginning)]
        pages |= {f"{beginning}{name}": url for name, url in _pages(model, column, view, names)}
    alerts = ((text, text.removeprefix("alert #")) for text in texts if text.startswith("alert #"))
    pages |= {text: reverse("alert", args=[int(found)]) for text, found in alerts if found.isdecimal()}
    return [ObjectReference(text, pages.get(text, "")) for text in texts]


def _pages(model: type[Model], column: str, view: str, names: list[str]) -> Iterable[tuple[Any, str]]:
    if not names:
        return
    for number, name in model._default_manager.filter(**{f"{column}__in": names}).values_list("pk", column):
        yield name, reverse(view, args=[number])
