"""Workflows and their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as gettext
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.alerts.service import VisibleAlert, find_alert
from tocsin.alerts.states import CommandChannel
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, as_reason, local_term, reason_from_json
from tocsin.core.validation import inputs
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import SpecTemplate
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import ContactMethod, Group, User
from tocsin.resources.registry import WORKFLOWS
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_editable,
    find_object,
    find_row,
    find_visible_alert,
    may,
    number_of,
    offer_own_groups,
    render_view,
    require,
    require_response,
    requires,
)
from tocsin.web.integrations import condition_form
from tocsin.web.integrations.condition_form import ConditionGroup, ErrorPlaces
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import (
    PRIORITIES,
    ROLES,
    DurationField,
    FilledFormSet,
    PairsField,
    active_users,
    checkboxes,
    chosen_labels,
    field_error_text,
    formset_class,
    owner_field,
    problems_of,
    rejections_shown,
    set_choices,
    show_rejection,
    typed,
    values_at,
)
from tocsin.web.ui.object_list import ObjectList, paginate_by_number
from tocsin.workflows import commands, definition, views
from tocsin.workflows.definition import (
    ACTION_NAMES,
    KEYS,
    LIMIT,
    MAX_ACTIONS,
    MAX_LIMIT,
    SLA,
    SPANS,
    ActionKind,
    SlaMoment,
    TriggerKind,
    WorkflowRunStatus,
    workflow_templates,
)
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.run.engine import LABELS
from tocsin.workflows.views import DryRunResult

# ---------- conditions
# The start and stop conditions in a workflow's form, as rows.

NAMES = ("start", "stop")


def fields() -> list[tuple[str, str]]:
    return [(name, local_term(label)) for name, label in LABELS.items()]


@dataclass(slots=True)
class WorkflowConditions:
    """Both conditions while a form is edited."""

    rows: dict[str, ConditionGroup] = field(default_factory=dict)
    places: ErrorPlaces = field(default_factory=ErrorPlaces)
    #: Errors by row.
    errors: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> WorkflowConditions:
        return cls({name: condition_form.rows_of(spec.get(name)) for name in NAMES})

    @classmethod
    def posted(cls, post: Mapping[str, Any]) -> WorkflowConditions:
        """Return the posted conditions. Raises Rejected for too many rows."""
        return cls({name: condition_form.read_conditions(post, name) for name in NAMES})

    def apply_button(self, button: str) -> bool:
        """Apply a button such as "cond:start.0:remove". Return False if it does not belong to the conditions."""
        kind, _colon, target = button.partition(":")
        row, _colon, action = target.partition(":")
        name, *path = row.split(".")
        if kind != "cond" or name not in self.rows or not all(part.isdecimal() and len(part) < 4 for part in path):
            return False
        self.rows[name] = condition_form.change(self.rows[name], [int(part) for part in path], action)
        return True

    def spec(self) -> dict[str, object]:
        """Return the conditions in spec form. Raises Rejected for invalid YAML in a row."""
        return {name: condition_form.condition_of(self.rows[name], name, name, self.places) for name in NAMES}

    def add_problem(self, problem: Rejected) -> bool:
        """Show a problem beside its row. Return False if it does not belong to the conditions."""
        path = problem.field or ""
        name = path.split(".")[0].split("[")[0]
        if name not in NAMES:
            return False
        row = self.places.row(path) or name
        self.errors.setdefault(row, []).append(field_error_text(problem))
        return True

    @property
    def context(self) -> dict[str, Any]:
        return {
            "start": self.rows["start"],
            "stop": self.rows["stop"],
            "words": condition_form.operator_choices(),
            "fields": fields(),
            "draft": {"tab": {"errors": self.errors}, "matches": {"results": {}}},
        }


# ---------- forms
# Forms of a workflow: its trigger and its ordered actions. They build the spec that the command validates.
#
# Each form contains all fields; CSS shows those that apply to the selection.

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
    moment = forms.ChoiceField(label=_("SLA deadline"), choices=MOMENTS, initial=SlaMoment.FIX_BY, required=False)
    within = DurationField(label=_("Time after creation"), required=False, help_text=_("Example: 4h for your own SLA"))
    confirm = forms.CharField(
        label=_("Confirmation question"),
        max_length=300,
        required=False,
        help_text=_("Shown before the workflow runs. Leave empty to run it immediately."),
    )
    name = forms.CharField(label=_("Name"), max_length=100)
    group = owner_field(_("Managers of this group can edit it. It runs only on the group's alerts."))
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

    #: Path in the spec → the field that shows it, and its problems.
    PLACES: Mapping[str, str] = {
        **{f"trigger.{key}": "span" for key in SPANS.values()},
        "trigger.within": "within",
        "trigger.moment": "moment",
        "trigger.confirm": "confirm",
        "trigger.on": "on",
        "trigger": "on",
    }


def initial_workflow(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a workflow's form; the form has the defaults of those that the spec leaves out."""
    trigger = spec.get("trigger", "opened")
    spec = spec if isinstance(trigger, Mapping) else {**spec, "trigger": {"on": trigger}}
    settings = {key: spec[key] for key in ("name", "enabled", "limit") if key in spec}
    return (
        values_at(spec, WorkflowForm.PLACES)
        | settings
        | {"group": Group.objects.filter(name=spec.get("group", "")).first()}
    )


class ActionForm(forms.Form):
    """One action. Its type determines which fields apply."""

    do = forms.ChoiceField(label=_("Action"), choices=ACTIONS, initial=ActionKind.NOTIFY)
    groups = checkboxes(_("Groups"), Group.objects.all())
    roles = checkboxes(_("On-call role"), ROLES, help_text=_("Leave empty to include every member."))
    users = checkboxes(_("Users"), active_users())
    leads = forms.BooleanField(label=_("Leads of the alert's groups"), required=False)
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
    tags = PairsField(
        " = ",
        attrs={"rows": 2},
        label=_("Tags to set"),
        required=False,
        help_text=_("One a line, such as environment = production."),
    )
    remove = forms.CharField(
        label=_("Tags to remove"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_("One name a line."),
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
        labels = ContactMethod.objects.order_by("label").values_list("label", flat=True).distinct()
        choices = [(label, label) for label in dict.fromkeys(labels)]
        set_choices(self, "by", [("", _("Email to their own address")), *choices])

    @property
    def is_open(self) -> bool:
        """Return whether the action's fields are shown at first: it has an error."""
        return bool(self.errors)

    @property
    def what(self) -> str:
        """Return the kind of the action, as chosen."""
        return "".join(chosen_labels(self, "do"))

    @property
    def whom(self) -> str:
        """Return whom or what it acts on: the labels, names or texts of the fields that its kind has."""
        shown = []
        for key in KEYS.get(self["do"].value(), ()):
            name = _FORM_FIELDS.get(key, key)
            field, value = self.fields[name], self[name].value()
            if isinstance(field, forms.BooleanField):
                shown += [str(field.label)] if value else []
            elif hasattr(field, "choices"):
                shown += chosen_labels(self, name)
            else:
                shown += str(value or "").splitlines()[:1]
        return ", ".join(shown)

    @property
    def parts(self) -> list[tuple[forms.BoundField, str]]:
        """Each field with the CSS classes of the action types that it applies to."""
        return [(self[name], _CLASSES[name]) for name in self.fields if name != "do"]

    def spec(self) -> dict[str, Any]:
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
                case "remove":
                    action[key] = [line.strip() for line in value.splitlines() if line.strip()]
                case _:
                    action[key] = value
        return action


class ActionFormSet(FilledFormSet[ActionForm]):
    def numbered(self) -> list[tuple[ActionForm, str]]:
        """Return each action with when it runs, after the waits before it."""
        waited, found = timedelta(), []
        for form in self.forms:
            found.append((form, f"+{inputs.write_duration(waited)}" if waited else gettext("immediately")))
            if form["do"].value() == ActionKind.WAIT:
                with suppress(Rejected):
                    waited += inputs.parse_duration(form["span"].value() or "0")
        return found


def _classes(field: str) -> str:
    keys = {field, *(key for key, name in _FORM_FIELDS.items() if name == field)}
    kinds = [f"for-{kind}" for kind, spec_keys in KEYS.items() if keys & set(spec_keys)]
    return " ".join(["part", *kinds, *(["wide"] if field in _WIDE else [])])


_CLASSES: Mapping[str, str] = {name: _classes(name) for name in ActionForm.base_fields}


def _action_formset(post: Any = None, *, initial: Sequence[Mapping[str, Any]]) -> ActionFormSet:
    made = formset_class(ActionForm, ActionFormSet, max_num=MAX_ACTIONS, absolute_max=MAX_ACTIONS + 5)
    return made(post, initial=initial, prefix="actions")


def initial_actions(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
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
            "remove": "\n".join(action.get("remove", [])),
        }
        for action in spec.get("actions", [])
    ]


_LIST = ObjectList(
    WORKFLOWS,
    rows_template="workflows/rows.html",
    empty_title=gettext_lazy("No workflows yet"),
    empty_text=gettext_lazy(
        "A workflow runs actions when something happens on an alert, or fails to happen: notify a "
        "lead, update the ticket, start another policy. It can also be a button on the alert."
    ),
    icon="git-branch",
    add_view="new_workflow",
    add_label=gettext_lazy("New workflow"),
    template="workflows/list.html",
)


@require_safe
def workflow_list(request: SignedInRequest) -> HttpResponse:
    """Render all workflows in their order, each described in a sentence."""
    rows = _LIST.matching(request, views.with_runs(Workflow.objects.select_related("group")))
    templates = _templates() if not Workflow.objects.exists() else []
    return _LIST.render(request, rows, lambda page: _described(request, page), templates=templates)


def _described(request: SignedInRequest, rows: Sequence[Workflow]) -> list[tuple[Any, ...]]:
    names = commands.names_of(rows, use_display_names=True)
    return [
        (row, commands.readable(row), _describe(row, names), may(request, Permission.MANAGE_ROUTING, row.group_id))
        for row in rows
    ]


def _describe(row: Workflow, names: commands.WorkflowNamesById) -> tuple[Reason, list[Reason]]:
    """Return the trigger and the actions in words."""
    plan = commands.readable(row)
    if plan is None:
        return NO_REASON, []
    name_of = commands.naming(names)
    return definition.describe_trigger(plan.trigger), [
        definition.describe_action(action, name_of) for action in plan.actions
    ]


@require_safe
def workflow(request: SignedInRequest, number: int) -> HttpResponse:
    """Render a workflow with its latest runs, and a dry run for one alert."""
    row = find_object(WORKFLOWS, number)
    plan = commands.readable(row)
    trigger, actions = _describe(row, commands.names_of([row], use_display_names=True))
    alert_number = request.GET.get("alert", "").strip().lstrip("#")
    result, problem = None, ""
    if alert_number:
        try:
            result = views.dry_run(row, _alert(alert_number), request.now)
        except Rejected as rejected:
            problem = rejected.reason.localized()
    runs = WorkflowRun.objects.filter(workflow=row).select_related("workflow", "alert")
    labels = dict(fields())
    context = {
        "workflow": row,
        "plan": plan,
        "trigger": trigger,
        "actions": actions,
        "start": condition_form.describe_condition(plan.start, labels) if plan else "",
        "stop": condition_form.describe_condition(plan.stop, labels) if plan and plan.stop is not None else "",
        "workflow_runs": views.summarize_runs(list(runs.order_by("-pk")[:10])),
        "stuck": runs.filter(status=WorkflowRunStatus.STUCK).count(),
        "alert_number": alert_number,
        "dry_run_result": result,
        "problem": problem,
        "may_change": may(request, Permission.MANAGE_ROUTING, row.group_id),
    }
    return render_view(request, "workflows/workflow.html", context, partials=("runs",))


def _alert(text: str) -> VisibleAlert:
    if (number := number_of(text.strip().lstrip("#"))) is None:
        raise Rejected("invalid", as_reason(gettext("Enter an alert number, such as 42.")), "alert")
    return find_alert(number, "alert")


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a workflow. The buttons of conditions post the whole form."""
    row = find_editable(request, WORKFLOWS, number) if number is not None else None
    post = request.POST if request.method == "POST" else None
    spec = _initial_spec(request) if row is None else commands.workflow_spec(row)
    if row is not None and commands.readable(row) is None:
        messages.warning(request, gettext("This workflow is not valid. Saving replaces it."))
        spec = {"name": row.name}
    form = WorkflowForm(post, initial=initial_workflow(spec))
    actions = _action_formset(post, initial=initial_actions(spec) or [{}])
    conditions = WorkflowConditions.posted(post) if post is not None else WorkflowConditions.of(spec)
    # Without the position, which is changed in the list and not in the form.
    snapshot = FormSnapshot.of(
        request, WORKFLOWS, row, state=lambda row: {**commands.workflow_spec(row), "order": None}
    )
    button = str(post.get("do", "")) if post is not None else ""
    is_draft = conditions.apply_button(button) or button == "preview"
    if is_draft:
        # The forms with what was typed, and without errors.
        form, actions = (
            WorkflowForm(initial=typed(form)),
            _action_formset(initial=[typed(one) for one in actions.forms]),
        )
    offer_own_groups(request, form.fields["group"])
    result: DryRunResult | None = None
    if post is not None and not is_draft and form.is_valid() and actions.is_valid():
        try:
            kept = {key: value for key, value in spec.items() if key != "order"}
            posted = {**kept, **form.spec(), **conditions.spec(), "actions": [one.spec() for one in actions.forms]}
            group = Group.objects.filter(name=posted["group"]).first() if posted["group"] else None
            if button == "try":
                result = _dry_run_draft(posted, group, request)
            else:
                require(request, Permission.MANAGE_ROUTING, group)
                with snapshot.unchanged():
                    saved = commands.save_workflow(posted, existing=row, actor=actor(request), now=request.now)
                messages.success(request, gettext("%(name)s saved.") % {"name": saved.name})
                return redirect("workflow", saved.pk)
        except Rejected as rejected:
            for problem in problems_of(rejected):
                if not conditions.add_problem(problem):
                    show_rejection(form, problem, form.PLACES, rows={"actions": actions.forms}, row_places=_FORM_FIELDS)
    failed = bool(form.errors or conditions.errors or any(action_form.errors for action_form in actions.forms))
    context = {
        "workflow": row,
        "form": form,
        "actions": actions,
        "numbered": actions.numbered(),
        "is_empty": not actions.is_bound and not spec.get("actions"),
        "conditions": conditions,
        "templates": [] if row or post is not None else _templates(),
        "chosen": request.GET.get("from", ""),
        "dry_run_result": result,
        "alert_number": request.POST.get("alert", ""),
        "may_change": True,
        "snapshot": snapshot,
        **conditions.context,
    }
    return render_view(request, "workflows/edit.html", context, partials=("preview",), status=422 if failed else 200)


def _dry_run_draft(spec: dict[str, Any], group: Group | None, request: SignedInRequest) -> DryRunResult:
    plan = commands.read_definition({key: spec[key] for key in ("trigger", "start", "stop", "actions", "limit")})
    alert = _alert(request.POST.get("alert", ""))
    return views.dry_run_definition(plan, spec["name"], alert, request.now, owner=commands.owner_of(group))


def _initial_spec(request: SignedInRequest) -> dict[str, Any]:
    """Return the initial spec: a template in the user's language, else empty."""
    template = next((candidate for candidate in _templates() if candidate.key == request.GET.get("from")), None)
    if template is None:
        return {}
    trigger, actions = template.spec["trigger"], [_translate_texts(action) for action in template.spec["actions"]]
    return {
        "name": local_term(template.name),
        **template.spec,
        "trigger": trigger if isinstance(trigger, str) else _translate_texts(trigger),
        "actions": actions,
    }


def _translate_texts(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trigger or action with its texts translated."""
    return {key: local_term(value) if key in ("confirm", "subject", "text") else value for key, value in part.items()}


def _templates() -> list[SpecTemplate]:
    policy = Policy.objects.order_by("name").first()
    call = OutboundIntegration.objects.filter(kind="http").order_by("name").first()
    has_halo = OutboundIntegration.objects.filter(kind="haloitsm").exists()
    names = [row.name if row else "" for row in (call, policy)]
    return workflow_templates(*names, has_halo=has_halo)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def move(request: SignedInRequest, number: int) -> HttpResponse:
    row = find_editable(request, WORKFLOWS, number)
    commands.move(row, -1 if request.POST.get("by") == "up" else 1, actor=actor(request), now=request.now)
    return redirect("workflows")


@require_POST
@requires(Permission.MANAGE_ROUTING)
def switch(request: SignedInRequest, number: int) -> HttpResponse:
    """Enable or disable a workflow. The button posts the wanted state, so concurrent clicks agree."""
    row = find_editable(request, WORKFLOWS, number)
    commands.set_enabled(row, request.POST.get("to") == "on", actor=actor(request), now=request.now)
    text = gettext("%(name)s enabled.") if row.is_enabled else gettext("%(name)s disabled.")
    messages.success(request, text % {"name": row.name})
    return redirect("workflow", number)


# ---------- runs

#: Tab of the log → run statuses.
_STATUSES_BY_TAB = {
    "acted": (WorkflowRunStatus.DONE, WorkflowRunStatus.STOPPED),
    "not": (WorkflowRunStatus.SKIPPED,),
    "waiting": (WorkflowRunStatus.WAITING,),
    "stuck": (WorkflowRunStatus.STUCK,),
}


@require_safe
def log(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the workflow's runs, newest first."""
    row = find_object(WORKFLOWS, number)
    tab = request.GET.get("show", "")
    rows = WorkflowRun.objects.filter(workflow=row).select_related("workflow", "alert")
    if tab in _STATUSES_BY_TAB:
        rows = rows.filter(status__in=_STATUSES_BY_TAB[tab])
    text = request.GET.get("q", "").strip().lstrip("#")
    if text:
        rows = rows.filter(alert=number_of(text) or 0)
    result = paginate_by_number(rows, request.GET.get("cursor", ""))
    context = {
        "workflow": row,
        "workflow_runs": views.summarize_runs(result.rows),
        "pagination": result,
        "tab": tab,
        "q": text,
        "stuck": WorkflowRun.objects.filter(workflow=row, status=WorkflowRunStatus.STUCK).count(),
        "tabs": [
            ("", gettext("All")), ("acted", gettext("Executed")), ("not", gettext("Skipped")),
            ("waiting", gettext("Scheduled")), ("stuck", gettext("Stuck")),
        ],
        "may_change": may(request, Permission.MANAGE_ROUTING, row.group_id),
    }  # fmt: skip
    return render_view(request, "workflows/log.html", context, partials=("runs",))


@require_POST
@requires(Permission.MANAGE_ROUTING)
def act(request: SignedInRequest, number: int, run_id: int, verb: str) -> HttpResponse:
    """Retry a stuck run, or end a waiting one."""
    row = find_editable(request, WORKFLOWS, number)
    run = find_row(WorkflowRun.objects.filter(workflow=row).select_related("workflow"), run_id, "workflow run")
    if verb not in ("try-again", "end"):
        raise Http404
    with rejections_shown(request):
        if verb == "try-again":
            commands.try_again(run, actor=actor(request), now=request.now)
            messages.success(request, gettext("The run will be retried."))
        else:
            commands.abandon(run, actor=actor(request), now=request.now)
            messages.success(request, gettext("Run ended."))
    return redirect("workflow_log", number)


@require_POST
@requires(Permission.RESPOND)
def press(request: SignedInRequest, number: int, workflow_id: int) -> HttpResponse:
    """Run a manual workflow on an alert and show the result in the alert view."""
    alert = require_response(request.viewer, find_visible_alert(number))
    row = find_row(views.manual_workflows(), workflow_id, WORKFLOWS.label)
    try:
        run = commands.run_manual_workflow(row, alert, request.user, str(CommandChannel.WEB), now=request.now)
    except Rejected as rejected:
        if rejected.code == "not_found":
            raise Http404(rejected.reason.localized()) from None
        messages.warning(request, f"{row.name}: {rejected.reason.localized()}")
        return redirect("alert", number)
    results = [(reason_from_json(step["result"]).localized(), step.get("failed")) for step in run.steps]
    failed = [text for text, has_failed in results if has_failed]
    if failed:
        messages.warning(request, f"{row.name}: {' '.join(failed)}")
    else:
        text = " ".join(text for text, _has_failed in results)
        messages.success(request, f"{row.name}: {text or gettext('The workflow is running.')}")
    return redirect("alert", number)
