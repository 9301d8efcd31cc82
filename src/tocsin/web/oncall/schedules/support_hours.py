"""Support hours: the list, the form, and the deletion."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django import forms
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.changes.specs import HolidayCalendarSpec
from tocsin.oncall.models import HolidayCalendar, SupportHours
from tocsin.resources.registry import HOLIDAY_CALENDARS, SUPPORT_HOURS
from tocsin.web.http.request import SignedInRequest, render_view, requires
from tocsin.web.oncall.schedules import shift_forms
from tocsin.web.oncall.schedules.shift_forms import WeeklyWindowsField
from tocsin.web.ui.confirm_delete import ObjectPage
from tocsin.web.ui.forms import SpecForm, field_error_text, problems_of, show_rejection, user_zone
from tocsin.web.ui.object_list import ObjectList


class SupportHoursForm(SpecForm):
    """Weekly windows in a time zone, closed on holidays."""

    windows = WeeklyWindowsField()
    layout = ("name", "windows", "time_zone group", "holiday_calendars")


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


class SupportHoursPage(ObjectPage[SupportHours]):
    """The form. Users without permission see the hours in words."""

    template = "oncall/edit_support_hours.html"
    form_type = SupportHoursForm
    new_title = gettext_lazy("New support hours")
    is_readable = shows_use = True

    def begin(self, request: SignedInRequest) -> dict[str, Any]:
        week = [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}]
        return {"time_zone": request.user.time_zone, "windows": week}

    def context(self, request: SignedInRequest, row: SupportHours | None, form: SpecForm) -> dict[str, Any]:
        if not HolidayCalendar.objects.exists():
            del form.fields["holiday_calendars"]
        return {"words": shift_forms.describe_windows(row.windows) if row else ""}


edit = SupportHoursPage(_LIST)


# ---------- holidays
# Holiday calendars: the list, one with its days, and its deletion.


#: Number of upcoming holidays shown.
UPCOMING_DAYS = 14
MAX_CUSTOM_DAYS = 200


def _countries() -> list[tuple[str, Any]]:
    return [("", _("None (custom holidays only)")), *weekly_windows.countries()]


class DayForm(forms.Form):
    """One custom day. Empty forms are ignored."""

    date = forms.CharField(
        label=gettext_lazy("Date"),
        max_length=10,
        required=False,
        widget=forms.TextInput(attrs={"placeholder": "12-24"}),
    )
    name = forms.CharField(label=gettext_lazy("Holiday"), max_length=100, required=False)


_DAYS = forms.formset_factory(DayForm, extra=3, max_num=MAX_CUSTOM_DAYS, absolute_max=MAX_CUSTOM_DAYS)


class CalendarForm(SpecForm):
    """A calendar, and a form for each of its custom days."""

    country = forms.ChoiceField(choices=_countries, widget=forms.Select(attrs={"data-countries": True}))
    region = forms.CharField(
        max_length=10,
        widget=forms.TextInput(attrs={"list": "regions", "autocomplete": "off", "autocapitalize": "characters"}),
    )
    layout = ("name", "country region", "group")

    def __init__(self, data: Any = None, files: Any = None, **options: Any) -> None:
        super().__init__(data, files, **options)
        self.days = _DAYS(data, initial=self.current.get("days", ()), prefix="days")

    def is_valid(self) -> bool:
        """Return whether the days are valid too."""
        return all([super().is_valid(), self.days.is_valid()])

    def spec(self) -> dict[str, Any]:
        """Return the calendar in spec form."""
        spec = super().spec()
        region = spec["region"] or ""
        days = [day.cleaned_data for day in self._filled_days()]
        return {**spec, "region": (region.upper() if len(region) < 4 else region) or None, "days": days or None}

    def show(self, rejected: Rejected) -> None:
        """Show problems of a custom day beside that day, all others beside their field."""
        days = self._filled_days()
        for problem in problems_of(rejected):
            index, _end, field = (problem.field or "").removeprefix("days[").partition("].")
            if field in ("date", "name") and index.isdecimal() and int(index) < len(days):
                days[int(index)].add_error(field, field_error_text(problem))
            else:
                show_rejection(self, problem)

    def _filled_days(self) -> list[DayForm]:
        return [form for form in self.days.forms if form.cleaned_data.get("date") or form.cleaned_data.get("name")]


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


class HolidayCalendarPage(ObjectPage[HolidayCalendar]):
    """A calendar with its upcoming days, and the form for users who may edit it."""

    template = "oncall/holiday_calendar.html"
    form_type = CalendarForm
    new_title = gettext_lazy("New holiday calendar")
    is_readable = shows_use = True

    def context(self, request: SignedInRequest, row: HolidayCalendar | None, form: CalendarForm) -> dict[str, Any]:
        today = request.now.astimezone(user_zone()).date()
        return {
            "upcoming": _upcoming(_loaded(row), today, UPCOMING_DAYS) if row else [],
            "regions": weekly_windows.regions(row.country) if row else (),
        }


edit_holidays = HolidayCalendarPage(_HOLIDAYS_LIST)


@require_POST
@requires(Permission.MANAGE_TEAMS)
def preview_holidays(request: SignedInRequest) -> HttpResponse:
    """Render the holidays that the unsaved form would produce, while the user types."""
    form = CalendarForm(request.POST, spec_type=HolidayCalendarSpec, current={})
    problem, upcoming = "", []
    if form.is_valid():
        try:
            parsed = HolidayCalendarSpec.read(form.spec() | {"name": "x", "group": None})
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
