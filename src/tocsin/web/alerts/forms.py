"""Forms for alerts: list filters, command fields, manual alerts."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.alerts.states import Priority
from tocsin.inbound.models import Integration
from tocsin.people.models import Group
from tocsin.web.ui.choices import PRIORITIES
from tocsin.web.ui.forms import RecipientsForm


class AlertFilterForm(forms.Form):
    """Parses the filters of the alert list. Unusable values are ignored, so that old links keep working.

    The template renders the fields itself: that is much faster, and the list is the most frequently opened view.
    """

    integration = forms.ModelChoiceField(Integration.objects.only("name"), required=False)
    group = forms.ModelChoiceField(Group.objects.all(), required=False)
    priority = forms.ChoiceField(choices=PRIORITIES, required=False)
    client = forms.CharField(max_length=200, required=False)
    tag = forms.CharField(max_length=200, required=False)
    sort = forms.ChoiceField(choices=[("oldest", "oldest"), ("priority", "priority")], required=False)


class NewAlertForm(RecipientsForm):
    """An alert that a user opens manually."""

    field_order = ("subject", "priority", "client", "long_text")

    subject = forms.CharField(label=_("Title"), max_length=500)
    priority = forms.ChoiceField(label=_("Priority"), choices=PRIORITIES, initial=Priority.HIGH)
    client = forms.CharField(label=_("Client"), max_length=200, required=False)
    long_text = forms.CharField(
        label=_("Description"), max_length=20_000, required=False, widget=forms.Textarea(attrs={"rows": 5})
    )
