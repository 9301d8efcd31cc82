"""Maintenance windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from tocsin.access import boundary
from tocsin.access.roles import Permission, Role
from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason, local_term
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
    reporting,
    require,
    requires,
)
from tocsin.web.integrations import condition_form
from tocsin.web.ui.confirm_delete import FormSnapshot, ObjectPage
from tocsin.web.ui.forms import CodeField, PairsField, SpecForm, checkboxes, set_choices, show_rejection
from tocsin.web.ui.object_list import ObjectList

# ---------- forms
# The form of a maintenance window, and its conversion to a spec.


def _comparisons() -> list[tuple[str, str]]:
    """Return (operator, label) of the comparisons offered in the condition row."""
    return [
        (str(operator), local_term(label))
        for operator, is_not, label in condition_form.OPERATOR_LABELS.values()
        if not is_not
    ]


#: Whether a window affects the selected integrations or all.
SELECTED, ALL = "selected", "all"


class WindowForm(SpecForm):
    """A maintenance window. Fields of other repetitions than the chosen one are hidden and ignored."""

    use_required_attribute = False

    scope = forms.ChoiceField(
        label=gettext_lazy("Which integrations"),
        choices=[
            (SELECTED, gettext_lazy("Only selected integrations")),
            (ALL, gettext_lazy("All integrations, later ones too")),
        ],
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Choose one.")},
    )
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
    tags = PairsField(" = ", attrs={"rows": 2, "placeholder": "environment = test"})
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
    layout = ("name", "action group")
    announce_to_clients = checkboxes(gettext_lazy("Clients"))
    placed = ("announce_to_clients", "scope", "weekdays", "month_days", "field", "operator", "value", "condition")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.data.get("anyway", "False") == "False":
            self.fields["anyway"].widget = forms.HiddenInput()
        #: What the entered window would do, once it is asked for.
        self.preview: dict[str, Any] = {}
        current = self.current
        groups = self.fields["announce_to"]
        assert isinstance(groups, forms.ModelMultipleChoiceField)
        groups.queryset = maintenance_windows.announcing_groups() | Group.objects.filter(
            name__in=current.get("announce_to", ())
        )
        names = dict.fromkeys([*current.get("announce_to_clients", ()), *maintenance_windows.subscribed_clients()])
        set_choices(self, "announce_to_clients", [(name, name) for name in names])
        self.initial["announce_to_clients"] = current.get("announce_to_clients", ())
        for key in ("starts", "ends"):
            self.initial[key] = current.get(key, "").replace(" ", "T")
        if current.get("integrations"):
            self.initial["scope"] = SELECTED
        elif "name" in current:
            self.initial["scope"] = ALL
        is_weekly, days = current.get("repeat") == Repeat.WEEKLY, current.get("days", ())
        self.initial.update({"weekdays": days} if is_weekly else {"month_days": ", ".join(days)})
        condition = current.get("when")
        if isinstance(condition, dict) and set(condition) <= {"field", "operator", "value"}:
            value = condition.get("value", "")
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            self.initial.update({**condition, "value": text})
        else:
            self.initial.update({"operator": Operator.EQUALS, "condition": condition_form.write(condition)})

    def full_clean(self) -> None:
        """Require only the fields of the chosen repetition."""
        is_once = self.data.get("repeat", Repeat.ONCE) == Repeat.ONCE
        times = {name: self.fields[name] for name in ("starts", "ends", "from")}
        for name, field in times.items():
            field.required = is_once is (name != "from")
        super().full_clean()
        for field in times.values():
            field.required = True

    def clean(self) -> dict[str, Any]:
        """Require at least one integration where not all are chosen. An empty list stands for all."""
        data = super().clean() or self.cleaned_data
        if data.get("scope") == SELECTED and not data.get("integrations"):
            self.add_error("integrations", _("Select at least one integration, or choose all integrations."))
        return data

    def spec(self) -> dict[str, Any]:
        """Return the window in spec form. Raises Rejected for an invalid condition."""
        data, spec = self.cleaned_data, super().spec()
        if data["scope"] == ALL:
            spec["integrations"] = None
        if "announce_to_clients" in data:
            spec["announce_to_clients"] = data["announce_to_clients"] or None
        is_once = data["repeat"] == Repeat.ONCE
        spec |= dict.fromkeys(("from", "to", "lasts", "first_day", "last_day") if is_once else ("starts", "ends"))
        days: list[str] = []
        if data["repeat"] == Repeat.WEEKLY:
            days = data["weekdays"]
        elif data["repeat"] == Repeat.MONTHLY:
            days = _parts(data["month_days"])
        return {**spec, "days": days or None, "when": self._condition(data), "anyway": data["anyway"] or None}

    @staticmethod
    def _condition(data: dict[str, Any]) -> Any:
        if data["condition"].strip():
            return condition_form.read(data["condition"], "when")
        if not data["field"].strip():
            return None
        comparison: dict[str, Any] = {"field": data["field"].strip(), "operator": data["operator"]}
        if data["operator"] == Operator.ONE_OF:
            return {**comparison, "value": _parts(data["value"])}
        return comparison if data["operator"] == Operator.EXISTS else {**comparison, "value": data["value"]}

    def show(self, rejected: Rejected) -> None:
        """Offer to save a window that covers most of the coming weeks all the same."""
        if rejected.code == "long_window":
            self.fields["anyway"].widget = forms.CheckboxInput()
        days = "weekdays" if self.cleaned_data.get("repeat") == Repeat.WEEKLY else "month_days"
        places = {"days": days, "when": "condition"}
        if self.cleaned_data.get("scope") == ALL:
            places["integrations"] = "scope"
        show_rejection(self, rejected, places)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


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


class WindowPage(ObjectPage[MaintenanceWindow]):
    """The form. "Preview" shows the effect of a window without saving it."""

    template = "maintenance/edit.html"
    partials = ("preview",)
    form_type = WindowForm
    new_title = gettext_lazy("New maintenance window")
    saved = gettext_lazy("%(name)s saved.")

    def begin(self, request: SignedInRequest) -> dict[str, Any]:
        integration_id = request.GET.get("integration", "")
        number = int(integration_id) if integration_id.isdecimal() and len(integration_id) < 10 else 0
        named = list(Integration.objects.filter(pk=number).values_list("name", flat=True))
        return {"time_zone": request.user.time_zone, "integrations": named}

    def form(self, request: SignedInRequest, row: MaintenanceWindow | None, named: Mapping[str, str]) -> WindowForm:
        form: WindowForm = super().form(request, row, named)
        if request.user.role != Role.ADMIN:
            # Clients' addresses leave the organisation.
            del form.fields["announce_to_clients"]
        return form

    def save(
        self, request: SignedInRequest, form: WindowForm, row: MaintenanceWindow | None, snapshot: FormSnapshot
    ) -> MaintenanceWindow | None:
        """Save the window if the user may change all integrations that it affects newly."""
        form.preview = _preview(form.spec(), request.now)
        if request.POST.get("do") == "preview":
            return None
        previous = maintenance_windows.affected(row) if row is not None else None
        with transaction.atomic():
            saved = super().save(request, form, row, snapshot)
            assert saved is not None
            owners = maintenance_windows.groups_newly_affected(saved, previous)
            if request.user.role != Role.ADMIN and owners and not saved.integrations:
                problem = _("Select integrations. Only administrators can include all of them.")
                raise Rejected("forbidden", as_reason(problem), "integrations")
            for owner in owners:
                require(request, Permission.MANAGE_ROUTING, owner)
        return saved

    def context(self, request: SignedInRequest, row: MaintenanceWindow | None, form: WindowForm) -> dict[str, Any]:
        preview = form.preview
        if row is not None and request.method != "POST":
            if problem := maintenance_windows.unreadable(row):
                messages.warning(request, problem.localized())
            else:
                preview = _preview(form.current, request.now)
        return {
            "is_previewed": True,
            "preview": preview,
            "can_end": row is not None and _can_end(row, request.now),
            "is_limited": boundary.current() is not None,
        }


edit = WindowPage(_LIST)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def end(request: SignedInRequest, number: int) -> HttpResponse:
    """End a one-time window that is active. The alerts that it delays open now."""
    row = find_editable(request, MAINTENANCE_WINDOWS, number)
    with reporting(request):
        maintenance_windows.end_now(row, actor=actor(request), now=request.now)
        messages.success(request, _("%(name)s ended.") % {"name": row.name})
    return redirect("maintenance")


def _preview(spec: Mapping[str, Any], now: datetime) -> dict[str, Any]:
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
