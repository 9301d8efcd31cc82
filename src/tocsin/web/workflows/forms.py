"""Forms of a workflow: its trigger and its ordered actions. They build the spec that the command validates.

Each form contains all fields; CSS shows those that apply to the selection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.escalation.models import Policy
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import ContactMethod, Group, User
from tocsin.web.ui.choices import PRIORITIES, ROLES
from tocsin.web.ui.forms import DurationField, FilledFormSet, formset_class, typed
from tocsin.workflows.definition.definition import KEYS, LIMIT, MAX_ACTIONS, MAX_LIMIT, SPANS
from tocsin.workflows.definition.descriptions import ACTION_NAMES
from tocsin.workflows.states import SLA, ActionKind, SlaMoment, TriggerKind

TRIGGERS = [
    (_("Events"), [
        (TriggerKind.OPENED, _("Alert created")),
        (TriggerKind.UPDATED, _("Alert updated")),
        (TriggerKind.STATUS_CHANGED, _("Alert or ticket status changed")),
        (TriggerKind.ACKNOWLEDGED, _("Alert acknowledged")),
        (TriggerKind.ASSIGNED, _("Alert assigned")),
        (TriggerKind.ESCALATED, _("Next escalation step fired")),
        (TriggerKind.EXHAUSTED, _("Escalation exhausted")),
        (TriggerKind.REPLY, _("Note added")),
        (TriggerKind.CLOSED, _("Alert closed")),
    ]),
    (_("Time-based"), [
        (TriggerKind.UNACKNOWLEDGED, _("Not acknowledged for …")),
        (TriggerKind.UNASSIGNED, _("Unassigned for …")),
        (TriggerKind.BEFORE_SLA, _("Before an SLA deadline")),
        (TriggerKind.AFTER_SLA, _("At or after an SLA deadline")),
        (TriggerKind.EVERY, _("Recurring, every …")),
    ]),
    (_("Manual"), [(TriggerKind.MANUAL, _("Button on the alert"))]),
]  # fmt: skip

MOMENTS = [
    (SlaMoment.FIX_BY, _("the fix-by time")),
    (SlaMoment.RESPOND_BY, _("the respond-by time")),
    (SlaMoment.OPENING, _("a fixed time after creation")),
]

ACTIONS = [
    (group, [(kind, _(ACTION_NAMES[kind])) for kind in kinds])
    for group, kinds in (
        (
            _("Notify and page"),
            (ActionKind.NOTIFY, ActionKind.ADD_RESPONDERS, ActionKind.ESCALATE, ActionKind.START_POLICY),
        ),
        (
            _("Alert"),
            (ActionKind.SET_PRIORITY, ActionKind.SET_TAGS, ActionKind.REPLY, ActionKind.HOLD, ActionKind.CLOSE),
        ),
        (_("External systems"), (ActionKind.HALO, ActionKind.CALL, ActionKind.OPEN_ALERT)),
        (_("Flow control"), (ActionKind.WAIT,)),
    )
]

#: Key in a spec → form field, where the two differ.
_FORM_FIELDS = {"for": "span"}
_WIDE = frozenset({"text", "subject"})


class WorkflowForm(forms.Form):
    """A workflow's name and trigger."""

    on = forms.ChoiceField(label=_("Event"), choices=TRIGGERS)
    span = DurationField(label=_("Duration"), required=False, help_text=_("Example: 5m, 1h or 2h30m"))
    moment = forms.ChoiceField(label=_("SLA deadline"), choices=MOMENTS, required=False)
    within = DurationField(label=_("Time after creation"), required=False, help_text=_("Example: 4h for your own SLA"))
    confirm = forms.CharField(
        label=_("Confirmation question"),
        max_length=300,
        required=False,
        help_text=_("Shown before the workflow runs. Leave empty to run it immediately."),
    )
    name = forms.CharField(label=_("Name"), max_length=100)
    group = forms.ModelChoiceField(
        Group.objects.all(),
        label=_("Owned by"),
        required=False,
        empty_label=_("Administrators only"),
        help_text=_("Managers of this group can edit it. It runs only on the group's alerts."),
    )
    limit = forms.IntegerField(
        label=_("Limit"),
        min_value=1,
        max_value=MAX_LIMIT,
        initial=LIMIT,
        required=False,
        help_text=_("Maximum calls, notes and alerts in 10 minutes. Further actions are skipped and logged."),
    )
    enabled = forms.BooleanField(label=_("Enabled"), required=False, initial=True)

    def spec(self) -> dict[str, Any]:
        """Return name and trigger in spec form."""
        data = self.cleaned_data
        kind = TriggerKind(data["on"])
        trigger: dict[str, Any] = {"on": str(kind)}
        if kind in SPANS and data["span"]:
            trigger[SPANS[kind]] = data["span"]
        if kind in SLA:
            trigger["moment"] = data["moment"] or str(SlaMoment.FIX_BY)
            if data["moment"] == SlaMoment.OPENING:
                trigger["within"] = data["within"] or None
        if kind is TriggerKind.MANUAL:
            trigger["confirm"] = data["confirm"] or None
        return {
            "name": data["name"],
            "group": data["group"].name if data["group"] else None,
            "enabled": data["enabled"],
            "limit": data["limit"] or LIMIT,
            "trigger": trigger,
        }

    #: Path of a problem in the spec → form field.
    PLACES: Mapping[str, str] = {
        **{f"trigger.{key}": "span" for key in SPANS.values()},
        "trigger.within": "within",
        "trigger.moment": "moment",
        "trigger.confirm": "confirm",
        "trigger": "on",
    }


def initial_workflow(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a workflow's form."""
    trigger = spec.get("trigger", {"on": "opened"})
    trigger = trigger if isinstance(trigger, Mapping) else {"on": trigger}
    span = next((trigger[key] for key in SPANS.values() if key in trigger), "")
    return {
        "name": spec.get("name", ""),
        "group": Group.objects.filter(name=spec.get("group", "")).first(),
        "enabled": spec.get("enabled", True),
        "limit": spec.get("limit", LIMIT),
        "on": trigger.get("on", "opened"),
        "span": span,
        "moment": trigger.get("moment", SlaMoment.FIX_BY),
        "within": trigger.get("within", ""),
        "confirm": trigger.get("confirm", ""),
    }


class ActionForm(forms.Form):
    """One action. Its type determines which fields apply."""

    do = forms.ChoiceField(label=_("Action"), choices=ACTIONS)
    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(), label=_("Groups"), required=False, widget=forms.CheckboxSelectMultiple
    )
    roles = forms.MultipleChoiceField(
        label=_("On-call role"),
        choices=ROLES,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Leave empty to include every member."),
    )
    users = forms.ModelMultipleChoiceField(
        User.objects.filter(is_active=True).order_by("name", "username"),
        label=_("Users"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    managers = forms.BooleanField(label=_("Managers of the alert's groups"), required=False)
    owner = forms.BooleanField(label=_("Assignee"), required=False)
    paged = forms.BooleanField(label=_("Everyone paged for this alert"), required=False)
    contacts = forms.BooleanField(label=_("Group contacts, such as a chat channel"), required=False)
    by = forms.ChoiceField(label=_("Contact method"), required=False)
    policy = forms.ModelChoiceField(Policy.objects.all(), label=_("Escalation policy"), required=False, empty_label="–")
    outbound = forms.ModelChoiceField(
        OutboundIntegration.objects.filter(kind="http"),
        label=_("Outbound integration"),
        required=False,
        empty_label="–",
        help_text=_("The request uses this alert's values."),
    )
    priority = forms.ChoiceField(label=_("Priority"), choices=[("", "–"), *PRIORITIES], required=False)
    span = DurationField(label=_("Duration"), required=False, help_text=_("Example: 10m or 2h"))
    tags = forms.CharField(
        label=_("Tags to set"),
        required=False,
        max_length=2000,
        help_text=_("Example: environment=production, team=web"),
    )
    remove = forms.CharField(
        label=_("Tags to remove"), required=False, max_length=2000, help_text=_("Tag names, separated by commas.")
    )
    status = forms.CharField(
        label=_("Ticket status"),
        required=False,
        max_length=100,
        help_text=_("Status name in Halo. A change may email the customer. Leave empty to keep the status."),
    )
    subject = forms.CharField(
        label=_("Subject"),
        required=False,
        max_length=300,
        help_text=_("Supports placeholders such as <client> and <subject>."),
    )
    text = forms.CharField(
        label=_("Text"),
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("Supports placeholders such as <subject>, <owner>, <what> and <url>."),
    )
    public = forms.BooleanField(label=_("Visible to the requester"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        by_field = self.fields["by"]
        assert isinstance(by_field, forms.ChoiceField)
        by_field.choices = [("", _("Email to their own address")), *_labels()]

    @property
    def parts(self) -> list[tuple[forms.BoundField, str]]:
        """Each field with the CSS classes of the action types that it applies to."""
        return [(self[name], _CLASSES[name]) for name in self.fields if name != "do"]

    def spec(self) -> dict[str, Any]:
        """Return the action in spec form."""
        data = self.cleaned_data
        action: dict[str, Any] = {"do": data["do"]}
        for key in KEYS[ActionKind(data["do"])]:
            value = data.get(_FORM_FIELDS.get(key, key))
            if not value:
                continue
            match key:
                case "groups":
                    action[key] = [group.name for group in value]
                case "users":
                    action[key] = [user.username for user in value]
                case "policy" | "outbound":
                    action[key] = value.name
                case "tags":
                    pairs = (part.partition("=") for part in value.split(",") if part.strip())
                    action[key] = {name.strip(): text.strip() for name, _equals, text in pairs}
                case "remove":
                    action[key] = [part.strip() for part in value.split(",") if part.strip()]
                case _:
                    action[key] = value
        return action

    def add_problem(self, path: str, text: str) -> None:
        """Show a problem of the action's spec beside its field."""
        key = path.split(".")[0].split("[")[0]
        field = _FORM_FIELDS.get(key, key)
        self.add_error(field if field in self.fields else None, text)


def _classes(field: str) -> str:
    keys = {field, *(key for key, name in _FORM_FIELDS.items() if name == field)}
    kinds = [f"for-{kind}" for kind, spec_keys in KEYS.items() if keys & set(spec_keys)]
    return " ".join(["part", *kinds, *(["wide"] if field in _WIDE else [])])


_CLASSES: Mapping[str, str] = {name: _classes(name) for name in ActionForm.base_fields}


def _labels() -> list[tuple[str, str]]:
    labels = ContactMethod.objects.order_by("label").values_list("label", flat=True).distinct()
    return [(label, label) for label in dict.fromkeys(labels)]


class ActionFormSet(FilledFormSet[ActionForm]):
    """The actions in order."""

    def typed_values(self) -> list[dict[str, Any]]:
        """Return the typed values, to render the forms again before they are complete."""
        return [typed(form) for form in self.forms]


def actions_formset() -> type[ActionFormSet]:
    """Return the formset class."""
    return formset_class(ActionForm, ActionFormSet, max_num=MAX_ACTIONS, absolute_max=MAX_ACTIONS + 5)


def initial_actions(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the initial values of the actions."""
    users = dict(User.objects.values_list("username", "pk"))
    groups = dict(Group.objects.values_list("name", "pk"))
    policies = dict(Policy.objects.values_list("name", "pk"))
    outbound = dict(OutboundIntegration.objects.values_list("name", "pk"))
    return [
        {
            **{_FORM_FIELDS.get(key, key): value for key, value in action.items()},
            "users": [users[name] for name in action.get("users", []) if name in users],
            "groups": [groups[name] for name in action.get("groups", []) if name in groups],
            "policy": policies.get(action.get("policy", "")),
            "outbound": outbound.get(action.get("outbound", "")),
            "tags": ", ".join(f"{name}={text}" for name, text in action.get("tags", {}).items()),
            "remove": ", ".join(action.get("remove", [])),
        }
        for action in spec.get("actions", [])
    ]
