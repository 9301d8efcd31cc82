"""Support hours: the list, the form, and the deletion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core import hooks
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.changes import commands
from tocsin.oncall.changes.specs import HolidayCalendarSpec
from tocsin.oncall.models import HolidayCalendar
from tocsin.people.models import Group
from tocsin.resources.registry import HOLIDAY_CALENDARS, SUPPORT_HOURS
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_object,
    may,
    may_somewhere,
    offer_own_groups,
    render_view,
    require,
    requires,
)
from tocsin.web.oncall import shift_forms
from tocsin.web.oncall.shift_forms import WeeklyWindowsField
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import ZoneField, field_error_text, offer_own_zone, problems_of, show_rejection, user_zone
from tocsin.web.ui.object_list import ObjectList


class SupportHoursForm(forms.Form):
    """Weekly windows in a time zone, closed on holidays."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    windows = WeeklyWindowsField(
        label=gettext_lazy("Open"), help_text=gettext_lazy("An end time before the start is on the next day.")
    )
    time_zone = ZoneField()
    holiday_calendars = forms.ModelMultipleChoiceField(
        HolidayCalendar.objects.all(),
        label=gettext_lazy("Closed on holidays of"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    group = forms.ModelChoiceField(
        Group.objects.all(),
        label=gettext_lazy("Owned by"),
        required=False,
        empty_label=gettext_lazy("Administrators only"),
    )

    def spec(self) -> dict[str, Any]:
        """Return the support hours in spec form."""
        data = self.cleaned_data
        spec: dict[str, Any] = {key: data[key] for key in ("name", "windows", "time_zone")}
        if data["holiday_calendars"]:
            spec["holiday_calendars"] = [calendar.name for calendar in data["holiday_calendars"]]
        if data["group"]:
            spec["group"] = data["group"].name
        return spec


_LIST = ObjectList(
    SUPPORT_HOURS,
    rows_template="oncall/support_hours_rows.html",
    empty_title=gettext_lazy("No support hours yet"),
    empty_text=gettext_lazy("Weekly hours with a time zone and holidays. Routes and policy steps can depend on them."),
    icon="clock",
    add_view="new_support_hours",
    add_label=gettext_lazy("New support hours"),
    template="oncall/object_list.html",
)


@require_safe
def hours_list(request: SignedInRequest) -> HttpResponse:
    """Render every set of support hours in words, and whether it is open now."""
    with database.transaction() as connection:
        loaded = loader.support_hours(connection)
    return _LIST.render(
        request,
        _LIST.matching(request),
        lambda page: [
            (row, shift_forms.describe_windows(row.windows), loaded[row.pk].is_open(request.now))
            for row in page
            if row.pk in loaded
        ],
    )


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit support hours. Users without permission see the form read-only."""
    row = find_object(SUPPORT_HOURS, number) if number is not None else None
    may_change = (
        may(request, Permission.MANAGE_TEAMS, row.group_id) if row else may_somewhere(request, Permission.MANAGE_TEAMS)
    )
    if not may_change and (row is None or request.method == "POST"):
        require(request, Permission.MANAGE_TEAMS, row.group_id if row else None)
    begin = (
        {
            "name": row.name, "windows": row.windows, "time_zone": row.time_zone,
            "holiday_calendars": row.holiday_calendars, "group": row.group_id,
        }
        if row
        else {
            "time_zone": request.user.time_zone,
            "windows": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}],
        }
    )  # fmt: skip
    form = SupportHoursForm(request.POST or None, initial=begin)
    if row is None:
        offer_own_zone(form)
    offer_own_groups(request, form.fields["group"])
    snapshot = FormSnapshot.of(request, SUPPORT_HOURS, row)
    if request.method == "POST" and form.is_valid():
        require(request, Permission.MANAGE_TEAMS, form.cleaned_data["group"])
        try:
            with snapshot.unchanged():
                commands.save_support_hours(form.spec(), existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("Saved."))
            return redirect("support_hours")
    context = {
        "hours": row,
        "snapshot": snapshot,
        "words": shift_forms.describe_windows(row.windows) if row else "",
        "form": form,
        "may_change": may_change,
        "used_by": hooks.references_to("support_hours", row.pk) if row else [],
        "has_calendars": HolidayCalendar.objects.exists(),
    }
    return render_view(request, "oncall/edit_support_hours.html", context, status=422 if form.errors else 200)


# ---------- holidays
# Holiday calendars: the list, one with its days, and its deletion.


#: Number of upcoming holidays shown.
UPCOMING_DAYS = 14
MAX_CUSTOM_DAYS = 200


def _countries() -> list[tuple[str, Any]]:
    return [("", _("None (custom holidays only)")), *weekly_windows.countries()]


class CalendarForm(forms.Form):
    """A calendar without its custom days."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    country = forms.ChoiceField(
        label=gettext_lazy("Country"),
        choices=_countries,
        required=False,
        widget=forms.Select(attrs={"data-countries": True}),
    )
    region = forms.CharField(
        label=gettext_lazy("Region"),
        max_length=10,
        required=False,
        widget=forms.TextInput(attrs={"list": "regions", "autocomplete": "off", "autocapitalize": "characters"}),
        help_text=gettext_lazy("ISO 3166-2 code without the country, such as ZH, BY or CA."),
    )
    group = forms.ModelChoiceField(
        Group.objects.all(),
        label=gettext_lazy("Owned by"),
        required=False,
        empty_label=gettext_lazy("Administrators only"),
    )


class DayForm(forms.Form):
    """One custom day. Empty forms are ignored."""

    date = forms.CharField(
        label=gettext_lazy("Date"),
        max_length=10,
        required=False,
        widget=forms.TextInput(attrs={"placeholder": "12-24"}),
    )
    name = forms.CharField(label=gettext_lazy("Holiday"), max_length=100, required=False)


def _days(data: Any, initial: Iterable[dict[str, Any]]) -> Any:
    formset_class = forms.formset_factory(DayForm, extra=3, max_num=MAX_CUSTOM_DAYS, absolute_max=MAX_CUSTOM_DAYS)
    return formset_class(data, initial=list(initial), prefix="days")


_HOLIDAYS_LIST = ObjectList(
    HOLIDAY_CALENDARS,
    rows_template="oncall/holiday_rows.html",
    empty_title=gettext_lazy("No holiday calendars yet"),
    empty_text=gettext_lazy(
        "Public holidays of a country or region, plus custom holidays. Shifts can skip holidays or run "
        "only on them. Support hours are closed."
    ),
    icon="calendar",
    add_view="new_holiday_calendar",
    add_label=gettext_lazy("New calendar"),
    template="oncall/object_list.html",
)


@require_safe
def holiday_list(request: SignedInRequest) -> HttpResponse:
    """Render every calendar with its next holiday."""
    today = request.now.astimezone(user_zone()).date()
    return _HOLIDAYS_LIST.render(
        request,
        _HOLIDAYS_LIST.matching(request),
        lambda page: [(row, next(iter(_upcoming(_loaded(row), today, 1)), None)) for row in page],
    )


@require_http_methods(["GET", "HEAD", "POST"])
def edit_holidays(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Render a calendar with its upcoming days, and the form for users who may edit it."""
    row = find_object(HOLIDAY_CALENDARS, number) if number is not None else None
    may_change = (
        may(request, Permission.MANAGE_TEAMS, row.group_id) if row else may_somewhere(request, Permission.MANAGE_TEAMS)
    )
    if not may_change and (row is None or request.method == "POST"):
        require(request, Permission.MANAGE_TEAMS, row.group_id if row else None)
    form, days = _forms(request, row)
    snapshot = FormSnapshot.of(request, HOLIDAY_CALENDARS, row)
    if request.method == "POST" and form.is_valid() and days.is_valid():
        require(request, Permission.MANAGE_TEAMS, form.cleaned_data["group"])
        filled_days = _filled_days(days)
        try:
            with snapshot.unchanged():
                commands.save_holiday_calendar(
                    _spec(form, filled_days), existing=row, actor=actor(request), now=request.now
                )
        except Rejected as rejected:
            _show_errors(rejected, form, filled_days)
        else:
            messages.success(request, _("Saved."))
            return redirect("holiday_calendars")
    failed = bool(form.errors) or days.total_error_count() > 0
    today = request.now.astimezone(user_zone()).date()
    context = {
        "calendar": row,
        "snapshot": snapshot,
        "form": form,
        "days": days,
        "may_change": may_change,
        "upcoming": _upcoming(_loaded(row), today, UPCOMING_DAYS) if row else [],
        "regions": weekly_windows.regions(row.country) if row else (),
        "used_by": hooks.references_to("holiday_calendar", row.pk) if row else [],
    }
    return render_view(request, "oncall/holiday_calendar.html", context, status=422 if failed else 200)


@require_POST
@requires(Permission.MANAGE_TEAMS)
def preview_holidays(request: SignedInRequest) -> HttpResponse:
    """Render the holidays that the unsaved form would produce, while the user types."""
    form, days = _forms(request, None)
    problem, upcoming = "", []
    if form.is_valid() and days.is_valid():
        try:
            parsed = HolidayCalendarSpec.read(_spec(form, _filled_days(days)) | {"name": "x", "group": None})
        except Rejected as rejected:
            problem = rejected.reason.localized()
        else:
            today = request.now.astimezone(user_zone()).date()
            loaded = weekly_windows.load_holiday_calendar(
                "", parsed.country, parsed.region, [day.written() for day in parsed.days]
            )
            upcoming = _upcoming(loaded, today, UPCOMING_DAYS)
    context = {
        "upcoming": upcoming,
        "problem": problem,
        "regions": weekly_windows.regions(request.POST.get("country", "")),
    }
    return render_view(request, "oncall/holidays_preview.html", context)


def _forms(request: SignedInRequest, row: HolidayCalendar | None) -> tuple[CalendarForm, Any]:
    data = request.POST if request.method == "POST" else None
    begin = {"name": row.name, "country": row.country, "region": row.region, "group": row.group_id} if row else None
    form = CalendarForm(data, initial=begin)
    offer_own_groups(request, form.fields["group"])
    return form, _days(data, row.days if row else [])


def _filled_days(days: Any) -> list[DayForm]:
    return [form for form in days.forms if form.cleaned_data.get("date") or form.cleaned_data.get("name")]


def _spec(form: CalendarForm, days: Sequence[DayForm]) -> dict[str, Any]:
    data = form.cleaned_data
    spec: dict[str, Any] = {
        "name": data["name"],
        "country": data["country"],
        "region": data["region"].upper() if len(data["region"]) < 4 else data["region"],
        "days": [{"date": day.cleaned_data["date"], "name": day.cleaned_data["name"]} for day in days],
        "group": data["group"].name if data["group"] else None,
    }
    return {key: value for key, value in spec.items() if value}


def _loaded(row: HolidayCalendar) -> weekly_windows.HolidayDays:
    return weekly_windows.load_holiday_calendar(row.name, row.country, row.region, row.days)


def _upcoming(days: weekly_windows.HolidayDays, today: date, limit: int) -> list[tuple[date, str]]:
    """Return the next holidays from today, within two years."""
    upcoming: list[tuple[date, str]] = []
    for number in range(731):
        day = today + timedelta(days=number)
        if name := days.holiday_on(day):
            upcoming.append((day, name))
            if len(upcoming) == limit:
                break
    return upcoming


def _show_errors(rejected: Rejected, form: CalendarForm, days: Sequence[DayForm]) -> None:
    """Show problems of a custom day beside that day, all others beside their field."""
    for problem in problems_of(rejected):
        path = problem.field or ""
        index, _end, field = path.removeprefix("days[").partition("].")
        if path.startswith("days[") and index.isdecimal() and int(index) < len(days):
            days[int(index)].add_error(field if field in ("date", "name") else None, field_error_text(problem))
        else:
            show_rejection(form, problem)
