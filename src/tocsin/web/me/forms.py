"""Forms of the user's own profile: preferences and contact methods."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from tocsin.core.validation import durations
from tocsin.people import encrypted_addresses
from tocsin.people.models import ContactMethod
from tocsin.web.ui.choices import channel_choices
from tocsin.web.ui.forms import DurationField, ZoneField


class PreferencesForm(forms.Form):
    """Name, time zone, language and theme."""

    name = forms.CharField(label=_("Name"), max_length=200, required=False)
    time_zone = ZoneField()
    language = forms.ChoiceField(
        label=_("Language"),
        choices=[("", _("Browser default")), *settings.LANGUAGES],
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


class ContactMethodForm(forms.Form):
    """One contact method."""

    label = forms.CharField(label=_("Label"), max_length=100, help_text=_("For example, Work phone."))
    channel = forms.ChoiceField(label=_("Channel"), choices=channel_choices)
    address = forms.CharField(
        label=_("Address"),
        max_length=500,
        help_text=_(
            "A phone number with country code, an email address, an ntfy topic, or the URL of a chat "
            "or push service. Service URLs are kept secret."
        ),
    )
    wait = DurationField(
        label=_("Delay"),
        required=False,
        help_text=_("Time after an escalation step fires, such as 3m, so that less intrusive methods come first."),
    )
    repeat_times = forms.IntegerField(label=_("Repeats"), min_value=0, max_value=100, initial=0, required=False)
    repeat_every = DurationField(label=_("Interval"), required=False)
    enabled = forms.BooleanField(label=_("Enabled"), required=False, initial=True)

    def spec(self) -> dict[str, Any]:
        """Return the contact method in spec form."""
        data = self.cleaned_data
        spec: dict[str, Any] = {name: data[name] for name in ("label", "channel", "address", "enabled")}
        if data["wait"]:
            spec["wait"] = data["wait"]
        if data["repeat_times"]:
            spec["repeat"] = {"times": data["repeat_times"], "every": data["repeat_every"] or None}
        return spec


def initial_of(method: ContactMethod) -> dict[str, Any]:
    """Return the initial values of a contact method's form."""
    return {
        "label": method.label,
        "channel": method.channel,
        "address": encrypted_addresses.display_form(method.address),
        "wait": durations.write(method.wait) if method.wait else "",
        "repeat_times": method.repeat_times,
        "repeat_every": durations.write(method.repeat_every) if method.repeat_times else "",
        "enabled": method.is_enabled,
    }
