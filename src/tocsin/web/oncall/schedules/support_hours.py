"""Support hours: the list, the form, and the deletion."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access.roles import Permission
from tocsin.core import object_hooks
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.oncall import loader
from tocsin.oncall.changes import commands
from tocsin.oncall.models import HolidayCalendar
from tocsin.people.models import Group
from tocsin.resources.registry import SUPPORT_HOURS
from tocsin.web.http.authorization import actor, may, may_somewhere, offer_own_groups, require
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.oncall.schedules import describe_shift
from tocsin.web.oncall.schedules.widgets import WeeklyWindowsField
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import ZoneField, offer_own_zone, show_rejection
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
            (row, describe_shift.describe_windows(row.windows), loaded[row.pk].is_open(request.now))
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
        "words": describe_shift.describe_windows(row.windows) if row else "",
        "form": form,
        "may_change": may_change,
        "used_by": object_hooks.references_to("support_hours", row.pk) if row else [],
        "has_calendars": HolidayCalendar.objects.exists(),
    }
    return render_view(request, "oncall/edit_support_hours.html", context, status=422 if form.errors else 200)
