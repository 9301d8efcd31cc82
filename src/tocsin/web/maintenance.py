"""Maintenance windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access import boundary
from tocsin.access.roles import Permission, Role
from tocsin.core.errors import Rejected
from tocsin.core.locale_format import local_term
from tocsin.core.reasons import as_reason
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.conditions import Operator
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.maintenance import Repeat, TimeSpan, describe_times
from tocsin.inbound.models import Integration, MaintenanceWindow
from tocsin.oncall.calculation.weekly_windows import Weekday
from tocsin.people.changes.flat_objects import NamesById
from tocsin.people.models import Group
from tocsin.resources.registry import MAINTENANCE_WINDOWS
from tocsin.simulate import backtest
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_editable,
    offer_own_groups,
    render_view,
    require,
    requires,
)
from tocsin.web.integrations import condition_form
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import CodeField, ZoneField, offer_own_zone, show_rejection
from tocsin.web.ui.object_list import ObjectList

# ---------- forms
# The form of a maintenance window, and its conversion to a spec.


#: Path of a problem in the spec → form field.
PLACES = {"tags": "tags", "when": "condition", "to": "to_time", "from": "from_time", "lasts": "lasts"}


def _comparisons() -> list[tuple[str, str]]:
    """Return (operator, label) of the comparisons offered in the condition row."""
    return [
        (str(operator), local_term(label))
        for operator, is_not, label in condition_form.OPERATOR_LABELS.values()
        if not is_not
    ]


class WindowForm(forms.Form):
    """All fields of a maintenance window. Fields of other repetitions than the chosen one are hidden and ignored."""

    use_required_attribute = False

    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    action = forms.ChoiceField(
        label=gettext_lazy("Alert handling"),
        choices=(
            (WindowAction.SUPPRESS, gettext_lazy("Suppress")),
            (WindowAction.HOLD, gettext_lazy("Hold until end")),
        ),
    )
    repeat = forms.ChoiceField(
        label=gettext_lazy("Repeats"),
        choices=(
            (Repeat.ONCE, gettext_lazy("never")),
            (Repeat.DAILY, gettext_lazy("daily")),
            (Repeat.WEEKLY, gettext_lazy("weekly")),
            (Repeat.MONTHLY, gettext_lazy("monthly")),
        ),
    )
    time_zone = ZoneField()
    starts = forms.CharField(label=gettext_lazy("Starts"), widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    ends = forms.CharField(label=gettext_lazy("Ends"), widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    weekdays = forms.MultipleChoiceField(
        label=gettext_lazy("Days"),
        required=False,
        choices=[(one.short, WEEKDAYS[one.number]) for one in Weekday],
        widget=forms.CheckboxSelectMultiple,
    )
    month_days = forms.CharField(
        label=gettext_lazy("Days of the month"),
        required=False,
        max_length=200,
        help_text=gettext_lazy("Examples: 15, last day, 2nd tue, last sun. Separate several with commas."),
    )
    from_time = forms.CharField(label=gettext_lazy("From"), widget=forms.TimeInput(attrs={"type": "time"}))
    to_time = forms.CharField(
        label=gettext_lazy("To"),
        required=False,
        widget=forms.TimeInput(attrs={"type": "time"}),
        help_text=gettext_lazy("An end time before the start is on the next day."),
    )
    lasts = forms.CharField(
        label=gettext_lazy("Or duration"),
        required=False,
        max_length=20,
        help_text=gettext_lazy("Instead of an end time. Example: 8h"),
    )
    first_day = forms.CharField(
        label=gettext_lazy("First day"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    last_day = forms.CharField(
        label=gettext_lazy("Last day"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    integrations = forms.ModelMultipleChoiceField(
        Integration.objects.all(),
        label=gettext_lazy("Integrations"),
        required=False,
        help_text=gettext_lazy("Leave empty for all integrations."),
    )
    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        label=gettext_lazy("Recipient groups"),
        required=False,
        help_text=gettext_lazy("Leave empty for any group."),
    )
    tags = forms.CharField(
        label=gettext_lazy("Tags"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "environment = test"}),
        help_text=gettext_lazy("One per line. An alert must have all tags."),
    )
    field = forms.CharField(
        label=gettext_lazy("Field"),
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"placeholder": "client"}),
    )
    operator = forms.ChoiceField(label=gettext_lazy("Operator"), required=False, choices=_comparisons)
    value = forms.CharField(label=gettext_lazy("Value"), required=False, max_length=500)
    condition = CodeField(
        label=gettext_lazy("Condition as YAML"),
        required=False,
        rows=4,
        max_length=20_000,
        help_text=gettext_lazy("Same syntax as routes: all, any and not. Replaces the condition above."),
    )
    group = forms.ModelChoiceField(
        Group.objects.all(),
        label=gettext_lazy("Owned by"),
        required=False,
        empty_label=gettext_lazy("Administrators only"),
    )

    anyway = forms.BooleanField(label=gettext_lazy("Save anyway (alerts page no one for long)"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "anyway" not in self.data:
            self.fields["anyway"].widget = forms.HiddenInput()

    def show_confirmation(self) -> None:
        """Offer to save the window although it covers most of the coming weeks."""
        self.fields["anyway"].widget = forms.CheckboxInput()

    def full_clean(self) -> None:
        """Require only the fields of the chosen repetition."""
        is_once = self.data.get(self.add_prefix("repeat"), Repeat.ONCE) == Repeat.ONCE
        for name in ("starts", "ends", "from_time"):
            self.fields[name].required = is_once is (name != "from_time")
        super().full_clean()
        for name in ("starts", "ends", "from_time"):
            self.fields[name].required = True

    def spec(self) -> dict[str, Any]:
        """Return the window in spec form. Raises Rejected for invalid tags or an invalid condition."""
        data = self.cleaned_data
        owner = data["group"]
        return {
            "name": data["name"],
            "group": owner.name if owner else None,
            "action": data["action"],
            **self._times(data),
            "integrations": [item.name for item in data["integrations"]] or None,
            "groups": [item.name for item in data["groups"]] or None,
            "tags": _tags(data["tags"]),
            "when": self._condition(data),
            "anyway": data["anyway"] or None,
        }

    def _times(self, data: dict[str, Any]) -> dict[str, Any]:
        common = {"repeat": data["repeat"], "time_zone": data["time_zone"]}
        if data["repeat"] == Repeat.ONCE:
            return {**common, "starts": data["starts"] or None, "ends": data["ends"] or None}
        days: Any = None
        if data["repeat"] == Repeat.WEEKLY:
            days = data["weekdays"]
        elif data["repeat"] == Repeat.MONTHLY:
            days = [part.strip() for part in data["month_days"].split(",") if part.strip()]
        return {
            **common,
            "days": days or None,
            "from": data["from_time"][:5] or None,
            "to": data["to_time"][:5] or None,
            "lasts": data["lasts"] or None,
            "first_day": data["first_day"] or None,
            "last_day": data["last_day"] or None,
        }

    @staticmethod
    def _condition(data: dict[str, Any]) -> Any:
        if data["condition"].strip():
            return condition_form.read(data["condition"], "when")
        if not data["field"].strip():
            return None
        comparison: dict[str, Any] = {"field": data["field"].strip(), "operator": data["operator"]}
        if data["operator"] == Operator.ONE_OF:
            return {**comparison, "value": [part.strip() for part in data["value"].split(",") if part.strip()]}
        return comparison if data["operator"] == Operator.EXISTS else {**comparison, "value": data["value"]}


def initial(row: MaintenanceWindow) -> dict[str, Any]:
    """Return the initial values of a window's form."""
    times = row.times
    values: dict[str, Any] = {
        "name": row.name,
        "group": row.group_id,
        "action": row.action,
        "repeat": times.get("repeat", Repeat.ONCE),
        "time_zone": times["time_zone"],
        "starts": times.get("starts", "").replace(" ", "T"),
        "ends": times.get("ends", "").replace(" ", "T"),
        "from_time": times.get("from", ""),
        "to_time": times.get("to", ""),
        "lasts": times.get("lasts", ""),
        "first_day": times.get("first_day", ""),
        "last_day": times.get("last_day", ""),
        "anyway": times.get("anyway", False),
        "integrations": row.integrations,
        "groups": row.groups,
        "tags": "\n".join(f"{name} = {value}" for name, value in row.tags.items()),
    }
    weekly = times.get("repeat") == Repeat.WEEKLY
    days = times.get("days", [])
    values["weekdays" if weekly else "month_days"] = days if weekly else ", ".join(days)
    condition = row.condition
    if isinstance(condition, dict) and set(condition) <= {"field", "operator", "value"}:
        value = condition.get("value", "")
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        return {**values, "field": condition.get("field"), "operator": condition.get("operator"), "value": text}
    return values | ({"condition": condition_form.write(condition)} if condition is not None else {})


def _tags(text: str) -> dict[str, str] | None:
    tags = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise Rejected(
                "invalid",
                as_reason(_("“%(line)s” is not a valid tag. Use name = value.") % {"line": line[:60]}),
                "tags",
            )
        tags[name.strip()] = value.strip()
    return tags or None


# ---------- views
# Maintenance windows: the list, the form with a preview, ending one early, and the deletion.


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
    names = maintenance_windows.WINDOWS.names()
    waiting = maintenance_windows.count_delayed_alerts(rows)
    listed = [_listed(row, request.now, waiting.get(row.pk, 0), names) for row in rows]
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
        "suppressed": backtest.suppressed_alerts(maintenance_windows.compile_window(row), now),
        "holds": row.action == WindowAction.HOLD,
    }


def _listed(row: MaintenanceWindow, now: datetime, waiting: int, names: NamesById) -> WindowListRow:
    spans = maintenance_windows.next_times(row, now, 1)
    span = spans[0] if spans else None
    is_now = span is not None and span[0] <= now
    scope = [names["inbound.Integration"].get(object_id, "?") for object_id in row.integrations] or [
        _("all integrations")
    ]
    scope += [names["people.Group"].get(object_id, "?") for object_id in row.groups]
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
