"""Creating Halo tickets for alerts from other sources: when, with which fields, and for which inbound integrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from tocsin.access.roles import Permission
from tocsin.catalogue.kinds import family
from tocsin.core.errors import Rejected
from tocsin.inbound.models import Integration
from tocsin.outbound import commands
from tocsin.outbound.models import LookUp
from tocsin.outbound.writeback import alert_ticket
from tocsin.resources.registry import OUTBOUND_INTEGRATIONS
from tocsin.web.http.authorization import actor, may, require_response, requires
from tocsin.web.http.objects import find_editable, find_visible_alert
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.outbound.views import TICKETS, frame
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import set_choices, show_rejection

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


class TicketForm(forms.Form):
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
        help_text=gettext_lazy("Use the number in Halo, because names are not unique. A user requires a site."),
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

    def __init__(self, data: Any, *, lists: Mapping[str, list[str]], initial: Mapping[str, Any]) -> None:
        super().__init__(data, initial=dict(initial))
        for name in _LOOKUP_FIELDS:
            available = lists.get(name, [])
            stored_value = self.initial.get(name)
            # A stored value that no longer exists in Halo stays visible, so that it can be changed.
            names = [*available, *([stored_value] if stored_value and stored_value not in available else [])]
            set_choices(self, name, [("", _("Default (HaloITSM)")), *((choice, choice) for choice in names)])
        for name in _NUMBERS:
            self.fields[name].widget.attrs["inputmode"] = "numeric"

    def entry(self) -> dict[str, Any]:
        """Return `create_ticket` of the spec."""
        return {name: value for name, value in self.cleaned_data.items() if value not in ("", [])}


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def tickets(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the form and the inbound integrations whose alerts get tickets; or save it."""
    row = find_editable(request, OUTBOUND_INTEGRATIONS, number)
    if row.kind != "haloitsm":
        raise Http404
    lists: dict[str, list[str]] = {}
    names = (
        LookUp.objects.filter(integration=row, list_name__in=_LOOKUP_FIELDS)
        .order_by("pk")
        .values_list("list_name", "name")
    )
    for noun, name in names:
        lists.setdefault(noun, []).append(name)
    form = TicketForm(request.POST or None, lists=lists, initial=row.settings.get(TICKETS, {}))
    snapshot = FormSnapshot.of(request, OUTBOUND_INTEGRATIONS, row, keys=(TICKETS,))
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                spec = {**commands.outbound_spec(row), TICKETS: form.entry()}
                commands.save_outbound(spec, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected, {f"{TICKETS}.{name}": name for name in form.fields})
        else:
            messages.success(request, _("Saved. Applies to new tickets."))
            return redirect("outbound_tickets", number)
    candidates = Integration.objects.exclude(kind__in=family(row.kind)).select_related("outbound").order_by("name")
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
    try:
        alert_ticket.create_ticket(alert, actor(request), request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    else:
        messages.success(request, _("Creating ticket."))
    return redirect("alert", number)
