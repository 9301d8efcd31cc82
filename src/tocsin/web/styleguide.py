"""The style guide for developers."""

from __future__ import annotations

from datetime import timedelta

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.views.decorators.http import require_http_methods

from tocsin.alerts.states import AlertStatus, Priority
from tocsin.escalation.policy import policy_templates
from tocsin.inbound.enums import MessageStatus
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui import formatting
from tocsin.web.ui.forms import CodeField, DurationField, ZoneField, rule_formset

_SENTENCE = "Paged Alice Andersson: primary of Service Desk until Mon 09:00, by the schedule Weekly primary."

_CONTACT_METHODS = (("email", "Email-Official"), ("sms", "SMS-Official"))
_GUIDE = """## A guide

1. Open **Configuration** and paste this:

```json
{"event": "<event>"}
```

| there | here |
|---|---|
| Status | `ticket^status^name` |
"""


class ExampleForm(forms.Form):
    name = forms.CharField(label="A line of text", max_length=40, help_text="What it is for, in one line.")
    optional = forms.CharField(label="A line that may stay empty", required=False)
    number = forms.IntegerField(label="A number", min_value=1)
    after = DurationField(label="A span", help_text="5m, 1h30m")
    choice = forms.ChoiceField(label="One of a few", choices=[("a", "The first"), ("b", "The second")])
    several = forms.MultipleChoiceField(
        label="Several", choices=[("a", "Alice"), ("b", "Bob")], widget=forms.CheckboxSelectMultiple, required=False
    )
    time_zone = ZoneField()
    switch = forms.BooleanField(label="Yes or no", required=False)
    secret = forms.CharField(
        label="A secret",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        required=False,
        help_text="Never shown again. Empty keeps it.",
    )
    text = forms.CharField(label="Text", widget=forms.Textarea(attrs={"rows": 3}), required=False)
    code = CodeField(label="Code", rows=4, required=False)


@require_http_methods(["GET", "HEAD", "POST"])
def styleguide(request: SignedInRequest) -> HttpResponse:
    if not settings.DEBUG:
        raise Http404
    bad = ExampleForm(
        prefix="bad", data={"bad-name": "x" * 41, "bad-number": "0", "bad-choice": "c", "bad-time_zone": "UTC"}
    )
    bad.add_error("after", "'soon' is not a duration; write it like 90s, 5m, 1h30m or 1w.")
    messages.success(request, "What went well: a sentence, announced to screen readers.")
    messages.warning(request, "What did not go as asked, and why.")
    messages.error(request, "What is wrong and needs somebody.")
    context = {
        "states": [*((status, False) for status in AlertStatus), (AlertStatus.OPEN, True)],
        "priorities": list(Priority),
        "outcomes": list(MessageStatus),
        "moments": [request.now + timedelta(minutes=minutes) for minutes in (0, -6, -180, -4320, 120)],
        "soon": request.now + timedelta(minutes=2, seconds=10),
        "reason": _SENTENCE,
        "form": ExampleForm(),
        "bad": bad,
        "guide": formatting.render_html(_GUIDE),
        "rules": rule_formset(
            None, [{"method": "sms", "wait": "2m", "times": 1, "every": "5m"}], "ways", _CONTACT_METHODS
        ),
        "templates": policy_templates("UTC"),
    }
    return render_view(request, "styleguide/styleguide.html", context)
