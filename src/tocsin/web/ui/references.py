"""Lists the objects that refer to an object about to be deleted, each with the view that removes the reference. Reads
only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from tocsin.core import object_hooks
from tocsin.core.reasons import AlertRef, Reason
from tocsin.inbound.admin.commands import ACTIVE_ALERTS, DELAYED_ALERTS
from tocsin.resources.registry import RESOURCES, SCHEDULES
from tocsin.resources.resource import Resource

#: By the code of a reference: the kind of object that refers, and the view that removes the reference.
_VIEWS: dict[str, tuple[Resource[Any], str]] = {
    **{resource.reference.code: (resource, resource.views.edit) for resource in RESOURCES if resource.reference},
    object_hooks.OVERRIDE.code: (SCHEDULES, SCHEDULES.views.detail),
}


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """One referring object. `url` is empty if no view can edit it."""

    reason: Reason
    url: str = ""

    def __str__(self) -> str:
        return self.reason.localized()


def references_to(object_type: str, number: int) -> list[ObjectReference]:
    """Return every object that refers to the given one, without duplicates."""
    found = object_hooks.references_to(object_type, number)
    urls: dict[Reason, str] = {}
    for code, (resource, view) in _VIEWS.items():
        urls.update(_urls(resource, view, [reference for reference in found if reference.code == code]))
    for reference in found:
        if isinstance(alert := dict(reference.params).get("alert"), AlertRef):
            urls[reference] = reverse("alert", args=[alert.alert_id])
        elif reference.code == ACTIVE_ALERTS.code:
            urls[reference] = f"{reverse('alerts')}?integration={number}"
        elif reference.code == DELAYED_ALERTS.code:
            urls[reference] = reverse("integration", args=[number])
    return [ObjectReference(reference, urls.get(reference, "")) for reference in found]


def _urls(resource: Resource[Any], view: str, found: Sequence[Reason]) -> Iterator[tuple[Reason, str]]:
    by_name = {str(reference[resource.name_column]): reference for reference in found}
    if by_name:
        rows = resource.rows().filter(**{f"{resource.name_column}__in": by_name})
        for number, name in rows.values_list("pk", resource.name_column):
            yield by_name[name], reverse(view, args=[number])
