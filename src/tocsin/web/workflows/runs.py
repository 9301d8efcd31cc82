"""A workflow's run log, with the reason for each action or skip; and its manual button on alerts."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.alerts.states import CommandChannel
from tocsin.core.errors import Rejected
from tocsin.core.reasons import reason_from_json
from tocsin.resources.registry import WORKFLOWS
from tocsin.web.http.authorization import actor, may, require_response, requires
from tocsin.web.http.objects import find_editable, find_object, find_row, find_visible_alert
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui.pagination import paginate_by_number
from tocsin.workflows import commands
from tocsin.workflows.models import WorkflowRun
from tocsin.workflows.states import WorkflowRunStatus
from tocsin.workflows.views import buttons

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
        rows = rows.filter(alert=int(text)) if text.isdecimal() and len(text) < 19 else rows.none()
    result = paginate_by_number(rows, request.GET.get("cursor", ""))
    context = {
        "workflow": row,
        "workflow_runs": buttons.summarize_runs(result.rows),
        "pagination": result,
        "tab": tab,
        "q": text,
        "stuck": WorkflowRun.objects.filter(workflow=row, status=WorkflowRunStatus.STUCK).count(),
        "tabs": [
            ("", _("All")), ("acted", _("Executed")), ("not", _("Skipped")), ("waiting", _("Scheduled")),
            ("stuck", _("Stuck")),
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
    try:
        if verb == "try-again":
            commands.try_again(run, actor=actor(request), now=request.now)
            messages.success(request, _("The run will be retried."))
        else:
            commands.abandon(run, actor=actor(request), now=request.now)
            messages.success(request, _("Run ended."))
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    return redirect("workflow_log", number)


@require_POST
@requires(Permission.RESPOND)
def press(request: SignedInRequest, number: int, workflow_id: int) -> HttpResponse:
    """Run a manual workflow on an alert and show the result in the alert view."""
    alert = require_response(request.viewer, find_visible_alert(number))
    row = find_row(buttons.manual_workflows(), workflow_id, WORKFLOWS.label)
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
        messages.success(request, f"{row.name}: {text or _('The workflow is running.')}")
    return redirect("alert", number)
