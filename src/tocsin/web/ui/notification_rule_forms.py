"""Formset for notification rules: contact method, delay after the step, and repetitions.

Used for a user's notification rules and for escalation steps that override them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.web.ui.forms import DurationField

type ChoiceList = Sequence[tuple[Any, Any]]

#: Maximum number of rows.
MAX_RULE_ROWS = 20


class NotificationRuleForm(forms.Form):
    """One row. A row without a contact method is empty and ignored."""

    method = forms.ChoiceField(label=_("Contact method"), required=False)
    wait = DurationField(label=_("Delay"), required=False)
    times = forms.IntegerField(label=_("Repeats"), min_value=0, max_value=100, required=False)
    every = DurationField(label=_("Interval"), required=False)

    def __init__(self, *args: Any, choices: ChoiceList = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["method"].choices = [("", "–"), *choices]  # type: ignore[attr-defined]
        for name, placeholder in (("wait", "0m"), ("times", "0"), ("every", "5m")):
            self.fields[name].widget.attrs["placeholder"] = placeholder

    def spec(self) -> dict[str, Any]:
        """Return the row as a rule spec, without its contact method."""
        data = self.cleaned_data
        rule: dict[str, Any] = {"wait": data["wait"]} if data["wait"] else {}
        if data["times"]:
            rule["repeat"] = {"times": data["times"], "every": data["every"] or None}
        return rule


if TYPE_CHECKING:
    _FormSet = forms.BaseFormSet[NotificationRuleForm]
else:
    _FormSet = forms.BaseFormSet


class NotificationRuleFormSet(_FormSet):
    """The rows in order."""

    def filled_rows(self) -> list[tuple[str, NotificationRuleForm]]:
        """Return (contact method, form) of the rows that are not empty."""
        return [(form.cleaned_data["method"], form) for form in self.forms if form.cleaned_data.get("method")]


def rule_formset(
    data: Any, initial: Iterable[Mapping[str, Any]], prefix: str, choices: ChoiceList, *, extra: int = 1
) -> NotificationRuleFormSet:
    """Return the formset, with `extra` empty rows at its end."""
    formset_class = forms.formset_factory(
        NotificationRuleForm,
        formset=NotificationRuleFormSet,
        extra=extra,
        max_num=MAX_RULE_ROWS,
        absolute_max=MAX_RULE_ROWS,
    )
    posted = data
    if data is not None and f"{prefix}-TOTAL_FORMS" not in data:
        posted = {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}  # posted without these rows
    return formset_class(  # type: ignore[return-value] # returns a subclass of the given formset
        posted, initial=list(initial), prefix=prefix, form_kwargs={"choices": choices}
    )


def initial_rule(method: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a row for a rule in spec form."""
    repeat = rule.get("repeat", {})
    return {
        "method": method,
        "wait": rule.get("wait", ""),
        "times": repeat.get("times") or None,
        "every": repeat.get("every", ""),
    }
