"""An integration's Settings, Security and Guide tabs, and its deletion."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.core.validation import durations
from tocsin.inbound.admin import commands, secrets
from tocsin.outbound.halo_sync import halo_commands
from tocsin.resources.registry import INTEGRATIONS
from tocsin.web.http.authorization import actor, offer_own_groups, require, requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.integrations.forms import CredentialsForm, IntegrationSettingsForm, RotateUrlForm, initial_of, places_of
from tocsin.web.integrations.views import HIDDEN_URL, find, frame
from tocsin.web.ui import guide_text
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import show_rejection

#: The part of the integration that the Security tab changes.
CREDENTIALS = "credentials"


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def settings(request: SignedInRequest, number: int) -> HttpResponse:
    """Edit name, mode, recipients and the integration type's settings."""
    row, kind = find(number)
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    if kind is None:
        return render_view(request, "integrations/unknown.html", frame(request, row, kind, "settings"))
    form = IntegrationSettingsForm(request.POST or None, kind=kind, initial=initial_of(row, kind))
    offer_own_groups(request, form.fields["group"])
    snapshot = FormSnapshot.of(request, INTEGRATIONS, row, keys=form.KEYS)
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                spec = form.change(commands.integration_spec(row))
                commands.save_integration(spec, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            if rejected.code == "reaches_nobody":
                form.show_confirmation()
            show_rejection(form, rejected, places_of(kind))
        else:
            messages.success(request, _("Saved."))
            return redirect("integration_settings", number)
    context = {**frame(request, row, kind, "settings"), "form": form, "snapshot": snapshot}
    return render_view(request, "integrations/settings.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def security(request: SignedInRequest, number: int) -> HttpResponse:
    """Show and rotate the webhook URL; edit the credentials required from senders."""
    row, kind = find(number)
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    form_name = request.POST.get("form")
    rotate = RotateUrlForm(request.POST if form_name == "rotate" else None)
    stored_credentials = secrets.masked_credentials(secrets.readable_credentials(row))
    initial_values = {"addresses": "\n".join(stored_credentials.pop("addresses", ()))} | {
        f"{kind_of}_{part}": value for kind_of, parts in stored_credentials.items() for part, value in parts.items()
    }
    credentials = CredentialsForm(
        row.kind, request.POST if form_name == "credentials" else None, initial=initial_values
    )
    snapshot = FormSnapshot.of(request, INTEGRATIONS, row, keys=(CREDENTIALS,))
    done = (form_name == "rotate" and _rotate(request, row, rotate)) or (
        form_name == "credentials" and _save_credentials(request, row, credentials, snapshot)
    )
    if done:
        return redirect("integration_security", number)
    context = {
        **frame(request, row, kind, "security"),
        "url": secrets.masked_url(row),
        "is_locked": bool(row.credentials) and not stored_credentials and not initial_values.get("addresses"),
        "rotate": rotate,
        "credentials": credentials,
        "snapshot": snapshot,
        "has_mailbox": bool(initial_values.get("imap_mailbox")),
        "previous_url_works": row.old_token_until is not None and row.old_token_until > request.now,
    }
    failed = rotate.errors or credentials.errors
    return render_view(request, "integrations/security.html", context, status=422 if failed else 200)


@require_safe
def guide(request: SignedInRequest, number: int) -> HttpResponse:
    """Show how to set up the sender, with the integration's own webhook URL filled in."""
    row, kind = find(number)
    context = frame(request, row, kind, "guide")
    url = secrets.masked_url(row) if context["may_change"] else ""
    text = guide_text.kind_guide(kind, url or HIDDEN_URL, row.settings) if kind else ""
    return render_view(request, "integrations/guide.html", {**context, "guide": text, "url": url})


def _rotate(request: SignedInRequest, row: Any, form: RotateUrlForm) -> bool:
    if not form.is_valid():
        return False
    try:
        overlap = durations.parse(form.cleaned_data["overlap"], "overlap")
        secrets.rotate_token(row, overlap=overlap, actor=actor(request), now=request.now)
    except Rejected as rejected:
        show_rejection(form, rejected)
        return False
    if halo_commands.schedule_webhook_update(row, request.now):
        messages.success(request, _("This is the new URL. The webhook in Halo is given it within a minute."))
    else:
        messages.success(request, _("This is the new URL. Give it to the sender before the one before ends."))
    return True


def _save_credentials(request: SignedInRequest, row: Any, form: CredentialsForm, snapshot: FormSnapshot) -> bool:
    if not form.is_valid():
        return False
    try:
        with snapshot.unchanged():
            spec = {**commands.integration_spec(row), CREDENTIALS: form.spec()}
            commands.save_integration(spec, existing=row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        show_rejection(form, rejected, form.places())
        return False
    messages.success(request, _("Saved. Senders need this from now on."))
    return True
