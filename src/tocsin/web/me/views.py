"""The user's profile: contact methods, pages received, preferences, passwords and keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import partial
from typing import Any

from allauth.account.decorators import reauthentication_required
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.flows.reauthentication import get_reauthentication_flows
from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import lazy
from django.utils.translation import gettext as gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access import tokens
from tocsin.access.models import ApiToken
from tocsin.access.roles import DEFAULT_LIFETIME, WARN_BEFORE, Permission, Role, TokenScope
from tocsin.alerts.states import Priority
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import local_term, translate
from tocsin.core.validation import inputs
from tocsin.notify.models import Notification
from tocsin.notify.pages import load_recipients
from tocsin.notify.providers import commands
from tocsin.notify.providers.pool import CHANNELS
from tocsin.notify.rules.page_planner import USER_RULES, plan_pages
from tocsin.notify.states import DeliveryState, furthest
from tocsin.oncall.calculation import weekly_windows
from tocsin.people import addresses, permissions
from tocsin.people import notification_rules as people_notification_rules
from tocsin.people.changes import api_tokens, users
from tocsin.people.models import ContactMethod, Group, User
from tocsin.people.notification_rules import MAX_MESSAGES_PER_HOUR, MAX_QUIET_HOURS
from tocsin.web.http.request import SignedInRequest, actor, find_row, may, render_view, requested_user, require
from tocsin.web.me import contact_methods, shifts
from tocsin.web.policies import DAYS
from tocsin.web.push import is_push_only
from tocsin.web.ui import object_list
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.formatting import format_moment
from tocsin.web.ui.forms import (
    PRIORITIES,
    DayField,
    DurationField,
    ZoneField,
    channel_choices,
    channel_name,
    checkboxes,
    initial_rule,
    picker_time,
    rejections_shown,
    rule_formset,
    set_choices,
    show_rejection,
    user_zone,
)


class PreferencesForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=200, required=False)
    time_zone = ZoneField()
    language = forms.ChoiceField(
        label=_("Language"),
        choices=lambda: [
            ("", _("Browser default")),
            # A catalogue that is not whole says how much of it there is: see scripts/translations.py.
            *((code, translate("{language}", code).format(language=name)) for code, name in settings.LANGUAGES),
        ],
        required=False,
    )
    theme = forms.ChoiceField(
        label=_("Theme"),
        choices=[("", _("System default")), ("light", _("Light")), ("dark", _("Dark"))],
        required=False,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if len(settings.LANGUAGES) == 1:
            del self.fields["language"]


def _address_help() -> str:
    """Return what the addresses of each channel are; channels with the same are named together."""
    labels: dict[str, list[str]] = {}
    for name, channel in CHANNELS.items():
        labels.setdefault(local_term(channel.address_help), []).append(channel_name(name))
    return "\n".join(f"{', '.join(names)}: {text}" for text, names in labels.items())


class ContactMethodForm(forms.Form):
    label = forms.CharField(label=_("Label"), max_length=100, help_text=_("For example, Work phone."))
    channel = forms.ChoiceField(label=_("Channel"), choices=channel_choices)
    address = forms.CharField(label=_("Address"), max_length=500, help_text=lazy(_address_help, str)())
    wait = DurationField(
        label=_("Delay"),
        required=False,
        help_text=_("Time after an escalation step fires, such as 3m, so that less intrusive methods come first."),
    )
    repeat_times = forms.IntegerField(label=_("Repeats"), min_value=0, max_value=100, initial=0, required=False)
    repeat_every = DurationField(label=_("Interval"), required=False)
    enabled = forms.BooleanField(label=_("Enabled"), required=False, initial=True)

    def spec(self) -> dict[str, Any]:
        data = self.cleaned_data
        spec: dict[str, Any] = {name: data[name] for name in ("label", "channel", "address", "enabled")}
        if data["wait"]:
            spec["wait"] = data["wait"]
        if data["repeat_times"]:
            spec["repeat"] = {"times": data["repeat_times"], "every": data["repeat_every"] or None}
        return spec


def initial_of(method: ContactMethod) -> dict[str, Any]:
    return {
        "label": method.label,
        "channel": method.channel,
        "address": addresses.display_form(method.address),
        "wait": inputs.write_duration(method.wait) if method.wait else "",
        "repeat_times": method.repeat_times,
        "repeat_every": inputs.write_duration(method.repeat_every) if method.repeat_times else "",
        "enabled": method.is_enabled,
    }


# ---------- notification rules

#: The part of the user's spec that the form changes.
RULES = "notification_rules"


class MessageLimitForm(forms.Form):
    most_per_hour = forms.IntegerField(
        label=_("Maximum messages per hour and address"),
        min_value=0,
        max_value=MAX_MESSAGES_PER_HOUR,
        required=False,
        help_text=_(
            "Leave empty for no limit. Messages over the limit are combined into one at the end of the "
            "hour. Critical alerts are always sent immediately."
        ),
    )


class QuietHoursForm(forms.Form):
    """One row of quiet hours. An empty row is ignored."""

    begins = forms.CharField(label=_("From"), max_length=5, required=False)
    ends = forms.CharField(label=_("To"), max_length=5, required=False)
    let_through = forms.ChoiceField(
        label=_("Overrides quiet hours"),
        choices=[(Priority.CRITICAL, _("critical")), (Priority.HIGH, _("high and above")),
                 (Priority.MEDIUM, _("medium and above"))],
        initial=Priority.HIGH,
        required=False,
    )  # fmt: skip
    days = checkboxes(_("Days"), DAYS, help_text=_("Select none for every day."))
    methods = checkboxes(_("Contact methods"), help_text=_("Select none for all contact methods."))

    def __init__(self, *args: Any, labels: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "methods", [(label, label) for label in labels])
        for name in ("begins", "ends"):
            self.fields[name].widget.input_type = "time"

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cleaned_data
        if any(data.get(name) for name in ("days", "methods")) and not (data.get("begins") or data.get("ends")):
            self.add_error("begins", gettext("Enter a start and an end time."))
        return data

    def spec(self) -> dict[str, Any] | None:
        """Return the row in spec form, or None if it is empty."""
        data = self.cleaned_data
        if not data.get("begins") and not data.get("ends"):
            return None
        values = {
            "from": data["begins"], "to": data["ends"], "days": list(data["days"]), "methods": list(data["methods"]),
            "let_through": data["let_through"] or None,
        }  # fmt: skip
        return {key: value for key, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class NotificationPreview:
    """When a page of one priority would be sent by which contact methods, relative to now."""

    priority: Priority
    #: (channel, label, delay such as "2:00" or a time of day)
    methods: tuple[tuple[str, str, str], ...]


def notification_previews(user: User, now: datetime) -> list[NotificationPreview]:
    """Return the planned pages per priority if the user were paged as the first one now."""
    with database.transaction() as connection:
        person = load_recipients(connection, {user.pk}).get(user.pk)
    if person is None:
        return []
    previews = []
    for priority in Priority:
        pages = sorted(plan_pages(person, USER_RULES, priority, now), key=lambda planned_page: planned_page.at)
        methods = (
            (channel_name(planned_page.method.channel), planned_page.method.label, _delay_text(planned_page.at, now))
            for planned_page in pages
        )
        previews.append(NotificationPreview(priority, tuple(methods)))
    return previews


def _delay_text(at: datetime, now: datetime) -> str:
    """Format a delay as "2:00", or as the time of day from one hour on (for example the end of quiet hours)."""
    minutes, seconds = divmod(int((at - now).total_seconds()), 60)
    if at - now >= timedelta(hours=1):
        return timezone.localtime(at).strftime("%H:%M")
    return f"{minutes}:{seconds:02}"


@require_http_methods(["GET", "HEAD", "POST"])
def notification_rules(request: SignedInRequest) -> HttpResponse:
    """Edit the rules as rows, one list per priority."""
    stored_rules = request.user.notification_rules
    labels = list(request.user.contact_methods.values_list("label", flat=True))
    data = request.POST if request.method == "POST" else None
    by_priority = stored_rules.get("by_priority", {})
    rows = {
        priority: rule_formset(
            data,
            [initial_rule(rule["method"], rule) for rule in by_priority.get(priority, [])],
            str(priority),
            [(label, label) for label in labels],
        )
        for priority in Priority
    }
    quiet = _quiet(data, stored_rules.get("quiet_hours", []), labels)
    limit = MessageLimitForm(data, initial={"most_per_hour": stored_rules.get("most_per_hour")})

    def stored_spec() -> dict[str, Any]:
        return {RULES: User.objects.get(pk=request.user.pk).notification_rules}

    snapshot = FormSnapshot(request, "user", request.user.pk, stored_spec, keys=(RULES,))
    # Validate all, so that all problems are shown at once.
    if data is not None and all(part.is_valid() for part in (limit, quiet, *rows.values())):
        spec = {
            "by_priority": {
                str(priority): [{"method": method, **row.spec()} for method, row in formset.filled_rows()]
                for priority, formset in rows.items()
                if formset.filled_rows()
            },
            "quiet_hours": [quiet_spec for row in quiet.forms if (quiet_spec := row.spec()) is not None],
            "most_per_hour": limit.cleaned_data["most_per_hour"] or 0,
        }
        try:
            with snapshot.unchanged():
                users.save_notification_rules(request.user, spec, actor=actor(request), now=request.now)
            messages.success(request, gettext("Saved."))
            return redirect("me")
        except Rejected as rejected:
            rule_rows = {
                f"{RULES}.by_priority.{priority}": [row for _method, row in formset.filled_rows()]
                for priority, formset in rows.items()
            }
            hours = [row for row in quiet.forms if row.spec() is not None]
            show_rejection(
                limit, rejected, {f"{RULES}.most_per_hour": "most_per_hour"},
                rows={**rule_rows, f"{RULES}.quiet_hours": hours}, row_places=_ROW_PLACES,
            )  # fmt: skip
    context = {
        "lists": [(priority, label, rows[priority]) for priority, label in PRIORITIES],
        "quiet": quiet,
        "limit": limit,
        "previews": notification_previews(request.user, request.now),
        "has_methods": bool(labels),
        "snapshot": snapshot,
    }
    return render_view(request, "me/rules.html", context, status=200 if data is None else 422)


#: Path in a rule → the field of its row.
_ROW_PLACES = {"repeat.times": "times", "repeat": "every", "from": "begins", "to": "ends"}


def _quiet(data: Any, stored_hours: list[dict[str, Any]], labels: list[str]) -> Any:
    formset_class = forms.formset_factory(
        QuietHoursForm, extra=0, max_num=MAX_QUIET_HOURS, absolute_max=2 * MAX_QUIET_HOURS, validate_max=True
    )
    begin = [
        {**entry, "begins": entry.get("from", ""), "ends": picker_time(entry.get("to", ""))} for entry in stored_hours
    ]
    return formset_class(data, initial=begin, prefix="quiet", form_kwargs={"labels": labels})


# ---------- tokens

#: A sign-in this recent needs no confirmation.
_RECENT_SIGN_IN = timedelta(minutes=10)

_SCOPES = [
    (TokenScope.READ, _("Read: alerts, schedules, configuration")),
    (TokenScope.RESPOND, _("Respond: also act on alerts")),
    (TokenScope.CONFIGURE, _("Configure: also change configuration, and see phone numbers")),
    (TokenScope.ADMIN, _("Admin: everything that the owner may do")),
]


class TokenForm(forms.Form):
    """A new token: what it is for, what it may do, and until when."""

    name = forms.CharField(
        label=_("Token name"),
        max_length=tokens.MAX_NAME_CHARS,
        help_text=_("What it is for, such as the script that uses it."),
    )
    scope = forms.ChoiceField(
        label=_("Token scope"), choices=_SCOPES, widget=forms.RadioSelect, initial=TokenScope.READ
    )
    expires_on = DayField(label=_("Expires on"))
    groups = checkboxes(
        _("Only these groups"), Group.objects.none(), help_text=_("None selected: everything that the owner may do.")
    )
    clients = forms.CharField(
        label=_("Only these clients"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 2, "class": "form-control"}),
        help_text=_("One name per line. The token sees their alerts and reports, and changes nothing."),
    )

    def __init__(self, *args: Any, owner: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        groups = Group.objects.all()
        if owner.role != Role.ADMIN:
            groups = groups.filter(pk__in=permissions.group_roles(owner))
        if groups.exists():
            self.fields["groups"].queryset = groups  # type: ignore[attr-defined]
        else:
            del self.fields["groups"]

    def limits(self) -> dict[str, Any]:
        """Return the keyword arguments of `create_token`. The token ends with the day, in the user's time zone."""
        data = self.cleaned_data
        end = datetime.combine(data["expires_on"] + timedelta(days=1), time())
        return {
            "scope": TokenScope(data["scope"]),
            "groups": [group.name for group in data.get("groups", ())],
            "clients": [line.strip() for line in data.get("clients", "").splitlines() if line.strip()],
            "expires_at": weekly_windows.instant(end, user_zone()),
        }


#: An assistant's token ends sooner than another: it stands in a file of a desktop.
_ASSISTANT_LIFETIME = timedelta(days=90)


class AssistantForm(TokenForm):
    """The token of an assistant, which is never one of clients: such a token reaches no tool."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["clients"]
        self.fields["name"].help_text = _("The assistant and the machine on which it runs.")
        self.fields["scope"].help_text = _("Changes need Respond or more, and that an administrator allows them.")


def _assistant_settings(secret: str) -> list[tuple[str, str, str]]:
    """Return for each usual client its name, the file or command, and what to copy there."""
    url = f"{environment.current().public_url}/mcp"
    header = {"Authorization": f"Bearer {secret}"}
    bridge = {
        "command": "tocsin",
        "args": ["mcp", environment.current().public_url],
        "env": {"TOCSIN_API_TOKEN": secret},
    }
    command = f'claude mcp add --transport http tocsin {url} \\\n  --header "Authorization: Bearer {secret}"'
    codex = f'[mcp_servers.tocsin]\nurl = "{url}"\nbearer_token_env_var = "TOCSIN_API_TOKEN"'

    def as_json(value: object) -> str:
        return json.dumps(value, indent=2)

    return [
        ("Claude Code", gettext("In a terminal"), command),
        ("Cursor", "~/.cursor/mcp.json", as_json({"mcpServers": {"tocsin": {"url": url, "headers": header}}})),
        (
            "VS Code",
            ".vscode/mcp.json",
            as_json({"servers": {"tocsin": {"type": "http", "url": url, "headers": header}}}),
        ),
        (
            "Codex",
            gettext("%(file)s, with the token in the variable %(variable)s")
            % {"file": "~/.codex/config.toml", "variable": "TOCSIN_API_TOKEN"},
            codex,
        ),
        (
            gettext("Clients without HTTP"),
            gettext("For example claude_desktop_config.json, on a machine where Tocsin is installed"),
            as_json({"mcpServers": {"tocsin": bridge}}),
        ),
    ]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@reauthentication_required
def new_token(request: SignedInRequest, number: int | None = None, *, is_for_assistant: bool = False) -> HttpResponse:
    """Create a token of the user, or as an administrator one of a service account. Shows its secret once, and for an
    assistant what to copy into its settings.

    Asks for the password or a second factor again, because a token outlives the session.
    """
    _require_recent_sign_in(request)
    owner = request.user
    if number is not None:
        require(request, Permission.ADMINISTER, None)
        owner = find_row(User.accounts.filter(is_service_account=True), number, "service account")
    lifetime = _ASSISTANT_LIFETIME if is_for_assistant else DEFAULT_LIFETIME
    form_class = AssistantForm if is_for_assistant else TokenForm
    initial = {"expires_on": timezone.localdate(request.now) + lifetime}
    form = form_class(request.POST or None, owner=owner, initial=initial)
    context = {"form": form, "owner": owner, "is_own": owner == request.user, "is_for_assistant": is_for_assistant}
    if is_for_assistant:
        context["may_write"] = settings_store.get(settings_store.ASSISTANT_WRITES)
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form, {"expires_at": "expires_on"}):
            created = api_tokens.create_token(
                owner, form.cleaned_data["name"], **form.limits(), actor=actor(request), now=request.now
            )
            context |= {"token": created.token, "secret": created.secret}
            if is_for_assistant:
                context["settings"] = _assistant_settings(created.secret)
            if created.token.clients or owner.clients:
                context["status_page"] = request.build_absolute_uri(reverse("status_page", args=[created.secret]))
            return render_view(request, "me/token.html", context)
    return render_view(request, "me/new_token.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def revoke_token(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, showing when the token was last used; then revoke it."""
    rows = ApiToken.objects.select_related("user")
    if not may(request, Permission.ADMINISTER):
        rows = rows.filter(user=request.user)
    token = find_row(rows, number, "token")
    if request.method != "POST":
        used = format_moment(token.last_used_at, request.now) if token.last_used_at else gettext("never")
        about = gettext("Requests with this token will be rejected. Last used: %(when)s.") % {"when": used}
        context = {"object_name": token.name, "consequences": about, "back": _page_of(request, token)}
        return render_view(request, "parts/delete.html", context)
    tokens.revoke(token, actor=actor(request), now=request.now)
    messages.success(request, gettext("Token %(name)s revoked.") % {"name": token.name})
    return redirect(*_page_of(request, token))


def active_tokens(owner: User, now: datetime) -> list[dict[str, Any]]:
    """Return the tokens of `owner` that are not revoked, newest first, with their groups and what is to be said of
    their end."""
    return [
        {
            "token": token,
            "groups": api_tokens.group_names(token.group_ids),
            "is_expired": token.expires_at <= now,
            "expires_soon": now < token.expires_at <= now + WARN_BEFORE,
            "calls": tokens.last_calls(token),
        }
        for token in ApiToken.objects.filter(user=owner, revoked_at=None).order_by("-created_at")
    ]


def _require_recent_sign_in(request: SignedInRequest) -> None:
    """Raise PermissionDenied if the user, who has neither a password nor a second factor here, signed in long ago.

    Only the identity provider could ask such a user again, which it does at a sign-in.
    """
    if get_reauthentication_flows(request.user):
        return
    records = get_authentication_records(request, request.user)
    signed_in_at = max((float(record["at"]) for record in records), default=0.0)
    if request.now.timestamp() - signed_in_at > _RECENT_SIGN_IN.total_seconds():
        raise PermissionDenied(gettext("Sign out and sign in again, then create the token within ten minutes."))


def _page_of(request: SignedInRequest, token: ApiToken) -> tuple[Any, ...]:
    """Return the view that lists the token, with its arguments."""
    if token.user_id == request.user.pk:
        return ("me",)
    return ("service_account" if token.user.is_service_account else "user", token.user_id)


#: How far ahead shifts are shown on the profile.
_SHIFT_HORIZON = timedelta(days=21)


@require_http_methods(["GET", "HEAD", "POST"])
def me(request: SignedInRequest) -> HttpResponse:
    user = request.user
    form = PreferencesForm(request.POST or None, initial=users.preferences_spec(user))
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form):
            users.change(user, form.cleaned_data, actor=actor(request), now=request.now)
            messages.success(request, gettext("Saved."))
            return redirect("me")
    context = {
        "form": form,
        "methods": [(method, channel_name(method.channel)) for method in user.contact_methods.all()],
        "memberships": user.memberships.select_related("group"),
        "shifts": shifts.shifts_of_user(user, request.now, _SHIFT_HORIZON)[:3],
        "pages": _paged_alerts(_newest_pages(user)[:8]),
        "previews": notification_previews(user, request.now),
        "links": user.identities.select_related("provider"),
        "tokens": active_tokens(user, request.now),
        "devices": list(user.push_devices.all()),
        "is_push_only": is_push_only(user),
    }
    return render_view(request, "me/me.html", context, status=422 if form.errors else 200)


@require_safe
def my_pages(request: SignedInRequest) -> HttpResponse:
    """Render every alert that the user was notified about, to answer "Was I paged last night?"."""
    result = object_list.paginate_by_uuid(_newest_pages(request.user), request.GET.get("cursor", ""))
    return render_view(request, "me/pages.html", {"rows": _paged_alerts(result.rows), "pagination": result})


@require_http_methods(["GET", "HEAD", "POST"])
def contact_method(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a contact method, of the user or as an administrator of another one."""
    method = _find(request, number) if number is not None else None
    owner = method.user if method else requested_user(request)
    form = ContactMethodForm(request.POST or None, initial=initial_of(method) if method else None)
    # An administrator may change it concurrently by the API or a file. The audit log records contact methods as the
    # user's.
    state = partial(users.contact_method_spec, method) if method else None
    snapshot = FormSnapshot(request, "user", owner.pk, state, row=method)
    if request.method == "POST" and form.is_valid():
        saved: ContactMethod | None = None
        spec = form.spec()
        places = {"repeat.every": "repeat_every", "repeat.times": "repeat_times"}
        with rejections_shown(form, places):
            entered = (spec["channel"], spec["address"])
            if method is None or entered != (method.channel, addresses.display_form(method.address)):
                commands.check_address(spec["channel"], spec["address"].strip())
            with snapshot.unchanged():
                saved = users.save_contact_method(owner, spec, existing=method, actor=actor(request), now=request.now)
        if saved is not None and owner != request.user:
            messages.success(request, _saved_for_other(saved))
            return _back(request, owner)
        if saved is not None and saved.awaits_code:
            contact_methods.send(request, saved)
            return redirect("confirm_contact_method", saved.pk)
        if saved is not None:
            messages.success(request, gettext("Saved. Use “Send test” to check it."))
            return redirect("me")
    channel = CHANNELS.get(method.channel) if method else None
    context = {
        "form": form,
        "method": method,
        "owner": owner,
        "snapshot": snapshot,
        "is_push": channel is not None and channel.is_push,
        "silence_help": local_term(channel.silence_help) if channel else "",
    }
    return render_view(request, "me/contact_method.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def delete_contact_method(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, describing the consequences; then delete the contact method."""
    method = _find(request, number)
    if request.method != "POST":
        back = ("contact_method", method.pk)
        about = " ".join(_deletion_consequences(method.user, method))
        return render_view(
            request, "parts/delete.html", {"object_name": method.label, "consequences": about, "back": back}
        )
    users.delete_contact_method(method, actor=actor(request), now=request.now)
    messages.success(request, gettext("%(label)s deleted.") % {"label": method.label})
    return _back(request, method.user)


def _deletion_consequences(user: User, method: ContactMethod) -> Iterator[str]:
    other_methods = user.contact_methods.filter(is_enabled=True).exclude(pk=method.pk)
    if method.is_enabled and not other_methods.exists():
        if user.push_devices.filter(gone_at=None).exists():
            yield gettext("Push will be the only contact method. It can't reach a silenced phone.")
        else:
            text = gettext(
                "This is the last contact method. %(name)s can't be paged without it; others will be paged instead."
            )
            yield text % {"name": user.display_name}
    if method.label.casefold() in people_notification_rules.labels(
        people_notification_rules.load(user.notification_rules)
    ):
        yield gettext("It is used in notification rules. Those rules and quiet hours are deleted too.")
    yield gettext("Messages already being sent may still arrive.")


@require_POST
def move_contact_method(request: SignedInRequest, number: int) -> HttpResponse:
    """Move a contact method up or down. The order decides among contact methods with the same delay."""
    places = 1 if request.POST.get("to") == "down" else -1
    method = _find(request, number)
    users.move_contact_method(method, places, actor=actor(request), now=request.now)
    return _back(request, method.user)


@dataclass(frozen=True, slots=True)
class PagedAlert:
    """An alert with the messages about it to the user; or a notice without an alert."""

    newest: Notification
    first: Notification
    count: int
    #: How far the messages came, furthest first, and by which contact methods.
    states: list[tuple[DeliveryState, list[str]]]


def _newest_pages(user: User) -> QuerySet[Notification]:
    """Return the newest message about each alert; each message that is about none."""
    newer = Notification.objects.filter(user=user, alert=OuterRef("alert"), pk__gt=OuterRef("pk"))
    return Notification.objects.filter(~Exists(newer), user=user).select_related("alert").order_by("-pk")


def _paged_alerts(newest: Iterable[Notification]) -> list[PagedAlert]:
    """Return one row for each of the user's messages in `newest`, with all others about its alert."""
    newest = list(newest)
    by_alert: dict[object, list[Notification]] = {}
    about = Q(pk__in=[one.pk for one in newest]) | Q(alert__in=[one.alert_id for one in newest if one.alert_id])
    rows_about = Notification.objects.filter(about, user__in={one.user_id for one in newest})
    for one in rows_about.prefetch_related("deliveries").order_by("pk"):
        by_alert.setdefault(one.alert_id or one.pk, []).append(one)
    rows = []
    for last in newest:
        about_alert = by_alert[last.alert_id or last.pk]
        by_method: dict[str, list[DeliveryState]] = {}
        for one in about_alert:
            label = one.label or channel_name(one.channel)
            by_method.setdefault(label, []).extend(delivery.state for delivery in one.deliveries.all())
        labels: dict[DeliveryState, list[str]] = {state: [] for state in DeliveryState}
        for label, states in by_method.items():
            labels[furthest(states)].append(label)
        came = [(state, found) for state, found in labels.items() if found]
        rows.append(PagedAlert(last, about_alert[0], len(about_alert), came))
    return rows


def _find(request: SignedInRequest, number: int) -> ContactMethod:
    rows = ContactMethod.objects.select_related("user")
    if not may(request, Permission.ADMINISTER):
        rows = rows.filter(user=request.user)
    return find_row(rows, number, "contact method")


def _saved_for_other(method: ContactMethod) -> str:
    text = (
        gettext("Saved. It is not used until %(name)s verifies it.")
        if method.awaits_code
        else gettext("Saved for %(name)s.")
    )
    return text % {"name": method.user.display_name}


def _back(request: SignedInRequest, owner: User) -> HttpResponse:
    return redirect("me") if owner == request.user else redirect("user", owner.pk)
