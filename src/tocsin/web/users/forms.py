"""Forms of users for administrators: invite one or several, edit."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.access.roles import Role
from tocsin.people.models import Group
from tocsin.web.ui.choices import ROLES
from tocsin.web.ui.forms import ZoneField

USER_ROLES = [
    (Role.OBSERVER, _("Observer: can view alerts, the log and who is on call")),
    (Role.RESPONDER, _("Responder: can also respond to alerts")),
    (Role.MANAGER, _("Manager: can also edit resources their groups own")),
    (Role.ADMIN, _("Administrator: full access")),
]


class UserForm(forms.Form):
    """The fields of a user that an administrator sets."""

    name = forms.CharField(label=_("Name"), max_length=200, required=False)
    email = forms.EmailField(label=_("Email"), max_length=254)
    username = forms.CharField(
        label=_("Username"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}),
    )
    role = forms.ChoiceField(label=_("Role"), choices=USER_ROLES, widget=forms.RadioSelect, initial=Role.RESPONDER)
    clients = forms.CharField(
        label=_("Clients"),
        max_length=20_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text=_("One per line. An observer with clients sees only their alerts and reports."),
    )
    time_zone = ZoneField()

    def clean_clients(self) -> list[str]:
        lines: list[str] = self.cleaned_data["clients"].splitlines()
        return [line.strip() for line in lines if line.strip()]

    def spec(self) -> dict[str, Any]:
        """Return the user in spec form."""
        return dict(self.cleaned_data)


class EditUserForm(UserForm):
    """The same fields for an existing user."""

    active = forms.BooleanField(label=_("Active"), required=False)
    break_glass = forms.BooleanField(
        label=_("Break-glass account"),
        required=False,
        help_text=_(
            "May sign in with a password even if only single sign-on is allowed. Each use is sent to administrators."
        ),
    )


class InviteForm(UserForm):
    """A new user, who receives an invitation link."""

    group = forms.ModelChoiceField(Group.objects.all(), label=_("Add to group"), required=False, empty_label=_("None"))
    roles = forms.MultipleChoiceField(
        label=_("Role in the group"), choices=ROLES, required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        username = self.fields["username"]
        username.required = False
        username.help_text = _("Leave empty to use the part of the email address before the @.")

    def clean_username(self) -> str:
        username: str = self.cleaned_data["username"]
        # The e-mail field was cleaned before, because it precedes this one.
        return username or str(self.cleaned_data.get("email", "")).partition("@")[0]

    def spec(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("name", "email", "username", "role", "clients", "time_zone")}


class InviteManyForm(forms.Form):
    """Addresses or CSV, and what all of the people have in common."""

    text = forms.CharField(
        label=_("Email addresses or CSV"),
        max_length=200_000,
        widget=forms.Textarea(attrs={"rows": 8, "class": "form-control code", "spellcheck": "false"}),
        help_text=_(
            "One address per line, or separated by commas. For CSV, name the columns in the first line: email, name, "
            "phone, role, groups. Several groups are separated by semicolons."
        ),
    )
    invite = forms.BooleanField(label=_("Send invitations by email"), required=False, initial=True)
