"""Creates, changes, ends and deletes maintenance windows, with audit log and configuration version; lists active ones.

A spec is the document form used by YAML and the API. Callers check permissions first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from django.db import connection as django_connection
from django.db.models import QuerySet
from pydantic import Field

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation.inputs import NO_SUCH_GROUP, rejected_at
from tocsin.core.validation.spec import (
    InForm,
    InvalidValue,
    Line,
    OneOf,
    OwnedSpec,
    Parsed,
    Reference,
    SpecErrors,
    list_of,
)
from tocsin.inbound import maintenance as maintenance_times
from tocsin.inbound.conditions import OptionalCondition, compile_condition
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.maintenance import (
    MAX_USUAL_COVER,
    CompiledWindow,
    Recurrence,
    Repeat,
    TimeSpan,
    WindowClock,
    WindowTimesSpec,
)
from tocsin.inbound.models import Integration, MaintenanceWindow
from tocsin.notify.models import ClientReport
from tocsin.people.changes.flat_objects import FlatObject
from tocsin.people.changes.users import AnnouncementTopic
from tocsin.people.models import Group, names_check

log = logging.getLogger(__name__)

MAX_WINDOW_TAGS = 20

_UNKNOWN_INTEGRATION = Text('unknown integration "{name}".')


def _require_usual_cover(window: MaintenanceWindow, now: datetime) -> None:
    cover = recurrence_of(window).cover(now)
    if cover > MAX_USUAL_COVER:
        problem = sentence(
            "must end the window earlier: it covers {cover} of 28 days, and its alerts page no one. Otherwise save it "
            "anyway.",
            cover=cover,
        )
        raise rejected_at("ends" if window.times["repeat"] == Repeat.ONCE else "last_day", problem, "long_window")


def long_windows(now: datetime) -> list[tuple[MaintenanceWindow, timedelta]]:
    """Returns the windows that have begun and cover more than MAX_USUAL_COVER of the coming weeks, with their cover."""
    covers = []
    for row in MaintenanceWindow.objects.all():
        try:
            recurrence = recurrence_of(row)
            has_begun = recurrence.begin.replace(tzinfo=recurrence.zone) <= now
            cover = recurrence.cover(now) if has_begun else timedelta()
        except (KeyError, ValueError, OSError):
            continue  # It cannot be used here, so alerts open and page.
        if cover > MAX_USUAL_COVER:
            covers.append((row, cover))
    return covers


def delete_window(window: MaintenanceWindow, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a window. Alerts delayed until its end open now."""
    with boundary.command():
        settings_store.lock()
        _set_due_at(window.pk, now)
        audit.record_config_audit("maintenance_window", window, window_spec(window), None, actor=actor, now=now)
        window.delete()


def end_now(window: MaintenanceWindow, *, actor: AuditActor, now: datetime) -> MaintenanceWindow:
    """Ends a one-time window that is active; alerts delayed until its end open now. Raises Rejected("not_possible")."""
    with settings_store.exclusive(window):
        recurrence = recurrence_of(window)
        if window.times.get("repeat", "once") != "once" or recurrence.occurrence_at(now) is None:
            raise Rejected(
                "not_possible",
                sentence("Can't end {window}: only active one-time windows can be ended.", window=window.name),
            )
        local = now.astimezone(recurrence.zone)
        spec = {**window_spec(window), "ends": local.strftime("%Y-%m-%d %H:%M")}
        if spec["ends"] <= spec["starts"]:
            raise Rejected(
                "not_possible",
                sentence("{window} has only just started. Delete it, or end it in a minute.", window=window.name),
            )
        return save_window(spec, existing=window, actor=actor, now=now)


type Affected = tuple[Sequence[int], Sequence[str]]


def affected(window: MaintenanceWindow) -> Affected:
    """Returns the integrations that a window affects, () for all, and the clients that are notified."""
    return window.integrations, window.announce_to_clients


def groups_newly_affected(window: MaintenanceWindow, previous: Affected | None) -> set[int | None]:
    """Returns the groups of the integrations that a change added to the window; None stands for administrators, who
    have the integrations without a group, and decide whether a window covers all, and which clients are notified.

    `previous` is what was affected before the change; None for a new window.
    """
    integrations, clients = previous or ((), ())
    owners: set[int | None] = {None} if set(window.announce_to_clients).difference(clients) else set()
    if previous is not None and not integrations:
        return owners
    if not window.integrations:
        return owners | {None}
    added = set(window.integrations).difference(integrations)
    return owners | set(Integration.objects.filter(pk__in=added).values_list("group_id", flat=True))


def unreadable(window: MaintenanceWindow) -> Reason | None:
    """Why this release cannot read its condition, or None if it can."""
    try:
        compile_condition(window.condition, "when")
    except Rejected as rejected:
        return rejected.reason
    return None


def recurrence_of(window: MaintenanceWindow) -> Recurrence:
    """Returns the window's recurrence. Stored times are valid."""
    return maintenance_times.recurrence(window.times)


def next_times(window: MaintenanceWindow, now: datetime, limit: int) -> list[TimeSpan]:
    """Returns the current occurrence, if any, and the following ones; none for a window that cannot be used here."""
    try:
        return recurrence_of(window).next_occurrences(now, limit)
    except (KeyError, ValueError, OSError):
        return []


@dataclass(frozen=True, slots=True)
class ActiveWindow:
    """An active window, and the number of alerts delayed until its end."""

    window: MaintenanceWindow
    span: TimeSpan
    delayed_count: int


def active_windows(now: datetime, windows: Iterable[MaintenanceWindow] | None = None) -> list[ActiveWindow]:
    """Returns the active windows, ordered by their end."""
    rows = list(MaintenanceWindow.objects.all()) if windows is None else list(windows)
    next_spans = [(row, spans[0]) for row in rows if (spans := next_times(row, now, 1))]
    current = [(row, span) for row, span in next_spans if span[0] <= now]
    delayed_counts = count_delayed_alerts([row for row, _span in current])
    active = [ActiveWindow(row, span, delayed_counts.get(row.pk, 0)) for row, span in current]
    return sorted(active, key=lambda active_window: active_window.span[1])


def count_delayed_alerts(windows: Sequence[MaintenanceWindow]) -> dict[int, int]:
    """Counts the alerts delayed until the end of each window."""
    ids = [window.pk for window in windows]
    if not ids:
        return {}
    with django_connection.cursor() as cursor:
        cursor.execute(
            "SELECT window_id, count(*) FROM inbound_delayedalert WHERE window_id = ANY(%s) GROUP BY window_id", [ids]
        )
        return dict(cursor.fetchall())


_ANNOUNCED = """
SELECT id, name, times, action, ticket_reference, announce_to, announce_to_clients FROM inbound_maintenancewindow
WHERE id = ANY(%s) OR announce_to <> '{}' OR announce_to_clients <> '{}' ORDER BY id
"""


def load_announced_windows(connection: database.Connection, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Returns the windows that are announced to somebody, and those with these ids, by id."""
    return {row["id"]: row for row in database.rows(connection, _ANNOUNCED, (list(ids),))}


# While boundaries are on, a group's window concerns only alerts of the group.
_WINDOWS = """
SELECT id, name, times, action, integrations, groups, tags, condition,
       (SELECT group_id FROM core_setting WHERE core_setting.name = 'visibility' AND value = '"groups"') AS owner
FROM inbound_maintenancewindow ORDER BY id
"""


def load_windows(connection: database.Connection) -> list[CompiledWindow]:
    """Loads all windows, compiled. An unusable window is skipped, so that alerts open and page."""
    windows = []
    for row in database.rows(connection, _WINDOWS):
        try:
            windows.append(_compile_row(row))
        except (Rejected, KeyError, ValueError, OSError):
            # For example a time zone unknown to this machine: that must not stop any integration.
            log.exception("Maintenance window %s cannot be used.", row["name"])
    return windows


def _compile_row(row: Mapping[str, Any]) -> CompiledWindow:
    compile_condition(row["condition"], "when")
    return CompiledWindow(
        row["id"] or 0,
        row["name"],
        WindowAction(row["action"]),
        WindowClock(maintenance_times.recurrence(row["times"])),
        frozenset(row["integrations"]),
        frozenset(row["groups"]),
        row["tags"],
        row["condition"],
        row["owner"],
    )


def compile_window(window: MaintenanceWindow) -> CompiledWindow:
    """Compiles a window, which need not be saved yet."""
    columns = ("id", "name", "times", "action", "integrations", "groups", "tags", "condition")
    has_owner = settings_store.get(settings_store.VISIBILITY) == "groups"
    owner = window.group_id if has_owner else None
    return _compile_row({**{name: getattr(window, name) for name in columns}, "owner": owner})


def unsaved_window(spec: Mapping[str, object]) -> MaintenanceWindow:
    """Returns an unsaved window for a spec. Raises Rejected as saving does, except about its name."""
    filled = {key: value for key, value in spec.items() if value not in (None, "")}
    read = WINDOWS.read({**filled, "name": "draft"})
    window = MaintenanceWindow(times=read.times())
    WINDOWS.fill(window, read)
    return window


# --- Specs ---------------------------------------------------------------------------------------------------------


def _tags(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(item, str | int) for item in value.values()):
        raise InvalidValue(sentence("must be named values, such as environment: test."))
    if len(value) > MAX_WINDOW_TAGS:
        raise InvalidValue(sentence("must be at most {maximum}.", maximum=MAX_WINDOW_TAGS))
    return {str(name)[:100]: str(item)[:200] for name, item in value.items()}


class MaintenanceWindowSpec(WindowTimesSpec, OwnedSpec):
    """A maintenance window."""

    action: Annotated[
        WindowAction,
        OneOf(),
        InForm(
            _("Alert handling"),
            choices={WindowAction.SUPPRESS: _("Suppress"), WindowAction.HOLD: _("Hold until end")},
        ),
    ] = Field(default=WindowAction.SUPPRESS, description="What happens to alerts in the window.")
    integrations: Annotated[
        tuple[int, ...],
        list_of(str, {}),
        Reference("inbound.Integration", _UNKNOWN_INTEGRATION),
        InForm(_("Integrations"), widget="checkboxes", section="which"),
    ] = Field(default=(), description="Names of the integrations. Default: all.")
    groups: Annotated[
        tuple[int, ...],
        list_of(str, {}),
        Reference("people.Group", NO_SUCH_GROUP),
        InForm(_("Recipient groups"), _("Leave empty for any group."), widget="checkboxes", section="which"),
    ] = Field(default=(), description="Names of the recipient groups. Default: all.")
    tags: Annotated[
        dict[str, str],
        Parsed(
            _tags,
            {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": MAX_WINDOW_TAGS},
        ),
        InForm(_("Tags"), _("One per line. An alert must have all tags."), section="which"),
    ] = Field(default={}, description="Tags of the alert by name, with the required value of each.")
    condition: OptionalCondition = Field(
        default=None, alias="when", description="Condition on the message, as in rules."
    )
    ticket_reference: Annotated[Line, InForm(_("Ticket reference"), _("The change or ticket, such as CHG0031234."))] = (
        Field(default="", max_length=100, description="Change or ticket to which it belongs, such as `CHG0031234`.")
    )
    announce_to: Annotated[
        tuple[int, ...],
        list_of(str, {}),
        Reference("people.Group", NO_SUCH_GROUP),
        InForm(_("Groups"), widget="checkboxes", section="announce"),
    ] = Field(
        default=(),
        description="Names of groups that are notified when it is planned, changes, starts and ends: those with an "
        "announcement of `maintenance`.",
    )
    announce_to_clients: Annotated[tuple[str, ...], list_of(str, {}, 200)] = Field(
        default=(),
        description="Names of clients whose address is emailed too: those with `maintenance` in `client_reports`. Only "
        "administrators add any.",
    )


def _save_window(
    read: MaintenanceWindowSpec, window: MaintenanceWindow, /, *, before: Mapping[str, Any] | None, now: datetime
) -> Iterator[None]:
    """Raises Rejected("long_window") for a window that covers more than MAX_USUAL_COVER of the coming weeks, unless the
    spec has `anyway: true`. Alerts that are delayed until the window's end are delayed until its new end."""
    window.times = read.times()
    if before is None:
        window.created_at = now
    if not read.allow_long and before != window_spec(window):
        _require_usual_cover(window, now)
    yield
    # When due, it is checked again whether the window applies.
    span = recurrence_of(window).occurrence_at(now)
    _set_due_at(window.pk, span[1] if span is not None and window.action == WindowAction.HOLD else now)


_NOT_ANNOUNCED = Text("{group} announces no maintenance. Add that to its announcements.")
_NOT_SUBSCRIBED = Text("No address of {client} is subscribed to maintenance.")


def announcing_groups() -> QuerySet[Group]:
    """Returns the groups that announce maintenance."""
    return Group.objects.filter(announcements__contains=[{"topics": [AnnouncementTopic.MAINTENANCE]}])


def subscribed_clients() -> list[str]:
    """Returns the clients with an address that is subscribed to maintenance."""
    return list(ClientReport.objects.filter(announces_maintenance=True).values_list("client", flat=True))


def _check_window(existing: MaintenanceWindow | None) -> Callable[[MaintenanceWindowSpec, SpecErrors], None]:
    """Rejects to announce to nobody, unless it was saved so: a window can be ended whatever became of the others."""
    check_names = names_check(MaintenanceWindow, existing)
    groups, clients = (existing.announce_to, existing.announce_to_clients) if existing else ((), ())

    def check(read: MaintenanceWindowSpec, errors: SpecErrors) -> None:
        check_names(read, errors)
        if added := set(read.announce_to).difference(groups):
            announcing = set(announcing_groups().values_list("pk", flat=True))
            for name in Group.objects.filter(pk__in=added - announcing).values_list("name", flat=True):
                errors.add("announce_to", _NOT_ANNOUNCED(group=name))
        if names := set(read.announce_to_clients).difference(clients):
            known = {client.casefold() for client in subscribed_clients()}
            for name in sorted(names):
                if name.casefold() not in known:
                    errors.add("announce_to_clients", _NOT_SUBSCRIBED(client=name), "not_found")

    return check


WINDOWS = FlatObject(
    "maintenance_window",
    MaintenanceWindow,
    MaintenanceWindowSpec,
    check=_check_window,
    own_step=_save_window,
    further_keys=lambda window: window.times,
)
save_window, window_spec = WINDOWS.save, WINDOWS.spec


def _set_due_at(window_id: int, at: datetime) -> None:
    with django_connection.cursor() as cursor:
        cursor.execute("UPDATE inbound_delayedalert SET due_at = %s WHERE window_id = %s", [at, window_id])
