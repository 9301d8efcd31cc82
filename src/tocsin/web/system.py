"""The installation's health and settings, and pausing all paging."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import django
from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin import __version__
from tocsin.access import audit
from tocsin.access.roles import Permission, Role
from tocsin.core.config import environment, settings_store
from tocsin.core.config.settings_store import load_backup_status
from tocsin.core.db import database
from tocsin.core.reasons import Reason, joined
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.config import registry
from tocsin.inbound.enums import IntegrationMode
from tocsin.notify import pause as pauses
from tocsin.notify.models import Pause
from tocsin.notify.providers.pool import CHANNELS
from tocsin.operate import doctor, node_heartbeat, self_check
from tocsin.simulate import escalation
from tocsin.simulate.escalation import SimulatedPage
from tocsin.web.http.request import SignedInRequest, actor, render_view, requires
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import MomentField, ZoneField, channel_name, rejections_shown

# ---------- health


def read(now: datetime) -> dict[str, Any]:
    """Read the status, the nodes, the facts as (label, value) and the backup, in one transaction."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), pg_size_pretty(pg_database_size(current_database()))"
        ).fetchone()
        backup = load_backup_status(connection, now)
        status, nodes = self_check.status_from_problems(connection), node_heartbeat.load_nodes(connection)
    assert row is not None
    facts = [
        ("Tocsin", __version__),
        (gettext("Public URL"), environment.current().public_url),
        ("PostgreSQL", row[0]),
        (gettext("Database size"), row[1]),
        ("Python", platform.python_version()),
        ("Django", django.get_version()),
    ]
    return {"status": status, "nodes": nodes, "facts": facts, "backup": backup}


# ---------- preflight

#: The hour of the default check, in the middle of the night.
NIGHT_HOUR = 3

#: Maximum number of pages shown; later ones are only counted.
MAX_PAGES_SHOWN = 12

#: Maximum number of clients named per route.
MAX_CLIENTS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class PreflightPath:
    """The result of one route, or of the integration without a route."""

    route: escalation.PreflightRoute
    #: (recipient, [(channels, time, problem)])
    people: Sequence[tuple[str, Sequence[tuple[str, datetime, Reason]]]]
    #: Number of pages beyond those shown.
    more_pages: int
    #: Whether nobody would be reached although the integration should page.
    reaches_nobody: bool
    #: Whether somebody would be reached, but late.
    is_late: bool
    #: The first clients of the route's client table on this path. Empty: clients that are not in the table. None: the
    #: route has no table.
    clients: Sequence[str] | None
    more_clients: int


class MomentForm(forms.Form):
    """The time of the pre-flight check, in the user's time zone."""

    at = MomentField(label=_("Simulate a critical alert at"), required=False)


def read_preflight(request: SignedInRequest) -> dict[str, Any]:
    default_at = escalation.next_at(NIGHT_HOUR, timezone.localtime(request.now))
    form = MomentForm(request.GET if "at" in request.GET else None, initial={"at": default_at})
    requested_at = form.cleaned_data["at"] if form.is_bound and form.is_valid() else None
    at = requested_at or default_at
    return {
        "moment_form": form,
        "at": at,
        "rows": [
            (result, is_dry_run, [_path(route, is_dry_run) for route in result.routes])
            for result in escalation.preflight(at, registry.shared_registry())
            for is_dry_run in [result.mode is IntegrationMode.DRY_RUN]
        ],
    }


def _path(route: escalation.PreflightRoute, is_dry_run: bool) -> PreflightPath:
    first = route.pages[0].after if route.pages else timedelta()
    horizon = max(escalation.LATE_AFTER, first + timedelta(minutes=1))
    shown_pages = [page for page in route.pages if page.after <= horizon][:MAX_PAGES_SHOWN]
    people = escalation.pages_by_recipient(shown_pages).items()
    return PreflightPath(
        route,
        people=[(name, list(_moments(pages))) for name, pages in people],
        more_pages=len(route.pages) - len(shown_pages),
        reaches_nobody=not (route.reaches_anybody or route.is_log_only or is_dry_run),
        is_late=first > escalation.LATE_AFTER,
        clients=None if route.clients is None else route.clients[:MAX_CLIENTS_SHOWN],
        more_clients=max(0, len(route.clients or ()) - MAX_CLIENTS_SHOWN),
    )


def _moments(pages: Sequence[SimulatedPage]) -> Iterator[tuple[str, datetime, Reason]]:
    """Combine pages of the same minute: ("E-mail, SMS", 03:00, NO_REASON)."""
    for minute, same_minute in groupby(pages, key=lambda page: page.at.replace(second=0, microsecond=0)):
        minute_pages = list(same_minute)
        channels = dict.fromkeys(channel_name(page.channel) for page in minute_pages)
        problems = dict.fromkeys(page.problem for page in minute_pages if page.problem)
        yield ", ".join(channels), minute, joined(*problems, separator=" ")


_CONTENTS = [("full", _("Full details")), ("subject", _("Client and subject")), ("number", _("Ticket number only"))]

_SIGN_IN = [
    ("all", _("Passwords and single sign-on")),
    (settings_store.SSO_ONLY, _("Single sign-on only, except for break-glass accounts")),
]

_ROLES = [
    (Role.OBSERVER, _("observer")),
    (Role.RESPONDER, _("responder")),
    (Role.MANAGER, _("manager")),
    (Role.ADMIN, _("admin")),
]

_CHAT_SERVERS = [
    ("managers", _("Administrators, and managers for their own groups")),
    ("admins", _("Administrators only")),
    ("everybody", _("All users, for themselves")),
]


def _content(channel: str) -> forms.ChoiceField:
    """Return a field for how much of an alert a channel may disclose."""
    label = gettext("Message content: %(channel)s") % {"channel": channel_name(channel)}
    return forms.TypedChoiceField(label=label, choices=_CONTENTS, required=False, empty_value="full")


class SystemSettingsForm(forms.Form):
    organisation_name = forms.CharField(
        label=_("Organisation"), max_length=100, required=False, help_text=_("Shown in emails.")
    )
    base_url = forms.CharField(
        label=_("Public URL"),
        max_length=500,
        required=False,
        help_text=_("How phones, senders and browsers reach Tocsin. Webhook URLs and links in messages begin with it."),
        widget=forms.TextInput(attrs={"inputmode": "url", "placeholder": "https://tocsin.example.org"}),
    )
    smtp_url = forms.CharField(
        label=_("SMTP server"),
        max_length=1000,
        required=False,
        help_text=_("Sends email after the providers. With smtps:// the connection begins encrypted (port 465)."),
        widget=forms.TextInput(
            attrs={
                "inputmode": "url",
                "autocomplete": "off",
                "spellcheck": "false",
                "placeholder": "smtp://user:password@smtp.example.org:587",
            }
        ),
    )
    email_from = forms.CharField(
        label=_("Sender of emails"),
        max_length=300,
        required=False,
        widget=forms.TextInput(attrs={"placeholder": "Tocsin <tocsin@example.org>"}),
    )
    heartbeat_url = forms.CharField(
        label=_("External heartbeat (dead man's switch)"),
        max_length=1000,
        required=False,
        help_text=_(
            "Called after each self-check without a problem. The service there raises an alarm when the calls stop. "
            "After saving, only the host is shown."
        ),
        widget=forms.TextInput(
            attrs={
                "inputmode": "url",
                "autocomplete": "off",
                "spellcheck": "false",
                "placeholder": "https://hc-ping.com/…",
            }
        ),
    )
    time_zone = ZoneField(label=_("Default time zone for new users and groups"))
    bundle_pages = forms.BooleanField(
        label=_("Bundle pages sent in quick succession"),
        required=False,
        help_text=_("The first is sent immediately; later ones are bundled, delayed by at most 10 seconds."),
    )
    sms_reply_codes = forms.BooleanField(
        label=_("Require a code in SMS replies"),
        required=False,
        help_text=_("Text messages then say “Reply ACK 42 7391”. Protects against forged sender numbers."),
    )
    phone_region = forms.CharField(
        label=_("Default country"),
        max_length=2,
        required=False,
        help_text=_(
            "Two letters, such as CH, for phone numbers without a country code. Empty: a code such as +41 is required."
        ),
    )
    chat_servers_by = forms.TypedChoiceField(
        label=_("Who can add chat addresses on self-hosted servers"),
        choices=_CHAT_SERVERS,
        required=False,
        empty_value="managers",
    )
    assistant_writes = forms.BooleanField(
        label=_("Assistants may make changes"),
        required=False,
        help_text=_(
            "Acknowledge, assign, close and more, by MCP and with a token whose scope allows it. "
            "They may always read what the token's owner sees."
        ),
    )
    assistant_writes_per_hour = forms.IntegerField(
        label=_("Changes an hour by an assistant"), min_value=1, max_value=200, help_text=_("For each token.")
    )
    visibility = forms.TypedChoiceField(
        label=_("Boundaries"),
        choices=[("everyone", _("Everyone sees everything")), ("groups", _("Users see what belongs to their groups"))],
        required=False,
        empty_value="everyone",
        help_text=_("Users also see what they were paged about. Administrators see everything."),
    )
    sign_in = forms.TypedChoiceField(label=_("Sign-in"), choices=_SIGN_IN, required=False, empty_value="all")
    session_lifetime = forms.CharField(
        label=_("Session lifetime"),
        max_length=20,
        help_text=_("After this time users must sign in again. For example 12h or 30d."),
    )
    require_mfa = forms.MultipleChoiceField(
        label=_("Second factor required for"),
        choices=_ROLES,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("When they next sign in with a password, users of these roles must add one."),
    )
    night_hours = forms.CharField(
        label=_("Night hours"),
        max_length=20,
        required=False,
        help_text=_("Local time, such as 22:00-07:00. Used by reports and Home."),
    )
    weekly_coverage_mail = forms.BooleanField(
        label=_("Email leads a weekly on-call coverage report"),
        required=False,
        help_text=_(
            "Sent on Mondays: coverage gaps, absences without cover and unreachable people in the next 60 days."
        ),
    )
    mail_listen = forms.CharField(
        label=_("Inbound SMTP listener"),
        max_length=100,
        required=False,
        help_text=_("Host and port for emails to email integrations, such as 0.0.0.0:2525. Empty: disabled."),
    )
    message_retention_days = forms.IntegerField(label=_("Inbound message retention (days)"), min_value=1)
    message_size_cap_mb = forms.IntegerField(label=_("Inbound message storage limit (MB)"), min_value=10)
    delivery_retention_days = forms.IntegerField(label=_("Notification retention (days)"), min_value=1)
    audit_retention_days = forms.IntegerField(label=_("Audit log retention (days)"), min_value=1)
    audit_forwarding = forms.CharField(
        label=_("Forward the audit log to"),
        max_length=500,
        required=False,
        help_text=_(
            "syslog+tls://siem.example.org:6514, syslog+tcp:// or syslog+udp://, or the https URL of a webhook. "
            "Empty: nowhere."
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields |= {settings_store.content_name(name): _content(name) for name in CHANNELS}
        for name in environment.SETTING_VARIABLES:
            if variable := environment.variable_in_use(name):
                field = self.fields[name]
                field.disabled = True
                field.help_text = _("%(variable)s sets this on the server.") % {"variable": variable}
                self.initial[name] = settings_store.shown_secret(name, getattr(environment.current(), name))

    def changes(self) -> dict[str, Any]:
        """Return the settings that the form can change: without those that a variable sets."""
        return {name: value for name, value in self.cleaned_data.items() if not self.fields[name].disabled}

    def sections(self) -> list[tuple[Any, list[forms.BoundField], list[tuple[str, str]]]]:
        """Return the fields of each heading, and (label, value) of those that differ from the default."""
        fixed = {name: self.initial[name] for name, field in self.fields.items() if field.disabled}
        changed = settings_store.non_default_settings() | fixed
        return [
            (
                heading,
                [self[name] for name in names],
                [(str(self[name].label), self._shown(name, changed[name])) for name in names if name in changed],
            )
            for heading, names in SECTIONS
        ]

    def _shown(self, name: str, value: Any) -> str:
        if isinstance(value, bool):
            return gettext("yes") if value else gettext("no")
        labels = dict(getattr(self.fields[name], "choices", ()))
        values = value if isinstance(value, list) else [value]
        return ", ".join(str(labels.get(one, one)) for one in values) or gettext("none")


#: The fields of the form under each heading.
SECTIONS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (_("Public URL and email"), ("base_url", "smtp_url", "email_from")),
    (_("General"), ("organisation_name", "time_zone", "phone_region", "night_hours", "weekly_coverage_mail")),
    (_("Access"), ("visibility", "sign_in", "session_lifetime", "require_mfa", "chat_servers_by")),
    (_("Assistants"), ("assistant_writes", "assistant_writes_per_hour")),
    (_("Messages"), ("bundle_pages", "sms_reply_codes", *map(settings_store.content_name, CHANNELS), "mail_listen")),
    (_("External heartbeat"), ("heartbeat_url",)),
    (_("Retention"), ("message_retention_days", "message_size_cap_mb", "delivery_retention_days")),
    (_("Audit log"), ("audit_retention_days", "audit_forwarding")),
)


@require_safe
@requires(Permission.ADMINISTER)
def system(request: SignedInRequest) -> HttpResponse:
    """Render the result of the last self-check, remedies, and the nodes."""
    system_health = read(request.now)
    active_windows = maintenance_windows.active_windows(request.now)
    context = {
        "health": system_health,
        "status": system_health["status"],
        "active_windows": active_windows,
        **read_preflight(request),
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
    form = SystemSettingsForm(request.POST or None, initial=settings_store.all_settings())
    snapshot = FormSnapshot(request, "settings", "", settings_store.all_settings, keys=(*form.fields,))
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form), snapshot.unchanged():
            audit.change_settings(form.changes(), actor=actor(request), now=request.now)
            messages.success(request, gettext("Saved."))
            return redirect("settings")
    context = {"form": form, "snapshot": snapshot}
    return render_view(request, "system/settings.html", context, status=422 if form.errors else 200)


class PauseForm(forms.Form):
    """The reason, and when the pause ends automatically."""

    reason = forms.CharField(label=_("Reason"), max_length=500, help_text=_("Shown to everyone on every page."))
    until = MomentField(
        label=_("Until"),
        help_text=_("In your time zone, at most seven days ahead. Escalation then resumes with the due step."),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def pause(request: SignedInRequest) -> HttpResponse:
    """Show whether paging is paused; pause it."""
    begin: dict[str, Any] = {"until": timezone.localtime(request.now + timedelta(hours=2))}
    form = PauseForm(request.POST or None, initial=begin)
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form):
            pauses.start(form.cleaned_data["reason"], form.cleaned_data["until"], actor(request), request.now)
            messages.success(request, gettext("All paging is paused. Alerts are still created; their pages are held."))
            return redirect("pause")
    current = Pause.objects.filter(ended_at=None, until__gt=request.now).select_related("user").first()
    ended = Pause.objects.exclude(ended_at=None, until__gt=request.now).select_related("user").order_by("-pk")[:10]
    context = {"form": form, "current_pause": current, "past": ended}
    return render_view(request, "pause/pause.html", context, status=422 if form.errors else 200)


@require_safe
def banners(request: SignedInRequest) -> HttpResponse:
    """Render the banners shown above every view. Open views reload them when a pause starts or ends."""
    return render_view(request, "parts/banners.html", {})


@require_POST
@requires(Permission.ADMINISTER)
def end(request: SignedInRequest) -> HttpResponse:
    if pauses.end(actor(request), request.now):
        messages.success(request, gettext("Paging resumed. Held pages are sent now."))
    return redirect("pause")
