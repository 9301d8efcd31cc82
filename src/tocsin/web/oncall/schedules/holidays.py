"""Holiday calendars: the list, one with its days, and its deletion."""

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
from tocsin.core import object_hooks
from tocsin.core.errors import Rejected
from tocsin.oncall.calculation import holiday_calendars
from tocsin.oncall.changes import commands
from tocsin.oncall.changes.specs import HolidayCalendarSpec
from tocsin.oncall.models import HolidayCalendar
from tocsin.people.models import Group
from tocsin.resources.registry import HOLIDAY_CALENDARS
from tocsin.web.http.authorization import actor, may, may_somewhere, offer_own_groups, require, requires
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import field_error_text, problems_of, show_rejection, user_zone
from tocsin.web.ui.object_list import ObjectList

#: Number of upcoming holidays shown.
UPCOMING_DAYS = 14
MAX_CUSTOM_DAYS = 200


def _countries() -> list[tuple[str, Any]]:
    return [("", _("None (custom holidays only)")), *holiday_calendars.countries()]


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


_LIST = ObjectList(
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
    return _LIST.render(
        request,
        _LIST.matching(request),
        lambda page: [(row, next(iter(_upcoming(_loaded(row), today, 1)), None)) for row in page],
    )


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
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
        "regions": holiday_calendars.regions(row.country) if row else (),
        "used_by": object_hooks.references_to("holiday_calendar", row.pk) if row else [],
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
            loaded = holiday_calendars.load("", parsed.country, parsed.region, [day.written() for day in parsed.days])
            upcoming = _upcoming(loaded, today, UPCOMING_DAYS)
    context = {
        "upcoming": upcoming,
        "problem": problem,
        "regions": holiday_calendars.regions(request.POST.get("country", "")),
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


def _loaded(row: HolidayCalendar) -> holiday_calendars.HolidayDays:
    return holiday_calendars.load(row.name, row.country, row.region, row.days)


def _upcoming(days: holiday_calendars.HolidayDays, today: date, limit: int) -> list[tuple[date, str]]:
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
