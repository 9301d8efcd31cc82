"""Forms of a group: its settings, its members in paging order, and its group contacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.access.roles import Role
from tocsin.people import encrypted_addresses
from tocsin.people.models import User
from tocsin.web.ui.choices import ROLES, channel_choices
from tocsin.web.ui.forms import ZoneField

MAX_ROWS = 200

#: What a member may do with the group's objects.
GROUP_ROLES = [("", _("As everywhere")), (Role.RESPONDER, _("Responder")), (Role.MANAGER, _("Manager"))]


class GroupForm(forms.Form):
    """Name, description and time zone."""

    name = forms.CharField(label=_("Name"), max_length=100)
    description = forms.CharField(
        label=_("Description"), max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    time_zone = ZoneField()


class MemberForm(forms.Form):
    """One member with roles and position."""

    user = forms.ModelChoiceField(
        User.objects.filter(is_active=True).order_by("name", "username"),
        label=_("User"),
        required=False,
        empty_label="–",
    )
    role = forms.ChoiceField(label=_("Role in group"), choices=GROUP_ROLES, required=False)
    roles = forms.MultipleChoiceField(
        label=_("On-call roles"), choices=ROLES, required=False, widget=forms.CheckboxSelectMultiple
    )
    position = forms.IntegerField(label=_("Order"), min_value=1, max_value=999, required=False)


class ContactForm(forms.Form):
    """One contact of the whole group."""

    label = forms.CharField(label=_("Label"), max_length=100, required=False)
    channel = forms.ChoiceField(label=_("Channel"), choices=channel_choices, required=False)
    address = forms.CharField(label=_("Address"), max_length=500, required=False)


MemberFormSet = forms.formset_factory(MemberForm, extra=1, can_delete=True, max_num=MAX_ROWS, absolute_max=MAX_ROWS + 5)
ContactFormSet = forms.formset_factory(ContactForm, extra=1, can_delete=True, max_num=20, absolute_max=25)


def spec(form: GroupForm, members: Any, contacts: Any) -> dict[str, Any]:
    """Return the group in spec form."""
    member_data = [
        m.cleaned_data for m in members.forms if m.cleaned_data.get("user") and not m.cleaned_data.get("DELETE")
    ]
    member_data.sort(key=lambda data: data["position"] or MAX_ROWS + 1)
    contact_data = [
        c.cleaned_data
        for c in contacts.forms
        if (c.cleaned_data.get("label") or c.cleaned_data.get("address")) and not c.cleaned_data.get("DELETE")
    ]
    group_spec: dict[str, Any] = {
        **form.cleaned_data,
        "members": [
            {"user": data["user"].username, "role": data["role"], "roles": list(data["roles"])} for data in member_data
        ],
    }
    if contact_data:
        group_spec["contacts"] = [
            {name: data[name] for name in ("label", "channel", "address")} for data in contact_data
        ]
    return group_spec


def initial_contacts(stored_spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the initial contacts; an address that is a secret is masked."""
    return [
        {**contact, "address": encrypted_addresses.display_form(contact["address"])}
        for contact in stored_spec.get("contacts", [])
    ]


def initial_members(stored_spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the initial members."""
    users = dict(User.objects.values_list("username", "pk"))
    return [
        {
            "user": users.get(member["user"]),
            "role": member.get("role", ""),
            "roles": member["roles"],
            "position": number,
        }
        for number, member in enumerate(stored_spec["members"], start=1)
    ]
