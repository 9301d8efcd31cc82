"""The form of an identity provider, and a row for each membership that its groups grant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tocsin.access.roles import Role
from tocsin.core.locale_format import local_term
from tocsin.identity.presets import CLAIMS, Preset
from tocsin.identity.specs import REFUSE
from tocsin.people.models import Group
from tocsin.web.ui.choices import ROLES

MAX_ROWS = 300

INSTALLATION_ROLES = [
    (Role.OBSERVER, gettext_lazy("observer")),
    (Role.RESPONDER, gettext_lazy("responder")),
    (Role.MANAGER, gettext_lazy("manager")),
    (Role.ADMIN, gettext_lazy("admin")),
]
_GROUP_ROLES = [
    ("", gettext_lazy("their own role")),
    (Role.RESPONDER, gettext_lazy("responder")),
    (Role.MANAGER, gettext_lazy("manager")),
]
_URL = {"inputmode": "url", "autocapitalize": "none", "spellcheck": "false"}
_PLAIN = {"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}


def _text(label: Any, **options: Any) -> forms.CharField:
    attributes = options.pop("attributes", _PLAIN)
    return forms.CharField(label=label, widget=forms.TextInput(attrs=attributes), **options)


class IdentityProviderForm(forms.Form):
    """The settings."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100, help_text=gettext_lazy("Shown on the sign-in page.")
    )
    issuer = _text(gettext_lazy("Issuer"), max_length=500, attributes=_URL)
    client_id = _text(gettext_lazy("Client ID"), max_length=300)
    client_secret = forms.CharField(
        label=gettext_lazy("Client secret"),
        max_length=4000,
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    allow_private = forms.BooleanField(
        label=gettext_lazy("Provider in a private network"),
        required=False,
        help_text=gettext_lazy("Tocsin may connect to a private address, and by http."),
    )
    sign_up = forms.BooleanField(
        label=gettext_lazy("Create users at their first sign-in"),
        required=False,
        help_text=gettext_lazy("Otherwise only users with the same verified email address can sign in."),
    )
    allowed_domains = _text(
        gettext_lazy("Allowed email domains"),
        max_length=2000,
        required=False,
        help_text=gettext_lazy("Such as example.org, separated by commas. Empty: any."),
    )
    default_role = forms.ChoiceField(
        label=gettext_lazy("Role without a matching group"),
        choices=[(REFUSE, gettext_lazy("refuse the sign-in")), *INSTALLATION_ROLES],
    )
    scopes = _text(gettext_lazy("Scopes"), max_length=1000, required=False)
    claim_username = _text(gettext_lazy("Claim of the username"), max_length=200, required=False)
    claim_email = _text(gettext_lazy("Claim of the email address"), max_length=200, required=False)
    claim_name = _text(gettext_lazy("Claim of the name"), max_length=200, required=False)
    claim_groups = _text(gettext_lazy("Claim of the groups"), max_length=200, required=False)
    enabled = forms.BooleanField(label=gettext_lazy("Enabled"), required=False, initial=True)

    #: Shown apart, because they seldom differ from the preset's.
    advanced = ("scopes", "claim_username", "claim_email", "claim_name", "claim_groups")

    def __init__(self, *args: Any, preset: Preset, has_secret: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.preset = preset
        for name, claim in preset.claim_names({}).items():
            self.fields[f"claim_{name}"].widget.attrs["placeholder"] = claim
        self.fields["issuer"].help_text = _("Like %(form)s") % {"form": preset.issuer_form}
        self.fields["scopes"].widget.attrs["placeholder"] = " ".join(preset.scopes)
        if has_secret:
            self.fields["client_secret"].help_text = _("Saved. Leave empty to keep the current value.")
        if not preset.says_email_verified:
            self.fields["allowed_domains"].required = True
            self.fields["allowed_domains"].help_text = _(
                "Such as example.org, separated by commas. Required: this provider does not say whether an address is "
                "verified."
            )

    def main_fields(self) -> list[forms.BoundField]:
        """Return the fields that are always shown."""
        return [field for field in self.visible_fields() if field.name not in self.advanced]

    def advanced_fields(self) -> list[forms.BoundField]:
        """Return the fields that are shown on request."""
        return [field for field in self.visible_fields() if field.name in self.advanced]

    def spec(self, mappings: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the provider in spec form. An empty secret keeps the stored one."""
        data = self.cleaned_data
        plain = ("name", "issuer", "allow_private", "sign_up", "default_role", "enabled", "client_id")
        values: dict[str, Any] = {name: data[name] for name in plain}
        values |= {"preset": self.preset.name, "roles": mappings}
        values["allowed_domains"], values["scopes"] = _words(data["allowed_domains"]), _words(data["scopes"])
        values["claims"] = {name: data[f"claim_{name}"] for name in CLAIMS if data[f"claim_{name}"]}
        if data.get("client_secret", "").strip():
            values["client_secret"] = data["client_secret"]
        return values


class MappingForm(forms.Form):
    """What one value of the groups claim grants: a role, and one membership."""

    claim = _text(gettext_lazy("Group at the provider"), max_length=300, required=False)
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=INSTALLATION_ROLES, required=False)
    group = forms.ModelChoiceField(
        Group.objects.all(), label=gettext_lazy("Member of"), required=False, empty_label=gettext_lazy("no group")
    )
    group_role = forms.ChoiceField(label=gettext_lazy("Role in the group"), choices=_GROUP_ROLES, required=False)
    on_call_roles = forms.MultipleChoiceField(
        label=gettext_lazy("On-call roles"), choices=ROLES, required=False, widget=forms.CheckboxSelectMultiple
    )


MappingFormSet = forms.formset_factory(
    MappingForm, extra=1, can_delete=True, max_num=MAX_ROWS, absolute_max=MAX_ROWS + 5
)


def mappings_of(rows: Any) -> list[dict[str, Any]]:
    """Return the rows in spec form: those of one value of the claim together, with the role of the first."""
    mappings: dict[str, dict[str, Any]] = {}
    for row in rows.forms:
        data = row.cleaned_data
        if not data.get("claim") or data.get("DELETE"):
            continue
        mapping = mappings.setdefault(
            data["claim"].casefold(),
            {"claim": data["claim"], "role": data["role"] or Role.OBSERVER, "groups": []},
        )
        if data["group"]:
            grant = {"group": data["group"].name, "role": data["group_role"], "on_call_roles": data["on_call_roles"]}
            mapping["groups"].append(grant)
    return list(mappings.values())


def initial_mappings(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the initial rows: one for each membership."""
    groups = dict(Group.objects.values_list("name", "pk"))
    return [
        {
            "claim": mapping["claim"],
            "role": mapping["role"],
            "group": groups.get(grant.get("group", "")),
            "group_role": grant.get("role", ""),
            "on_call_roles": grant.get("on_call_roles", []),
        }
        for mapping in spec.get("roles", [])
        for grant in mapping.get("groups") or [{}]
    ]


def initial_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a provider's form."""
    claims = {f"claim_{name}": text for name, text in spec.get("claims", {}).items()}
    lists = {
        "allowed_domains": ", ".join(spec.get("allowed_domains", [])),
        "scopes": " ".join(spec.get("scopes", [])),
    }
    return {"enabled": True, **spec, **claims, **lists}


def initial_new(preset: Preset) -> dict[str, Any]:
    """Return the initial values of a new provider's form. A preset's issuer without placeholders is complete."""
    is_complete = not any(part.isupper() for part in preset.issuer_form.split("/"))
    label = "" if preset.name == "generic" else local_term(preset.label)
    return {"name": label, "issuer": preset.issuer_form if is_complete else "", "sign_up": True}


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(text.replace(",", " ").split()))
