"""Verifies a contact method: a code is sent to it and entered here."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from tocsin.core.errors import Rejected
from tocsin.notify.inbound import verification
from tocsin.people.models import ContactMethod
from tocsin.web.http.authorization import actor
from tocsin.web.http.objects import find_row
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui.forms import show_rejection


class CodeForm(forms.Form):
    """The six-digit code."""

    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=12,
        help_text=gettext_lazy("Six digits; valid for ten minutes."),
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "one-time-code"}),
    )


@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: SignedInRequest, number: int) -> HttpResponse:
    """Send a code, or verify the entered one."""
    methods = ContactMethod.objects.select_related("user").filter(user=request.user)
    method = find_row(methods, number, "contact method")
    if request.method == "POST" and "send" in request.POST:
        send(request, method)
        return redirect("confirm_contact_method", number)
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            verification.confirm(method, form.cleaned_data["code"], actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("%(label)s is confirmed.") % {"label": method.label})
            return redirect("me")
    context = {"form": form, "method": method, "is_sent": verification.is_waiting(method, request.now)}
    return render_view(request, "me/confirm.html", context, status=422 if form.errors else 200)


def send(request: SignedInRequest, method: ContactMethod) -> None:
    """Send a code, or show why it was rejected."""
    try:
        verification.send_code(method, now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    else:
        messages.success(request, _("A code is on its way to you. Enter it here."))
