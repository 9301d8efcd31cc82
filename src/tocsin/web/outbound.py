"""Outbound integrations and their calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.catalogue.desks import ticket_kinds
from tocsin.core.config import settings_store
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.reasons import local_term, sentence
from tocsin.inbound.admin import commands as inbound
from tocsin.inbound.admin import secrets
from tocsin.inbound.models import Integration
from tocsin.outbound import commands, writeback
from tocsin.outbound.connectors.haloitsm.connector import KIND as HALO
from tocsin.outbound.connectors.interfaces import ConnectorKind
from tocsin.outbound.connectors.tickets import TEXTS
from tocsin.outbound.delivery.results import KINDS
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.models import Call, Exchange, LookUp, OutboundIntegration, Webhook
from tocsin.outbound.states import WAITING, CallStatus, OutboundEvent
from tocsin.people.models import User
from tocsin.resources.registry import INTEGRATIONS, OUTBOUND_INTEGRATIONS
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_editable,
    find_object,
    find_row,
    find_visible_alert,
    may,
    render_view,
    reporting,
    require,
    require_response,
    requires,
)
from tocsin.web.ui import formatting
from tocsin.web.ui.confirm_delete import FormSnapshot, ObjectPage
from tocsin.web.ui.forms import SpecForm, set_choices, show_rejection
from tocsin.web.ui.object_list import ObjectList, paginate_by_number

# ---------- views
# Outbound integrations: list, health, write-back settings, agent mapping, forms and deletion.


#: The parts of a spec that have a tab of their own.
SYNC, AGENTS, TICKETS = "sync", "agents", "create_ticket"

_LIST = ObjectList(
    OUTBOUND_INTEGRATIONS,
    rows_template="outbound/rows.html",
    empty_title=gettext_lazy("No outbound integrations yet"),
    empty_text=gettext_lazy("Connect your ticket system to keep alerts and tickets in sync."),
    icon="arrows-exchange",
    template="outbound/list.html",
)


@require_safe
def outbound_list(request: SignedInRequest) -> HttpResponse:
    """Render all outbound integrations with their health."""
    dead = _dead()
    rows = OutboundIntegration.objects.select_related("status", "group")
    return _LIST.render(
        request,
        _LIST.matching(request, rows),
        lambda page: [(row, KINDS.get(row.kind), health(row), dead.get(row.pk, 0)) for row in page],
        kinds=KINDS.values(),
    )


def health(row: OutboundIntegration) -> tuple[str, str]:
    """Return the health of an integration in a few words, with its colour."""
    status = row.status
    if not row.is_enabled:
        return _("disabled"), "quiet"
    if status.problem:
        return _("action required"), "now"
    if status.open_until or status.last_transient_error:
        return _("unreachable"), "wait"
    if status.poll_error:
        return _("partial polling"), "wait"
    if status.webhook_problem:
        return _("webhook inactive"), "wait"
    return (_("healthy"), "ok") if status.succeeded_at or status.last_polled_at else (_("unused"), "quiet")


def _dead() -> dict[int, int]:
    rows = Call.objects.filter(status=CallStatus.DEAD).values_list("integration").annotate(number=Count("pk"))
    return dict(rows.order_by())


class OutboundPage(ObjectPage[OutboundIntegration]):
    """The form of an outbound integration, made from the spec of its kind."""

    template = "outbound/edit.html"
    saved = gettext_lazy("%(name)s saved. Test it now.")
    shows_saved = True

    def form(self, request: SignedInRequest, row: OutboundIntegration | None, named: Mapping[str, str]) -> SpecForm:
        kind = KINDS.get(row.kind if row else named["kind_name"])
        if kind is None:
            raise Http404(_("Unknown outbound integration type."))
        begin = {"kind": kind.name, "name": "" if row else _unused(local_term(kind.title))}
        return SpecForm(
            request.POST or None,
            spec_type=kind.spec,
            current=commands.outbound_spec(row) if row else begin,
            stored_secrets=commands.secrets_set(row) if row else (),
        )

    def state(self, row: OutboundIntegration) -> dict[str, Any]:
        """Return the state without the parts that other tabs edit."""
        return {key: value for key, value in commands.outbound_state(row).items() if key not in (SYNC, AGENTS, TICKETS)}

    def title(self, named: Mapping[str, str]) -> str:
        kind = KINDS[named["kind_name"]]
        text = _("Connect %(kind)s") if kind.has_tickets else _("Add %(kind)s")
        return text % {"kind": local_term(kind.title)}

    def context(self, request: SignedInRequest, row: OutboundIntegration | None, form: SpecForm) -> dict[str, Any]:
        back = {"back": reverse("outbound", args=[row.pk]), "back_label": row.name} if row else {}
        kind = KINDS[form.current["kind"]]
        steps = formatting.render_html(kind.desk.guide) if kind.desk is not None and not row else ""
        return {"kind": kind, "steps": steps, **back}


edit = OutboundPage(_LIST)


def _unused(name: str) -> str:
    used_names = {candidate.casefold() for candidate in OutboundIntegration.objects.values_list("name", flat=True)}
    candidates = [name, *(f"{name} {number}" for number in range(2, 100))]
    return next((candidate for candidate in candidates if candidate.casefold() not in used_names), name)


@require_safe
def outbound(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the health, and the pending and failed calls."""
    row = find_object(OUTBOUND_INTEGRATIONS, number)
    waiting = Call.objects.filter(integration=row, status__in=WAITING).count()
    dead = list(Call.objects.filter(integration=row, status=CallStatus.DEAD).order_by("-pk")[:10])
    inbound_rows = []
    if kinds := ticket_kinds(row.kind):
        webhooks = dict(Webhook.objects.filter(integration=row).values_list("inbound_integration", "set_up_at"))
        inbound_integrations = Integration.objects.filter(kind__in=kinds).select_related("outbound")
        inbound_rows = [(integration, webhooks.get(integration.pk)) for integration in inbound_integrations]
    context = {
        **frame(request, row, "overview"),
        "waiting": waiting,
        "dead": dead,
        "inbound_integrations": inbound_rows,
        "calls": list(Call.objects.filter(integration=row).order_by("-pk")[:8]),
        "lists": LookUp.objects.filter(integration=row).count(),
    }
    return render_view(request, "outbound/overview.html", context)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def test(request: SignedInRequest, number: int) -> HttpResponse:
    """Test the address and credentials; for Halo, also report missing permissions."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    with reporting(request, row.name):
        report = commands.verify_outbound(row, request.now)
        rights = halo_commands.check_permissions(row, request.now) if row.kind == HALO else ()
        messages.success(request, f"{row.name}: {report.localized()}")
        for right in rights:
            if right.problem:
                text = _("Missing permission: %(what)s, required for %(why)s. %(problem)s")
                words = {"what": right.permission, "why": right.purpose, "problem": right.problem}
                messages.warning(request, text % {name: reason.localized() for name, reason in words.items()})
    return redirect("outbound", number)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def refresh(request: SignedInRequest, number: int) -> HttpResponse:
    """Reload the lists of the ticket system."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    with reporting(request, row.name):
        problems = halo_commands.refresh(row, actor(request), request.now)
        count = LookUp.objects.filter(integration=row).count()
        messages.success(request, _("Lists refreshed: %(count)s entries.") % {"count": count})
        for problem in problems:
            messages.warning(request, problem.localized())
    return redirect("outbound", number)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def connect(request: SignedInRequest, number: int) -> HttpResponse:
    """Enable or disable write-back for an inbound integration. The button posts the wanted state, so concurrent clicks
    agree."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    integration = _inbound_integration(request)
    is_connecting = request.POST.get("do") != "disconnect"
    with reporting(request):
        with settings_store.exclusive(integration):
            spec = {**inbound.integration_spec(integration), "outbound": row.name if is_connecting else None}
            inbound.save_integration(spec, existing=integration, actor=actor(request), now=request.now)
        halo_commands.poll_now(row, request.now)
        text = _("%(door)s connected to %(name)s.") if is_connecting else _("%(door)s disconnected.")
        messages.success(request, text % {"door": integration.name, "name": row.name})
    return redirect("outbound_tickets" if request.POST.get("tab") == "tickets" else "outbound", number)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def set_up_webhook(request: SignedInRequest, number: int) -> HttpResponse:
    """Create the webhook in the ticket system. A failure is reported."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    integration = _inbound_integration(request)
    try:
        result = halo_commands.set_up_webhook(row, integration, actor(request), request.now)
    except (Temporary, Permanent, Rejected) as error:
        messages.error(request, error.full_reason.localized())
        return redirect("outbound", number)
    context = {
        **frame(request, row, "overview"),
        "inbound": integration,
        "result": result,
        "url": secrets.url_of(integration),
        "guide": reverse("integration_guide", args=[integration.pk]),
    }
    return render_view(request, "outbound/webhook.html", context)


#: Labels of the events.
EVENT_LABELS: Mapping[OutboundEvent, Any] = {
    OutboundEvent.ACKNOWLEDGE: gettext_lazy("Acknowledged"),
    OutboundEvent.ASSIGN: gettext_lazy("Assigned"),
    OutboundEvent.ESCALATE: gettext_lazy("Escalated"),
    OutboundEvent.REPLY: gettext_lazy("Note added"),
    OutboundEvent.HOLD: gettext_lazy("Snoozed"),
    OutboundEvent.CLOSE: gettext_lazy("Closed"),
    OutboundEvent.EXHAUSTED: gettext_lazy("Escalation exhausted"),
}


class EventForm(forms.Form):
    """What one event writes to the ticket."""

    note = forms.BooleanField(label=gettext_lazy("Note"), required=False)
    text = forms.CharField(
        label=gettext_lazy("Note text"), max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    public = forms.BooleanField(
        label=gettext_lazy("Public: visible to the requester, who gets an email"), required=False
    )
    agent = forms.BooleanField(label=gettext_lazy("Assign the ticket to the agent"), required=False)
    status = forms.ChoiceField(label=gettext_lazy("Status"), required=False)
    team = forms.ChoiceField(label=gettext_lazy("Team"), required=False)
    priority = forms.ChoiceField(label=gettext_lazy("Priority"), required=False)

    def __init__(
        self,
        data: Any,
        event: OutboundEvent,
        kind: ConnectorKind,
        lists: Mapping[str, list[str]],
        settings: Mapping[str, Any],
    ) -> None:
        entry = settings[SYNC].get(event.value, {}) if SYNC in settings else {"note": True}
        note = entry.get("note", False)
        initial = {**entry, "note": bool(note), "text": note if isinstance(note, str) else ""}
        super().__init__(data, prefix=event.value, initial=initial)
        self.event, self.label = event, EVENT_LABELS[event]
        _offer(self, ("status", "team", "priority"), lists, _("Don't change"))
        self.fields["text"].widget.attrs["placeholder"] = TEXTS[event]
        if event not in (OutboundEvent.ACKNOWLEDGE, OutboundEvent.ASSIGN):
            del self.fields["agent"]
        for name in ("public", "agent", "status", "team", "priority"):
            if not kind.can_write(name):
                self.fields.pop(name, None)

    @property
    def changes_ticket(self) -> bool:
        """Whether the event changes fields of the ticket, beyond adding a note."""
        return any(self[name].value() for name in ("status", "team", "priority") if name in self.fields)

    def entry(self) -> dict[str, Any]:
        """Return the event's part of the spec."""
        data = self.cleaned_data
        others = ("public", "agent", "status", "team", "priority")
        note = (data["text"].strip() or True) if data["note"] else False
        return {"note": note, **{name: data[name] for name in others if data.get(name)}}


def _offer(form: forms.Form, names: Iterable[str], lists: Mapping[str, list[str]], unset: str) -> None:
    """Offer the entries of the lists. A stored value that is no longer there stays visible, so that it can be
    changed."""
    for name in names:
        if name not in form.fields:
            continue
        choices = dict.fromkeys([*lists.get(name, ()), *filter(None, [form.initial.get(name)])])
        set_choices(form, name, [("", unset), *((choice, choice) for choice in choices)])


def _lists(row: OutboundIntegration) -> dict[str, list[str]]:
    """Return the names in each list. Raises Http404 if the integration is not with a ticket system."""
    if not ticket_kinds(row.kind):
        raise Http404
    lists: dict[str, list[str]] = {}
    for noun, name in LookUp.objects.filter(integration=row).order_by("pk").values_list("list_name", "name"):
        lists.setdefault(noun, []).append(name)
    return lists


def _save_part(
    request: SignedInRequest, row: OutboundIntegration, snapshot: FormSnapshot, key: str, value: object
) -> None:
    """Save a part that has a tab of its own. Raises Rejected."""
    with snapshot.unchanged():
        spec = {**commands.outbound_spec(row), key: value}
        commands.save_outbound(spec, existing=row, actor=actor(request), now=request.now)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def sync(request: SignedInRequest, number: int) -> HttpResponse:
    """Edit what each event writes to the ticket."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    lists = _lists(row)
    events = [EventForm(request.POST or None, event, KINDS[row.kind], lists, row.settings) for event in OutboundEvent]
    snapshot, problem = FormSnapshot.of(request, OUTBOUND_INTEGRATIONS, row, keys=(SYNC,)), ""
    if request.method == "POST" and not [form for form in events if not form.is_valid()]:
        try:
            _save_part(request, row, snapshot, SYNC, {form.event.value: form.entry() for form in events})
        except Rejected as rejected:
            problem = rejected.reason.localized()
        else:
            messages.success(request, _("Saved. Applies to new updates."))
            return redirect("outbound_sync", number)
    failed = bool(problem) or any(form.errors for form in events)
    context = {
        **frame(request, row, "sync"), "forms": events, "has_lists": bool(lists), "snapshot": snapshot,
        "problem": problem, "event_labels": EVENT_LABELS,
    }  # fmt: skip
    return render_view(request, "outbound/sync.html", context, status=422 if failed else 200)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def preview(request: SignedInRequest, number: int) -> HttpResponse:
    """Render what an event of an alert would write to its ticket. Nothing is written."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    _lists(row)
    text, event = request.POST.get("alert", "").strip().lstrip("#"), request.POST.get("event", "")
    planned: list[writeback.PlannedRequest] = []
    problem = ""
    try:
        if event not in set(OutboundEvent) or not (text.isascii() and text.isdigit() and len(text) < 10):
            raise Rejected("invalid", sentence("Enter the number of an alert, such as 42."))
        alert = find_visible_alert(int(text))
        planned = writeback.preview(row, alert, OutboundEvent(event), actor(request), request.now)
    except Http404 as error:
        problem = str(error)
    except (Temporary, Permanent, Rejected) as error:
        problem = error.full_reason.localized()
    context = {
        **frame(request, row, "sync"), "planned": planned, "problem": problem, "alert_number": text, "event": event,
        "event_labels": EVENT_LABELS,
    }  # fmt: skip
    return render_view(request, "outbound/preview.html", context, status=422 if problem else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def people(request: SignedInRequest, number: int) -> HttpResponse:
    """Map users to agents: by e-mail address or explicitly; or import agents as users."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    agents = list(LookUp.objects.filter(integration=row, list_name="agent").order_by("name"))
    if request.method == "POST" and request.POST.get("do") == "import":
        return _import_people(request, row)
    snapshot, problem = FormSnapshot.of(request, OUTBOUND_INTEGRATIONS, row, keys=(AGENTS,)), ""
    if request.method == "POST":
        problem = _save_people(request, row, agents, snapshot)
        if not problem:
            messages.success(request, _("Saved."))
            return redirect("outbound_people", row.pk)
    agent_by_email = {agent.data.get("email", ""): agent for agent in agents}
    agent_by_user = {match.user_id: match.number for match in row.matches.all()}
    users = User.objects.filter(is_active=True).order_by("name", "username")
    emails = {user.email.casefold() for user in users}
    context = {
        **frame(request, row, "people"),
        "agents": [agent for agent in agents if agent.number not in ("0", "1")],
        "users": [
            (
                user,
                agent_by_email.get(user.email.casefold()),
                request.POST.get(f"agent-{user.pk}", agent_by_user.get(user.pk, "")),
            )
            for user in users
        ],
        "new": [
            agent
            for agent in agents
            if agent.data.get("email")
            and agent.data["email"] not in emails
            and agent.number != row.status.poll_state.get("me")
        ],
        "may_import": may(request, Permission.ADMINISTER),
        "snapshot": snapshot,
        "problem": problem,
    }
    return render_view(request, "outbound/people.html", context, status=422 if problem else 200)


def _import_people(request: SignedInRequest, row: OutboundIntegration) -> HttpResponse:
    if not may(request, Permission.ADMINISTER):
        require(request, Permission.ADMINISTER, None)
    imported = halo_commands.import_people(row, request.POST.getlist("agent"), actor(request), request.now)
    text = ngettext("%(count)d user created.", "%(count)d users created.", len(imported.users))
    messages.success(request, text % {"count": len(imported.users)})
    if imported.groups:
        messages.success(request, _("New groups: %(names)s.") % {"names": ", ".join(imported.groups)})
    for problem in imported.problems:
        messages.warning(request, problem.localized())
    return redirect("outbound_people", row.pk)


def _save_people(
    request: SignedInRequest, row: OutboundIntegration, agents: list[LookUp], snapshot: FormSnapshot
) -> str:
    """Save the mapping. Return the problem in words, or "" on success."""
    agent_numbers = {agent.number for agent in agents}
    names = dict(User.objects.filter(is_active=True).values_list("pk", "username"))
    agent_by_username = {
        name: number
        for pk, name in names.items()
        if (number := request.POST.get(f"agent-{pk}", "")) in agent_numbers and number
    }
    try:
        _save_part(request, row, snapshot, AGENTS, agent_by_username)
    except Rejected as rejected:
        return rejected.reason.localized()
    return ""


def _inbound_integration(request: SignedInRequest) -> Integration:
    """Return the inbound integration that the form names. Raises Http404, or PermissionDenied if the user may not edit
    it."""
    integration_id = request.POST.get("integration", "")
    is_number = integration_id.isascii() and integration_id.isdigit() and len(integration_id) < 10
    return find_editable(request, INTEGRATIONS, int(integration_id) if is_number else 0)


def frame(request: SignedInRequest, row: OutboundIntegration, tab: str) -> dict[str, Any]:
    """Return the context that every tab needs."""
    text, tone = health(row)
    return {
        "row": row,
        "kind": KINDS.get(row.kind),
        "tab": tab,
        "status": row.status,
        "health": text,
        "tone": tone,
        "may_change": may(request, Permission.MANAGE_ROUTING, row.group_id),
    }


# ---------- calls
# The call log of an outbound integration: pending, sent and permanently failed calls, and sending the last again.


@require_safe
def log(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the integration's calls, newest first."""
    row = find_object(OUTBOUND_INTEGRATIONS, number)
    status_filter = request.GET.get("show", "")
    rows = Call.objects.filter(integration=row).select_related("alert")
    if status_filter == "dead":
        rows = rows.filter(status=CallStatus.DEAD)
    elif status_filter == "waiting":
        rows = rows.filter(status__in=WAITING)
    text = request.GET.get("q", "").strip()
    if text:
        rows = rows.filter(ticket=text.lstrip("#"))
    result = paginate_by_number(rows, request.GET.get("cursor", ""))
    context = {
        **frame(request, row, "log"),
        "rows": result.rows,
        "pagination": result,
        "status_filter": status_filter,
        "q": text,
        "dead_count": Call.objects.filter(integration=row, status=CallStatus.DEAD).count(),
        "tabs": [("", _("All")), ("waiting", _("Queued")), ("dead", _("Failed"))],
    }
    return render_view(request, "outbound/log.html", context, partials=("list",))


@require_safe
@requires(Permission.MANAGE_ROUTING)
def call(request: SignedInRequest, number: int, call_id: int) -> HttpResponse:
    """Render one call with its HTTP exchanges, secrets removed."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    outbound_call = _call(number, call_id)
    exchanges = list(Exchange.objects.filter(call=outbound_call).order_by("-pk")[:40])
    return render_view(
        request, "outbound/call.html", {**frame(request, row, "log"), "call": outbound_call, "exchanges": exchanges}
    )


@require_POST
@requires(Permission.MANAGE_ROUTING)
def act(request: SignedInRequest, number: int, call_id: int, verb: str) -> HttpResponse:
    """Send a failed call again, or drop a call."""
    find_editable(request, OUTBOUND_INTEGRATIONS, number)
    outbound_call = _call(number, call_id)
    with reporting(request):
        is_resent = verb == "send-again"
        (commands.send_again if is_resent else commands.drop)(outbound_call, actor=actor(request), now=request.now)
        messages.success(request, _("Call resent.") if is_resent else _("Call discarded."))
    return redirect("outbound_log", number)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def send_all_again(request: SignedInRequest, number: int) -> HttpResponse:
    """Send all permanently failed calls again."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    count = commands.send_all_again(row, actor=actor(request), now=request.now)
    text = ngettext("%(count)d call resent.", "%(count)d calls resent.", count)
    messages.success(request, text % {"count": count})
    return redirect("outbound_log", number)


def _call(number: int, call_id: int) -> Call:
    return find_row(Call.objects.filter(integration=number).select_related("alert"), call_id, "outbound call")


# ---------- alert sync status
# Updates of an alert that were not yet written to its ticket, for the alert view.


def unsent(alert_id: int) -> list[Call]:
    """Return the alert's pending and failed calls, oldest first, at most ten."""
    statuses = [*WAITING, CallStatus.DEAD]
    rows = Call.objects.filter(alert=alert_id, status__in=statuses).select_related("integration__status")
    return list(rows.order_by("pk")[:10])


# ---------- tickets
# Creating tickets for alerts from other sources: when, with which fields, and for which inbound integrations.


#: When a ticket is created: values of `create_ticket.on`.
TRIGGER_CHOICES = [
    ("opened", gettext_lazy("Created")),
    ("acknowledge", gettext_lazy("Acknowledged")),
    ("assign", gettext_lazy("Assigned")),
    ("escalate", gettext_lazy("Escalated")),
    ("exhausted", gettext_lazy("Escalation exhausted")),
]
_LOOKUP_FIELDS = ("ticket_type", "team", "priority")
_NUMBERS = ("client", "site", "user")


class OutboundTicketForm(forms.Form):
    """Fields of a new ticket, and when it is created."""

    on = forms.MultipleChoiceField(
        label=gettext_lazy("Create a ticket on"), choices=TRIGGER_CHOICES, required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None: only when someone creates one from the alert."),
    )  # fmt: skip
    ticket_type = forms.ChoiceField(label=gettext_lazy("Ticket type"), required=False)
    team = forms.ChoiceField(label=gettext_lazy("Team"), required=False)
    priority = forms.ChoiceField(label=gettext_lazy("Priority"), required=False)
    client = forms.CharField(label=gettext_lazy("Client"), required=False, max_length=20)
    site = forms.CharField(label=gettext_lazy("Site"), required=False, max_length=20)
    user = forms.CharField(
        label=gettext_lazy("User"), required=False, max_length=20,
        help_text=gettext_lazy("Use the number in the ticket system, because names are not unique."),
    )  # fmt: skip
    summary = forms.CharField(
        label=gettext_lazy("Summary"), required=False, max_length=500,
        widget=forms.TextInput(attrs={"placeholder": "<subject>"}),
        help_text=gettext_lazy("Tocsin appends “(Tocsin #42)” to identify the ticket."),
    )  # fmt: skip
    details = forms.CharField(
        label=gettext_lazy("Details"), required=False, max_length=5000,
        widget=forms.Textarea(attrs={
            "rows": 5, "placeholder": "<long_text>\n\nFrom <source>, alert <alert> in Tocsin: <url>",
        }),
        help_text=gettext_lazy("Placeholders such as <subject>, <client>, <long_text> and <url> are allowed."),
    )  # fmt: skip

    def __init__(
        self, data: Any, *, kind: ConnectorKind, lists: Mapping[str, list[str]], initial: Mapping[str, Any]
    ) -> None:
        super().__init__(data, initial=dict(initial))
        if kind.desk is not None:
            for name in {*_LOOKUP_FIELDS, *_NUMBERS} - kind.desk.creates_with:
                del self.fields[name]
        _offer(self, _LOOKUP_FIELDS, lists, _("Default (%(kind)s)") % {"kind": local_term(kind.title)})
        for name in _NUMBERS:
            if name not in self.fields:
                continue
            self.fields[name].widget.attrs["inputmode"] = "numeric"

    def choices_of_ticket(self) -> list[forms.BoundField]:
        """Return the fields that the ticket system has."""
        return [self[name] for name in (*_LOOKUP_FIELDS, *_NUMBERS) if name in self.fields]

    def entry(self) -> dict[str, Any]:
        """Return `create_ticket` of the spec."""
        return {name: value for name, value in self.cleaned_data.items() if value not in ("", [])}


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def tickets(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the form and the inbound integrations whose alerts get tickets; or save it."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    form = OutboundTicketForm(
        request.POST or None, lists=_lists(row), kind=KINDS[row.kind], initial=row.settings.get(TICKETS, {})
    )
    snapshot = FormSnapshot.of(request, OUTBOUND_INTEGRATIONS, row, keys=(TICKETS,))
    if request.method == "POST" and form.is_valid():
        try:
            _save_part(request, row, snapshot, TICKETS, form.entry())
        except Rejected as rejected:
            show_rejection(form, rejected, {f"{TICKETS}.{name}": name for name in form.fields})
        else:
            messages.success(request, _("Saved. Applies to new tickets."))
            return redirect("outbound_tickets", number)
    candidates = (
        Integration.objects.exclude(kind__in=ticket_kinds(row.kind)).select_related("outbound").order_by("name")
    )
    connected = [integration for integration in candidates if integration.outbound_id == row.pk]
    connectable = [
        integration
        for integration in candidates
        if integration.outbound_id is None and may(request, Permission.MANAGE_ROUTING, integration.group_id)
    ]
    context = {
        **frame(request, row, "tickets"),
        "form": form,
        "snapshot": snapshot,
        "connected": connected,
        "connectable": connectable,
    }
    return render_view(request, "outbound/tickets.html", context, status=422 if form.errors else 200)


@require_POST
@requires(Permission.RESPOND)
def create_ticket(request: SignedInRequest, number: int) -> HttpResponse:
    """Create a ticket for an alert."""
    alert = require_response(request.viewer, find_visible_alert(number))
    with reporting(request):
        writeback.create_ticket(alert, actor(request), request.now)
        messages.success(request, _("Creating ticket."))
    return redirect("alert", number)
