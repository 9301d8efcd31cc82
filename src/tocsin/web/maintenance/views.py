"""Maintenance windows: the list, the form with a preview, ending one early, and the deletion."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission, Role
from tocsin.core.errors import Rejected
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.maintenance.recurrence import Repeat, TimeSpan
from tocsin.inbound.models import Integration, MaintenanceWindow
from tocsin.simulate import maintenance_preview
from tocsin.web.http.authorization import actor, may_somewhere, offer_own_groups, require, requires
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.maintenance.forms import PLACES, WindowForm, initial
from tocsin.web.maintenance.sentence import sentence
from tocsin.web.ui.confirm_delete import ask_and_delete
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import offer_own_zone, show_rejection

TABS = (("", gettext_lazy("Now and planned")), ("past", gettext_lazy("Past")))


@dataclass(frozen=True, slots=True)
class WindowListRow:
    """One row of the list."""

    window: MaintenanceWindow
    sentence: str
    is_now: bool
    span: TimeSpan | None
    waiting: int
    about: str

    @property
    def can_end(self) -> bool:
        return self.is_now and self.window.times.get("repeat", "once") == Repeat.ONCE


@require_safe
def window_list(request: SignedInRequest) -> HttpResponse:
    """Render every window: active ones first, then by next occurrence."""
    chosen = request.GET.get("tab", "")
    known = maintenance_windows.window_names()
    rows = list(MaintenanceWindow.objects.select_related("group"))
    waiting = maintenance_windows.waiting_for([row.pk for row in rows])
    listed = [_listed(row, request.now, waiting.get(row.pk, 0), known) for row in rows]
    coming = sorted((one for one in listed if one.span), key=lambda one: (not one.is_now, one.span or ()))
    past = [one for one in listed if not one.span]
    context = {
        "rows": past if chosen == "past" else coming,
        "tabs": [(key, label, key == chosen, len(past) if key else len(coming)) for key, label in TABS],
        "is_past": chosen == "past",
        "may_add": may_somewhere(request, Permission.ROUTING),
    }
    return page(request, "maintenance/list.html", context, parts=("list",))


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a window. "Preview" shows its effect without saving."""
    row = _find(number) if number is not None else None
    if row is not None:
        require(request, Permission.ROUTING, row.group_id)
    form = WindowForm(request.POST or None, initial=initial(row) if row is not None else _new(request))
    offer_own_groups(request, form.fields["group"])
    if row is None:
        offer_own_zone(form)
    seen = FormSnapshot.of(request, "maintenance_window", row, maintenance_windows.window_spec)
    preview: dict[str, Any] = {}
    if request.method == "POST" and form.is_valid():
        try:
            spec = form.spec()
            preview = _preview(spec, request.now)
            if request.POST.get("do") != "preview":
                saved = _save(request, spec, row, seen)
                messages.success(request, _("%(name)s is saved.") % {"name": saved.name})
                return redirect("maintenance")
        except Rejected as rejected:
            show_rejection(form, rejected, _places(form))
    elif row is not None:
        preview = _preview(maintenance_windows.window_spec(row), request.now)
    can_end = row is not None and _can_end(row, request.now)
    context = {"window": row, "form": form, "seen": seen, "preview": preview, "can_end": can_end}
    status = 422 if form.errors and request.POST.get("do") != "preview" else 200
    return page(request, "maintenance/edit.html", context, parts=("preview",), status=status)


@require_POST
@requires(Permission.ROUTING)
def end(request: SignedInRequest, number: int) -> HttpResponse:
    """End a one-time window that is active. The alerts that it delays open now."""
    row = _find(number)
    require(request, Permission.ROUTING, row.group_id)
    try:
        maintenance_windows.end_now(row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.detail)
    else:
        messages.success(request, _("%(name)s is over.") % {"name": row.name})
    return redirect("maintenance")


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, then delete the window."""
    row = _find(number)
    require(request, Permission.ROUTING, row.group_id)
    return ask_and_delete(
        request,
        row,
        maintenance_windows.delete_window,
        what=row.name,
        back="maintenance_window",
        then=("maintenance",),
        about=_("What waits for its end opens now."),
        seen=FormSnapshot.of(request, "maintenance_window", row, maintenance_windows.window_spec, is_deleting=True),
    )


def _save(
    request: SignedInRequest, spec: dict[str, Any], row: MaintenanceWindow | None, seen: FormSnapshot
) -> MaintenanceWindow:
    """Save the window if the user may change all integrations that it affects."""
    with seen.unchanged():
        saved = maintenance_windows.save_window(spec, existing=row, actor=actor(request), now=request.now)
        require(request, Permission.ROUTING, saved.group_id)
        if request.user.role != Role.ADMIN and not saved.integrations:
            problem = _("Choose integrations: only administrators hold back all of them.")
            raise Rejected("forbidden", problem, "integrations")
        for owner in set(Integration.objects.filter(pk__in=saved.integrations).values_list("group_id", flat=True)):
            require(request, Permission.ROUTING, owner)
    return saved


def _preview(spec: dict[str, Any], now: datetime) -> dict[str, Any]:
    row = maintenance_windows.draft(spec)
    return {
        "sentence": sentence(row.times),
        "spans": maintenance_windows.recurrence_of(row).next(now, 5),
        "caught": maintenance_preview.suppressed_alerts(maintenance_windows.compiled(row), now),
        "holds": row.action == WindowAction.HOLD,
    }


def _listed(
    row: MaintenanceWindow, now: datetime, waiting: int, known: maintenance_windows.WindowNames
) -> WindowListRow:
    spans = maintenance_windows.next_times(row, now, 1)
    span = spans[0] if spans else None
    is_now = span is not None and span[0] <= now
    named = [known.integrations.get(one, "?") for one in row.integrations] or [_("all integrations")]
    named += [known.groups.get(one, "?") for one in row.groups]
    named += [f"{name} {value}" for name, value in row.tags.items()]
    named += [_("a condition")] if row.condition is not None else []
    return WindowListRow(row, sentence(row.times), is_now, span, waiting, ", ".join(named))


def _can_end(row: MaintenanceWindow, now: datetime) -> bool:
    is_once = row.times.get("repeat", "once") == Repeat.ONCE
    return is_once and maintenance_windows.recurrence_of(row).at(now) is not None


def _places(form: WindowForm) -> dict[str, str]:
    days = "weekdays" if form.cleaned_data.get("repeat") == Repeat.WEEKLY else "month_days"
    return {**PLACES, "days": days}


def _new(request: SignedInRequest) -> dict[str, Any]:
    given = {"time_zone": request.user.time_zone, "repeat": Repeat.ONCE, "operator": "equals"}
    chosen = request.GET.get("integration", "")
    return {**given, "integrations": [int(chosen)]} if chosen.isdecimal() and len(chosen) < 10 else given


def _find(number: int) -> MaintenanceWindow:
    row = MaintenanceWindow.objects.select_related("group").filter(pk=number).first()
    if row is None:
        raise Http404(_("This maintenance window is gone."))
    return row
