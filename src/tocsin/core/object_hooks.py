"""Hooks by which higher rooms follow an object of a lower room.

A room registers a function that lists references to an object, cleans up before its deletion, or reacts to a change of
it. Deleting and changing an object call every hook registered for its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType, as_reason, joined

#: Objects that reference another.
ABSENCE = ReasonType("object.absence", "the absence of {name}")
CLIENT_TABLE = ReasonType("object.client_table", "client table {name}")
GROUP = ReasonType("object.group", "group {name}")
HOLIDAY_CALENDAR = ReasonType("object.holiday_calendar", "holiday calendar {name}")
INTEGRATION = ReasonType("object.integration", "integration {name}")
MAINTENANCE_WINDOW = ReasonType("object.maintenance_window", "maintenance window {name}")
OUTBOUND_INTEGRATION = ReasonType("object.outbound_integration", "outbound integration {name}")
OVERRIDE = ReasonType("object.override", "an override of schedule {name}")
POLICY = ReasonType("object.policy", "escalation policy {name}")
SCHEDULE = ReasonType("object.schedule", "schedule {name}")
SUPPORT_HOURS = ReasonType("object.support_hours", "support hours {name}")
WORKFLOW = ReasonType("object.workflow", "workflow {name}")

#: Given an object's id, returns the objects that reference it, such as `INTEGRATION(name="HaloITSM")`.
type FindReferences = Callable[[int], Iterable[Reason | str]]

#: Given the id of an object that is about to be deleted, deletes the data kept about it.
type OnDelete = Callable[[int], None]

#: Given the id of a changed object and the time of the change, applies the consequences.
type OnChange = Callable[[int, datetime], None]

_reference_hooks: dict[str, list[FindReferences]] = {}
_deletion_hooks: dict[str, list[OnDelete]] = {}
_change_hooks: dict[str, list[OnChange]] = {}

_MAX_LISTED_REFERENCES = 5

IN_USE = ReasonType("object.in_use", "Can't delete {name}: it is used by {users}.")
IN_USE_BY_MORE = ReasonType(
    "object.in_use_by_more",
    "Can't delete {name}: it is used by {users} and {count} other.",
    "Can't delete {name}: it is used by {users} and {count} others.",
)


def register_references(kind: str, find_references: FindReferences) -> None:
    """Registers `find_references` to list references to objects of kind `kind` (`user`, `group`, `policy`, …).
    Idempotent."""
    hooks = _reference_hooks.setdefault(kind, [])
    if find_references not in hooks:
        hooks.append(find_references)


def register_deletion(kind: str, on_delete: OnDelete) -> None:
    """Registers `on_delete`, called in the same transaction before an object of kind `kind` is deleted. Idempotent."""
    hooks = _deletion_hooks.setdefault(kind, [])
    if on_delete not in hooks:
        hooks.append(on_delete)


def run_deletion_hooks(kind: str, object_id: int) -> None:
    """Deletes the data that other rooms keep about an object that is about to be deleted."""
    for on_delete in _deletion_hooks.get(kind, ()):
        on_delete(object_id)


def register_change(kind: str, on_change: OnChange) -> None:
    """Registers `on_change`, called in the same transaction after an object of kind `kind` has changed. Idempotent."""
    hooks = _change_hooks.setdefault(kind, [])
    if on_change not in hooks:
        hooks.append(on_change)


def run_change_hooks(kind: str, object_id: int, now: datetime) -> None:
    """Calls the hooks that other rooms registered for a change of this object."""
    for on_change in _change_hooks.get(kind, ()):
        on_change(object_id, now)


def references_to(kind: str, object_id: int) -> list[Reason]:
    """Returns descriptions of everything that references the object, without duplicates."""
    references = (
        as_reason(reference)
        for find_references in _reference_hooks.get(kind, ())
        for reference in find_references(object_id)
    )
    return list(dict.fromkeys(references))


def reject_if_referenced(kind: str, object_id: int, name: str) -> None:
    """Raises `Rejected("in_use")`, naming the references, if the object is still in use."""
    references = references_to(kind, object_id)
    if not references:
        return
    listed, remaining = tuple(references[:_MAX_LISTED_REFERENCES]), len(references) - _MAX_LISTED_REFERENCES
    if remaining > 0:
        raise Rejected("in_use", IN_USE_BY_MORE(name=name, users=joined(*listed, separator=", "), count=remaining))
    raise Rejected("in_use", IN_USE(name=name, users=listed))
