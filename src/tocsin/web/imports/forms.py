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
        help_text=_("Used once for reading, and never stored."),
    )
    api_base = forms.CharField(
        label=_("API URL"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={**_NO_AUTOFILL, "inputmode": "url"}),
        help_text=_("Empty: the default. EU accounts and Grafana OnCall have their own URL."),
    )
    file = forms.FileField(
        label=_("Or an Opsgenie export"),
        required=False,
        help_text=_("A ZIP of the OpsGenieBackups folder, or JSON, up to 5 MB. Use the command line for larger files."),
    )
    with_keys = forms.BooleanField(
        label=_("Keep senders' keys if available"),
        required=False,
        help_text=_(
            "Senders then only need the new URL. PagerDuty returns its keys; Opsgenie includes them in some exports."
        ),
    )
