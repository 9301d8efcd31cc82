"""Forms of somebody who comes in: the first administrator, and an invited person."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.web.forms import ZoneField


def _new_password(label: Any) -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least ten characters. A few words in a row are easy to keep in mind."),
    )


class SetupForm(forms.Form):
    """The first administrator."""

    name = forms.CharField(label=_("Your name"), max_length=200, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    username = forms.CharField(
        label=_("Username"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("Short, for signing in: alice."),
    )
    password = _new_password(_("Password"))
    time_zone = ZoneField()

    def spec(self) -> dict[str, Any]:
        """The user as the command wants one."""
        return {name: self.cleaned_data[name] for name in ("name", "email", "username", "time_zone")}


class WelcomeForm(forms.Form):
    """An invited person's password."""

    password = _new_password(_("Choose a password"))
    time_zone = ZoneField()
