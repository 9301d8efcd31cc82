"""Forms of a schedule and its shifts, converted from and to specs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext, ngettext, pgettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from tocsin.core.errors import Rejected
from tocsin.core.reasons import local_duration
from tocsin.core.validation import inputs
from tocsin.oncall.calculation import schedules, weekly_windows
from tocsin.oncall.calculation.schedules import MonthInterval, OnHolidays
from tocsin.oncall.changes.specs import MAX_LAYERS, MAX_WEEKS
from tocsin.oncall.models import HolidayCalendar
from tocsin.people.models import Group, Membership, User
from tocsin.web.policies import DAYS as DAY_NAMES
from tocsin.web.ui.forms import (
    ROLES,
    FilledFormSet,
    ZoneField,
    ZoneSelect,
    checkboxes,
    formset_class,
    picker_time,
    show_rejection,
    zones,
)

# ---------- describe shift
# Describes stored shifts in sentences. Pure except for the user's language.

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: The weekly windows in spec form that leave nothing out.
ALWAYS = [{"days": [*DAYS], "from": "00:00", "to": "24:00"}]


@dataclass(frozen=True, slots=True)
class ShiftLine:
    name: str
    #: None if all shifts are in one layer.
    layer: int | None
    text: str


def lines(definition: Mapping[str, Any], names: Mapping[int, str]) -> list[ShiftLine]:
    """Return the shifts of a schedule definition, highest layer first. `names` is {user id: display name}."""
    stored = sorted(definition["shifts"], key=lambda shift: -shift.get("layer", 1))
    several = len({shift.get("layer", 1) for shift in stored}) > 1
    return [
        ShiftLine(shift["name"], shift.get("layer", 1) if several else None, describe(shift, names)) for shift in stored
    ]


def describe(stored: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """Describe a shift, such as "Alice, then Bob: each week on Monday at 09:00. primary, then secondary. From 5 January
    2026" with a final full stop."""
    kind = schedules.kind_of(stored)
    details = stored[kind]
    users = [names.get(user, "?") for user in details.get("users", ())]
    describe_kind = {"rotate": _rotation, "fixed": _fixed}.get(kind)
    parts = [describe_kind(details, users) if describe_kind else gettext("From an iCal calendar.")]
    parts.append(_roles(details["roles"], is_sequence=kind == "rotate"))
    if "time_zone" in stored:
        parts.append(gettext("In %(zone)s.") % {"zone": stored["time_zone"]})
    if stored.get("holidays") == OnHolidays.SKIP:
        parts.append(gettext("Not on holidays."))
    elif stored.get("holidays") == OnHolidays.ONLY:
        parts.append(gettext("Only on holidays."))
    if "start" in stored:
        parts.append(gettext("From %(day)s.") % {"day": _day(stored["start"])})
    if "end" in stored:
        parts.append(gettext("Until %(day)s.") % {"day": _day(stored["end"])})
    return " ".join(parts)


def role_name(role: str) -> str:
    return str(dict[str, Any](ROLES).get(role, role))


def _rotation(details: Mapping[str, Any], users: list[str]) -> str:
    names = gettext(", then ").join(users) or gettext("No one")
    timing = _every(details)
    move = details.get("move", 1)
    if move != 1:
        timing = f"{timing}, " + ngettext("rotation step %(count)d", "rotation step %(count)d", move) % {"count": move}
    if "windows" in details:
        timing = f"{timing}; " + gettext("only %(windows)s") % {"windows": describe_windows(details["windows"])}
    return f"{names}: {timing}."


def _every(details: Mapping[str, Any]) -> str:
    every, at, on = schedules.parse_handoff_interval(details["every"]), details["at"], details.get("on")
    if isinstance(every, MonthInterval):
        interval = ngettext("every month", "every %(count)d months", every.count) % {"count": every.count}
        if isinstance(on, str):
            interval = gettext("%(often)s on the first %(day)s") % {"often": interval, "day": _long_day(on)}
        elif on:
            interval = gettext("%(often)s on day %(day)s") % {"often": interval, "day": on}
    elif every % timedelta(weeks=1) == timedelta():
        count = every // timedelta(weeks=1)
        interval = ngettext("every week", "every %(count)d weeks", count) % {"count": count}
        if on:
            interval = gettext("%(often)s on %(day)s") % {"often": interval, "day": _long_day(on)}
    elif every == timedelta(days=1):
        interval = gettext("every day")
    elif every == timedelta(hours=1):
        interval = gettext("every hour")
    else:
        interval = gettext("every %(span)s") % {"span": local_duration(every)}
    return gettext("%(often)s at %(time)s") % {"often": interval, "time": at}


def _fixed(details: Mapping[str, Any], users: list[str]) -> str:
    names = ", ".join(users) or gettext("No one")
    if "windows" in details:
        timing = describe_windows(details["windows"])
    else:
        timing = f"{_moment(details['from'])} – {_moment(details['to'])}"
    if "every" in details:
        count = inputs.parse_duration(details["every"]) // timedelta(weeks=1)
        timing = f"{timing}, " + ngettext("every week", "every %(count)d weeks", count) % {"count": count}
    return f"{names}: {timing}."


def describe_windows(stored: Iterable[Mapping[str, Any]]) -> str:
    """Describe weekly windows in spec form, such as "Mon–Fri 08:00–18:00, Sat 09:00–12:00"."""
    windows = list(stored)
    return gettext("24/7") if windows == ALWAYS else ", ".join(map(_window, windows))


def _window(window: Mapping[str, Any]) -> str:
    if "days" not in window:
        (first, begins), (last, ends) = (str(window[key]).split(" ") for key in ("from", "to"))
        return f"{_short_day(first)} {begins} – {_short_day(last)} {ends}"
    if window["from"] == "00:00" and window["to"] == "24:00":
        return _days(window["days"])
    return f"{_days(window['days'])} {window['from']}–{window['to']}"


def _days(days: list[str]) -> str:
    """Describe a set of weekdays, such as "Mon–Fri", "Sat, Sun" or "every day". Three or more in a row become a
    range."""
    numbers = [DAYS.index(day) for day in days]
    if len(numbers) == len(DAYS):
        return gettext("every day")
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    labels = [
        [f"{_short_day(DAYS[run[0]])}–{_short_day(DAYS[run[-1]])}"]
        if len(run) > 2
        else [_short_day(DAYS[number]) for number in run]
        for run in runs
    ]
    return ", ".join(text for run_labels in labels for text in run_labels)


def _roles(roles: list[str], *, is_sequence: bool) -> str:
    if roles == [schedules.OWN_ROLES]:
        return gettext("Everyone in their own role.")
    names = [role_name(role) for role in roles]
    text = gettext(", then ").join(names) if is_sequence else ", ".join(names)
    return f"{text[:1].upper()}{text[1:]}."


def _date_of_weekday(day: str) -> date:
    return date(2024, 1, 1 + weekly_windows.parse_weekday(day).number)  # 1 January 2024 was a Monday


def _short_day(day: str) -> str:
    return date_format(_date_of_weekday(day), "D")


def _long_day(day: str) -> str:
    return date_format(_date_of_weekday(day), "l")


def _day(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return date_format(moment, pgettext("date format", "j M Y")) if len(text) == len("2026-01-05") else _moment(text)


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{date_format(moment, pgettext('date format', 'D j M Y'))} {moment:%H:%M}"


def day(at: date) -> str:
    """Format a date as "Mon 30 Nov", in the language's own format."""
    return date_format(at, pgettext("date format", "D j M"))


def format_period(since: datetime | None, until: datetime | None) -> str:
    """Format a period, such as "Mon 30 Nov 09:00 – Mon 7 Dec 09:00", in the user's zone. An open end is written out."""
    return f"{_moment_or(since, gettext('no start date'))} – {_moment_or(until, gettext('no end date'))}"


def _moment_or(at: datetime | None, missing: str) -> str:
    if at is None:
        return missing
    local_time = timezone.localtime(at)
    return f"{day(local_time)} {local_time.strftime('%H:%M')}"


# ---------- widgets
# Fields for ordered lists and weekly windows: plain selects and inputs, which a script enhances.

#: Maximum number of items in one field.
MAX_FIELD_ITEMS = 200


class OrderedSelect(forms.Widget):
    """One select per item and empty ones at the end. The order of the selects is the order of the value."""

    template_name = "oncall/widgets/ordered.html"

    def __init__(self, *, min_rows: int, add: Any, attrs: Mapping[str, Any] | None = None) -> None:
        super().__init__(dict(attrs or {}))
        self.options: Sequence[tuple[str, Any]] = ()
        self.min_rows, self.add = min_rows, add

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        """Return the selected keys in order, without empty ones."""
        return [text for text in _list(data, name) if text]

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        """An empty order posts nothing, so a missing value means an empty list."""
        return False

    def id_for_label(self, id_: str) -> str:
        """Return the id of the first select."""
        return f"{id_}_0" if id_ else id_

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        selected = list(value or ())
        option_keys = {key for key, _label in self.options}
        # A selected item that is no longer an option stays visible; the command rejects it if it is kept.
        options = [*self.options, *((key, key) for key in dict.fromkeys(selected) if key not in option_keys)]
        rows = [*selected, *[""] * max(1, self.min_rows - len(selected))]
        return context | {"rows": rows, "options": options, "add": self.add}


class OrderedField(forms.Field):
    widget: OrderedSelect

    def __init__(self, *, min_rows: int = 1, add: Any = "", **options: Any) -> None:
        super().__init__(widget=OrderedSelect(min_rows=min_rows, add=add), **options)

    def to_python(self, value: Any) -> list[str]:
        """Return the keys. The command validates them."""
        return list(value or ())[:MAX_FIELD_ITEMS]


class WeeklyWindowsWidget(forms.Widget):
    """Weekly windows, one per row, with an empty row at the end."""

    template_name = "oncall/widgets/windows.html"

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        """Return the posted rows, without empty ones."""
        rows = []
        for number in range(MAX_FIELD_ITEMS):
            row = {
                "days": [day for day in _list(data, f"{name}-{number}-days") if day in DAYS],
                "begins": data.get(f"{name}-{number}-begins"),
                "until": data.get(f"{name}-{number}-until", ""),
                "ends": data.get(f"{name}-{number}-ends", ""),
            }
            if row["begins"] is None:
                break
            if row["days"] or row["begins"] or row["ends"]:
                rows.append(row)
        return rows

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        """A form without windows posts an empty row, so a value is never omitted."""
        return False

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        blank = {"days": [], "begins": "", "until": "", "ends": ""}
        return context | {"rows": [*(value or ()), blank], "days": DAY_NAMES}


class WeeklyWindowsField(forms.Field):
    """Weekly windows in spec form."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=WeeklyWindowsWidget(), **options)

    def to_python(self, value: Any) -> list[dict[str, Any]]:
        """Return the windows in spec form. An end at midnight becomes 24:00."""
        return [self._window(row) for row in value or ()]

    def prepare_value(self, value: Any) -> Any:
        """Return rows, from windows in spec form or from posted rows."""
        return [row if "begins" in row else _row(row) for row in value or ()]

    def _window(self, row: Mapping[str, Any]) -> dict[str, Any]:
        days, begins, until, ends = row["days"], row["begins"], row["until"], row["ends"]
        if not days:
            raise forms.ValidationError(gettext("Choose at least one day."))
        if until:
            if len(days) > 1:
                raise forms.ValidationError(gettext("A window that ends on another day must start on a single day."))
            return {"from": f"{days[0]} {begins or '00:00'}", "to": f"{until} {ends or '00:00'}"}
        return {"days": days, "from": begins or "00:00", "to": "24:00" if ends in ("", "00:00") else ends}


def _row(window: Mapping[str, Any]) -> dict[str, Any]:
    if "days" in window:
        return {
            "days": list(window["days"]), "begins": window["from"], "until": "", "ends": picker_time(window["to"]),
        }  # fmt: skip
    (first, begins), (last, ends) = (str(window[key]).split(" ") for key in ("from", "to"))
    return {"days": [first], "begins": begins, "until": last, "ends": ends}


def _list(data: Any, name: str) -> list[str]:
    if hasattr(data, "getlist"):
        return [str(text) for text in data.getlist(name)][:MAX_FIELD_ITEMS]
    value = data.get(name, [])
    return list(value) if isinstance(value, list | tuple) else [value]


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
_PLACES = {
    "rotate.every": "every", "rotate.at": "at", "rotate.on": "weekday", "rotate.move": "move",
    "rotate.users": "users", "rotate.roles": "roles", "rotate.windows": "windows",
    "fixed.every": "weeks", "fixed.users": "users", "fixed.roles": "roles", "fixed.windows": "windows",
    "fixed.from": "begins", "fixed.to": "ends", "calendar.url": "url", "calendar.roles": "roles",
    "start": "start_day", "end": "end_day",
}  # fmt: skip


class GroupSelect(forms.Select):
    """Select of a group. Each option carries the usernames of the members, whom the script offers as a shift's people
    when another group is chosen."""

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
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
    name = forms.CharField(label=_("Name"), max_length=100)
    group = forms.ModelChoiceField(Group.objects.all(), label=_("Group"), empty_label=None, widget=GroupSelect)
    time_zone = ZoneField()
    holiday_calendars = checkboxes(
        _("Holidays"),
        HolidayCalendar.objects.all(),
        help_text=_("Used by shifts that skip holidays or run only on holidays."),
    )

    handover_notes = forms.BooleanField(
        label=_("Handover notes"),
        required=False,
        initial=True,
        help_text=_("Email a handover note to the outgoing and the incoming user when the shift changes."),
    )

    def spec(self) -> dict[str, Any]:
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
    weekday = forms.ChoiceField(label=_("on"), choices=[("", "–"), *DAY_NAMES], required=False)
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


class ShiftFormSet(FilledFormSet[ShiftForm]):
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
        values["weeks"] = inputs.parse_duration(details["every"]) // timedelta(weeks=1)
    return values


def show_problems(rejected: Rejected, form: ScheduleForm, shifts: Sequence[ShiftForm]) -> None:
    """Show problems of a shift beside its fields, all others beside the schedule's fields."""
    show_rejection(form, rejected, rows={"shifts": shifts}, row_places=_PLACES)


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
