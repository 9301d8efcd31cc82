"""Forms of outbound integrations. They build the spec that the command validates; problems appear beside their
field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, as_reason
from tocsin.core.validation.field_errors import rejected_at
from tocsin.outbound.connectors.haloitsm.connector import TEXTS
from tocsin.outbound.states import OutboundEvent
from tocsin.people.models import Group
from tocsin.web.ui.forms import CodeField, set_choices, zones

_NOT_A_PAIR = Text("line {line}: use the format name{sign} value")

_URL = {"inputmode": "url", "autocapitalize": "none", "spellcheck": "false"}

#: Labels of the events.
EVENT_LABELS: Mapping[OutboundEvent, Any] = {
    OutboundEvent.ACKNOWLEDGE: _("Acknowledged"),
    OutboundEvent.ASSIGN: _("Assigned"),
    OutboundEvent.ESCALATE: _("Escalated"),
    OutboundEvent.REPLY: _("Note added"),
    OutboundEvent.HOLD: _("Snoozed"),
    OutboundEvent.CLOSE: _("Closed"),
    OutboundEvent.EXHAUSTED: _("Escalation exhausted"),
}


def _secret(label: Any, is_stored: bool, help_text: Any = "") -> forms.CharField:
    stored_hint = _("Saved. Leave empty to keep the current value.") if is_stored else ""
    return forms.CharField(
        label=label,
        max_length=4000,
        required=False,
        strip=False,
        help_text=f"{stored_hint} {help_text}".strip(),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )


class CommonForm(forms.Form):
    """Fields that every outbound integration type has."""

    name = forms.CharField(label=_("Name"), max_length=100)
    enabled = forms.BooleanField(label=_("Enabled"), required=False, initial=True)
    group = forms.ModelChoiceField(
        Group.objects.all(),
        label=_("Owner group"),
        required=False,
        empty_label=_("Administrators only"),
        help_text=_("Managers of this group can edit it."),
    )

    kind = ""
    SECRETS: tuple[str, ...] = ()
    #: Secrets that the integration requires.
    REQUIRED_SECRETS: tuple[str, ...] = ()
    TEXT_FIELDS: tuple[str, ...] = ()

    def __init__(self, *args: Any, stored: frozenset[str] = frozenset(), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.SECRETS:
            declared = self.fields[name]
            self.fields[name] = _secret(declared.label, name in stored, declared.help_text)
            self.fields[name].required = name in self.REQUIRED_SECRETS and name not in stored

    def spec(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """Return `current` with the form's values. Raises Rejected."""
        data = self.cleaned_data
        spec = {**current, "name": data["name"], "kind": self.kind, "enabled": data["enabled"]}
        spec["group"] = data["group"].name if data["group"] else None
        for name in self.TEXT_FIELDS:
            spec[name] = data[name] if data[name] not in ("", None) else None
        for name in self.SECRETS:
            if data[name].strip():
                spec[name] = data[name]
        return spec


class HaloForm(CommonForm):
    """The address of Halo, and the credentials with which Tocsin signs in."""

    kind = "haloitsm"
    SECRETS = REQUIRED_SECRETS = ("client_secret",)
    TEXT_FIELDS = ("base_url", "tenant", "client_id", "scope", "application", "note_action", "time_zone")

    base_url = forms.CharField(
        label=_("Halo URL"),
        max_length=500,
        widget=forms.TextInput(attrs=_URL),
        help_text=_("Any URL of your Halo, such as https://acme.haloitsm.com/tickets."),
    )
    client_id = forms.CharField(label=_("Client ID"), max_length=200)
    client_secret = forms.CharField(label=_("Client secret"), required=False)
    tenant = forms.CharField(label=_("Tenant"), max_length=100, required=False, help_text=_("Shared hosting only."))
    application = forms.CharField(
        label=_("Application name in Halo"),
        max_length=200,
        required=False,
        help_text=_("Lets Tocsin recognize and ignore its own notes."),
    )
    note_action = forms.CharField(
        label=_("Note action"),
        max_length=100,
        required=False,
        initial="Private Note",
        help_text=_("Name or number of the action in Halo. Some roles may not use the default action."),
    )
    scope = forms.CharField(
        label=_("Scope"),
        max_length=500,
        required=False,
        initial="all",
        help_text=_("Separate multiple scopes with spaces."),
    )
    time_zone = forms.ChoiceField(label=_("Time zone for notes"), required=False)
    read_notes = forms.BooleanField(label=_("Add agents' notes to the alert"), required=False, initial=True)
    reread = forms.BooleanField(label=_("Query Halo if a message lacks status or agent"), required=False, initial=True)
    pull = forms.BooleanField(
        label=_("Pull mode: poll tickets every 30 seconds instead of using a webhook"),
        required=False,
        help_text=_("For installations that Halo's cloud can't reach."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["client_secret"].help_text = f"{self.fields['client_secret'].help_text} {
            _('Halo shows it only once, when you create the application.')
        }".strip()
        zone = self.fields["time_zone"]
        assert isinstance(zone, forms.ChoiceField)
        zone.choices = [("", _("Installation default")), *zones()]
        self.order_fields(["name", "base_url", "client_id", "client_secret", "tenant", "application", "note_action",
                           "scope", "time_zone", "read_notes", "reread", "pull", "group", "enabled"])  # fmt: skip

    def spec(self, current: Mapping[str, Any]) -> dict[str, Any]:
        flags = {name: self.cleaned_data[name] for name in ("read_notes", "reread", "pull")}
        return {**super().spec(current), **flags}


class HttpForm(CommonForm):
    """A request to any HTTP endpoint."""

    kind = "http"
    SECRETS = ("password", "token", "client_secret", "hmac_secret")
    TEXT_FIELDS = (
        "url",
        "method",
        "body",
        "auth",
        "username",
        "header_name",
        "token_url",
        "client_id",
        "scope",
        "hmac_header",
    )

    url = forms.CharField(
        label=_("URL"),
        max_length=2000,
        widget=forms.TextInput(attrs=_URL),
        help_text=_(
            "URL, headers and body can contain placeholders such as <subject>, <alert> or "
            "<custom.name>. After saving, only the host is shown; leave it unchanged to keep the URL."
        ),
    )
    method = forms.ChoiceField(label=_("Method"), choices=[(m, m) for m in ("POST", "PUT", "PATCH", "GET", "DELETE")])
    headers = CodeField(
        label=_("Headers"),
        rows=3,
        required=False,
        max_length=5000,
        help_text=_("One per line: Name: value. Saved values are hidden; leave ••• to keep them."),
    )
    body = CodeField(label=_("Body"), rows=8, required=False, max_length=20_000)
    auth = forms.ChoiceField(
        label=_("Authentication"),
        choices=[
            ("none", _("None")),
            ("basic", _("Basic: username and password")),
            ("bearer", _("Bearer token")),
            ("header", _("Secret header")),
            ("oauth2", _("OAuth 2 client credentials")),
        ],
    )
    username = forms.CharField(label=_("Username"), max_length=200, required=False)
    password = forms.CharField(label=_("Password"), required=False)
    header_name = forms.CharField(label=_("Secret header name"), max_length=100, required=False)
    token = forms.CharField(label=_("Token or secret header value"), required=False)
    token_url = forms.CharField(label=_("OAuth 2: token URL"), max_length=2000, required=False)
    client_id = forms.CharField(label=_("OAuth 2: client ID"), max_length=500, required=False)
    client_secret = forms.CharField(label=_("OAuth 2: client secret"), required=False)
    scope = forms.CharField(label=_("OAuth 2: scope"), max_length=500, required=False)
    hmac_header = forms.CharField(label=_("Signature header"), max_length=100, required=False)
    hmac_secret = forms.CharField(
        label=_("Signature secret"), required=False, help_text=_("Hex-encoded HMAC-SHA256 of the body.")
    )
    expected_status = forms.CharField(
        label=_("Expected status codes"),
        max_length=100,
        required=False,
        help_text=_("For example 200, 204. Empty: any 2xx."),
    )
    capture = CodeField(
        label=_("Capture from response"),
        rows=3,
        required=False,
        max_length=5000,
        help_text=_("One per line: custom field = path, for example ticket = data^id."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order_fields(["name", "method", "url", "headers", "body", "auth", "username", "password", "header_name",
                           "token", "token_url", "client_id", "client_secret", "scope", "hmac_header", "hmac_secret",
                           "expected_status", "capture", "group", "enabled"])  # fmt: skip

    def spec(self, current: Mapping[str, Any]) -> dict[str, Any]:
        data = self.cleaned_data
        statuses = [part.strip() for part in data["expected_status"].split(",") if part.strip()]
        if not all(part.isdecimal() for part in statuses):
            raise Rejected(
                "invalid", as_reason(str(_("expected_status: enter numbers such as 200, 204."))), "expected_status"
            )
        return {
            **super().spec(current),
            "headers": _pairs(data["headers"], ":", "headers"),
            "capture": _pairs(data["capture"], "=", "capture"),
            "expected_status": [int(part) for part in statuses],
        }


def initial_of(spec: Mapping[str, Any], group: Group | None) -> dict[str, Any]:
    """Return the initial values of an integration's form."""
    initial = {"enabled": True, **spec, "group": group}
    for name, sign in (("headers", ": "), ("capture", " = ")):
        if isinstance(spec.get(name), Mapping):
            initial[name] = "\n".join(f"{key}{sign}{value}" for key, value in spec[name].items())
    if isinstance(spec.get("expected_status"), list):
        initial["expected_status"] = ", ".join(map(str, spec["expected_status"]))
    return initial


def _pairs(text: str, sign: str, path: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, separator, value = line.partition(sign)
        if not separator or not name.strip():
            raise rejected_at(path, _NOT_A_PAIR(line=number, sign=sign), "invalid")
        pairs[name.strip()] = value.strip()
    return pairs


class EventForm(forms.Form):
    """What one event writes to the ticket."""

    note = forms.BooleanField(label=_("Note"), required=False)
    text = forms.CharField(
        label=_("Note text"), max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    public = forms.BooleanField(label=_("Public: visible to the requester, who gets an email"), required=False)
    agent = forms.BooleanField(label=_("Assign the ticket to the agent"), required=False)
    status = forms.ChoiceField(label=_("Status"), required=False)
    team = forms.ChoiceField(label=_("Team"), required=False)
    priority = forms.ChoiceField(label=_("Priority"), required=False)

    def __init__(
        self, data: Any, *, event: OutboundEvent, lists: Mapping[str, list[str]], initial: Mapping[str, Any]
    ) -> None:
        super().__init__(data, prefix=event.value, initial=dict(initial))
        self.event, self.label = event, EVENT_LABELS[event]
        for name in ("status", "team", "priority"):
            available = lists.get(name, [])
            stored_value = self.initial.get(name)
            # A stored value that no longer exists in Halo stays visible, so that it can be changed.
            names = [*available, *([stored_value] if stored_value and stored_value not in available else [])]
            set_choices(self, name, [("", _("Don't change")), *((choice, choice) for choice in names)])
        self.fields["text"].widget.attrs["placeholder"] = TEXTS[event]
        if event not in (OutboundEvent.ACKNOWLEDGE, OutboundEvent.ASSIGN):
            del self.fields["agent"]

    @property
    def changes_ticket(self) -> bool:
        """Whether the event changes fields of the ticket, beyond adding a note."""
        return any(self[name].value() for name in ("status", "team", "priority"))

    def entry(self) -> dict[str, Any]:
        """Return the event's part of the spec."""
        data = self.cleaned_data
        values: dict[str, Any] = {"note": (data["text"].strip() or True) if data["note"] else False}
        for name in ("public", "agent"):
            if data.get(name):
                values[name] = True
        for name in ("status", "team", "priority"):
            if data[name]:
                values[name] = data[name]
        return values


def event_initial(settings: Mapping[str, Any], event: OutboundEvent) -> dict[str, Any]:
    """Return the initial values of one event's form."""
    sync = settings.get("sync")
    entry = sync.get(event.value, {}) if sync is not None else {"note": True}
    note = entry.get("note", False)
    return {**entry, "note": bool(note), "text": note if isinstance(note, str) else ""}
