"""System: the installation's health and settings. For administrators."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access import settings_commands
from tocsin.access.roles import Permission
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.operate import doctor
from tocsin.web.http.authorization import actor, requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.system import health, preflight
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import ZoneField, show_rejection

_CONTENTS = [
    ("full", gettext_lazy("Everything")),
    ("subject", gettext_lazy("Client and subject")),
    ("number", gettext_lazy("The ticket's number only")),
]

_CHAT_SERVERS = [
    ("managers", gettext_lazy("Administrators, and managers for their groups")),
    ("admins", gettext_lazy("Administrators only")),
    ("everybody", gettext_lazy("Everybody, for themselves")),
]


def _content(label: Any) -> forms.ChoiceField:
    """Return a field for how much of an alert a channel may disclose."""
    return forms.TypedChoiceField(label=label, choices=_CONTENTS, required=False, empty_value="full")


class SystemSettingsForm(forms.Form):
    """Settings of the whole installation."""

    organisation_name = forms.CharField(
        label=gettext_lazy("Organisation"), max_length=100, required=False, help_text=gettext_lazy("Shown in mails.")
    )
    time_zone = ZoneField(label=gettext_lazy("Time zone of new users and groups"))
    bundle_pages = forms.BooleanField(
        label=gettext_lazy("Bundle pages that follow quickly on one another"),
        required=False,
        help_text=gettext_lazy("The first goes at once; later ones leave together, at most ten seconds late."),
    )
    sms_reply_codes = forms.BooleanField(
        label=gettext_lazy("Answers by SMS need a code"),
        required=False,
        help_text=gettext_lazy("A text message then says “Reply ACK 42 7391”. A sender's number alone can be forged."),
    )
    phone_region = forms.CharField(
        label=gettext_lazy("Country of phone numbers without a code"),
        max_length=2,
        required=False,
        help_text=gettext_lazy("Two letters, such as CH. Empty: numbers are entered with +41."),
    )
    chat_servers_by = forms.TypedChoiceField(
        label=gettext_lazy("Chat addresses at servers that no well-known service runs are added by"),
        choices=_CHAT_SERVERS,
        required=False,
        empty_value="managers",
    )
    content_email = _content(gettext_lazy("What mails say"))
    content_push = _content(gettext_lazy("What pushes say"))
    content_ntfy = _content(gettext_lazy("What ntfy messages say"))
    content_chat = _content(gettext_lazy("What chat messages say"))
    content_sms = _content(gettext_lazy("What text messages say"))
    content_voice = _content(gettext_lazy("What calls say"))
    night_hours = forms.CharField(
        label=gettext_lazy("Night hours"),
        max_length=20,
        required=False,
        help_text=gettext_lazy("By local time, such as 22:00-07:00: what reports and Home count as at night."),
    )
    weekly_coverage_mail = forms.BooleanField(
        label=gettext_lazy("Mail managers on Mondays what is wrong with who is on call"),
        required=False,
        help_text=gettext_lazy("Gaps, people away without cover, people who cannot be reached: 60 days ahead."),
    )
    mail_listen = forms.CharField(
        label=gettext_lazy("Take mails at"),
        max_length=100,
        required=False,
        help_text=gettext_lazy("Host and port for mails to e-mail integrations, such as 0.0.0.0:2525. Empty: nowhere."),
    )
    message_retention_days = forms.IntegerField(label=gettext_lazy("Keep inbound messages, days"), min_value=1)
    message_size_cap_mb = forms.IntegerField(label=gettext_lazy("… and at most, megabytes"), min_value=10)
    delivery_retention_days = forms.IntegerField(label=gettext_lazy("Keep notifications, days"), min_value=1)
    audit_retention_days = forms.IntegerField(label=gettext_lazy("Keep the audit log, days"), min_value=1)


@require_safe
@requires(Permission.ADMINISTER)
def system(request: SignedInRequest) -> HttpResponse:
    """Render the result of the last self-check, remedies, and the nodes."""
    system_health = health.read()
    active_windows = maintenance_windows.active_windows(request.now)
    context = {
        "health": system_health,
        "status": system_health.status,
        "active_windows": active_windows,
        **preflight.read(request),
    }
    if "examine" in request.GET:
        # Without JavaScript the complete view waits for the examination.
        context["examination"] = doctor.examine(request.now)
    return render_view(request, "system/system.html", context, partials=("checks", "preflight"))


@require_safe
@requires(Permission.ADMINISTER)
def examination(request: SignedInRequest) -> HttpResponse:
    """Render the results of `tocsin doctor`. Takes seconds, because it contacts the providers and the public
    address."""
    return render_view(request, "system/doctor.html", {"examination": doctor.examine(request.now)})


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def settings(request: SignedInRequest) -> HttpResponse:
    """Edit the installation's settings."""
    form = SystemSettingsForm(request.POST or None, initial=_stored())
    snapshot = FormSnapshot(request, "settings", "", _stored, keys=(*form.fields,))
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                settings_commands.change_settings(form.cleaned_data, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("Saved."))
            return redirect("settings")
    context = {"form": form, "snapshot": snapshot}
    return render_view(request, "system/settings.html", context, status=422 if form.errors else 200)


def _stored() -> dict[str, Any]:
    return {name: settings_store.get(name) for name in settings_store.SETTINGS}
