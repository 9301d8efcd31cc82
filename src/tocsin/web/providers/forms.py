"""The form of a notification provider, built from the settings of its type. Secrets can be written, but are never
shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from tocsin.core.locale_format import local_term
from tocsin.notify.interfaces import ProviderKind, ProviderSetting, ProviderSettingType
from tocsin.notify.provider_settings import settings_of
from tocsin.notify.registry import CHANNELS
from tocsin.web.ui.forms import CodeField, set_choices


class ProviderForm(forms.Form):
    """Name, channels and order, followed by the settings of the provider type."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    channels = forms.MultipleChoiceField(
        label=gettext_lazy("Channels"), widget=forms.CheckboxSelectMultiple, required=False
    )
    order = forms.IntegerField(
        label=gettext_lazy("Order"),
        min_value=1,
        max_value=1000,
        initial=1,
        help_text=gettext_lazy("1 is used first; the next one is used if it fails."),
    )
    enabled = forms.BooleanField(label=gettext_lazy("Enabled"), required=False, initial=True)

    def __init__(self, *args: Any, kind: ProviderKind, stored_secrets: frozenset[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = kind
        set_choices(self, "channels", _channel_choices(kind.channels))
        if len(kind.channels) < 2:
            del self.fields["channels"]
        for setting in settings_of(kind):
            self.fields[setting.name] = _field(setting, is_stored=setting.name in stored_secrets)
        self.order_fields(["name", *(setting.name for setting in settings_of(kind)), "channels", "order", "enabled"])

    def spec(self) -> dict[str, Any]:
        """Return the provider in spec form. An empty secret keeps the stored one."""
        data = self.cleaned_data
        values: dict[str, Any] = {
            "name": data["name"],
            "kind": self.kind.name,
            "channels": list(data.get("channels") or self.kind.channels),
            "order": data["order"],
            "enabled": data["enabled"],
        }
        for setting in settings_of(self.kind):
            value = data[setting.name]
            # A secret that consists only of spaces counts as empty and keeps the stored one.
            if value not in ("", None) and not (setting.is_secret and not value.strip()):
                values[setting.name] = value
        return values


class ProviderTestForm(forms.Form):
    """A test message through the provider."""

    channel = forms.ChoiceField(label=gettext_lazy("Channel"))
    address = forms.CharField(label=pgettext_lazy("recipient", "To"), max_length=500)

    def __init__(self, *args: Any, channels: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "channel", _channel_choices(channels))


def _channel_choices(channels: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, local_term(CHANNELS[name].label) if name in CHANNELS else name) for name in channels]


def initial_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a provider's form."""
    return {"enabled": True, **spec}


def _field(setting: ProviderSetting, *, is_stored: bool) -> forms.Field:
    common: dict[str, Any] = {
        "label": local_term(setting.label),
        "help_text": local_term(setting.help),
        "required": setting.is_required and not is_stored,
    }
    if setting.is_secret:
        stored_hint = _("Saved. Leave empty to keep the current value.") if is_stored else ""
        common["help_text"] = f"{stored_hint} {local_term(setting.help)}".strip()
        return forms.CharField(
            max_length=4000, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "off"}), **common
        )
    match setting.kind:
        case ProviderSettingType.NUMBER:
            return forms.IntegerField(
                min_value=setting.min_value, max_value=setting.max_value, initial=setting.default or None, **common
            )
        case ProviderSettingType.CHOICE:
            choices = [(choice, choice) for choice in setting.choices]
            return forms.ChoiceField(choices=choices, initial=setting.default, **common)
        case ProviderSettingType.URL:
            attributes = {"inputmode": "url", "autocapitalize": "none", "spellcheck": "false"}
            return forms.CharField(
                max_length=2000, initial=setting.default, widget=forms.TextInput(attrs=attributes), **common
            )
        case ProviderSettingType.TEXT | ProviderSettingType.HOST | ProviderSettingType.MAILBOX:
            return forms.CharField(max_length=500, initial=setting.default, **common)
        case ProviderSettingType.LONG_TEXT:
            return CodeField(rows=4, max_length=20_000, initial=setting.default, **common)
        case ProviderSettingType.FLAG:
            return forms.BooleanField(initial=bool(setting.default), **{**common, "required": False})
