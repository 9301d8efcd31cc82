"""Outbound integrations: list, health, write-back settings, agent mapping, forms and deletion."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.catalogue.kinds import family
from tocsin.core.config import config_version
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.inbound.admin import commands as inbound
from tocsin.inbound.admin import secrets
from tocsin.inbound.models import Integration
from tocsin.outbound import commands
from tocsin.outbound.connectors.registry import KINDS
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.models import Call, LookUp, OutboundIntegration, Webhook
from tocsin.outbound.states import WAITING, CallStatus, OutboundEvent
from tocsin.people.models import User
from tocsin.web.http.authorization import actor, may, may_somewhere, offer_own_groups, require, requires
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.outbound.forms import CommonForm, EventForm, HaloForm, HttpForm, event_initial, initial_of
from tocsin.web.told import told
from tocsin.web.ui.confirm_delete import ask_and_delete
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import show_rejection

#: The parts of a spec that have a tab of their own.
SYNC, AGENTS, TICKETS = "sync", "agents", "create_ticket"

_FORMS: dict[str, type[CommonForm]] = {"haloitsm": HaloForm, "http": HttpForm}


@require_safe
def outbound_list(request: SignedInRequest) -> HttpResponse:
    """Render all outbound integrations with their health."""
    rows = list(OutboundIntegration.objects.select_related("standing", "group"))
    dead = _dead()
    context = {
        "rows": [(row, KINDS.get(row.kind), health(row), dead.get(row.pk, 0)) for row in rows],
        "kinds": KINDS.values(),
        "may_add": may_somewhere(request, Permission.ROUTING),
    }
    return page(request, "outbound/list.html", context)


def health(row: OutboundIntegration) -> tuple[str, str]:
    """Return the health of an integration in a few words, with its colour."""
    standing = row.standing
    if not row.is_enabled:
        return _("switched off"), "quiet"
    if standing.problem:
        return _("needs you"), "now"
    if standing.open_until or standing.last_transient_error:
        return _("does not answer"), "wait"
    if standing.poll_error:
        return _("reads only in part"), "wait"
    if standing.webhook_problem:
        return _("webhook silent"), "wait"
    return (_("works"), "ok") if standing.succeeded_at or standing.last_polled_at else (_("not used yet"), "quiet")


def _dead() -> dict[int, int]:
    rows = Call.objects.filter(status=CallStatus.DEAD).values_list("integration").annotate(number=Count("pk"))
    return dict(rows.order_by())


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def edit(request: SignedInRequest, number: int | None = None, kind_name: str = "") -> HttpResponse:
    """Create or edit an outbound integration."""
    row = find(number) if number is not None else None
    if row is not None:
        require(request, Permission.ROUTING, row.group_id)
    kind = KINDS.get(row.kind if row else kind_name)
    if kind is None:
        raise Http404(_("This version does not know that kind of outbound integration."))
    begin = (
        initial_of(commands.outbound_spec(row), row.group)
        if row
        else {"name": _unused(told(kind.title)), "enabled": True}
    )
    stored = commands.secrets_set(row) if row else frozenset()
    form = _FORMS[kind.name](request.POST or None, initial=begin, stored=stored)
    offer_own_groups(request, form.fields["group"])
    seen = FormSnapshot.of(request, "outbound_integration", row, _of_its_own)
    if request.method == "POST" and form.is_valid():
        try:
            with seen.unchanged():
                spec = form.spec(commands.outbound_spec(row) if row else {})
                saved = commands.save_outbound(spec, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("%(name)s is saved. Test it now.") % {"name": saved.name})
            return redirect("outbound", saved.pk)
    context = {"form": form, "kind": kind, "row": row, "seen": seen}
    return page(request, "outbound/edit.html", context, status=422 if form.errors else 200)


def _of_its_own(row: OutboundIntegration) -> dict[str, Any]:
    """Return the integration's state without the parts that other tabs edit."""
    return {key: value for key, value in commands.outbound_state(row).items() if key not in (SYNC, AGENTS, TICKETS)}


def _unused(name: str) -> str:
    taken = {one.casefold() for one in OutboundIntegration.objects.values_list("name", flat=True)}
    candidates = [name, *(f"{name} {number}" for number in range(2, 100))]
    return next((one for one in candidates if one.casefold() not in taken), name)


@require_safe
def outbound(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the health, and the pending and failed calls."""
    row = find(number)
    waiting = Call.objects.filter(integration=row, status__in=WAITING).count()
    dead = list(Call.objects.filter(integration=row, status=CallStatus.DEAD).order_by("-pk")[:10])
    doors = []
    if row.kind == "haloitsm":
        hooks = dict(Webhook.objects.filter(integration=row).values_list("door", "set_up_at"))
        inbound_ones = Integration.objects.filter(kind__in=family(row.kind)).select_related("outbound")
        doors = [(door, hooks.get(door.pk)) for door in inbound_ones]
    context = {
        **frame(request, row, "overview"),
        "waiting": waiting,
        "dead": dead,
        "doors": doors,
        "calls": list(Call.objects.filter(integration=row).order_by("-pk")[:8]),
        "lists": LookUp.objects.filter(integration=row).count(),
    }
    return page(request, "outbound/overview.html", context)


@require_POST
@requires(Permission.ROUTING)
def test(request: SignedInRequest, number: int) -> HttpResponse:
    """Test the address and credentials; for Halo, also report missing permissions."""
    row = _own(request, number)
    try:
        said = commands.verify_outbound(row, request.now)
        missing = (
            [one for one in halo_commands.rights(row, request.now) if one.problem] if row.kind == "haloitsm" else []
        )
    except (Temporary, Permanent) as error:
        messages.error(request, f"{row.name}: {error}")
        return redirect("outbound", number)
    messages.success(request, f"{row.name}: {said}")
    for one in missing:
        text = _("Missing: %(what)s, needed for %(why)s. %(problem)s")
        messages.warning(request, text % {"what": one.what, "why": one.needed_for, "problem": one.problem})
    return redirect("outbound", number)


@require_POST
@requires(Permission.ROUTING)
def refresh(request: SignedInRequest, number: int) -> HttpResponse:
    """Reload the reference lists from Halo."""
    row = _own(request, number)
    try:
        problems = halo_commands.refresh(row, actor(request), request.now)
    except (Temporary, Permanent, Rejected) as error:
        messages.error(request, f"{row.name}: {error}")
    else:
        count = LookUp.objects.filter(integration=row).count()
        messages.success(request, _("%(count)s entries of Halo's lists were read.") % {"count": count})
        for problem in problems:
            messages.warning(request, problem)
    return redirect("outbound", number)


@require_POST
@requires(Permission.ROUTING)
def connect(request: SignedInRequest, number: int) -> HttpResponse:
    """Enable or disable write-back for an inbound integration. The button posts the wanted state, so concurrent clicks
    agree."""
    row = _own(request, number)
    door = _door(request)
    wants = request.POST.get("do") != "disconnect"
    try:
        with config_version.exclusive(door):
            spec = {**inbound.integration_spec(door), "outbound": row.name if wants else None}
            inbound.save_integration(spec, existing=door, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.detail)
    else:
        halo_commands.poll_now(row, request.now)
        text = _("%(door)s writes back by %(name)s.") if wants else _("%(door)s writes back no more.")
        messages.success(request, text % {"door": door.name, "name": row.name})
    return redirect("outbound_tickets" if request.POST.get("tab") == "tickets" else "outbound", number)


@require_POST
@requires(Permission.ROUTING)
def set_up_webhook(request: SignedInRequest, number: int) -> HttpResponse:
    """Create the webhook in Halo. A failure is rolled back and reported."""
    row = _own(request, number)
    door = _door(request)
    try:
        done = halo_commands.set_up_webhook(row, door, actor(request), request.now)
    except (Temporary, Permanent, Rejected) as error:
        messages.error(request, str(error))
        return redirect("outbound", number)
    context = {
        **frame(request, row, "overview"),
        "door": door,
        "done": done,
        "url": secrets.url_of(door),
        "guide": reverse("integration_guide", args=[door.pk]),
    }
    return page(request, "outbound/webhook.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def sync(request: SignedInRequest, number: int) -> HttpResponse:
    """Edit what each event writes to the ticket."""
    row = _own(request, number)
    if row.kind != "haloitsm":
        raise Http404
    lists: dict[str, list[str]] = {}
    for noun, name in LookUp.objects.filter(integration=row).order_by("pk").values_list("noun", "name"):
        lists.setdefault(noun, []).append(name)
    settings = row.settings
    forms = [
        EventForm(request.POST or None, event=event, lists=lists, initial=event_initial(settings, event))
        for event in OutboundEvent
    ]
    seen, problem = FormSnapshot.of(request, "outbound_integration", row, commands.outbound_spec, keys=(SYNC,)), ""
    if request.method == "POST" and not [form for form in forms if not form.is_valid()]:
        try:
            with seen.unchanged():
                spec = {**commands.outbound_spec(row), SYNC: {form.event.value: form.entry() for form in forms}}
                commands.save_outbound(spec, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            problem = rejected.detail
        else:
            messages.success(request, _("Saved. What happens from now on is written like this."))
            return redirect("outbound_sync", number)
    failed = bool(problem) or any(form.errors for form in forms)
    context = {
        **frame(request, row, "sync"), "forms": forms, "has_lists": bool(lists), "seen": seen, "problem": problem,
    }  # fmt: skip
    return page(request, "outbound/sync.html", context, status=422 if failed else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def people(request: SignedInRequest, number: int) -> HttpResponse:
    """Map users to Halo agents: by e-mail address or explicitly; or import agents as users."""
    row = _own(request, number)
    agents = list(LookUp.objects.filter(integration=row, noun="agent").order_by("name"))
    if request.method == "POST" and request.POST.get("do") == "import":
        return _import_people(request, row)
    seen, problem = FormSnapshot.of(request, "outbound_integration", row, commands.outbound_spec, keys=(AGENTS,)), ""
    if request.method == "POST":
        problem = _save_people(request, row, agents, seen)
        if not problem:
            messages.success(request, _("Saved."))
            return redirect("outbound_people", row.pk)
    by_email = {agent.data.get("email", ""): agent for agent in agents}
    held = {match.user_id: match.number for match in row.matches.all()}
    users = User.objects.filter(is_active=True).order_by("name", "username")
    emails = {user.email.casefold() for user in users}
    context = {
        **frame(request, row, "people"),
        "agents": [agent for agent in agents if agent.number not in ("0", "1")],
        "users": [
            (user, by_email.get(user.email.casefold()), request.POST.get(f"agent-{user.pk}", held.get(user.pk, "")))
            for user in users
        ],
        "new": [
            agent
            for agent in agents
            if agent.data.get("email")
            and agent.data["email"] not in emails
            and agent.number != row.standing.poll_state.get("me")
        ],
        "may_import": may(request, Permission.ADMINISTER),
        "seen": seen,
        "problem": problem,
    }
    return page(request, "outbound/people.html", context, status=422 if problem else 200)


def _import_people(request: SignedInRequest, row: OutboundIntegration) -> HttpResponse:
    if not may(request, Permission.ADMINISTER):
        require(request, Permission.ADMINISTER, None)
    done = halo_commands.import_people(row, request.POST.getlist("agent"), actor(request), request.now)
    text = ngettext("%(count)d user was made.", "%(count)d users were made.", len(done.users))
    messages.success(request, text % {"count": len(done.users)})
    if done.groups:
        messages.success(request, _("Groups: %(names)s.") % {"names": ", ".join(done.groups)})
    for problem in done.problems:
        messages.warning(request, problem)
    return redirect("outbound_people", row.pk)


def _save_people(request: SignedInRequest, row: OutboundIntegration, agents: list[LookUp], seen: FormSnapshot) -> str:
    """Save the mapping. Return the problem in words, or "" on success."""
    known = {agent.number for agent in agents}
    names = dict(User.objects.filter(is_active=True).values_list("pk", "username"))
    chosen = {
        name: number
        for pk, name in names.items()
        if (number := request.POST.get(f"agent-{pk}", "")) in known and number
    }
    try:
        with seen.unchanged():
            spec = {**commands.outbound_spec(row), AGENTS: chosen}
            commands.save_outbound(spec, existing=row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        return rejected.detail
    return ""


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, then delete the integration."""
    row = _own(request, number)
    return ask_and_delete(
        request,
        row,
        commands.delete_outbound,
        what=row.name,
        back="outbound",
        then=("outbound_integrations",),
        about=_("What waits is not sent any more, and its log goes. A webhook in Halo stays there."),
        seen=FormSnapshot.of(request, "outbound_integration", row, commands.outbound_state, is_deleting=True),
    )


def find(number: int) -> OutboundIntegration:
    """Return the integration. Raises Http404."""
    row = OutboundIntegration.objects.select_related("group", "standing").filter(pk=number).first()
    if row is None:
        raise Http404(_("This outbound integration is gone."))
    return row


def _door(request: SignedInRequest) -> Integration:
    """Return the inbound integration that the form names. Raises Http404, or PermissionDenied if the user may not edit
    it."""
    wanted = request.POST.get("integration", "")
    is_number = wanted.isascii() and wanted.isdigit() and len(wanted) < 10
    door = Integration.objects.filter(pk=int(wanted)).first() if is_number else None
    if door is None:
        raise Http404(_("This integration is gone."))
    require(request, Permission.ROUTING, door.group_id)
    return door


def _own(request: SignedInRequest, number: int) -> OutboundIntegration:
    row = find(number)
    require(request, Permission.ROUTING, row.group_id)
    return row


def frame(request: SignedInRequest, row: OutboundIntegration, tab: str) -> dict[str, Any]:
    """Return the context that every tab needs."""
    text, tone = health(row)
    return {
        "row": row,
        "kind": KINDS.get(row.kind),
        "tab": tab,
        "standing": row.standing,
        "health": text,
        "tone": tone,
        "may_change": may(request, Permission.ROUTING, row.group_id),
    }
