"""Ways to reach people as rows of a form: which, how long after the step, and how often again. For notification rules
and for steps of policies that name their own ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.web.ui.forms import DurationField

type ChoiceList = Sequence[tuple[Any, Any]]

#: So many rows a list of ways has at most.
MAX_RULE_ROWS = 20


class NotificationRuleForm(forms.Form):
    """One row; without a way it is empty, and left out."""

    way = forms.ChoiceField(label=_("Way"), required=False)
    wait = DurationField(label=_("After"), required=False)
    times = forms.IntegerField(label=_("Again"), min_value=0, max_value=100, required=False)
    every = DurationField(label=_("Every"), required=False)

    def __init__(self, *args: Any, choices: ChoiceList = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["way"].choices = [("", "–"), *choices]  # type: ignore[attr-defined]
        for name, placeholder in (("wait", "0m"), ("times", "0"), ("every", "5m")):
            self.fields[name].widget.attrs["placeholder"] = placeholder

    def spec(self) -> dict[str, Any]:
        """The row in a rule's shape, without its way."""
        data = self.cleaned_data
        found: dict[str, Any] = {"wait": data["wait"]} if data["wait"] else {}
        if data["times"]:
            found["repeat"] = {"times": data["times"], "every": data["every"] or None}
        return found


if TYPE_CHECKING:
    _FormSet = forms.BaseFormSet[NotificationRuleForm]
else:
    _FormSet = forms.BaseFormSet


class NotificationRuleFormSet(_FormSet):
    """The rows in order."""

    def chosen(self) -> list[tuple[str, NotificationRuleForm]]:
        """The rows with a way."""
        return [(form.cleaned_data["way"], form) for form in self.forms if form.cleaned_data.get("way")]


def ways(
    data: Any, initial: Iterable[Mapping[str, Any]], prefix: str, choices: ChoiceList, *, spare: int = 1
) -> NotificationRuleFormSet:
    """The formset of a list of ways, with so many empty rows at its end."""
    kind = forms.formset_factory(
        NotificationRuleForm,
        formset=NotificationRuleFormSet,
        extra=spare,
        max_num=MAX_RULE_ROWS,
        absolute_max=MAX_RULE_ROWS,
    )
    sent = data
    if data is not None and f"{prefix}-TOTAL_FORMS" not in data:
        sent = {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}  # it was sent without these rows
    return kind(  # type: ignore[return-value] # a subclass of the formset that it is given
        sent, initial=list(initial), prefix=prefix, form_kwargs={"choices": choices}
    )


def initial_way(way: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    """What a row begins with, of a rule in a spec's shape."""
    repeat = rule.get("repeat", {})
    return {
        "way": way,
        "wait": rule.get("wait", ""),
        "times": repeat.get("times") or None,
        "every": repeat.get("every", ""),
    }
