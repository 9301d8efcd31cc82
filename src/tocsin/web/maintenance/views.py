"""Maintenance windows: the list, the form with a preview, ending one early, and the deletion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access import boundary
from tocsin.access.roles import Permission, Role
from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.maintenance.recurrence import Repeat, TimeSpan
from tocsin.inbound.maintenance.times import describe_times
from tocsin.inbound.models import MaintenanceWindow
from tocsin.resources.registry import MAINTENANCE_WINDOWS
from tocsin.simulate import maintenance_preview
from tocsin.web.http.authorization import actor, offer_own_groups, require, requires
from tocsin.web.http.objects import find_editable
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.maintenance.forms import PLACES, WindowForm, initial
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import offer_own_zone, show_rejection
from tocsin.web.ui.object_list import ObjectList

TABS = (("", gettext_lazy("Active and upcoming")), ("past", gettext_lazy("Past")))


@dataclass(frozen=True, slots=True)
class WindowListRow:
    """One row of the list."""

    window: MaintenanceWindow
    sentence: str
    is_now: bool
    span: TimeSpan | None
    waiting: int
    scope: str

    @property
    def can_end(self) -> bool:
        return self.is_now and self.window.times.get("repeat", "once") == Repeat.ONCE


_LIST = ObjectList(
    MAINTENANCE_WINDOWS,
    rows_template="maintenance/rows.html",
    empty_title=gettext_lazy("No maintenance planned"),
    empty_text=gettext_lazy(
        "During maintenance, alerts page no one. They are suppressed, or held and created at the end if still active."
    ),
    icon="tool",
    add_view="new_maintenance_window",
    add_label=gettext_lazy("New window"),
    title=gettext_lazy("Maintenance"),
    template="maintenance/list.html",
    live="config",
    is_polled=True,
)
_PAST_LIST = replace(_LIST, empty_title=gettext_lazy("No past windows"), empty_text="")


@require_safe
def window_list(request: SignedInRequest) -> HttpResponse:
    """Render every window: active ones first, then by next occurrence."""
    tab = request.GET.get("tab", "")
    rows = MAINTENANCE_WINDOWS.with_references(list(_LIST.matching(request)))
    window_names = maintenance_windows.window_names()
    waiting = maintenance_windows.count_delayed_alerts(rows)
    listed = [_listed(row, request.now, waiting.get(row.pk, 0), window_names) for row in rows]
    upcoming = sorted(
        (list_row for list_row in listed if list_row.span),
        key=lambda list_row: (not list_row.is_now, list_row.span or ()),
    )
    past = [list_row for list_row in listed if not list_row.span]
    tabs = [(key, label, key == tab, len(past) if key else len(upcoming)) for key, label in TABS]
    return _PAST_LIST.render(request, past, tabs=tabs) if tab == "past" else _LIST.render(request, upcoming, tabs=tabs)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a window. "Preview" shows its effect without saving."""
    row = find_editable(request, MAINTENANCE_WINDOWS, number) if number is not None else None
    form = WindowForm(request.POST or None, initial=initial(row) if row is not None else _initial_for_new(request))
    offer_own_groups(request, form.fields["group"])
    if row is None:
        offer_own_zone(form)
    snapshot = FormSnapshot.of(request, MAINTENANCE_WINDOWS, row)
    preview: dict[str, Any] = {}
    if request.method == "POST" and form.is_valid():
        try:
            spec = form.spec()
            preview = _preview(spec, request.now)
            if request.POST.get("do") != "preview":
                saved = _save(request, spec, row, snapshot)
                messages.success(request, _("%(name)s saved.") % {"name": saved.name})
                return redirect("maintenance")
        except Rejected as rejected:
            if rejected.code == "long_window":
                form.show_confirmation()
            show_rejection(form, rejected, _places(form))
    elif row is not None and (problem := maintenance_windows.unreadable(row)):
        messages.warning(request, problem.localized())
    elif row is not None:
        preview = _preview(maintenance_windows.window_spec(row), request.now)
    can_end = row is not None and _can_end(row, request.now)
    context = {
        "window": row,
        "form": form,
        "snapshot": snapshot,
        "preview": preview,
        "can_end": can_end,
        "is_limited": boundary.current() is not None,
    }
    status = 422 if form.errors and request.POST.get("do") != "preview" else 200
    return render_view(request, "maintenance/edit.html", context, partials=("preview",), status=status)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def end(request: SignedInRequest, number: int) -> HttpResponse:
    """End a one-time window that is active. The alerts that it delays open now."""
    row = find_editable(request, MAINTENANCE_WINDOWS, number)
    try:
        maintenance_windows.end_now(row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    else:
        messages.success(request, _("%(name)s ended.") % {"name": row.name})
    return redirect("maintenance")


def _save(
    request: SignedInRequest, spec: dict[str, Any], row: MaintenanceWindow | None, snapshot: FormSnapshot
) -> MaintenanceWindow:
    """Save the window if the user may change all integrations that it affects newly."""
    previous = row.integrations if row is not None else None
    with snapshot.unchanged():
        saved = maintenance_windows.save_window(spec, existing=row, actor=actor(request), now=request.now)
        require(request, Permission.MANAGE_ROUTING, saved.group_id)
        owners = maintenance_windows.groups_newly_affected(saved, previous)
        if request.user.role != Role.ADMIN and owners and not saved.integrations:
            problem = _("Select integrations. Only administrators can include all of them.")
            raise Rejected("forbidden", as_reason(problem), "integrations")
        for owner in owners:
            require(request, Permission.MANAGE_ROUTING, owner)
    return saved


def _preview(spec: dict[str, Any], now: datetime) -> dict[str, Any]:
    row = maintenance_windows.unsaved_window(spec)
    return {
        "sentence": describe_times(row.times).localized(),
        "spans": maintenance_windows.recurrence_of(row).next_occurrences(now, 5),
        "suppressed": maintenance_preview.suppressed_alerts(maintenance_windows.compile_window(row), now),
        "holds": row.action == WindowAction.HOLD,
    }


def _listed(
    row: MaintenanceWindow, now: datetime, waiting: int, window_names: maintenance_windows.WindowNames
) -> WindowListRow:
    spans = maintenance_windows.next_times(row, now, 1)
    span = spans[0] if spans else None
    is_now = span is not None and span[0] <= now
    scope = [window_names.integrations.get(object_id, "?") for object_id in row.integrations] or [_("all integrations")]
    scope += [window_names.groups.get(object_id, "?") for object_id in row.groups]
    scope += [f"{name} {value}" for name, value in row.tags.items()]
    scope += [_("condition")] if row.condition is not None else []
    return WindowListRow(row, describe_times(row.times).localized(), is_now, span, waiting, ", ".join(scope))


def _can_end(row: MaintenanceWindow, now: datetime) -> bool:
    is_once = row.times.get("repeat", "once") == Repeat.ONCE
    return is_once and maintenance_windows.recurrence_of(row).occurrence_at(now) is not None


def _places(form: WindowForm) -> dict[str, str]:
    days = "weekdays" if form.cleaned_data.get("repeat") == Repeat.WEEKLY else "month_days"
    return {**PLACES, "days": days}


def _initial_for_new(request: SignedInRequest) -> dict[str, Any]:
    values = {"time_zone": request.user.time_zone, "repeat": Repeat.ONCE, "operator": "equals"}
    integration_id = request.GET.get("integration", "")
    return (
        {**values, "integrations": [int(integration_id)]}
        if integration_id.isdecimal() and len(integration_id) < 10
        else values
    )
