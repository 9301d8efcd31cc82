"""Formset for notification rules: contact method, delay after the step, and repetitions.

Used for a user's notification rules and for escalation steps that override them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.people.notification_rules import MAX_RULES
from tocsin.web.ui.forms import DurationField, FormSet, formset_class, set_choices

type ChoiceList = Sequence[tuple[Any, Any]]


class NotificationRuleForm(forms.Form):
    """One row. An empty row is ignored."""

    method = forms.ChoiceField(label=_("Contact method"), required=False)
    wait = DurationField(label=_("Delay"), required=False)
    times = forms.IntegerField(label=_("Repeats"), min_value=0, max_value=100, required=False)
    every = DurationField(label=_("Interval"), required=False)

    def __init__(self, *args: Any, choices: ChoiceList = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "method", [("", "–"), *choices])
        for name, placeholder in (("wait", "0m"), ("times", "0"), ("every", "5m")):
            self.fields[name].widget.attrs["placeholder"] = placeholder

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cleaned_data
        if not data.get("method") and any(data.get(name) for name in ("wait", "times", "every")):
            self.add_error("method", _("Choose a contact method."))
        if data.get("every") and data.get("times", 0) is None:
            self.add_error("times", _("Enter how many times it repeats."))
        return data

    def spec(self) -> dict[str, Any]:
        """Return the row as a rule spec, without its contact method."""
        data = self.cleaned_data
        rule: dict[str, Any] = {"wait": data["wait"]} if data["wait"] else {}
        if data["times"]:
            rule["repeat"] = {"times": data["times"], "every": data["every"] or None}
        return rule


class NotificationRuleFormSet(FormSet[NotificationRuleForm]):
    """The rows in order."""

    def filled_rows(self) -> list[tuple[str, NotificationRuleForm]]:
        """Return (contact method, form) of the rows that are not empty."""
        return [(form.cleaned_data["method"], form) for form in self.forms if form.cleaned_data.get("method")]


def rule_formset(
    data: Any, initial: Iterable[Mapping[str, Any]], prefix: str, choices: ChoiceList
) -> NotificationRuleFormSet:
    """Return the formset of the rules."""
    made = formset_class(
        NotificationRuleForm,
        NotificationRuleFormSet,
        max_num=MAX_RULES,
        absolute_max=2 * MAX_RULES,
        validate_max=True,
    )
    posted = data
    if data is not None and f"{prefix}-TOTAL_FORMS" not in data:
        posted = {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}  # posted without these rows
    return made(posted, initial=list(initial), prefix=prefix, form_kwargs={"choices": choices})


def initial_rule(method: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a row for a rule in spec form."""
    repeat = rule.get("repeat", {})
    return {
        "method": method,
        "wait": rule.get("wait", ""),
        "times": repeat.get("times") or None,
        "every": repeat.get("every", ""),
    }
