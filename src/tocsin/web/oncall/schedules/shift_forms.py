"""Forms of a schedule and its shifts, converted from and to specs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from tocsin.core.errors import Rejected
from tocsin.core.validation import durations
from tocsin.oncall.calculation import schedules
from tocsin.oncall.calculation.shifts import MonthInterval, OnHolidays
from tocsin.oncall.changes.shift_specs import MAX_LAYERS, MAX_WEEKS
from tocsin.oncall.models import HolidayCalendar
from tocsin.people.models import Group, Membership, User
from tocsin.web.oncall.schedules.describe_shift import ALWAYS
from tocsin.web.oncall.schedules.widgets import OrderedField, OrderedSelect, WeeklyWindowsField
from tocsin.web.policies.step_forms import DAYS
from tocsin.web.ui.choices import ROLES
from tocsin.web.ui.forms import (
    FilledFormSet,
    ZoneField,
    ZoneSelect,
    field_error_text,
    formset_class,
    problems_of,
    show_rejection,
    zones,
)

MAX_SHIFTS = 50

KINDS = [
    ("rotate", _("Rotating: people take turns on call")),
    ("fixed", _("Fixed: the same people every week")),
    ("once", _("Continuous: from one date and time to another")),
    ("calendar", _("Import from an iCal calendar")),
]
UNITS = [("h", _("hours")), ("d", _("days")), ("w", _("weeks")), ("months", _("months")), ("m", _("minutes"))]
_SPANS = {"w": timedelta(weeks=1), "d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
HOLIDAYS = [
    (OnHolidays.RUN, _("Run as usual")),
    (OnHolidays.SKIP, _("Skip the shift")),
    (OnHolidays.ONLY, _("Run only on holidays")),
]

#: Path in a shift's spec → the field that shows its problems.
_PLACES = (
    ("rotate.every", "every"), ("rotate.at", "at"), ("rotate.on", "weekday"), ("rotate.move", "move"),
    ("rotate.users", "users"), ("rotate.roles", "roles"), ("rotate.windows", "windows"), ("fixed.every", "weeks"),
    ("fixed.users", "users"), ("fixed.roles", "roles"), ("fixed.windows", "windows"), ("fixed.from", "begins"),
    ("fixed.to", "ends"), ("calendar.url", "url"), ("calendar.roles", "roles"), ("start", "start_day"),
    ("end", "end_day"), ("layer", "layer"), ("name", "name"), ("time_zone", "time_zone"), ("holidays", "holidays"),
)  # fmt: skip


class GroupSelect(forms.Select):
    """Select of a group. Each option carries the usernames of the members, whom the script offers as a shift's people
    when another group is chosen."""

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        """Return the options."""
        rows = Membership.objects.filter(user__is_active=True).order_by("position", "pk")
        members: dict[int, list[str]] = {}
        for group_id, username in rows.values_list("group_id", "user__username"):
            members.setdefault(group_id, []).append(username)
        groups = super().optgroups(name, value, attrs)
        for _label, options, _index in groups:
            for option in options:
                usernames = members.get(int(str(option["value"])), []) if option["value"] else []
                option["attrs"]["data-members"] = json.dumps(usernames)
        return groups


class ScheduleForm(forms.Form):
    """A schedule without its shifts."""

    name = forms.CharField(label=_("Name"), max_length=100)
    group = forms.ModelChoiceField(Group.objects.all(), label=_("Group"), empty_label=None, widget=GroupSelect)
    time_zone = ZoneField()
    holiday_calendars = forms.ModelMultipleChoiceField(
        HolidayCalendar.objects.all(),
        label=_("Holidays"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Used by shifts that skip holidays or run only on holidays."),
    )

    handover_notes = forms.BooleanField(
        label=_("Handover notes"),
        required=False,
        initial=True,
        help_text=_("Email a handover note to the outgoing and the incoming user when the shift changes."),
    )

    def spec(self) -> dict[str, Any]:
        """Return the settings in spec form."""
        data = self.cleaned_data
        spec = {"name": data["name"], "group": data["group"].name, "time_zone": data["time_zone"]}
        if not data["handover_notes"]:
            spec["handover_notes"] = False
        if data["holiday_calendars"]:
            spec["holiday_calendars"] = [calendar.name for calendar in data["holiday_calendars"]]
        return spec


class ShiftForm(forms.Form):
    """One shift. Its kind determines which fields apply."""

    name = forms.CharField(label=_("Name"), max_length=100)
    layer = forms.IntegerField(
        label=_("Layer"),
        min_value=1,
        max_value=MAX_LAYERS,
        initial=1,
        help_text=_("Higher layers override lower ones."),
    )
    kind = forms.ChoiceField(label=_("Kind"), choices=KINDS, initial="rotate", widget=forms.RadioSelect)
    users = OrderedField(label=_("People, in order"), min_rows=2, required=False)
    roles = OrderedField(label=_("Roles"), required=False)
    every = forms.IntegerField(
        label=_("Rotates every (handoff)"), min_value=1, max_value=10000, initial=1, required=False
    )
    unit = forms.ChoiceField(label=_("Unit"), choices=UNITS, initial="w", required=False)
    weekday = forms.ChoiceField(label=_("on"), choices=[("", "–"), *DAYS], required=False)
    month_day = forms.IntegerField(label=_("on day of month"), min_value=1, max_value=31, required=False)
    at = forms.TimeField(
        label=pgettext_lazy("time of day", "at"),
        initial="09:00",
        required=False,
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
    )
    move = forms.IntegerField(label=_("Rotation step"), min_value=1, max_value=1000, initial=1, required=False)
    always = forms.BooleanField(label=_("Always (24/7)"), initial=True, required=False)
    windows = WeeklyWindowsField(label=_("Hours"), required=False)
    begins = forms.CharField(
        label=_("From"), required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"})
    )
    ends = forms.CharField(label=_("To"), required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    weeks = forms.IntegerField(label=_("Repeats every (weeks)"), min_value=1, max_value=MAX_WEEKS, required=False)
    url = forms.CharField(
        label=_("Calendar URL"),
        max_length=2000,
        required=False,
        help_text=_("After saving, only the host is shown. Leave it unchanged to keep the URL."),
    )
    start_day = forms.CharField(label=_("Starts on"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    start_time = forms.CharField(label=_("at"), required=False, widget=forms.TimeInput(attrs={"type": "time"}))
    end_day = forms.CharField(label=_("Ends on"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    end_time = forms.CharField(label=_("at"), required=False, widget=forms.TimeInput(attrs={"type": "time"}))
    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        required=False,
        choices=lambda: [("", ""), *zones()],
        widget=ZoneSelect(unset=_("Same as the schedule")),
    )
    holidays = forms.ChoiceField(label=_("On holidays"), choices=HOLIDAYS, required=False)

    def __init__(self, *args: Any, people: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _options(self.fields["users"], people)
        _options(self.fields["roles"], [*ROLES, (schedules.OWN_ROLES, gettext("Own role in the group"))])

    @property
    def opens_details(self) -> bool:
        """Whether a rarely used field is set or has an error, so that the section opens."""
        names = ("end_day", "end_time", "time_zone", "move", "holidays")
        defaults = ("", None, "1", 1, str(OnHolidays.RUN), OnHolidays.RUN)
        return any(self[name].value() not in defaults or self[name].errors for name in names)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cleaned_data
        if data.get("always"):
            self.errors.pop("windows", None)
            data["windows"] = []
        return data

    def spec(self) -> dict[str, Any]:
        """Return the shift in spec form."""
        data = self.cleaned_data
        spec: dict[str, Any] = {"name": data["name"], "layer": data["layer"]}
        people = {"users": data["users"], "roles": data["roles"] or ["primary"]}
        match data["kind"]:
            case "rotate":
                spec["rotate"] = self._rotation() | people
            case "fixed":
                spec["fixed"] = {"windows": ALWAYS if data["always"] else data["windows"]} | people | self._weeks()
            case "once":
                spec["fixed"] = {"from": data["begins"], "to": data["ends"]} | people | self._weeks()
            case _:
                spec["calendar"] = {"url": data["url"], "roles": people["roles"]}
        for key in ("start", "end"):
            if text := "T".join(part for part in (data[f"{key}_day"], data[f"{key}_time"]) if part):
                spec[key] = text
        if data["time_zone"]:
            spec["time_zone"] = data["time_zone"]
        if data["holidays"] and data["holidays"] != OnHolidays.RUN:
            spec["holidays"] = data["holidays"]
        return spec

    def _rotation(self) -> dict[str, Any]:
        data = self.cleaned_data
        count, unit = data["every"] or 1, data["unit"]
        months = f"{count} month{'s' if count > 1 else ''}"
        rotation: dict[str, Any] = {"every": months if unit == "months" else f"{count}{unit}"}
        rotation["at"] = f"{data['at']:%H:%M}" if data["at"] else None
        if unit == "months" and data["month_day"]:
            rotation["on"] = data["month_day"]
        elif unit in ("w", "months") and data["weekday"]:
            rotation["on"] = data["weekday"]
        if data["move"]:
            rotation["move"] = data["move"]
        if data["windows"]:
            rotation["windows"] = data["windows"]
        return rotation

    def _weeks(self) -> dict[str, Any]:
        weeks = self.cleaned_data["weeks"]
        return {"every": f"{weeks}w"} if weeks else {}

    def add_problem(self, path: str, text: str) -> None:
        """Show a problem of the shift's spec beside the field for its path."""
        field = next((name for beginning, name in _PLACES if re.match(rf"{re.escape(beginning)}\b", path)), None)
        self.add_error(field, text)


class ShiftFormSet(FilledFormSet[ShiftForm]):
    """The shifts in the order of the schedule."""

    #: The initial values of a shift that the user adds.
    new_shift: Mapping[str, Any] = {}

    def get_form_kwargs(self, index: int | None) -> dict[str, Any]:
        """Return the keyword arguments of a form; an added shift has its own initial values."""
        return super().get_form_kwargs(index) | ({"initial": dict(self.new_shift)} if index is None else {})


def shifts_formset(data: Any, initial: Iterable[Mapping[str, Any]], new_shift: Mapping[str, Any]) -> ShiftFormSet:
    """Return the formset of a schedule's shifts. `new_shift` has the initial values of one that the user adds."""
    made = formset_class(ShiftForm, ShiftFormSet, max_num=MAX_SHIFTS, absolute_max=2 * MAX_SHIFTS, validate_max=True)
    people = [(user.username, _person(user)) for user in User.objects.order_by("name", "username")]
    formset = made(data, initial=list(initial), prefix="shifts", form_kwargs={"people": people})
    formset.new_shift = new_shift
    return formset


def initial_shift(shift: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a shift's form from its spec."""
    kind = schedules.kind_of(shift)
    details = shift[kind]
    windows = details.get("windows", [])
    is_always = windows == ALWAYS or (kind == "rotate" and not windows)
    values: dict[str, Any] = {
        "name": shift["name"],
        "layer": shift.get("layer", 1),
        "kind": "once" if kind == "fixed" and "windows" not in details else kind,
        "users": details.get("users", []),
        "roles": details.get("roles", []),
        "always": is_always,
        "windows": [] if is_always else windows,
        "time_zone": shift.get("time_zone", ""),
        "holidays": shift.get("holidays", OnHolidays.RUN),
        "url": details.get("url", ""),
        "begins": details.get("from", ""),
        "ends": details.get("to", ""),
    }
    for key in ("start", "end"):
        values[f"{key}_day"], _sign, values[f"{key}_time"] = shift.get(key, "").partition("T")
    if kind == "rotate":
        on = details.get("on", "")
        values |= _initial_every(details["every"]) | {"at": details["at"], "move": details.get("move", 1)}
        values |= {"month_day": on, "weekday": ""} if isinstance(on, int) else {"weekday": on[:3], "month_day": None}
    elif "every" in details:
        values["weeks"] = durations.parse(details["every"]) // timedelta(weeks=1)
    return values


def show_problems(rejected: Rejected, form: ScheduleForm, shifts: Sequence[ShiftForm]) -> None:
    """Show problems of a shift beside its fields, all others beside the schedule's fields."""
    for problem in problems_of(rejected):
        path = problem.field or ""
        match = re.fullmatch(r"shifts\[(\d+)\]\.?(.*)", path)
        if match and int(match[1]) < len(shifts):
            shifts[int(match[1])].add_problem(match[2], field_error_text(problem))
        else:
            show_rejection(form, problem)


def _initial_every(text: str) -> dict[str, Any]:
    every = schedules.parse_handoff_interval(text)
    if isinstance(every, MonthInterval):
        return {"every": every.count, "unit": "months"}
    unit = next(name for name, span in _SPANS.items() if every % span == timedelta())
    return {"every": every // _SPANS[unit], "unit": unit}


def _options(field: forms.Field, options: Sequence[tuple[str, Any]]) -> None:
    assert isinstance(field.widget, OrderedSelect)
    field.widget.options = options


def _person(user: User) -> str:
    return user.display_name if user.is_active else gettext("%(name)s (deactivated)") % {"name": user.display_name}
