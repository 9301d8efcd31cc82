"""Schedules: detail view, editor with a preview, deletion, and handover notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.core.cache import caches
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission, Role
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.oncall.calculation import coverage_checks, weekly_windows
from tocsin.oncall.calculation.coverage_checks import CoverageFinding
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCallResolver
from tocsin.oncall.calculation.lanes import lanes
from tocsin.oncall.changes import commands, overrides
from tocsin.oncall.models import CalendarFeed, HandoverNote, HolidayCalendar, Override, Schedule
from tocsin.operate import coverage
from tocsin.people import permissions
from tocsin.people.models import Group, User
from tocsin.reports import handover as notes
from tocsin.reports.handover import MAX_TEXT_CHARS, SeenNote
from tocsin.resources.registry import SCHEDULES
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_editable,
    find_object,
    find_row,
    may,
    number_of,
    offer_own_groups,
    render_view,
    require,
    requires,
)
from tocsin.web.oncall import shift_forms
from tocsin.web.oncall.lanes import SIDE, Drawing, draw
from tocsin.web.oncall.shift_forms import ScheduleForm, ShiftFormSet, initial_shift, shifts_formset, show_problems
from tocsin.web.ui import confirm_delete
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import field_error_text, offer_own_zone, problems_of, show_rejection, user_zone

# ---------- handovers

#: Maximum number of notes in the list.
MAX_NOTES = 100


class HandoverNoteForm(forms.Form):
    """The text above the facts."""

    text = forms.CharField(
        label=gettext_lazy("Your note"),
        required=False,
        max_length=MAX_TEXT_CHARS,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text=gettext_lazy("Shown above the details."),
    )
    #: When the note was last edited before the form was shown.
    seen = forms.DateTimeField(required=False, widget=forms.HiddenInput)


@dataclass(frozen=True, slots=True)
class HandoverRow:
    """A note with the names of its users."""

    note: HandoverNote
    outgoing: list[str]
    incoming: list[str]


@require_safe
def schedule_handovers(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the handover notes of a schedule, newest first."""
    schedule = find_object(SCHEDULES, number)
    rows = HandoverNote.objects.filter(schedule=schedule).select_related("schedule")[:MAX_NOTES]
    context = {"schedule": schedule, "notes": named_notes(rows), "zone": user_zone().key}
    return render_view(request, "oncall/handovers.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def handover(request: SignedInRequest, number: int) -> HttpResponse:
    """Render a handover note; save its text."""
    note = _find(number)
    viewer = request.viewer
    may_edit = note.sent_at is None and notes.may_edit(note, viewer)
    form = HandoverNoteForm(request.POST or None, initial={"text": note.text})
    other_text = ""
    if request.method == "POST" and form.is_valid():
        try:
            notes.save_text(note, form.cleaned_data["text"], viewer, request.now, SeenNote(form.cleaned_data["seen"]))
        except Rejected as rejected:
            _deny(rejected)
            show_rejection(form, rejected)
            if rejected.code == "changed_meanwhile":
                other_text = note.text
        else:
            messages.success(request, _("Saved."))
            return redirect("handover", note.pk)
    (row,) = named_notes([note])
    # After a conflict the user has seen the other text, so that a second save replaces it.
    seen = form["seen"].value() if form.is_bound and not other_text else note.edited_at
    context = {
        "row": row,
        "note": note,
        "form": form if may_edit else None,
        "seen": seen.isoformat() if isinstance(seen, datetime) else seen,
        "other_text": other_text,
        "facts": notes.current_facts(note, request.now),
        "zone": user_zone().key,
    }
    return render_view(request, "oncall/handover.html", context, status=422 if form.errors else 200)


@require_POST
def send(request: SignedInRequest, number: int) -> HttpResponse:
    note = _find(number)
    try:
        notes.send_now(note, request.viewer, request.now)
    except Rejected as rejected:
        _deny(rejected)
        messages.error(request, rejected.reason.localized())
    else:
        messages.success(request, _("Handover note sent."))
    return redirect("handover", note.pk)


def named_notes(rows: Iterable[HandoverNote]) -> list[HandoverRow]:
    loaded = list(rows)
    people = notes.people_of(loaded)
    return [HandoverRow(note, _names(note.outgoing, people), _names(note.incoming, people)) for note in loaded]


def _find(number: int) -> HandoverNote:
    return find_row(HandoverNote.objects.select_related("schedule__group", "edited_by"), number, "handover note")


def _deny(rejected: Rejected) -> None:
    if rejected.code == "forbidden":
        raise PermissionDenied(rejected.reason.localized()) from rejected


def _names(user_ids: Iterable[int], people: Mapping[int, User]) -> list[str]:
    return [people[user_id].display_name for user_id in user_ids if user_id in people]


# ---------- coverage warnings
# Coverage warnings per group, cached until the configuration changes or a few minutes pass; and their sentences in the
# user's language and time zone.

#: Cache lifetime in seconds while the configuration does not change.
CACHE_SECONDS = 300


def findings_of_plans(
    connection: Connection, plans: Mapping[int, GroupPlan], now: datetime, ahead: timedelta
) -> dict[int, Sequence[CoverageFinding]]:
    """Return {group id: findings} within `ahead` from now, most severe first."""
    version = settings_store.current_version(connection)
    keys = {f"on-call-findings:{version}:{ahead.days}:{number}": number for number in plans}
    findings: dict[int, Sequence[CoverageFinding]] = {
        keys[key]: cached for key, cached in caches["process"].get_many(keys).items()
    }
    missing = {number: plan for number, plan in plans.items() if number not in findings}
    if missing:
        reachable = coverage.reachable_user_ids(connection)
        for number, plan in missing.items():
            findings[number] = coverage_checks.first_of_each(
                coverage_checks.problems(coverage_checks.findings(plan, reachable, now, now + ahead))
            )
        caches["process"].set_many(
            {key: findings[number] for key, number in keys.items() if number in missing}, CACHE_SECONDS
        )
    return findings


def sentences(findings: Sequence[CoverageFinding], now: datetime) -> list[str]:
    """Return each finding as the sentence that `say` builds."""
    return [describe_finding(finding, now) for finding in findings]


def describe_finding(finding: CoverageFinding, now: datetime) -> str:
    """Return the finding as a sentence with its times in the user's time zone."""
    text = finding.reason.localized()
    if not coverage.has_times(finding):
        return text
    begin = max(finding.since or now, now)
    period = shift_forms.format_period(begin, finding.until)
    if finding.occurrence_count > 1:
        count_text = ngettext("%(count)d occurrence", "%(count)d occurrences", finding.occurrence_count) % {
            "count": finding.occurrence_count
        }
        period = f"{period} ({count_text})"
    return f"{text.removesuffix('.')}: {period}."


# ---------- preview

#: How far ahead the preview looks for problems, and how much of it is drawn.
HORIZON = timedelta(days=92)
DRAWN = timedelta(days=28)


@dataclass(frozen=True, slots=True)
class SchedulePreview:
    """The preview. `problems` explain why there is none, or which shifts it leaves out."""

    problems: Sequence[str] = ()
    #: The lanes of the roles that the group's schedules assign.
    drawing: Drawing | None = None
    warnings: Sequence[str] = ()


def preview_of_spec(
    spec: Mapping[str, Any], existing: Schedule | None, now: datetime, problems: Sequence[str] = ()
) -> SchedulePreview:
    """Return the preview of the spec that the form currently describes, without the shifts that are invalid.

    `problems` are those that are known already.
    """
    try:
        plan = commands.plan_with(spec, existing=existing, now=now)
    except Rejected as rejected:
        problems = [*problems, *(_describe_problem(problem, spec) for problem in problems_of(rejected))]
        wrong = {_shift_index(problem, spec) for problem in problems_of(rejected)}
        rest = [shift for index, shift in enumerate(spec["shifts"]) if index not in wrong]
        if None in wrong or not rest:
            return SchedulePreview(problems)
        return preview_of_spec({**spec, "shifts": rest}, existing, now, problems)
    return replace(preview_of_plan(plan, spec["name"], now), problems=problems)


def preview_of_plan(plan: GroupPlan, schedule: str, now: datetime) -> SchedulePreview:
    """Return the preview of a group plan that contains the schedule."""
    zone = user_zone()
    today = weekly_windows.midnight(weekly_windows.day_of(now, zone), zone)
    roles = OnCallResolver(plan).roles_of(schedule)
    shown = lanes([plan], today, today + DRAWN, zone).only(lambda duty: duty.role in roles)
    with database.transaction() as connection:
        reachable = coverage.reachable_user_ids(connection)
    findings = coverage_checks.findings(plan, reachable, now, now + HORIZON)
    return SchedulePreview(
        drawing=draw(shown, now, zone, SIDE, has_links=False, of_one_group=True),
        warnings=sentences(coverage_checks.first_of_each(coverage_checks.problems(findings)), now),
    )


def _describe_problem(problem: Rejected, spec: Mapping[str, Any]) -> str:
    """Return the problem in words, with the shift's name in place of the path."""
    index = _shift_index(problem, spec)
    if index is None:
        return problem.reason.localized()
    return f"{spec['shifts'][index]['name']}: {field_error_text(problem)}"


def _shift_index(problem: Rejected, spec: Mapping[str, Any]) -> int | None:
    """Return the index of the shift that the problem is about, or None."""
    match = re.match(r"shifts\[(\d+)\]", problem.field or "")
    return int(match[1]) if match and int(match[1]) < len(spec["shifts"]) else None


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
        "lines": shift_forms.lines(row.definition, commands.user_names([row], "display_name")),
        "imports": list(row.imports.all()),
        "overrides": overrides.current(row, request.now),
        "past": rows.filter(ends_at__lte=request.now).order_by("-ends_at")[:MAX_PAST_OVERRIDES],
        "calendars": HolidayCalendar.objects.filter(pk__in=row.holiday_calendars),
        "handovers": named_notes(HandoverNote.objects.filter(schedule=row)[:MAX_HANDOVERS]),
        "feed": CalendarFeed.objects.filter(owner=request.user, schedule=row).first(),
        "group_feed": CalendarFeed.objects.filter(owner=request.user, kind="group", group=row.group_id).first(),
        "used_by": confirm_delete.references_to("schedule", row.pk),
        "may_change": may(request, Permission.MANAGE_TEAMS, row.group_id),
        "zone": user_zone().key,
    }
    return render_view(request, "oncall/schedule.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_TEAMS)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    row = find_editable(request, SCHEDULES, number) if number is not None else None
    form, shifts = _forms(request, row)
    offer_own_groups(request, form.fields["group"])
    snapshot = FormSnapshot.of(
        request, SCHEDULES, row, state=partial(commands.spec_without_overrides, with_secrets=True)
    )
    if form.is_bound and form.is_valid() and shifts.is_valid():
        require(request, Permission.MANAGE_TEAMS, form.cleaned_data["group"])
        try:
            with snapshot.unchanged():
                spec = {**form.spec(), "shifts": [shift.spec() for shift in shifts.forms]}
                saved = commands.save_schedule(spec, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_problems(rejected, form, shifts.forms)
        else:
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
        result = preview_of_spec(spec, row, request.now, problems)
    return render_view(request, "oncall/preview.html", {"preview": result, "zone": user_zone().key})


def _forms(request: SignedInRequest, row: Schedule | None) -> tuple[ScheduleForm, ShiftFormSet]:
    data = request.POST if request.method == "POST" else None
    # A new rotation starts with the current week, so at once.
    today = request.now.astimezone(user_zone()).date()
    monday = (today - timedelta(days=today.weekday())).isoformat()
    rotation = {"every": 1, "unit": "w", "weekday": "mon", "at": "09:00", "start_day": monday}
    if row is not None:
        spec = commands.spec_without_overrides(row)
        begin = {**spec, "group": row.group_id, "holiday_calendars": row.holiday_calendars}
        shifts = shifts_formset(data, [initial_shift(stored_shift) for stored_shift in spec["shifts"]], rotation)
        return ScheduleForm(data, initial=begin), shifts
    # The group named in the URL, else the user's first own group.
    own_group_ids = permissions.own_groups(request.user)
    groups = Group.objects.all()
    if request.user.role != Role.ADMIN:
        groups = groups.filter(pk__in=own_group_ids)
    group = (
        groups.filter(pk=number_of(request.GET.get("group")) or 0).first()
        or groups.filter(pk__in=own_group_ids).first()
        or groups.first()
    )
    new_values: dict[str, Any] = {"time_zone": request.user.time_zone}
    members: list[str] = []
    if group:
        new_values = {"group": group.pk, "time_zone": group.time_zone, "name": ""}
        members = list(group.memberships.order_by("position").values_list("user__username", flat=True))
    shift = {**rotation, "name": _("Weekly"), "users": members, "roles": ["primary"]}
    form = ScheduleForm(data, initial=new_values)
    offer_own_zone(form)
    return form, shifts_formset(data, [shift], rotation)
