"""The form of a maintenance window, and its conversion to a spec."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tocsin.core.errors import Rejected
from tocsin.core.locale_format import local_term
from tocsin.core.reasons import as_reason
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.expressions.comparisons import Operator
from tocsin.inbound.maintenance.recurrence import Repeat
from tocsin.inbound.models import Integration, MaintenanceWindow
from tocsin.oncall.calculation.weekly_windows import Weekday
from tocsin.people.models import Group
from tocsin.web.integrations.editor import condition_form, yaml_text
from tocsin.web.ui.forms import CodeField, ZoneField

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
            return yaml_text.read(data["condition"], "when")
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
    return values | ({"condition": yaml_text.write(condition)} if condition is not None else {})


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
