"""Functions of higher rooms that a lower room calls without importing them. `wiring` registers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, as_reason, joined, sentence


class Hooks[F]:
    """One kind of hook: its functions in the order of registration, by the kind of object if there are several."""

    def __init__(self) -> None:
        self._functions: dict[str, list[F]] = {}

    def register(self, function: F, kind: str = "") -> None:
        """Adds the function. Idempotent."""
        if function not in self.of(kind):
            self._functions.setdefault(kind, []).append(function)

    def of(self, kind: str = "") -> tuple[F, ...]:
        """Returns the functions for that kind of object."""
        return tuple(self._functions.get(kind, ()))

    @contextmanager
    def restored(self, *, empty: bool = False) -> Iterator[None]:
        """For tests: undoes, at its end, what is registered inside. `empty`: it begins with no function at all."""
        before = {kind: list(functions) for kind, functions in self._functions.items()}
        if empty:
            self._functions.clear()
        try:
            yield
        finally:
            self._functions = before


# ---------- retention
# Each room names its rows that expire; `operate.tasks` deletes them.


@dataclass(frozen=True, slots=True)
class Expiry:
    """Rows that expire: a statement that deletes `%(chunk)s` of them, those from before `%(before)s`, the oldest first.
    `%(first)s` is the first UUIDv7 of that time. Nothing unsent or of an active alert expires."""

    statement: str
    #: How long they are kept, or the setting that says for how many days.
    kept: timedelta | str


EXPIRIES: Hooks[Expiry] = Hooks()


# ---------- object hooks
# Hooks by which higher rooms follow an object of a lower room.
#
# A room registers a function that lists references to an object, cleans up before its deletion, or reacts to a change
# of it. Deleting and changing an object call every hook registered for its kind.


#: Objects that reference another.
CALL_ROUTE = Text("call route {name}")
CLIENT_TABLE = Text("client table {name}")
HOLIDAY_CALENDAR = Text("holiday calendar {name}")
INTEGRATION = Text("integration {name}")
MAINTENANCE_WINDOW = Text("maintenance window {name}")
OUTBOUND_INTEGRATION = Text("outbound integration {name}")
OVERRIDE = Text("an override of schedule {name}")
POLICY = Text("escalation policy {name}")
SCHEDULE = Text("schedule {name}")
SUPPORT_HOURS = Text("support hours {name}")
WORKFLOW = Text("workflow {name}")

#: Given an object's id, returns the objects that reference it, such as `INTEGRATION(name="HaloITSM")`.
type FindReferences = Callable[[int], Iterable[Reason | str]]

#: Given the id of an object that is about to be deleted, deletes the data kept about it.
type OnDelete = Callable[[int], None]

#: Given the id of a changed object and the time of the change, applies the consequences.
type OnChange = Callable[[int, datetime], None]

#: By kind of object (`user`, `group`, `policy`, …). The last two are called in the transaction of the deletion, before
#: it, and of the change, after it.
REFERENCES: Hooks[FindReferences] = Hooks()
DELETIONS: Hooks[OnDelete] = Hooks()
CHANGES: Hooks[OnChange] = Hooks()

#: Return a context in which the functions above find only what the viewer sees.
VIEWERS: Hooks[Callable[[], AbstractContextManager[None]]] = Hooks()

_MAX_LISTED_REFERENCES = 5


def run_change_hooks(kind: str, object_id: int, now: datetime) -> None:
    """Calls the hooks that other rooms registered for a change of this object."""
    for on_change in CHANGES.of(kind):
        on_change(object_id, now)


def references_to(kind: str, object_id: int) -> list[Reason]:
    """Returns descriptions of everything that references the object, without duplicates."""
    references = (
        as_reason(reference) for find_references in REFERENCES.of(kind) for reference in find_references(object_id)
    )
    return list(dict.fromkeys(references))


def reject_if_referenced(kind: str, object_id: int, name: str) -> None:
    """Raises `Rejected("in_use")` if the object is still in use, naming the references that the viewer sees."""
    references = references_to(kind, object_id)
    if not references:
        return
    with ExitStack() as stack:
        for as_viewer in VIEWERS.of():
            stack.enter_context(as_viewer())
        visible = references_to(kind, object_id)
    listed = tuple(visible[:_MAX_LISTED_REFERENCES])
    remaining = max(len(references), len(visible)) - len(listed)
    if not listed:
        raise Rejected(
            "in_use",
            sentence(
                "Can't delete {name}: it is used by {count} object of another group.",
                "Can't delete {name}: it is used by {count} objects of other groups.",
                name=name,
                count=remaining,
            ),
        )
    if remaining > 0:
        raise Rejected(
            "in_use",
            sentence(
                "Can't delete {name}: it is used by {users} and {count} other.",
                "Can't delete {name}: it is used by {users} and {count} others.",
                name=name,
                users=joined(*listed, separator=", "),
                count=remaining,
            ),
        )
    raise Rejected("in_use", sentence("Can't delete {name}: it is used by {users}.", name=name, users=listed))
