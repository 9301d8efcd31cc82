"""Schedules: detail view, editor with a preview, and deletion."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission, Role
from tocsin.core.errors import Rejected
from tocsin.oncall.changes import commands, overrides
from tocsin.oncall.models import CalendarFeed, HandoverNote, HolidayCalendar, Override, Schedule
from tocsin.people import permissions
from tocsin.people.models import Group
from tocsin.resources.registry import SCHEDULES
from tocsin.web.http.authorization import actor, may, offer_own_groups, require, requires
from tocsin.web.http.objects import find_editable, find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.oncall import handovers
from tocsin.web.oncall.schedules import describe_shift, preview
from tocsin.web.oncall.schedules.shift_forms import (
    ScheduleForm,
    ShiftFormSet,
    initial_shift,
    shifts_formset,
    show_problems,
)
from tocsin.web.ui import references
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import offer_own_zone, user_zone

#: Maximum number of past overrides shown.
MAX_PAST_OVERRIDES = 20
#: Number of handover notes shown; the page of all notes has the others.
MAX_HANDOVERS = 3


@require_safe
def schedule(request: SignedInRequest, number: int) -> HttpResponse:
    """Render a schedule: shifts in words, overrides, imported calendars and references."""
    row = find_object(SCHEDULES, number)
    rows = Override.objects.filter(schedule=row).select_related("user", "instead_of", "created_by")
    context = {
        "schedule": row,
        "lines": describe_shift.lines(row.definition, commands.display_names([row])),
        "imports": list(row.imports.all()),
        "overrides": overrides.current(row, request.now),
        "past": rows.filter(ends_at__lte=request.now).order_by("-ends_at")[:MAX_PAST_OVERRIDES],
        "calendars": HolidayCalendar.objects.filter(pk__in=row.holiday_calendars),
        "handovers": handovers.named_notes(HandoverNote.objects.filter(schedule=row)[:MAX_HANDOVERS]),
        "feed": CalendarFeed.objects.filter(owner=request.user, schedule=row).first(),
        "group_feed": CalendarFeed.objects.filter(owner=request.user, kind="group", group=row.group_id).first(),
        "used_by": references.references_to("schedule", row.pk),
        "may_change": may(request, Permission.MANAGE_TEAMS, row.group_id),
        "zone": user_zone().key,
    }
    return render_view(request, "oncall/schedule.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_TEAMS)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a schedule."""
    row = find_editable(request, SCHEDULES, number) if number is not None else None
    form, shifts = _forms(request, row)
    offer_own_groups(request, form.fields["group"])
    snapshot = FormSnapshot.of(request, SCHEDULES, row, state=commands.state_without_overrides)
    if form.is_bound and form.is_valid() and shifts.is_valid():
        saved = _save(request, row, form, shifts, snapshot)
        if saved is not None:
            messages.success(request, _("Saved."))
            return redirect("group_schedule", saved.group_id)
    failed = bool(form.errors) or shifts.total_error_count() > 0
    context = {
        "schedule": row,
        "form": form,
        "shifts": shifts,
        "imports": list(row.imports.all()) if row else [],
        "snapshot": snapshot,
    }
    return render_view(request, "oncall/edit.html", context, status=422 if failed else 200)


@require_POST
@requires(Permission.MANAGE_TEAMS)
def preview_schedule(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Render the preview of the unsaved form, while the user types."""
    row = find_editable(request, SCHEDULES, number) if number is not None else None
    form, shifts = _forms(request, row)
    offer_own_groups(request, form.fields["group"])
    # The preview does not depend on names, which users often fill in last.
    for part in (form, *shifts.forms):
        part.fields["name"].required = False
    shift_specs, problems = [], []
    for number, shift in enumerate(shifts.forms, start=1):
        name = shift["name"].value() or _("Shift %(number)d") % {"number": number}
        if shift.is_valid():
            shift_specs.append({**shift.spec(), "name": name})
        problems += [f"{name}: {error}" for errors in shift.errors.values() for error in errors]
    result = None
    if form.is_valid() and shift_specs:
        name = form.cleaned_data["name"] or _("New schedule")
        spec = {**form.spec(), "name": name, "shifts": shift_specs}
        result = preview.preview_of_spec(spec, row, request.now, problems)
    return render_view(request, "oncall/preview.html", {"preview": result})


def _forms(request: SignedInRequest, row: Schedule | None) -> tuple[ScheduleForm, ShiftFormSet]:
    data = request.POST if request.method == "POST" else None
    rotation = {"every": 1, "unit": "w", "weekday": "mon", "at": "09:00", "start_day": _monday(request).isoformat()}
    if row is not None:
        spec = commands.spec_without_overrides(row)
        begin = {**spec, "group": row.group_id, "holiday_calendars": row.holiday_calendars}
        return ScheduleForm(data, initial=begin), shifts_formset(
            data, [initial_shift(stored_shift) for stored_shift in spec["shifts"]], rotation
        )
    group = _first_group(request)
    new_values: dict[str, Any] = {"time_zone": request.user.time_zone}
    if group:
        new_values = {"group": group.pk, "time_zone": group.time_zone, "name": ""}
    members = list(group.memberships.order_by("position").values_list("user__username", flat=True)) if group else []
    shift = {**rotation, "name": _("Weekly"), "users": members, "roles": ["primary"]}
    form = ScheduleForm(data, initial=new_values)
    offer_own_zone(form)
    return form, shifts_formset(data, [shift], rotation)


def _monday(request: SignedInRequest) -> date:
    """Return the Monday of the current week, so that a new rotation starts at once."""
    today = request.now.astimezone(user_zone()).date()
    return today - timedelta(days=today.weekday())


def _first_group(request: SignedInRequest) -> Group | None:
    """Return the group named in the URL, else the user's first own group."""
    group_id = request.GET.get("group", "")
    rows = Group.objects.all()
    if request.user.role != Role.ADMIN:
        rows = rows.filter(pk__in=permissions.own_groups(request.user))
    requested_group = (
        rows.filter(pk=int(group_id)).first()
        if group_id.isascii() and group_id.isdigit() and len(group_id) < 10
        else None
    )
    return requested_group or rows.filter(pk__in=permissions.own_groups(request.user)).first() or rows.first()


def _spec(form: ScheduleForm, shifts: ShiftFormSet) -> dict[str, Any]:
    return {**form.spec(), "shifts": [shift_form.spec() for shift_form in shifts.forms]}


def _save(
    request: SignedInRequest, row: Schedule | None, form: ScheduleForm, shifts: ShiftFormSet, snapshot: FormSnapshot
) -> Schedule | None:
    require(request, Permission.MANAGE_TEAMS, form.cleaned_data["group"])
    try:
        with snapshot.unchanged():
            return commands.save_schedule(_spec(form, shifts), existing=row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        show_problems(rejected, form, shifts.forms)
        return None
