"""Escalation policies and their steps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access.roles import Permission
from tocsin.alerts.states import Priority
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, local_term
from tocsin.core.validation import inputs
from tocsin.escalation import commands
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import (
    MAX_STEPS,
    AcknowledgeEffect,
    IfEmpty,
    OnExhausted,
    PolicySpec,
    policy_templates,
)
from tocsin.inbound.models import Integration
from tocsin.oncall.models import Schedule, SupportHours
from tocsin.people.models import ContactMethod, Group, GroupContact, User
from tocsin.resources.registry import POLICIES
from tocsin.simulate.escalation import HypotheticalAlert, SimulatedStep, simulate
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_editable,
    find_object,
    may,
    offer_own_groups,
    render_view,
    require,
    requires,
)
from tocsin.web.ui import confirm_delete
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import (
    PRIORITIES,
    ROLES,
    ChoiceList,
    DurationField,
    FormSet,
    MomentField,
    NotificationRuleFormSet,
    PairsField,
    SpecForm,
    ZoneField,
    active_users,
    channel_choices,
    channel_name,
    checkboxes,
    chosen_labels,
    formset_class,
    initial_rule,
    offer_own_zone,
    picker_time,
    rule_formset,
    set_choices,
    show_rejection,
    valid_values,
    values_at,
)
from tocsin.web.ui.object_list import ObjectList

OTHER_TARGETS = [
    ("everybody", _("Every group member")),
    ("previous_on_call", _("Previous person on call")),
    ("assignee", _("Ticket assignee")),
]
DAYS = [
    ("mon", _("Mon")), ("tue", _("Tue")), ("wed", _("Wed")), ("thu", _("Thu")), ("fri", _("Fri")),
    ("sat", _("Sat")), ("sun", _("Sun")),
]  # fmt: skip
IF_EMPTY = [(IfEmpty.SKIP, _("Run the next step immediately")), (IfEmpty.WAIT, _("Wait until someone is on call"))]


class StepForm(forms.Form):
    """One step: its targets and its delay. `by` is the formset of its own notification rules."""

    after = DurationField(
        label=_("Wait"), required=False, help_text=_("After the previous step. Example: 5m; 0 means immediately.")
    )
    name = forms.CharField(label=_("Name"), required=False, max_length=100)
    roles = checkboxes(_("On-call role"), ROLES)
    groups = checkboxes(
        _("Groups"), Group.objects.all(), help_text=_("Leave empty to use the alert's recipient groups.")
    )
    others = checkboxes(_("Other recipients"), OTHER_TARGETS)
    users = checkboxes(_("Users"), active_users())
    schedules = checkboxes(_("On-call schedules"), Schedule.objects.all())
    contacts = checkboxes(_("Group contacts"))
    sequential = DurationField(
        label=_("Page one at a time, every"),
        required=False,
        help_text=_("Example: 5m. Leave empty to page everyone at once."),
    )
    retry_times = forms.IntegerField(label=_("Retries per person"), min_value=0, max_value=50, required=False)
    retry_every = DurationField(label=_("Retry every"), required=False, help_text=_("Example: 5m"))
    if_empty = forms.ChoiceField(label=_("If no one is found"), choices=IF_EMPTY, required=False)
    only_until_acknowledged = forms.BooleanField(label=_("Skip once acknowledged"), required=False)
    priority = checkboxes(_("Only for priorities"), PRIORITIES)
    hours = forms.ChoiceField(label=_("Support hours"), required=False)
    between = forms.ChoiceField(
        label=_("Time of day"),
        required=False,
        choices=[("", _("Any time")), ("in", _("only between")), ("out", _("only outside"))],
    )
    begins = forms.CharField(label=_("From"), required=False, max_length=5)
    ends = forms.CharField(label=_("To"), required=False, max_length=5)
    days = checkboxes(_("Days"), DAYS)
    zone = ZoneField(required=False)
    tags = PairsField(
        " = ",
        attrs={"rows": 2},
        label=_("Tags"),
        required=False,
        help_text=_("One a line, such as environment = production. All must match."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        labels = GroupContact.objects.order_by("label").values_list("label", flat=True).distinct()
        set_choices(self, "contacts", [(label, label) for label in labels])
        hours = [
            (f"{mode_prefix}{support_hours.pk}", f"{mode_label} {support_hours}")
            for support_hours in SupportHours.objects.all()
            for mode_prefix, mode_label in _HOURS_MODES
        ]
        set_choices(self, "hours", [("", _("Any time")), *hours])
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

    def is_valid(self) -> bool:
        return super().is_valid() and self.methods.is_valid()

    @property
    def opens_details(self) -> bool:
        """Whether a rarely used field is set or has an error, so that the section opens."""
        names = ("sequential", "retry_times", "only_until_acknowledged", "priority", "hours", "between", "tags")
        values = [self[name].value() for name in names]
        return any(values) or self["if_empty"].value() == IfEmpty.WAIT or bool(self.methods.forms) or bool(self.errors)

    @property
    def is_open(self) -> bool:
        """Return whether the step's fields are shown at first: it has an error, or notifies no one yet."""
        return bool(self.errors or self.methods.total_error_count() or not self.who)

    @property
    def who(self) -> str:
        """Return whom the step notifies, as entered."""
        fields = ("roles", "others", "users", "schedules", "contacts")
        names = [name for field in fields for name in chosen_labels(self, field)]
        groups = chosen_labels(self, "groups")
        text = ", ".join(names)
        return gettext("%(who)s in %(groups)s") % {"who": text, "groups": ", ".join(groups)} if groups else text

    @property
    def how(self) -> str:
        """Return how the step notifies them, and under which condition, as entered."""
        value = {name: self[name].value() for name in self.fields}
        methods = [row["method"].value() for row in self.methods.forms]
        parts = [label for _group, choices in contact_method_choices() for key, label in choices if key in methods]
        if value["sequential"]:
            parts.append(gettext("one at a time, every %(span)s") % {"span": value["sequential"]})
        if value["retry_times"]:
            parts.append(gettext("%(number)s retries per person") % {"number": value["retry_times"]})
        parts += chosen_labels(self, "priority")
        if value["hours"]:
            parts += chosen_labels(self, "hours")
        if value["between"]:
            days = ", ".join(chosen_labels(self, "days"))
            parts.append(f"{chosen_labels(self, 'between')[0]} {value['begins']}–{value['ends']} {days}".rstrip())
        if value["tags"]:
            parts.append(value["tags"].replace("\n", ", "))
        if value["if_empty"] == IfEmpty.WAIT:
            parts += chosen_labels(self, "if_empty")
        if value["only_until_acknowledged"]:
            parts.append(gettext("until acknowledged"))
        return " · ".join(map(str, parts))

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
        if data["tags"]:
            condition["tags"] = data["tags"]
        return condition or None


_HOURS_MODES = (("", _("only during")), ("not-", _("only outside")))


class StepFormSet(FormSet[StepForm]):
    def filled_steps(self) -> list[StepForm]:
        return [form for form in self.forms if not form.is_empty()]

    def start_offsets(self) -> list[str]:
        """Return when each step starts after the alert opens; "?" for a delay that cannot be parsed."""
        offsets, total = [], timedelta()
        for form in self.forms:
            try:
                total += inputs.parse_duration(form["after"].value() or "0")
                offsets.append(f"+{inputs.write_duration(total)}" if total else gettext("immediately"))
            except Rejected:
                offsets.append("?")
        return offsets


def contact_method_choices() -> ChoiceList:
    """Return the choices for contact methods: every channel, and every label in use."""
    labels = ContactMethod.objects.order_by("label").values_list("label", flat=True).distinct()
    return [
        (_("By channel"), [(f"channel:{name}", channel_label) for name, channel_label in channel_choices()]),
        (_("By label"), [(f"label:{label}", label) for label in dict.fromkeys(labels)]),
    ]


def initial_steps(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    numbers = {
        key: dict(model.objects.values_list(name, "pk"))
        for key, model, name in (
            ("users", User, "username"), ("groups", Group, "name"), ("schedules", Schedule, "name"),
            ("hours", SupportHours, "name"),
        )
    }  # fmt: skip
    return [_initial(step, numbers) for step in spec["steps"]]


def _initial(step: Mapping[str, Any], numbers: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """`numbers` has the ids of the objects that a step names, by key and name."""
    notify, condition = step["notify"], step.get("when", {})
    between, during = condition.get("between", {}), condition.get("during")
    outside = during["not"] if isinstance(during, Mapping) else None
    hours = numbers["hours"]
    return {
        "zone": "UTC",
        "if_empty": IfEmpty.SKIP,
        **values_at(step, _STEP_PLACES),
        "roles": notify.get("roles", []),
        **{
            key: [numbers[key][name] for name in notify.get(key, []) if name in numbers[key]]
            for key in ("users", "groups", "schedules")
        },
        "contacts": notify.get("group_contacts", []),
        "others": [name for name, _label in OTHER_TARGETS if notify.get(name)],
        "hours": f"not-{hours.get(outside, '')}" if outside else hours.get(during, "") if during else "",
        "between": ("out" if between.get("outside") else "in") if between else "",
        "ends": picker_time(between.get("to", "")),
        "methods": [
            initial_rule(f"label:{rule['label']}" if "label" in rule else f"channel:{rule['channel']}", rule)
            for rule in step.get("methods", [])
        ],
    }


#: Path in a step's spec → the field that shows it, and its problems.
_STEP_PLACES = {
    "after": "after",
    "name": "name",
    "sequential": "sequential",
    "retries.every": "retry_every",
    "retries.times": "retry_times",
    "retries": "retry_times",
    "only_until_acknowledged": "only_until_acknowledged",
    "if_empty": "if_empty",
    "when.priority": "priority",
    "when.between.from": "begins",
    "when.between.to": "ends",
    "when.between.days": "days",
    "when.between.time_zone": "zone",
    "when.between": "between",
    "when.tags": "tags",
    "when.during": "hours",
}


class PolicyForm(SpecForm):
    default_priority = forms.ChoiceField(choices=PRIORITIES)
    end_policy = forms.ModelChoiceField(Policy.objects.all(), empty_label=_("No policy"))

    def __init__(self, data: Any, *, current: Mapping[str, Any], existing: Policy | None) -> None:
        super().__init__(data, spec_type=PolicySpec, current=current)
        if existing:
            others = Policy.objects.exclude(pk=existing.pk)
            self.fields["end.policy"].queryset = others  # type: ignore[attr-defined]
        # Shown by `show_rejection`, and while it is chosen.
        if self.data.get("anyway") != "on":
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

    def spec(self) -> dict[str, Any]:
        """Return the settings in spec form, without those that do not apply to what was chosen."""
        spec = super().spec()
        if spec["acknowledge"]["effect"] != AcknowledgeEffect.PAUSE:
            spec["acknowledge"]["pause"] = None
        for key, action in (("every", OnExhausted.REPEAT_LAST_STEP), ("policy", OnExhausted.HAND_OVER)):
            if spec["end"]["then"] != action:
                spec["end"][key] = None
        return spec


def _text(value: object) -> str:
    return "" if value is None else str(value)


_LIST = ObjectList(
    POLICIES,
    rows_template="policies/rows.html",
    empty_title=gettext_lazy("No escalation policies yet"),
    empty_text=gettext_lazy("A policy defines who is paged first, and how long to wait before the next step."),
    icon="stairs-up",
    add_view="new_policy",
    add_label=gettext_lazy("New policy"),
)


@require_safe
def policy_list(request: SignedInRequest) -> HttpResponse:
    """Render every policy with a summary of its steps."""
    rows = Policy.objects.select_related("current_version", "group").annotate(used=Count("integrations"))
    return _LIST.render(
        request, _LIST.matching(request, rows), lambda page: [(row, commands.readable(row)) for row in page]
    )


@require_safe
def policy(request: SignedInRequest, number: int) -> HttpResponse:
    """Render a policy, with a preview of whom it would page for one of its integrations or for a group."""
    row = find_object(POLICIES, number)
    plan = commands.readable(row)
    if plan is None:
        return redirect("edit_policy", row.pk)
    used = list(Integration.objects.filter(policy=row).prefetch_related("recipient_groups", "recipient_users"))
    groups = list(Group.objects.all())
    recipients = _preview_recipients(request, used, groups)
    priority_name = request.GET.get("priority", "")
    priority = Priority(priority_name) if priority_name in list(Priority) else plan.default_priority
    at = _moment(request.GET.get("at", ""))
    simulation = simulate(plan, HypotheticalAlert(recipients[2], recipients[1], priority), at or request.now)
    context = {
        "policy": row,
        "plan": plan,
        "used": used,
        "groups": groups,
        "chosen": recipients[0],
        "at": MomentField().prepare_value(at) if at else "",
        "simulation": simulation,
        "stages": [(stage, _people(stage)) for stage in simulation.steps],
        "priorities": PRIORITIES,
        "priority": priority,
        "successor": Policy.objects.filter(pk=plan.handover_policy_id).first() if plan.handover_policy_id else None,
        "used_by": [
            reference
            for reference in confirm_delete.references_to("escalation_policy", row.pk)
            if reference.reason not in {hooks.INTEGRATION(name=integration.name) for integration in used}
        ],
        "may_change": may(request, Permission.MANAGE_TEAMS, row.group_id),
    }
    return render_view(request, "policies/policy.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_TEAMS)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create a policy, or a new version of one."""
    row = find_editable(request, POLICIES, number) if number is not None else None
    spec = commands.policy_spec(row) if row else _initial_spec(request)
    if row is not None and commands.readable(row) is None:
        messages.warning(request, gettext("This policy is not valid. Saving replaces it."))
        spec = _initial_spec(request) | {"name": row.name}
    form = PolicyForm(request.POST or None, current=spec, existing=row)
    formset = formset_class(StepForm, StepFormSet, max_num=MAX_STEPS, absolute_max=MAX_STEPS + 5)
    steps = formset(request.POST or None, initial=initial_steps(spec), prefix="steps")
    offer_own_groups(request, form.fields["group"])
    snapshot = FormSnapshot.of(request, POLICIES, row)
    is_preview = request.POST.get("do") == "preview"
    if form.is_bound and not is_preview:
        is_valid = all([form.is_valid(), steps.is_valid()])
        filled_steps = steps.filled_steps()
        posted = {**form.spec(), "steps": [step.spec() for step in filled_steps]}
        try:
            if is_valid:
                require(request, Permission.MANAGE_TEAMS, form.cleaned_data["group"])
                with snapshot.unchanged():
                    saved = commands.save_policy(posted, existing=row, actor=actor(request), now=request.now)
                messages.success(request, gettext("Saved. Running escalations keep their version."))
                return redirect("policy", saved.pk)
            # Shows the problems that only the command finds as well.
            commands.check_policy(posted, existing=row)
        except Rejected as rejected:
            show_rejection(form, rejected, {"steps": "name"}, rows={"steps": filled_steps}, row_places=_STEP_PLACES)
    failed = not is_preview and (
        form.errors or any(step.errors or step.methods.total_error_count() for step in steps.forms)
    )
    context = {
        "policy": row,
        "form": form,
        "steps": steps,
        "numbered": list(zip(steps.forms, steps.start_offsets(), strict=True)),
        "templates": [] if row else policy_templates(_zone()),
        "chosen": request.GET.get("from", ""),
        "snapshot": snapshot,
    }
    return render_view(request, "policies/edit.html", context, partials=("preview",), status=422 if failed else 200)


def _initial_spec(request: SignedInRequest) -> dict[str, Any]:
    """Return the spec of a new policy: the template named in the URL, else the default one."""
    templates = policy_templates(_zone())
    template = next((candidate for candidate in templates if candidate.key == request.GET.get("from")), templates[0])
    return {"name": local_term(template.name) if "from" in request.GET else "", **template.spec}


def _zone() -> str:
    return str(settings_store.get(settings_store.TIME_ZONE))


def _moment(text: str) -> datetime | None:
    """Parse the local time of the preview; None means now."""
    try:
        return MomentField(required=False).clean(text)  # type: ignore[no-any-return]
    except ValidationError:
        return None


def _people(stage: SimulatedStep) -> list[tuple[str, Reason, list[tuple[str, str, datetime]]]]:
    """Return (name, capacity, [(channel, label, time)]) of every recipient of a step."""
    return [
        (name, label, [(channel_name(page.channel), page.label, page.at) for page in stage.pages if page.name == name])
        for name, label in stage.people
    ]


def _preview_recipients(
    request: SignedInRequest, used: list[Integration], groups: list[Group]
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Return (option, group ids, user ids) of the preview: an integration's recipients, or one group."""
    option = request.GET.get("for", "")
    for integration in used:
        if option in ("", f"integration-{integration.pk}"):
            group_ids = tuple(group.pk for group in integration.recipient_groups.all())
            return f"integration-{integration.pk}", group_ids, tuple(u.pk for u in integration.recipient_users.all())
    for group in groups:
        if option in ("", f"group-{group.pk}"):
            return f"group-{group.pk}", (group.pk,), ()
    return "", (), ()
