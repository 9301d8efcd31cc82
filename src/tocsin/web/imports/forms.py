"""The form that starts an import from another product."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.importers.products import PRODUCTS

_NO_AUTOFILL = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}


class ImportForm(forms.Form):
    """The product, and its API key or an exported file."""

    product = forms.ChoiceField(
        label=_("From"),
        choices=[(product.name, product.title) for product in PRODUCTS.values()],
        widget=forms.RadioSelect,
        initial="opsgenie",
    )
    key = forms.CharField(
        label=_("API key"),
        max_length=4096,
        required=False,
        widget=forms.PasswordInput(attrs={**_NO_AUTOFILL, "autocomplete": "new-password"}),
        help_text=_("It is used once, to read, and never stored."),
    )
    api_base = forms.CharField(
        label=_("Address of the API"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={**_NO_AUTOFILL, "inputmode": "url"}),
        help_text=_("Empty: the usual one. An account in the EU, and every Grafana OnCall, has one of its own."),
    )
    file = forms.FileField(
        label=_("Or an export of Opsgenie"),
        required=False,
        help_text=_("A ZIP of the folder OpsGenieBackups, or JSON; up to 5 MB. Bigger ones by the command line."),
    )
    with_keys = forms.BooleanField(
        label=_("Keep the keys of senders, where they can be read"),
        required=False,
        help_text=_("Then only their address changes. PagerDuty shows its keys; Opsgenie does in some exports."),
    )
