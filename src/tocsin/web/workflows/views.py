"""Workflows: list in order, detail view with runs, form, and dry run against an alert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.alerts.service import VisibleAlert, find_alert
from tocsin.core.errors import Rejected
from tocsin.core.locale_format import local_term
from tocsin.core.reasons import NO_REASON, Reason, as_reason
from tocsin.escalation.models import Policy
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group
from tocsin.resources.registry import WORKFLOWS
from tocsin.web.http.authorization import actor, may, offer_own_groups, require, requires
from tocsin.web.http.objects import find_editable, find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.integrations.editor import condition_form
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import field_error_text, problems_of, show_rejection, typed
from tocsin.web.ui.object_list import ObjectList
from tocsin.web.workflows.conditions import WorkflowConditions, fields
from tocsin.web.workflows.forms import ActionFormSet, WorkflowForm, actions_formset, initial_actions, initial_workflow
from tocsin.workflows import commands
from tocsin.workflows.definition import descriptions
from tocsin.workflows.definition.templates import WorkflowTemplate, workflow_templates
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.states import WorkflowRunStatus
from tocsin.workflows.views import buttons, dry_run, health
from tocsin.workflows.views.dry_run import DryRunResult

_LIST = ObjectList(
    WORKFLOWS,
    rows_template="workflows/rows.html",
    empty_title=gettext_lazy("No workflows yet"),
    empty_text=gettext_lazy(
        "A workflow runs actions when something happens on an alert, or fails to happen: notify a "
        "manager, update the ticket, start another policy. It can also be a button on the alert."
    ),
    icon="git-branch",
    add_view="new_workflow",
    add_label=gettext_lazy("New workflow"),
    template="workflows/list.html",
)


@require_safe
def workflow_list(request: SignedInRequest) -> HttpResponse:
    """Render all workflows in their order, each described in a sentence."""
    rows = _LIST.matching(request, health.with_runs(Workflow.objects.select_related("group")))
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
    name_of = _naming(names)
    return descriptions.describe_trigger(plan.trigger), [
        descriptions.describe_action(action, name_of) for action in plan.actions
    ]


def _naming(names: commands.WorkflowNamesById) -> Any:
    return lambda noun, number: names[noun].get(number, f"#{number}")


@require_safe
def workflow(request: SignedInRequest, number: int) -> HttpResponse:
    """Render a workflow with its latest runs, and a dry run for one alert."""
    row = find_object(WORKFLOWS, number)
    plan = commands.readable(row)
    trigger, actions = _describe(row, commands.names_of([row], use_display_names=True))
    alert_number = request.GET.get("alert", "").strip().lstrip("#")
    result, problem = _dry_run_result(row, alert_number, request) if alert_number else (None, "")
    runs = WorkflowRun.objects.filter(workflow=row).select_related("workflow", "alert")
    labels = dict(fields())
    context = {
        "workflow": row,
        "plan": plan,
        "trigger": trigger,
        "actions": actions,
        "start": condition_form.describe_condition(plan.start, labels) if plan else "",
        "stop": condition_form.describe_condition(plan.stop, labels) if plan and plan.stop is not None else "",
        "workflow_runs": buttons.summarize_runs(list(runs.order_by("-pk")[:10])),
        "stuck": runs.filter(status=WorkflowRunStatus.STUCK).count(),
        "alert_number": alert_number,
        "dry_run_result": result,
        "problem": problem,
        "may_change": may(request, Permission.MANAGE_ROUTING, row.group_id),
    }
    return render_view(request, "workflows/workflow.html", context, partials=("runs",))


def _dry_run_result(row: Workflow, alert_number: str, request: SignedInRequest) -> tuple[DryRunResult | None, str]:
    try:
        return dry_run.dry_run(row, _alert(alert_number), request.now), ""
    except Rejected as rejected:
        return None, rejected.reason.localized()


def _alert(text: str) -> VisibleAlert:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Rejected("invalid", as_reason(_("Enter an alert number, such as 42.")), "alert")
    return find_alert(int(text), "alert")


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a workflow. The buttons of conditions post the whole form."""
    row = find_editable(request, WORKFLOWS, number) if number is not None else None
    post = request.POST if request.method == "POST" else None
    spec = _initial_spec(request) if row is None else commands.workflow_spec(row)
    if row is not None and commands.readable(row) is None:
        messages.warning(request, _("This workflow is not valid. Saving replaces it."))
        spec = {"name": row.name}
    form = WorkflowForm(post, initial=initial_workflow(spec))
    actions = actions_formset()(post, initial=initial_actions(spec) or [{}], prefix="actions")
    conditions = WorkflowConditions.posted(post) if post is not None else WorkflowConditions.of(spec)
    offer_own_groups(request, form.fields["group"])
    result: DryRunResult | None = None
    snapshot = FormSnapshot.of(request, WORKFLOWS, row, state=_without_order)
    button = str(post.get("do", "")) if post is not None else ""
    if post is not None and conditions.apply_button(button):
        form, actions = _typed(request, form, actions)
    elif post is not None and form.is_valid() and actions.is_valid():
        try:
            posted_spec = {
                **form.spec(),
                **conditions.spec(),
                "actions": [action_form.spec() for action_form in actions.forms],
            }
            if button == "try":
                result = _dry_run_draft(posted_spec, request)
            else:
                return _save(request, row, posted_spec, snapshot)
        except Rejected as rejected:
            _show_errors(rejected, form, actions, conditions)
    failed = bool(form.errors or conditions.errors or any(action_form.errors for action_form in actions.forms))
    context = {
        "workflow": row,
        "form": form,
        "actions": actions,
        "conditions": conditions,
        "templates": [] if row or post is not None else _templates(),
        "chosen": request.GET.get("from", ""),
        "dry_run_result": result,
        "alert_number": request.POST.get("alert", ""),
        "may_change": True,
        "snapshot": snapshot,
        **conditions.context,
    }
    return render_view(request, "workflows/edit.html", context, status=422 if failed else 200)


def _without_order(row: Workflow) -> dict[str, Any]:
    """Return the spec without the position, which is changed in the list and not in the form."""
    return {key: value for key, value in commands.workflow_spec(row).items() if key != "order"}


def _typed(request: SignedInRequest, form: WorkflowForm, actions: ActionFormSet) -> tuple[WorkflowForm, ActionFormSet]:
    """Return both forms with the typed values and without errors."""
    fresh_form = WorkflowForm(initial=typed(form))
    offer_own_groups(request, fresh_form.fields["group"])
    return fresh_form, actions_formset()(initial=actions.typed_values(), prefix="actions")


def _save(request: SignedInRequest, row: Workflow | None, spec: dict[str, Any], snapshot: FormSnapshot) -> HttpResponse:
    group = Group.objects.filter(name=spec["group"]).first() if spec["group"] else None
    require(request, Permission.MANAGE_ROUTING, group)
    with snapshot.unchanged():
        saved = commands.save_workflow(spec, existing=row, actor=actor(request), now=request.now)
    messages.success(request, _("%(name)s saved.") % {"name": saved.name})
    return redirect("workflow", saved.pk)


def _dry_run_draft(spec: dict[str, Any], request: SignedInRequest) -> DryRunResult:
    plan = commands.read_definition({key: spec[key] for key in ("trigger", "start", "stop", "actions", "limit")})
    alert = _alert(request.POST.get("alert", "").strip().lstrip("#"))
    owner = Group.objects.filter(name=spec["group"]).first() if spec["group"] else None
    return dry_run.dry_run_definition(plan, spec["name"], alert, request.now, owner=commands.owner_of(owner))


def _show_errors(
    rejected: Rejected, form: WorkflowForm, actions: ActionFormSet, conditions: WorkflowConditions
) -> None:
    """Show problems of an action beside that action, of a condition beside its row, all others beside their field."""
    for problem in problems_of(rejected):
        path = problem.field or ""
        if path.startswith("actions["):
            index, _end, action_path = path.removeprefix("actions[").partition("]")
            if index.isdecimal() and int(index) < len(actions.forms):
                actions.forms[int(index)].add_problem(action_path.lstrip("."), field_error_text(problem))
                continue
        if not conditions.add_problem(problem):
            show_rejection(form, problem, form.PLACES)


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


def _templates() -> list[WorkflowTemplate]:
    policy = Policy.objects.order_by("name").first()
    call = OutboundIntegration.objects.filter(kind="http").order_by("name").first()
    has_halo = OutboundIntegration.objects.filter(kind="haloitsm").exists()
    names = [row.name if row else "" for row in (call, policy)]
    return workflow_templates(*names, has_halo=has_halo)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def move(request: SignedInRequest, number: int) -> HttpResponse:
    """Move a workflow up or down by one position."""
    row = find_editable(request, WORKFLOWS, number)
    commands.move(row, -1 if request.POST.get("by") == "up" else 1, actor=actor(request), now=request.now)
    return redirect("workflows")


@require_POST
@requires(Permission.MANAGE_ROUTING)
def switch(request: SignedInRequest, number: int) -> HttpResponse:
    """Enable or disable a workflow. The button posts the wanted state, so concurrent clicks agree."""
    row = find_editable(request, WORKFLOWS, number)
    commands.set_enabled(row, request.POST.get("to") == "on", actor=actor(request), now=request.now)
    text = _("%(name)s enabled.") if row.is_enabled else _("%(name)s disabled.")
    messages.success(request, text % {"name": row.name})
    return redirect("workflow", number)
