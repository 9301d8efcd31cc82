"""Forms of an escalation policy's steps: targets, delays, contact methods and conditions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from tocsin.core.errors import Rejected
from tocsin.core.validation import durations
from tocsin.escalation.policy.policy import MAX_STEPS
from tocsin.escalation.policy.steps import IfEmpty
from tocsin.oncall.models import Schedule, SupportHours
from tocsin.people.models import ContactMethod, Group, GroupContact, User
from tocsin.web.ui.choices import PRIORITIES, ROLES, channel_choices
from tocsin.web.ui.forms import (
    DurationField,
    FormSet,
    ZoneField,
    formset_class,
    offer_own_zone,
    picker_time,
    set_choices,
    valid_values,
)
from tocsin.web.ui.notification_rule_forms import ChoiceList, NotificationRuleFormSet, initial_rule, rule_formset

OTHER_TARGETS = [
    ("everybody", _("Every group member")),
    ("previous_on_call", _("Previous person on call")),
    ("assignee", _("Ticket assignee")),
]
DAYS = [
    ("mon", _("Mon")), ("tue", _("Tue")), ("wed", _("Wed")), ("thu", _("Thu")), ("fri", _("Fri")),
    ("sat", _("Sat")), ("sun", _("Sun")),
]  # fmt: skip
IF_EMPTY = [
    (IfEmpty.SKIP, _("Run the next step immediately")),
    (IfEmpty.WAIT, _("Wait until someone is on call")),
]


def _checkboxes(label: Any, **options: Any) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(label=label, required=False, widget=forms.CheckboxSelectMultiple, **options)


class StepForm(forms.Form):
    """One step: its targets and its delay. `by` is the formset of its own notification rules."""

    after = DurationField(
        label=_("Wait"), required=False, help_text=_("After the previous step. Example: 5m; 0 means immediately.")
    )
    name = forms.CharField(label=_("Name"), required=False, max_length=100)
    roles = _checkboxes(_("On-call role"), choices=ROLES)
    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        label=_("Groups"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Leave empty to use the alert's recipient groups."),
    )
    others = _checkboxes(_("Other recipients"), choices=OTHER_TARGETS)
    users = forms.ModelMultipleChoiceField(
        User.objects.filter(is_active=True).order_by("name", "username"),
        label=_("Users"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    schedules = forms.ModelMultipleChoiceField(
        Schedule.objects.all(),
        label=_("On-call schedules"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    contacts = _checkboxes(_("Group contacts"))
    sequential = DurationField(
        label=_("Page one at a time, every"),
        required=False,
        help_text=_("Example: 5m. Leave empty to page everyone at once."),
    )
    retry_times = forms.IntegerField(label=_("Retries per person"), min_value=0, max_value=50, required=False)
    retry_every = DurationField(label=_("Retry every"), required=False, help_text=_("Example: 5m"))
    if_empty = forms.ChoiceField(label=_("If no one is found"), choices=IF_EMPTY, required=False)
    only_until_acknowledged = forms.BooleanField(label=_("Skip once acknowledged"), required=False)
    priority = _checkboxes(_("Only for priorities"), choices=PRIORITIES)
    hours = forms.ChoiceField(label=_("Support hours"), required=False)
    between = forms.ChoiceField(
        label=_("Time of day"),
        required=False,
        choices=[("", _("Any time")), ("in", _("only between")), ("out", _("only outside"))],
    )
    begins = forms.CharField(label=_("From"), required=False, max_length=5)
    ends = forms.CharField(label=_("To"), required=False, max_length=5)
    days = _checkboxes(_("Days"), choices=DAYS)
    zone = ZoneField(required=False)
    tags = forms.CharField(
        label=_("Tags"),
        required=False,
        max_length=2000,
        help_text=_("Example: environment=production. All tags must match."),
    )

    def clean_tags(self) -> str:
        text: str = self.cleaned_data["tags"]
        if any(not (name.strip() and value.strip()) for name, value in _pairs(text)):
            raise forms.ValidationError(_("Enter tags as name=value, separated by commas."))
        return text

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        labels = GroupContact.objects.order_by("label").values_list("label", flat=True).distinct()
        self._set_choices("contacts", [(label, label) for label in labels])
        hours = [
            (f"{mode_prefix}{support_hours.pk}", f"{mode_label} {support_hours}")
            for support_hours in SupportHours.objects.all()
            for mode_prefix, mode_label in _HOURS_MODES
        ]
        self._set_choices("hours", [("", _("Any time")), *hours])
        for name in ("begins", "ends"):
            self.fields[name].widget.input_type = "time"
        for name in ("groups", "contacts", "schedules"):
            if not self.fields[name].choices:  # type: ignore[attr-defined]
                self.fields[name].widget = forms.MultipleHiddenInput()
        if not hours:
            self.fields["hours"].widget = forms.HiddenInput()
        if not self.initial.get("between"):
            offer_own_zone(self, "zone")
        rows = self.initial.get("methods", []) if self.initial else []
        self.methods: NotificationRuleFormSet = rule_formset(
            self.data if self.is_bound else None, rows, f"{self.prefix}-methods", contact_method_choices()
        )

    def _set_choices(self, name: str, choices: list[tuple[Any, Any]]) -> None:
        set_choices(self, name, choices)

    def is_valid(self) -> bool:
        return super().is_valid() and self.methods.is_valid()

    @property
    def opens_details(self) -> bool:
        """Whether a rarely used field is set or has an error, so that the section opens."""
        names = (
            "sequential",
            "retry_times",
            "only_until_acknowledged",
            "priority",
            "hours",
            "between",
            "tags",
            "methods",
        )
        values = [self[name].value() for name in names if name != "methods"]
        return any(values) or self["if_empty"].value() == IfEmpty.WAIT or bool(self.methods.forms) or bool(self.errors)

    def is_empty(self) -> bool:
        """Return whether nothing was entered. Two fields always have a value."""
        values = (self.cleaned_data.get(name) for name in self.fields if name not in ("if_empty", "zone"))
        return not self.errors and not any(values) and not self.methods.forms

    def spec(self) -> dict[str, Any]:
        """Return the step in spec form. Fields with an error count as empty."""
        data = valid_values(self)
        notify: dict[str, Any] = {
            "roles": list(data["roles"]),
            "groups": [group.name for group in data["groups"]],
            "users": [user.username for user in data["users"]],
            "schedules": [schedule.name for schedule in data["schedules"]],
            "group_contacts": list(data["contacts"]),
            **dict.fromkeys(data["others"], True),
        }
        values: dict[str, Any] = {
            "notify": {key: names for key, names in notify.items() if names},
            "after": data["after"] or "0",
            "name": data["name"] or None,
            "sequential": data["sequential"] or None,
            "if_empty": data["if_empty"] or None,
            "only_until_acknowledged": data["only_until_acknowledged"] or None,
            "when": self._condition(data),
        }
        if data["retry_times"]:
            values["retries"] = {"times": data["retry_times"], "every": data["retry_every"] or None}
        filled_rules = self.methods.filled_rows() if self.methods.is_valid() else []
        methods = [
            {kind: name, **row.spec()}
            for method_key, row in filled_rules
            for kind, _colon, name in [method_key.partition(":")]
        ]
        return {**values, "methods": methods} if methods else values

    def _condition(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        condition = dict[str, Any]()
        if data["priority"]:
            condition["priority"] = list(data["priority"])
        if data["hours"]:
            name = SupportHours.objects.get(pk=data["hours"].removeprefix("not-")).name
            condition["during"] = {"not": name} if data["hours"].startswith("not-") else name
        if data["between"]:
            condition["between"] = {
                "from": data["begins"], "to": "24:00" if data["ends"] == "00:00" else data["ends"],
                "days": list(data["days"]), "time_zone": data["zone"] or "UTC", "outside": data["between"] == "out",
            }  # fmt: skip
        if data["tags"].strip():
            condition["tags"] = {name.strip(): value.strip() for name, value in _pairs(data["tags"])}
        return condition or None


def _pairs(text: str) -> list[tuple[str, str]]:
    """Parse `a=b, c=d` into names and values; a missing value is empty."""
    parts = (part.partition("=") for part in text.split(",") if part.strip())
    return [(name, value) for name, _equals, value in parts]


_HOURS_MODES = (("", _("only during")), ("not-", _("only outside")))


class StepFormSet(FormSet[StepForm]):
    """The steps in order."""

    def filled_steps(self) -> list[StepForm]:
        """Return the steps that are not empty."""
        return [form for form in self.forms if not form.is_empty()]

    def start_offsets(self) -> list[str]:
        """Return when each step starts after the alert opens; "?" for a delay that cannot be parsed."""
        offsets, total = [], timedelta()
        for form in self.forms:
            try:
                total += durations.parse(form["after"].value() or "0")
                offsets.append(f"+{durations.write(total)}" if total else gettext("immediately"))
            except Rejected:
                offsets.append("?")
        return offsets


def steps_formset() -> type[StepFormSet]:
    """Return the formset class."""
    return formset_class(StepForm, StepFormSet, max_num=MAX_STEPS, absolute_max=MAX_STEPS + 5)


def contact_method_choices() -> ChoiceList:
    """Return the choices for contact methods: every channel, and every label in use."""
    labels = ContactMethod.objects.order_by("label").values_list("label", flat=True).distinct()
    return [
        (_("By channel"), [(f"channel:{name}", channel_label) for name, channel_label in channel_choices()]),
        (_("By label"), [(f"label:{label}", label) for label in dict.fromkeys(labels)]),
    ]


def initial_steps(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the initial values of the steps."""
    users = dict(User.objects.values_list("username", "pk"))
    groups = dict(Group.objects.values_list("name", "pk"))
    schedules = dict(Schedule.objects.values_list("name", "pk"))
    hours = dict(SupportHours.objects.values_list("name", "pk"))
    return [_initial(step, users, groups, schedules, hours) for step in spec["steps"]]


def _initial(
    step: Mapping[str, Any],
    users: Mapping[str, int],
    groups: Mapping[str, int],
    schedules: Mapping[str, int],
    hours: Mapping[str, int],
) -> dict[str, Any]:
    notify, condition = step["notify"], step.get("when", {})
    between, during = condition.get("between", {}), condition.get("during")
    outside = during["not"] if isinstance(during, Mapping) else None
    retries = step.get("retries", {})
    return {
        "after": step.get("after", ""),
        "name": step.get("name", ""),
        "roles": notify.get("roles", []),
        "groups": [groups[name] for name in notify.get("groups", []) if name in groups],
        "users": [users[name] for name in notify.get("users", []) if name in users],
        "schedules": [schedules[name] for name in notify.get("schedules", []) if name in schedules],
        "contacts": notify.get("group_contacts", []),
        "others": [name for name, _label in OTHER_TARGETS if notify.get(name)],
        "sequential": step.get("sequential", ""),
        "retry_times": retries.get("times"),
        "retry_every": retries.get("every", ""),
        "if_empty": step.get("if_empty", IfEmpty.SKIP),
        "only_until_acknowledged": step.get("only_until_acknowledged", False),
        "priority": condition.get("priority", []),
        "hours": f"not-{hours.get(outside, '')}" if outside else hours.get(during, "") if during else "",
        "between": ("out" if between.get("outside") else "in") if between else "",
        "begins": between.get("from", ""),
        "ends": picker_time(between.get("to", "")),
        "days": between.get("days", []),
        "zone": between.get("time_zone", "UTC"),
        "tags": ", ".join(f"{name}={value}" for name, value in condition.get("tags", {}).items()),
        "methods": [
            initial_rule(f"label:{rule['label']}" if "label" in rule else f"channel:{rule['channel']}", rule)
            for rule in step.get("methods", [])
        ],
    }
