"""Escalation policies: list, detail view with a preview, form and deletion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access.roles import Permission
from tocsin.alerts.states import Priority
from tocsin.core import object_hooks
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.locale_format import local_term
from tocsin.core.reasons import Reason
from tocsin.escalation.changes import commands
from tocsin.escalation.models import Policy
from tocsin.escalation.policy.policy_templates import policy_templates
from tocsin.inbound.models import Integration
from tocsin.people.models import Group
from tocsin.resources.registry import POLICIES
from tocsin.simulate.escalation import SimulatedStep
from tocsin.simulate.policy import HypotheticalAlert, simulate
from tocsin.web.http.authorization import actor, may, offer_own_groups, require, requires
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.policies.forms import PolicyForm, initial_policy
from tocsin.web.policies.step_forms import StepFormSet, initial_steps, steps_formset
from tocsin.web.ui import references
from tocsin.web.ui.choices import PRIORITIES, channel_name
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import MomentField, field_error_text, problems_of, show_rejection
from tocsin.web.ui.object_list import ObjectList

_PLACES = {
    "acknowledge.effect": "effect",
    "acknowledge.pause": "pause",
    "acknowledge.timeout": "timeout",
    "repeat.times": "repeat_times",
    "repeat.every": "repeat_every",
    "acknowledge.people": "people",
    "end.every": "keep_every",
    "sla.respond_by": "respond_by",
    "sla.fix_by": "fix_by",
    "end.policy": "hand_over",
    "end.then": "then",
    "steps": "name",
}


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
            for reference in references.references_to("escalation_policy", row.pk)
            if reference.reason not in {object_hooks.INTEGRATION(name=integration.name) for integration in used}
        ],
        "may_change": may(request, Permission.MANAGE_TEAMS, row.group_id),
    }
    return render_view(request, "policies/policy.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_TEAMS)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create a policy, or a new version of one."""
    row = find_object(POLICIES, number) if number is not None else None
    require_existing(request, row)
    spec = commands.policy_spec(row) if row else _initial_spec(request)
    if row is not None and commands.readable(row) is None:
        messages.warning(request, _("This policy is not valid. Saving replaces it."))
        spec = _initial_spec(request) | {"name": row.name}
    form = PolicyForm(request.POST or None, initial=initial_policy(spec), existing=row)
    steps = steps_formset()(request.POST or None, initial=initial_steps(spec), prefix="steps")
    offer_own_groups(request, form.fields["group"])
    snapshot = FormSnapshot.of(request, POLICIES, row)
    # Validate both, so that all problems are shown at once.
    if form.is_bound and not all([form.is_valid(), steps.is_valid()]):
        _show_command_errors(row, form, steps)
    elif form.is_bound:
        saved = _save(request, row, form, steps, snapshot)
        if saved is not None:
            messages.success(request, _("Saved. Running escalations keep their version."))
            return redirect("policy", saved.pk)
    failed = form.errors or any(step.errors or step.methods.total_error_count() for step in steps.forms)
    context = {
        "policy": row,
        "form": form,
        "steps": steps,
        "numbered": list(zip(steps.forms, steps.start_offsets(), strict=True)),
        "templates": [] if row else policy_templates(_zone()),
        "chosen": request.GET.get("from", ""),
        "snapshot": snapshot,
    }
    return render_view(request, "policies/edit.html", context, status=422 if failed else 200)


def _save(
    request: SignedInRequest, row: Policy | None, form: PolicyForm, steps: StepFormSet, snapshot: FormSnapshot
) -> Policy | None:
    spec, filled_steps = _posted_spec(form, steps), steps.filled_steps()
    try:
        require_new_group(request, form.cleaned_data["group"])
        with snapshot.unchanged():
            return commands.save_policy(spec, existing=row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        if rejected.code == "reaches_nobody":
            form.show_confirmation()
        _show_errors(rejected, form, filled_steps)
        return None


def _posted_spec(form: PolicyForm, steps: StepFormSet) -> dict[str, Any]:
    return {**form.spec(), "steps": [step.spec() for step in steps.filled_steps()]}


def _show_command_errors(row: Policy | None, form: PolicyForm, steps: StepFormSet) -> None:
    """Add the problems that only the command's validation finds."""
    try:
        commands.check_policy(_posted_spec(form, steps), existing=row)
    except Rejected as rejected:
        _show_errors(rejected, form, steps.filled_steps())


def _initial_spec(request: SignedInRequest) -> dict[str, Any]:
    """Return the spec of a new policy: the template named in the URL, else the default one."""
    templates = policy_templates(_zone())
    template = next((candidate for candidate in templates if candidate.key == request.GET.get("from")), templates[0])
    return {"name": local_term(template.name) if "from" in request.GET else "", **template.spec}


def _zone() -> str:
    return str(settings_store.get(settings_store.TIME_ZONE))


def require_existing(request: SignedInRequest, row: Policy | None) -> None:
    """Require permission for an existing policy. For a new one the check waits until its group is known."""
    if row is not None:
        require(request, Permission.MANAGE_TEAMS, row.group_id)


def require_new_group(request: SignedInRequest, group: Group | None) -> None:
    """Require permission for the group that the object is assigned to."""
    require(request, Permission.MANAGE_TEAMS, group)


def _moment(text: str) -> datetime | None:
    """Parse the local time of the preview; None means now."""
    try:
        return MomentField(required=False).clean(text)  # type: ignore[no-any-return]
    except ValidationError:
        return None


def _people(stage: SimulatedStep) -> list[tuple[str, Reason, list[tuple[str, str, datetime]]]]:
    """Return (name, capacity, [(channel, label, time)]) of every recipient of a step."""
    return [
        (
            name,
            label,
            [(channel_name(page.channel), page.label, page.at) for page in stage.pages if page.name == name],
        )
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


def _show_errors(rejected: Rejected, form: PolicyForm, steps: list[Any]) -> None:
    """Show problems of a step beside that step, all others beside their field, unless the field already has an
    error."""
    fields_with_errors = {bound_form: set(bound_form.errors) for bound_form in (form, *steps)}
    for problem in problems_of(rejected):
        path = problem.field or ""
        if path.startswith("steps["):
            index, _end, step_path = path.removeprefix("steps[").partition("]")
            if index.isdecimal() and int(index) < len(steps):
                step, field = steps[int(index)], _step_field(step_path.lstrip("."))
                if field not in fields_with_errors[step]:
                    step.add_error(field, field_error_text(problem))
                continue
        show_rejection(form, problem, _PLACES, fields_with_errors=fields_with_errors[form])


def _step_field(path: str) -> str | None:
    """Return the step field for a path in a step's spec, or None for the step itself."""
    for beginning, field in _STEP_PLACES.items():
        if path.startswith(beginning):
            return field
    return None


_STEP_PLACES = {
    "after": "after",
    "sequential": "sequential",
    "retries.every": "retry_every",
    "retries": "retry_times",
    "when.between.from": "begins",
    "when.between.to": "ends",
    "when.between": "between",
    "when.tags": "tags",
    "when.during": "hours",
    "name": "name",
}
