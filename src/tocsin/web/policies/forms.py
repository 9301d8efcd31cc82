"""An escalation policy as a form: its settings, and its steps one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.escalation.policy import MOST_STEPS, AcknowledgeEffect
from tocsin.people.members import MemberRole
from tocsin.people.models import Group, GroupContact, User
from tocsin.web.alerts.forms import PRIORITIES
from tocsin.web.forms import DurationField

EFFECTS = [
    (AcknowledgeEffect.STOP, _("stop, as PagerDuty and Opsgenie do")),
    (AcknowledgeEffect.PAUSE, _("pause for a while")),
    (AcknowledgeEffect.CONTINUE, _("keep escalating until somebody takes it, as AlertOps does")),
]

ROLES = [
    (MemberRole.PRIMARY, _("primary")),
    (MemberRole.SECONDARY, _("secondary")),
    (MemberRole.MANAGER, _("manager")),
]


class PolicyForm(forms.Form):
    """Everything but the steps."""

    name = forms.CharField(label=_("Name"), max_length=100)
    group = forms.ModelChoiceField(
        Group.objects.all(), label=_("Owned by"), required=False, empty_label=_("Administrators only")
    )
    default_priority = forms.ChoiceField(
        label=_("Priority, when the message says none"), choices=PRIORITIES, initial="high"
    )
    effect = forms.ChoiceField(
        label=_("When someone acknowledges"),
        choices=EFFECTS,
        widget=forms.RadioSelect,
        initial=AcknowledgeEffect.STOP,
    )
    pause = DurationField(label=_("Pause for"), required=False, help_text=_("Only for “pause”. Such as 15m."))
    timeout = DurationField(
        label=_("Ask “Still on it?” after"),
        initial="30m",
        help_text=_("Five minutes without an answer, and escalation starts again."),
    )
    repeat_times = forms.IntegerField(label=_("Further passes"), min_value=0, max_value=100, initial=0)
    repeat_every = DurationField(
        label=_("… this far apart"), required=False, help_text=_("From the beginning of a pass's last step.")
    )

    def spec(self) -> dict[str, Any]:
        """The settings in a spec's shape."""
        data = self.cleaned_data
        acknowledge: dict[str, Any] = {"effect": data["effect"], "timeout": data["timeout"]}
        if data["effect"] == AcknowledgeEffect.PAUSE and data["pause"]:
            acknowledge["pause"] = data["pause"]
        found: dict[str, Any] = {
            "name": data["name"],
            "default_priority": data["default_priority"],
            "acknowledge": acknowledge,
        }
        if data["group"]:
            found["group"] = data["group"].name
        if data["repeat_times"]:
            found["repeat"] = {"times": data["repeat_times"], "every": data["repeat_every"] or None}
        return found


class StepForm(forms.Form):
    """Whom one step notifies, and when."""

    after = DurationField(label=_("After the step before"), required=False, help_text=_("Such as 5m; 0 at once."))
    roles = forms.MultipleChoiceField(
        label=_("Whoever is"), choices=ROLES, required=False, widget=forms.CheckboxSelectMultiple
    )
    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        label=_("… in these groups"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None: the recipient groups of the alert."),
    )
    users = forms.ModelMultipleChoiceField(
        User.objects.filter(is_active=True).order_by("name", "username"),
        label=_("And these users"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    contacts = forms.MultipleChoiceField(
        label=_("And these group contacts"), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        labels = GroupContact.objects.order_by("label").values_list("label", flat=True).distinct()
        choices = [(label, label) for label in labels]
        self.fields["contacts"].choices = choices  # type: ignore[attr-defined]
        for name in ("groups", "contacts"):
            if not self.fields[name].choices:  # type: ignore[attr-defined]
                self.fields[name].widget = forms.MultipleHiddenInput()

    def is_empty(self) -> bool:
        """Whether nobody wrote anything here."""
        return not any(self.cleaned_data.get(name) for name in ("roles", "groups", "users", "contacts", "after"))

    def spec(self) -> dict[str, Any]:
        """The step in a spec's shape."""
        data = self.cleaned_data
        notify = {
            "roles": list(data["roles"]),
            "groups": [group.name for group in data["groups"]],
            "users": [user.username for user in data["users"]],
            "group_contacts": list(data["contacts"]),
        }
        return {"notify": {key: names for key, names in notify.items() if names}, "after": data["after"] or "0"}


if TYPE_CHECKING:
    _FormSet = forms.BaseFormSet[StepForm]
else:
    _FormSet = forms.BaseFormSet


class _Steps(_FormSet):
    """The steps in order."""

    def kept(self) -> list[StepForm]:
        """The steps that stay, without empty ones."""
        return [form for form in self.forms if not form.cleaned_data.get("DELETE") and not form.is_empty()]


def steps_formset(extra: int) -> type[_Steps]:
    """The formset with so many empty steps at its end."""
    return forms.formset_factory(  # type: ignore[return-value] # a subclass of the formset that it is given
        StepForm, formset=_Steps, extra=extra, can_delete=True, max_num=MOST_STEPS, absolute_max=MOST_STEPS + 5
    )


def initial_policy(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings begin with."""
    acknowledge, repeat = spec.get("acknowledge", {}), spec.get("repeat", {})
    return {
        "name": spec["name"],
        "group": Group.objects.filter(name=spec.get("group", "")).first(),
        "default_priority": spec.get("default_priority"),
        "effect": acknowledge.get("effect"),
        "pause": acknowledge.get("pause", ""),
        "timeout": acknowledge.get("timeout"),
        "repeat_times": repeat.get("times", 0),
        "repeat_every": repeat.get("every", ""),
    }


def initial_steps(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the steps begin with."""
    users = dict(User.objects.values_list("username", "pk"))
    groups = dict(Group.objects.values_list("name", "pk"))
    return [
        {
            "after": step.get("after", ""),
            "roles": step["notify"].get("roles", []),
            "groups": [groups[name] for name in step["notify"].get("groups", []) if name in groups],
            "users": [users[name] for name in step["notify"].get("users", []) if name in users],
            "contacts": step["notify"].get("group_contacts", []),
        }
        for step in spec["steps"]
    ]
