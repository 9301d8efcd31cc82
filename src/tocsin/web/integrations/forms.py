"""Forms of inbound integrations. They build the spec that the command validates; problems appear beside their field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.catalogue.kinds import IntegrationKind, IntegrationSetting, IntegrationSettingType, load_kinds
from tocsin.core.reasons import Text, local_term
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.web.integrations.condition_form import read_table, write_table
from tocsin.web.ui.forms import CodeField, DurationField, MomentField, RecipientsForm, owner_field, set_choices

NOT_A_PAIR = Text("line {line}: use the format from = to")

MODES = [
    (IntegrationMode.PAGE, _("Active: open alerts and page")),
    (IntegrationMode.DRY_RUN, _("Dry run: open alerts without paging, and show who would have been paged")),
    (IntegrationMode.DISABLED, _("Disabled: only store messages")),
]

#: The same limit as for messages posted to an integration.
MAX_PAYLOAD_CHARS = 5 * 1024 * 1024

#: Path of a problem in the spec → form field that shows it.
PLACES = {"escalation_policy": "policy", "recipients.users": "users", "recipients.groups": "groups", "group": "group"}


class AddIntegrationForm(RecipientsForm):
    """The minimum for a new integration: name, recipients, and for some integration types an address."""

    field_order = ("name",)

    name = forms.CharField(label=_("Name"), max_length=100)
    group = owner_field(_("Managers of this group can edit it."))
    source = forms.CharField(label=_("Source"), max_length=100, required=False, widget=forms.HiddenInput)
    anyway = forms.BooleanField(label=_("Save anyway (no one would be notified)"), required=False)

    def __init__(self, *args: Any, kind: IntegrationKind, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = kind
        if self.data.get("source"):
            self.show_source()
        self.primary_settings = [setting for setting in kind.settings if setting.is_on_create_form]
        for setting in self.primary_settings:
            self.fields[_field_name(setting)] = _setting_field(setting)
        if not self.fields["groups"].queryset.exists():  # type: ignore[attr-defined]
            del self.fields["groups"]
        if "anyway" not in self.data:
            self.fields["anyway"].widget = forms.HiddenInput()

    def show_source(self) -> None:
        """Show the source field after the command reported that another ticket system uses the type's default
        source."""
        self.fields["source"].widget = forms.TextInput()

    def spec(self) -> dict[str, Any]:
        data = self.cleaned_data
        settings = {setting.name: data[_field_name(setting)] for setting in self.primary_settings}
        return {
            "name": data["name"],
            "kind": self.kind.name,
            **({"source": data["source"]} if data["source"] else {}),
            **({"group": data["group"].name} if data.get("group") else {}),
            **routing_spec(data),
            "settings": {name: value for name, value in settings.items() if value},
            "anyway": bool(data.get("anyway")),
        }


class IntegrationSettingsForm(AddIntegrationForm):
    """All settings of an integration except mapping, rules, routes and secrets."""

    mode = forms.ChoiceField(label=_("Mode"), choices=MODES, widget=forms.RadioSelect)
    source = forms.CharField(
        label=_("Source"),
        max_length=100,
        required=False,
        help_text=_("Integrations with the same source share alerts. Empty: the name of the integration type."),
    )
    fail_open = forms.BooleanField(
        label=_("Open an alert if a message can't be parsed"),
        required=False,
        help_text=_("At most one every 10 minutes, so that a broken template doesn't silently stop paging."),
    )

    def __init__(self, *args: Any, kind: IntegrationKind, **kwargs: Any) -> None:
        super().__init__(*args, kind=kind, **kwargs)
        for setting in kind.settings:
            if not setting.is_on_create_form:
                self.fields[_field_name(setting)] = _setting_field(setting)
        self.order_fields(["name", "mode", "policy", "groups", "users", "anyway"])

    def settings(self) -> dict[str, Any]:
        """Return the type's settings from the form. Raises Rejected for an invalid map."""
        values: dict[str, Any] = {}
        for setting in self.kind.settings:
            value = self.cleaned_data[_field_name(setting)]
            if setting.kind is IntegrationSettingType.MAP:
                value = read_table(value, f"settings.{setting.name}", NOT_A_PAIR, "invalid_setting")
                if value == (setting.default or {}):
                    continue
            if value not in ("", None, {}):
                values[setting.name] = value
        if not self.cleaned_data["fail_open"]:
            values["fail_open"] = False
        return values

    #: The parts of the spec that the form changes.
    KEYS = ("name", "mode", "source", "group", "escalation_policy", "recipients", "settings", "anyway")

    def change(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return `spec` with the form's values. Raises Rejected."""
        data = self.cleaned_data
        return {
            **{key: value for key, value in spec.items() if key not in ("escalation_policy", "recipients", "group")},
            "name": data["name"],
            "mode": data["mode"],
            "source": data["source"],
            **({"group": data["group"].name} if data["group"] else {}),
            **routing_spec(data),
            "settings": self.settings(),
            "anyway": bool(data.get("anyway")),
        }


def routing_spec(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the escalation policy and recipients in spec form."""
    spec: dict[str, Any] = {}
    if data.get("policy"):
        spec["escalation_policy"] = data["policy"].name
    users = [user.username for user in data.get("users") or ()]
    groups = [group.name for group in data.get("groups") or ()]
    recipients = {key: names for key, names in (("users", users), ("groups", groups)) if names}
    return {**spec, "recipients": recipients} if recipients else spec


def initial_of(integration: Integration, kind: IntegrationKind) -> dict[str, Any]:
    settings = {**kind.default_settings, **integration.settings}
    setting_values = {
        _field_name(setting): write_table(settings.get(setting.name) or {})
        if setting.kind is IntegrationSettingType.MAP
        else settings.get(setting.name)
        for setting in kind.settings
    }
    return {
        "name": integration.name,
        "mode": integration.mode,
        "source": integration.source,
        "group": integration.group_id,
        "policy": integration.policy_id,
        "users": list(integration.recipient_users.values_list("pk", flat=True)),
        "groups": list(integration.recipient_groups.values_list("pk", flat=True)),
        "fail_open": integration.settings.get("fail_open", True),
        "anyway": integration.settings.get("anyway", False),
        **setting_values,
    }


def _setting_field(setting: IntegrationSetting) -> forms.Field:
    options: dict[str, Any] = {
        "label": local_term(setting.title), "help_text": local_term(setting.help), "required": False,
    }  # fmt: skip
    match setting.kind:
        case IntegrationSettingType.FLAG:
            return forms.BooleanField(**options)
        case IntegrationSettingType.MAP:
            options["help_text"] = f"{options['help_text']} {_('One per line: from = to.')}"
            return CodeField(**options, max_length=20_000, rows=5)
        case IntegrationSettingType.ADDRESS:
            attributes = {"inputmode": "url", "autocapitalize": "none", "spellcheck": "false"}
            return forms.CharField(**options, max_length=500, widget=forms.TextInput(attrs=attributes))
        case _:
            return forms.CharField(**options, max_length=1000)


class IntegrationTestForm(forms.Form):
    """A payload to try, and the time to evaluate it at."""

    __test__ = False

    chosen = forms.ChoiceField(label=_("Message"), required=False)
    payload = CodeField(label=_("Payload"), required=False, rows=18, max_length=MAX_PAYLOAD_CHARS)
    at = MomentField(label=_("Time"), required=False, help_text=_("Simulates who is on call at this time. Empty: now."))

    def __init__(self, *args: Any, choices: list[tuple[str, Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "chosen", choices)


class RotateUrlForm(forms.Form):
    """Creates a new webhook URL, and keeps the previous one valid for a while."""

    overlap = DurationField(
        label=_("Keep the previous URL valid for"),
        initial="1d",
        help_text=_("For example 1h or 1d. Use 0 to disable it immediately."),
    )


#: The integration type with a mailbox.
EMAIL = "email"


def _secret(label: Any) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "off"})
    return forms.CharField(label=label, max_length=1000, required=False, widget=widget)


class CredentialsForm(forms.Form):
    """Credentials required from senders besides the URL. Secrets can be written, but are never shown."""

    basic_username = forms.CharField(label=_("Basic auth: username"), max_length=200, required=False)
    basic_password = _secret(_("Basic auth: password"))
    header_name = forms.CharField(label=_("Secret header: name"), max_length=100, required=False)
    header_value = _secret(_("Secret header: value"))
    hmac_header = forms.CharField(label=_("HMAC-SHA256: signature header"), max_length=100, required=False)
    hmac_secret = _secret(_("HMAC-SHA256: secret"))
    hmac_timestamp_header = forms.CharField(
        label=_("HMAC-SHA256: timestamp header"),
        help_text=_(
            "For signatures over TIME:BODY or TIME.BODY. Messages with a timestamp more than 5 minutes "
            "off are rejected to prevent replay attacks."
        ),
        max_length=100,
        required=False,
    )
    addresses = forms.CharField(
        label=_("Allowed IP addresses"),
        help_text=_("Addresses or networks such as 192.0.2.0/24, one per line. Empty: any address."),
        max_length=5_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
    )
    imap_mailbox = forms.CharField(
        label=_("IMAP mailbox"),
        help_text=_(
            "For example imaps://alerts%40example.org@mail.example.org/INBOX. Write an @ in the username as %40."
        ),
        max_length=200,
        required=False,
    )
    imap_password = _secret(_("Mailbox password"))

    #: Credential type → (visible field, secret field).
    PARTS = {
        "basic": ("username", "password"),
        "header": ("name", "value"),
        "hmac": ("header", "secret"),
        "imap": ("mailbox", "password"),
    }

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if kind != EMAIL:
            del self.fields["imap_mailbox"], self.fields["imap_password"]
        kind_definition = load_kinds().get(kind)
        if kind_definition is not None and kind_definition.signature_header:
            self.fields["hmac_header"].widget.attrs["placeholder"] = kind_definition.signature_header
            if not self.initial.get("hmac_header"):
                self.initial.setdefault("hmac_timestamp_header", kind_definition.signature_timestamp_header)
        for credential, (visible, secret) in self.PARTS.items():
            if self.initial.get(f"{credential}_{visible}"):
                # Shows that a secret is stored.
                self.fields[f"{credential}_{secret}"].widget.attrs["placeholder"] = _("saved")

    def spec(self) -> dict[str, Any]:
        """Return the credentials in spec form. An empty secret keeps the stored one; an empty name removes the
        credential."""
        credentials: dict[str, Any] = {}
        if networks := self.cleaned_data["addresses"].replace(",", " ").split():
            credentials["addresses"] = networks
        for kind, (visible, secret) in self.PARTS.items():
            name = self.cleaned_data.get(f"{kind}_{visible}")
            value = self.cleaned_data.get(f"{kind}_{secret}")
            if name or value:
                # Without a name the command uses the integration type's default, if it has one.
                credentials[kind] = {**({visible: name} if name else {}), **({secret: value} if value else {})}
        if "hmac" in credentials:
            credentials["hmac"]["timestamp_header"] = self.cleaned_data["hmac_timestamp_header"]
        return credentials

    def places(self) -> dict[str, str]:
        return {
            **{f"credentials.{kind}.{part}": f"{kind}_{part}" for kind, parts in self.PARTS.items() for part in parts},
            "credentials.hmac.timestamp_header": "hmac_timestamp_header",
            **{f"credentials.addresses[{number}]": "addresses" for number in range(100)},
        }


def _field_name(setting: IntegrationSetting) -> str:
    return f"setting_{setting.name}"


def places_of(kind: IntegrationKind) -> dict[str, str]:
    return {**PLACES, **{f"settings.{setting.name}": _field_name(setting) for setting in kind.settings}}
