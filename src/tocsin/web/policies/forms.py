"""The form of an escalation policy, without its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.core.validation import durations
from tocsin.escalation.models import Policy
from tocsin.escalation.policy.policy import DEFAULT_END_AFTER, AcknowledgeEffect, OnExhausted
from tocsin.people.models import Group
from tocsin.web.ui.choices import PRIORITIES
from tocsin.web.ui.forms import DurationField, valid_values

EFFECTS = [
    (AcknowledgeEffect.STOP, _("Stop escalation (as in PagerDuty and Opsgenie)")),
    (AcknowledgeEffect.PAUSE, _("Pause escalation")),
    (AcknowledgeEffect.CONTINUE, _("Keep escalating until the alert is assigned (as in AlertOps)")),
]


EXHAUSTED_ACTIONS = [
    (OnExhausted.NOTIFY_MANAGERS, _("Notify the groups' managers")),
    (OnExhausted.REPEAT_LAST_STEP, _("Repeat the last step")),
    (OnExhausted.HAND_OVER, _("Hand over to another policy")),
    (OnExhausted.NOTHING, _("Do nothing (the alert stays red on Home)")),
]


class PolicyForm(forms.Form):
    """All settings except the steps."""

    name = forms.CharField(label=_("Name"), max_length=100)
    group = forms.ModelChoiceField(
        Group.objects.all(), label=_("Owned by"), required=False, empty_label=_("Administrators only")
    )
    default_priority = forms.ChoiceField(label=_("Default priority"), choices=PRIORITIES, initial="high")
    effect = forms.ChoiceField(
        label=_("On acknowledgement"),
        choices=EFFECTS,
        widget=forms.RadioSelect,
        initial=AcknowledgeEffect.STOP,
    )
    pause = DurationField(
        label=_("Pause for"), required=False, help_text=_("Only for “Pause escalation”. Example: 15m")
    )
    timeout = DurationField(
        label=_("Acknowledgement timeout"),
        initial="30m",
        help_text=_(
            "Responders are then asked “Still on it?”. Without an answer within 5 minutes, escalation restarts."
        ),
    )
    people = forms.IntegerField(
        label=_("Acknowledgements required"), min_value=1, max_value=20, initial=1, required=False
    )
    page_assignee = forms.BooleanField(
        label=_("Page the assignee"),
        required=False,
        initial=True,
        help_text=_(
            "Reassigning an alert pages its new assignee, who must accept it within the "
            "acknowledgement timeout. Otherwise escalation restarts."
        ),
    )
    repeat_times = forms.IntegerField(label=_("Repeat N times"), min_value=0, max_value=100, initial=0)
    repeat_every = DurationField(
        label=_("Repeat every"), required=False, help_text=_("Counted from the start of the last step.")
    )
    groups_sequential = DurationField(
        label=_("Escalate group by group, every"),
        required=False,
        help_text=_(
            "Leave empty to page all groups together. With 15m, all steps run for the first "
            "group, and 15 minutes later for the next."
        ),
    )
    respond_by = DurationField(
        label=_("SLA: respond within"),
        required=False,
        help_text=_("Used by workflows if the ticket has no respond-by time. Example: 15m"),
    )
    fix_by = DurationField(
        label=_("SLA: fix within"),
        required=False,
        help_text=_("Used by workflows if the ticket has no fix-by time. Example: 4h"),
    )
    end_after = DurationField(
        label=_("Exhausted after"),
        required=False,
        initial="5m",
        help_text=_("Counted from the start of the last step."),
    )
    then = forms.ChoiceField(
        label=_("When escalation is exhausted"),
        choices=EXHAUSTED_ACTIONS,
        widget=forms.RadioSelect,
        initial=OnExhausted.NOTIFY_MANAGERS,
        required=False,
    )
    keep_every = DurationField(
        label=_("Repeat last step every"), required=False, help_text=_("Only for “Repeat the last step”. Example: 15m")
    )
    hand_over = forms.ModelChoiceField(
        Policy.objects.all(), label=_("Hand over to"), required=False, empty_label=_("No policy")
    )
    anyway = forms.BooleanField(label=_("Save anyway (no one would be notified)"), required=False)

    def __init__(self, *args: Any, existing: Policy | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        other_policies = Policy.objects.exclude(pk=existing.pk) if existing else Policy.objects.all()
        self.fields["hand_over"].queryset = other_policies  # type: ignore[attr-defined]
        if "anyway" not in self.data:
            self.fields["anyway"].widget = forms.HiddenInput()

    @property
    def advanced(self) -> list[forms.BoundField]:
        """Return the settings that few policies change."""
        return [self[name] for name in self.fields if name not in ("name", "group", "anyway")]

    @property
    def changed_settings(self) -> list[str]:
        """Return those that differ from the default, each with its value, for the summary of the section."""
        changed = []
        for field in self.advanced:
            value = field.value()
            if _text(value) == _text(field.field.initial):
                continue
            shown = dict(getattr(field.field, "choices", ())).get(value, value)
            changed.append(f"{field.label}: {_('no') if value is False else shown or _('none')}")
        return changed

    @property
    def has_advanced_errors(self) -> bool:
        """Return whether such a setting has an error, so that the section opens."""
        return any(field.errors for field in self.advanced)

    def show_confirmation(self) -> None:
        """Offer to save the policy although it can reach nobody."""
        self.fields["anyway"].widget = forms.CheckboxInput()

    def spec(self) -> dict[str, Any]:
        """Return the settings in spec form. Fields with an error count as empty."""
        data = valid_values(self)
        acknowledge: dict[str, Any] = {"effect": data["effect"], "timeout": data["timeout"] or None}
        if data["effect"] == AcknowledgeEffect.PAUSE and data["pause"]:
            acknowledge["pause"] = data["pause"]
        values: dict[str, Any] = {
            "name": data["name"],
            "default_priority": data["default_priority"],
            "acknowledge": acknowledge,
        }
        if data["group"]:
            values["group"] = data["group"].name
        if data["people"] and data["people"] > 1:
            acknowledge["people"] = data["people"]
        if not data["page_assignee"]:
            values["page_assignee"] = False
        values |= {"groups_sequential": data["groups_sequential"] or None, "end_after": data["end_after"] or None}
        values |= {"end": self._end(data), "anyway": bool(data["anyway"]) or None}
        if sla := {key: data[key] for key in ("respond_by", "fix_by") if data[key]}:
            values["sla"] = sla
        if data["repeat_times"]:
            values["repeat"] = {"times": data["repeat_times"], "every": data["repeat_every"] or None}
        return values

    def _end(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        final_action = data["then"]
        if final_action == OnExhausted.REPEAT_LAST_STEP:
            return {"then": final_action, "every": data["keep_every"] or None}
        if final_action == OnExhausted.HAND_OVER:
            return {"then": final_action, "policy": data["hand_over"].name if data["hand_over"] else None}
        return {"then": final_action} if final_action == OnExhausted.NOTHING else None


def _text(value: object) -> str:
    return "" if value is None else str(value)


def initial_policy(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of the settings."""
    acknowledge, repeat, end = spec.get("acknowledge", {}), spec.get("repeat", {}), spec.get("end", {})
    return {
        "name": spec["name"],
        "group": Group.objects.filter(name=spec.get("group", "")).first(),
        "default_priority": spec.get("default_priority", "high"),
        "effect": acknowledge.get("effect", AcknowledgeEffect.STOP),
        "pause": acknowledge.get("pause", ""),
        "timeout": acknowledge.get("timeout", "30m"),
        "page_assignee": spec.get("page_assignee", True),
        "repeat_times": repeat.get("times", 0),
        "repeat_every": repeat.get("every", ""),
        "people": acknowledge.get("people", 1),
        **{key: spec.get("sla", {}).get(key, "") for key in ("respond_by", "fix_by")},
        "groups_sequential": spec.get("groups_sequential", ""),
        "end_after": spec.get("end_after", durations.write(DEFAULT_END_AFTER)),
        "then": end.get("then", OnExhausted.NOTIFY_MANAGERS),
        "keep_every": end.get("every", ""),
        "hand_over": Policy.objects.filter(name=end.get("policy", "")).first(),
    }
