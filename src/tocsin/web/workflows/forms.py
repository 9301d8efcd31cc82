"""Forms of a workflow: its trigger and its ordered actions. They build the spec that the command validates.

Each form contains all fields; CSS shows those that apply to the selection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.escalation.models import Policy
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import ContactMethod, Group, User
from tocsin.web.ui.choices import PRIORITIES, ROLES
from tocsin.web.ui.forms import DurationField, typed
from tocsin.workflows.definition.definition import KEYS, LIMIT, MAX_ACTIONS, MAX_LIMIT, SPANS
from tocsin.workflows.states import SLA, ActionKind, SlaMoment, TriggerKind

TRIGGERS = [
    (_("When it happens"), [
        (TriggerKind.OPENED, _("an alert opens")),
        (TriggerKind.UPDATED, _("an alert is updated")),
        (TriggerKind.STATUS_CHANGED, _("the status of an alert or its ticket changes")),
        (TriggerKind.ACKNOWLEDGED, _("somebody acknowledges")),
        (TriggerKind.ASSIGNED, _("somebody takes it, or is given it")),
        (TriggerKind.ESCALATED, _("a further step of its policy fires")),
        (TriggerKind.EXHAUSTED, _("its policy ends and nobody answered")),
        (TriggerKind.REPLY, _("somebody replies")),
        (TriggerKind.CLOSED, _("it is closed or cancelled")),
    ]),
    (_("When time passes"), [
        (TriggerKind.UNACKNOWLEDGED, _("nobody has acknowledged for …")),
        (TriggerKind.UNASSIGNED, _("nobody has it for …")),
        (TriggerKind.BEFORE_SLA, _("so long before an SLA moment")),
        (TriggerKind.AFTER_SLA, _("at an SLA moment, or so long after")),
        (TriggerKind.EVERY, _("again and again, every …")),
    ]),
    (_("When somebody wants it"), [(TriggerKind.MANUAL, _("a button on the alert is pressed"))]),
]  # fmt: skip

MOMENTS = [
    (SlaMoment.FIX_BY, _("the fix-by time")),
    (SlaMoment.RESPOND_BY, _("the respond-by time")),
    (SlaMoment.OPENING, _("so long after the opening")),
]

ACTIONS = [
    (_("Tell people"), [
        (ActionKind.NOTIFY, _("tell people")),
        (ActionKind.ADD_RESPONDERS, _("page more people")),
        (ActionKind.ESCALATE, _("wake the next person")),
        (ActionKind.START_POLICY, _("start another policy")),
    ]),
    (_("Change the alert"), [
        (ActionKind.SET_PRIORITY, _("set the priority")),
        (ActionKind.SET_TAGS, _("set tags")),
        (ActionKind.REPLY, _("reply on it")),
        (ActionKind.HOLD, _("put it on hold")),
        (ActionKind.CLOSE, _("close it")),
    ]),
    (_("Elsewhere"), [
        (ActionKind.HALO, _("write on the ticket in HaloITSM")),
        (ActionKind.CALL, _("call another system")),
        (ActionKind.OPEN_ALERT, _("open another alert")),
    ]),
    (_("Then"), [(ActionKind.WAIT, _("wait"))]),
]  # fmt: skip

#: Key in a spec → form field, where the two differ.
_FORM_FIELDS = {"for": "span"}
_WIDE = frozenset({"text", "subject"})


class WorkflowForm(forms.Form):
    """A workflow's name and trigger."""

    on = forms.ChoiceField(label=_("This happens"), choices=TRIGGERS)
    span = DurationField(label=_("How long"), required=False, help_text=_("Such as 5m, 1h or 2h30m."))
    moment = forms.ChoiceField(label=_("SLA moment"), choices=MOMENTS, required=False)
    within = DurationField(
        label=_("How long after the opening"), required=False, help_text=_("Such as 4h: the clock of your own SLA.")
    )
    confirm = forms.CharField(
        label=_("Ask first"),
        max_length=300,
        required=False,
        help_text=_("What the button asks before it acts. Empty: it acts at once."),
    )
    name = forms.CharField(label=_("Name"), max_length=100)
    group = forms.ModelChoiceField(
        Group.objects.all(),
        label=_("Owned by"),
        required=False,
        empty_label=_("Administrators only"),
        help_text=_("Managers of this group may change it. It changes only the group's alerts."),
    )
    limit = forms.IntegerField(
        label=_("Limit"),
        min_value=1,
        max_value=MAX_LIMIT,
        initial=LIMIT,
        required=False,
        help_text=_("So many calls, notes and alerts in 10 minutes; what comes after is not done, and said."),
    )
    enabled = forms.BooleanField(label=_("In use"), required=False, initial=True)

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

    do = forms.ChoiceField(label=_("Do"), choices=ACTIONS)
    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(), label=_("These groups"), required=False, widget=forms.CheckboxSelectMultiple
    )
    roles = forms.MultipleChoiceField(
        label=_("Of the groups, only who is now"),
        choices=ROLES,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None: every member."),
    )
    users = forms.ModelMultipleChoiceField(
        User.objects.filter(is_active=True).order_by("name", "username"),
        label=_("These users"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    owner = forms.BooleanField(label=_("Whoever has the alert"), required=False)
    paged = forms.BooleanField(label=_("Everybody who was paged for it"), required=False)
    contacts = forms.BooleanField(label=_("The groups' own contacts, such as a chat channel"), required=False)
    by = forms.ChoiceField(label=_("By"), required=False)
    policy = forms.ModelChoiceField(Policy.objects.all(), label=_("Escalation policy"), required=False, empty_label="–")
    outbound = forms.ModelChoiceField(
        OutboundIntegration.objects.filter(kind="http"),
        label=_("Outbound integration"),
        required=False,
        empty_label="–",
        help_text=_("Its request is made with the values of this alert."),
    )
    priority = forms.ChoiceField(label=_("Priority"), choices=[("", "–"), *PRIORITIES], required=False)
    span = DurationField(label=_("How long"), required=False, help_text=_("Such as 10m or 2h."))
    tags = forms.CharField(
        label=_("Tags to set"),
        required=False,
        max_length=2000,
        help_text=_("Such as environment=production, team=web."),
    )
    remove = forms.CharField(
        label=_("Tags to take away"), required=False, max_length=2000, help_text=_("Their names, with commas.")
    )
    status = forms.CharField(
        label=_("Status of the ticket"),
        required=False,
        max_length=100,
        help_text=_("By its name in Halo. Changing it may mail the customer. Empty: it stays."),
    )
    subject = forms.CharField(
        label=_("Subject"), required=False, max_length=300, help_text=_("With values such as <client> and <subject>.")
    )
    text = forms.CharField(
        label=_("Text"),
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("With values such as <subject>, <owner>, <what> and <url>."),
    )
    public = forms.BooleanField(label=_("The requester sees the note"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        by_field = self.fields["by"]
        assert isinstance(by_field, forms.ChoiceField)
        by_field.choices = [("", _("e-mail, at their own address")), *_labels()]

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


if TYPE_CHECKING:
    _FormSet = forms.BaseFormSet[ActionForm]
else:
    _FormSet = forms.BaseFormSet


class ActionFormSet(_FormSet):
    """The actions in order. Every posted action counts, because none may be empty; the initial form count is
    ignored."""

    def _construct_form(self, i: int, **options: Any) -> ActionForm:
        return super()._construct_form(i, **{**options, "empty_permitted": False})  # type: ignore[misc, no-any-return]

    def typed_values(self) -> list[dict[str, Any]]:
        """Return the typed values, to render the forms again before they are complete."""
        return [typed(form) for form in self.forms]


def actions_formset() -> type[ActionFormSet]:
    """Return the formset class."""
    return forms.formset_factory(  # type: ignore[return-value] # returns a subclass of the given formset
        ActionForm, formset=ActionFormSet, extra=0, max_num=MAX_ACTIONS, absolute_max=MAX_ACTIONS + 5
    )


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
