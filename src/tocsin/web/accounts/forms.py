"""Forms for the first administrator and for invited users."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.core.errors import Rejected
from tocsin.people.changes import users
from tocsin.web.ui.forms import ZoneField, problems_of, show_rejection

_USER_FIELDS = ("name", "email", "username", "time_zone")

PASSWORD_HELP = _("At least ten characters. A few random words are easy to remember.")


def _new_password(label: Any) -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=PASSWORD_HELP,
    )


class SetupForm(forms.Form):
    """The first administrator."""

    name = forms.CharField(label=_("Your name"), max_length=200, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    email = forms.EmailField(label=_("Email"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"}))
    username = forms.CharField(
        label=_("Username"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("Used to sign in, for example alice."),
    )
    password = _new_password(_("Password"))
    time_zone = ZoneField()

    def spec(self) -> dict[str, Any]:
        """Return the user in spec form."""
        return {name: self.cleaned_data[name] for name in _USER_FIELDS if name in self.cleaned_data}

    def clean(self) -> dict[str, Any]:
        """Report all problems at once; an invalid username does not hide a problem with the password."""
        try:
            users.validate_user(self.spec(), password=self.cleaned_data.get("password"))
        except Rejected as rejected:
            for problem in problems_of(rejected):
                if problem.field in self.fields and problem.field not in self.errors:
                    show_rejection(self, problem)
        return self.cleaned_data


class WelcomeForm(forms.Form):
    """An invited user's password."""

    password = _new_password(_("Choose a password"))
    time_zone = ZoneField()
