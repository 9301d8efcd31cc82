"""Workflows: list in order, detail view with runs, form, and dry run against an alert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.escalation.models import Policy
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group
from tocsin.web.http.authorization import actor, may, may_somewhere, offer_own_groups, require, requires
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.integrations.editor import condition_form
from tocsin.web.told import told
from tocsin.web.ui.confirm_delete import ask_and_delete
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import each, errors_beside, show_rejection, typed
from tocsin.web.ui.formset_actions import rearrange
from tocsin.web.workflows.conditions import WorkflowConditions, fields
from tocsin.web.workflows.forms import ActionFormSet, WorkflowForm, actions_formset, initial_actions, initial_workflow
from tocsin.workflows import commands
from tocsin.workflows.definition import descriptions
from tocsin.workflows.definition.templates import WorkflowTemplate, workflow_templates
from tocsin.workflows.models import Run, Workflow
from tocsin.workflows.states import WorkflowRunStatus
from tocsin.workflows.views import buttons, dry_run, health
from tocsin.workflows.views.dry_run import DryRunResult


@require_safe
def workflow_list(request: SignedInRequest) -> HttpResponse:
    """Render all workflows in their order, each described in a sentence."""
    rows = list(health.with_runs(Workflow.objects.select_related("group")))
    names = commands.names_of(rows, shown=True)
    shown = [
        (row, commands.readable(row), _does(row, names), may(request, Permission.ROUTING, row.group_id)) for row in rows
    ]
    context = {"rows": shown, "templates": _ready_made() if not rows else [],
               "may_add": may_somewhere(request, Permission.ROUTING)}  # fmt: skip
    return page(request, "workflows/list.html", context)


def _does(row: Workflow, names: commands.WorkflowNamesById) -> tuple[str, list[str]]:
    """Return the trigger and the actions in words."""
    plan = commands.readable(row)
    if plan is None:
        return "", []
    name_of = _naming(names)
    return descriptions.describe_trigger(plan.trigger), [
        descriptions.describe_action(action, name_of) for action in plan.actions
    ]


def _naming(names: commands.WorkflowNamesById) -> Any:
    return lambda noun, number: names[noun].get(number, f"#{number}")


@require_safe
def workflow(request: SignedInRequest, number: int) -> HttpResponse:
    """Render a workflow with its latest runs, and a dry run for one alert."""
    row = find(number)
    plan = commands.readable(row)
    trigger, actions = _does(row, commands.names_of([row], shown=True))
    asked = request.GET.get("alert", "").strip().lstrip("#")
    tried, problem = _tried(row, asked, request) if asked else (None, "")
    runs = Run.objects.filter(workflow=row).select_related("workflow", "alert")
    labels = dict(fields())
    context = {
        "workflow": row,
        "plan": plan,
        "trigger": trigger,
        "actions": actions,
        "start": condition_form.say(plan.start, labels) if plan else "",
        "stop": condition_form.say(plan.stop, labels) if plan and plan.stop is not None else "",
        "stories": buttons.stories(list(runs.order_by("-pk")[:10])),
        "stuck": runs.filter(status=WorkflowRunStatus.STUCK).count(),
        "asked": asked,
        "tried": tried,
        "problem": problem,
        "may_change": may(request, Permission.ROUTING, row.group_id),
    }
    return page(request, "workflows/workflow.html", context, parts=("runs",))


def _tried(row: Workflow, asked: str, request: SignedInRequest) -> tuple[DryRunResult | None, str]:
    try:
        return dry_run.dry_run(row, _number(asked), request.now), ""
    except Rejected as rejected:
        return None, told(rejected.detail)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Rejected("invalid", _("Write the number of an alert, such as 42."), "alert")
    return int(text)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a workflow. Every button posts the whole form, so that it works without JavaScript."""
    row = find(number) if number is not None else None
    if row is not None:
        require(request, Permission.ROUTING, row.group_id)
    post = request.POST if request.method == "POST" else None
    spec = _beginning(request) if row is None else commands.workflow_spec(row)
    if row is not None and commands.readable(row) is None:
        messages.warning(request, _("This workflow could not be read: what is saved here takes its place."))
        spec = {"name": row.name}
    form = WorkflowForm(post, initial=initial_workflow(spec))
    actions = actions_formset()(post, initial=initial_actions(spec) or [{}], prefix="actions")
    conditions = WorkflowConditions.posted(post) if post is not None else WorkflowConditions.of(spec)
    offer_own_groups(request, form.fields["group"])
    tried: DryRunResult | None = None
    seen = FormSnapshot.of(request, "workflow", row, _without_order)
    do = str(post.get("do", "")) if post is not None else ""
    moved = rearrange(request.POST, "actions") if post is not None else None
    if post is not None and (moved is not None or conditions.press(do)):
        form, actions = _typed(request, form, actions if moved is None else actions_formset()(moved, prefix="actions"))
    elif post is not None and form.is_valid() and actions.is_valid():
        try:
            wanted = {**form.spec(), **conditions.spec(), "actions": [one.spec() for one in actions.forms]}
            if do == "try":
                tried = _tried_draft(wanted, request)
            else:
                return _saved(request, row, wanted, seen)
        except Rejected as rejected:
            _show(rejected, form, actions, conditions)
    failed = bool(form.errors or conditions.errors or any(one.errors for one in actions.forms))
    context = {
        "workflow": row,
        "form": form,
        "actions": actions,
        "conditions": conditions,
        "templates": [] if row or post is not None else _ready_made(),
        "chosen": request.GET.get("from", ""),
        "tried": tried,
        "asked": request.POST.get("alert", ""),
        "may_change": True,
        "seen": seen,
        **conditions.context,
    }
    return page(request, "workflows/edit.html", context, status=422 if failed else 200)


def _without_order(row: Workflow) -> dict[str, Any]:
    """Return the spec without the position, which is changed in the list and not in the form."""
    return {key: value for key, value in commands.workflow_spec(row).items() if key != "order"}


def _typed(request: SignedInRequest, form: WorkflowForm, actions: ActionFormSet) -> tuple[WorkflowForm, ActionFormSet]:
    """Return both forms with the typed values and without errors."""
    again = WorkflowForm(initial=typed(form))
    offer_own_groups(request, again.fields["group"])
    return again, actions_formset()(initial=actions.as_typed(), prefix="actions")


def _saved(request: SignedInRequest, row: Workflow | None, wanted: dict[str, Any], seen: FormSnapshot) -> HttpResponse:
    group = Group.objects.filter(name=wanted["group"]).first() if wanted["group"] else None
    require(request, Permission.ROUTING, group)
    with seen.unchanged():
        saved = commands.save_workflow(
            wanted, existing=row, actor=actor(request), now=request.now,
            may_call=lambda group: may(request, Permission.ROUTING, group),
        )  # fmt: skip
    messages.success(request, _("%(name)s is saved.") % {"name": saved.name})
    return redirect("workflow", saved.pk)


def _tried_draft(wanted: dict[str, Any], request: SignedInRequest) -> DryRunResult:
    read = ObjectReader({key: wanted[key] for key in ("trigger", "start", "stop", "actions", "limit")})
    plan = commands.read_definition(read)
    read.finish()
    number = _number(request.POST.get("alert", "").strip().lstrip("#"))
    owner = Group.objects.filter(name=wanted["group"]).first() if wanted["group"] else None
    return dry_run.against(plan, wanted["name"], number, request.now, owner=commands.owner_of(owner))


def _show(rejected: Rejected, form: WorkflowForm, actions: ActionFormSet, conditions: WorkflowConditions) -> None:
    """Show problems of an action beside that action, of a condition beside its row, all others beside their field."""
    for problem in each(rejected):
        place = problem.field or ""
        if place.startswith("actions["):
            index, _end, rest = place.removeprefix("actions[").partition("]")
            if index.isdecimal() and int(index) < len(actions.forms):
                actions.forms[int(index)].add_problem(rest.lstrip("."), errors_beside(problem))
                continue
        if not conditions.show(problem):
            show_rejection(form, problem, form.PLACES)


def _beginning(request: SignedInRequest) -> dict[str, Any]:
    """Return the initial spec: a template in the user's language, else empty."""
    chosen = next((one for one in _ready_made() if one.key == request.GET.get("from")), None)
    if chosen is None:
        return {}
    trigger, actions = chosen.spec["trigger"], [_worded(action) for action in chosen.spec["actions"]]
    return {
        "name": told(chosen.name),
        **chosen.spec,
        "trigger": trigger if isinstance(trigger, str) else _worded(trigger),
        "actions": actions,
    }


def _worded(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trigger or action with its texts translated."""
    return {key: told(value) if key in ("confirm", "subject", "text") else value for key, value in part.items()}


def _ready_made() -> list[WorkflowTemplate]:
    group, policy = Group.objects.order_by("name").first(), Policy.objects.order_by("name").first()
    call = OutboundIntegration.objects.filter(kind="http").order_by("name").first()
    has_halo = OutboundIntegration.objects.filter(kind="haloitsm").exists()
    names = [one.name if one else "" for one in (group, call, policy)]
    return workflow_templates(*names, has_halo=has_halo)


@require_POST
@requires(Permission.ROUTING)
def move(request: SignedInRequest, number: int) -> HttpResponse:
    """Move a workflow up or down by one position."""
    row = _own(request, number)
    commands.move(row, -1 if request.POST.get("by") == "up" else 1, actor=actor(request), now=request.now)
    return redirect("workflows")


@require_POST
@requires(Permission.ROUTING)
def switch(request: SignedInRequest, number: int) -> HttpResponse:
    """Enable or disable a workflow. The button posts the wanted state, so concurrent clicks agree."""
    row = _own(request, number)
    commands.set_enabled(row, request.POST.get("to") == "on", actor=actor(request), now=request.now)
    said = _("%(name)s is in use again.") if row.is_enabled else _("%(name)s is switched off.")
    messages.success(request, said % {"name": row.name})
    return redirect("workflow", number)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, then delete the workflow."""
    row = _own(request, number)
    return ask_and_delete(
        request,
        row,
        commands.delete_workflow,
        what=row.name,
        back="workflow",
        then=("workflows",),
        about=_("What it waits to do is not done any more, and its log goes with it."),
        seen=FormSnapshot.of(request, "workflow", row, _without_order, is_deleting=True),
    )


def find(number: int) -> Workflow:
    """Return the workflow. Raises Http404."""
    row = Workflow.objects.select_related("group").filter(pk=number).first()
    if row is None:
        raise Http404(_("This workflow is gone."))
    return row


def _own(request: SignedInRequest, number: int) -> Workflow:
    row = find(number)
    require(request, Permission.ROUTING, row.group_id)
    return row
