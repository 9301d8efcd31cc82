"""Sends a test to a contact method, and shows its result: pending, sent, confirmed by a key, or why it failed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import each_of, local_term
from tocsin.notify import notices
from tocsin.notify.inbound import verification
from tocsin.notify.integrations import web_push
from tocsin.notify.models import Notification, Provider
from tocsin.notify.providers.pool import CHANNELS, provider_lookup
from tocsin.notify.rules.page_planner import KEY_PRESSED
from tocsin.notify.rules.responder_readiness import is_loud
from tocsin.notify.states import DeliveryState, Purpose
from tocsin.people import addresses
from tocsin.people.changes import users
from tocsin.people.models import ContactMethod, User
from tocsin.web.http.request import SignedInRequest, actor, find_row, next_url, render_view
from tocsin.web.push import device_name
from tocsin.web.ui.forms import channel_name, rejections_shown


@require_POST
def send_test(request: SignedInRequest, number: int) -> HttpResponse:
    """Send a test message to a contact method and show its result."""
    method = find_row(ContactMethod.objects.filter(user=request.user), number, "contact method")
    test_id = queue(request, method)
    return redirect("me") if test_id is None else redirect("test_result", test_id)


@require_safe
def test_result(request: SignedInRequest, notification_id: UUID) -> HttpResponse:
    context = result_context(request.user, notification_id)
    return render_view(request, "me/test_result.html", context, partials=("result",))


@require_POST
def answer_ring(request: SignedInRequest, number: int) -> HttpResponse:
    """Record whether a test rang while the phone was silenced."""
    method = find_row(ContactMethod.objects.filter(user=request.user), number, "contact method")
    rings = request.POST.get("rings") == "yes"
    users.record_ring(method, rings_silenced=rings, actor=actor(request), now=request.now)
    messages.success(request, _("Saved."))
    return redirect(next_url(request, reverse("contact_method", args=[number])))


def queue(request: SignedInRequest, method: ContactMethod) -> UUID | None:
    """Queue a test and return its id; None if it was rejected, which a message says."""
    with rejections_shown(request):
        with database.transaction() as connection:
            test_id = notices.queue_test(connection, method, request.now)
            database.notify(connection, "outbox")
        return test_id
    return None


def result_context(user: User, notification_id: UUID) -> dict[str, Any]:
    """Return what `me/test_result_body.html` shows. Raises Http404."""
    rows = Notification.objects.filter(pk=notification_id, user=user, purpose=Purpose.TEST)
    notification = rows.prefetch_related("deliveries").first()
    if notification is None:
        raise Http404(_("Test not found."))
    delivery = next(iter(notification.deliveries.all()), None)
    is_done = delivery is not None and delivery.state is not DeliveryState.QUEUED
    pressed = (
        next((one for one in each_of(delivery.reason) if one.code == KEY_PRESSED.code), None) if delivery else None
    )
    return {
        "notification": notification,
        "delivery": delivery,
        "is_done": is_done,
        "is_call": CHANNELS[notification.channel].is_call,
        "pressed_key": pressed["key"] if pressed else "",
        "rung_method": _rung(user, notification),
        "silence_help": local_term(CHANNELS[notification.channel].silence_help),
    }


def _rung(user: User, notification: Notification) -> ContactMethod | None:
    """Return the user's method that a test rang, if only the phone's settings decide whether it does."""
    own = user.contact_methods.filter(channel=notification.channel, address=notification.address)
    return own.first() if CHANNELS[notification.channel].is_push else None


# ---------- verify contact


class CodeForm(forms.Form):
    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=12,
        help_text=gettext_lazy("Six digits, valid for ten minutes."),
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "one-time-code"}),
    )


@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: SignedInRequest, number: int) -> HttpResponse:
    methods = ContactMethod.objects.select_related("user").filter(user=request.user)
    method = find_row(methods, number, "contact method")
    if request.method == "POST" and "send" in request.POST:
        send(request, method)
        return redirect("confirm_contact_method", number)
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form):
            verification.confirm(method, form.cleaned_data["code"], actor=actor(request), now=request.now)
            messages.success(request, _("%(label)s verified.") % {"label": method.label})
            return redirect("me")
    context = {"form": form, "method": method, "is_sent": verification.is_waiting(method, request.now)}
    return render_view(request, "me/confirm.html", context, status=422 if form.errors else 200)


def send(request: SignedInRequest, method: ContactMethod) -> None:
    """Send a code, or show why it was rejected."""
    try:
        verification.send_code(method, now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
        return
    with database.transaction() as connection:
        is_carried = provider_lookup(connection)(method.channel, method.address)
    if is_carried:
        messages.success(request, _("We sent you a code. Enter it here."))
    else:
        text = _("No provider carries %(channel)s: the code is in the sandbox, and nothing reached %(address)s.")
        shown = {"channel": channel_name(method.channel), "address": method.address}
        messages.warning(request, text % shown)


# ---------- onboarding
# The steps that follow an invitation's password: phone, push on this device, a test that is confirmed. Each can be
# skipped, and uses what Me has.


class PhoneForm(forms.Form):
    address = forms.CharField(
        label=gettext_lazy("Mobile phone"),
        max_length=50,
        help_text=gettext_lazy("With country code, such as +41 79 000 00 01."),
        widget=forms.TextInput(attrs={"type": "tel", "autocomplete": "tel", "inputmode": "tel"}),
    )


@require_http_methods(["GET", "HEAD", "POST"])
def phone(request: SignedInRequest) -> HttpResponse:
    """Enter a phone number, then the code that was sent to it."""
    method = _unverified_phone(request.user)
    if method is None and request.method != "POST" and _phones(request.user):
        return redirect("onboarding_push")
    is_code = request.method == "POST" and "code" in request.POST
    is_number = request.method == "POST" and "address" in request.POST
    code_form = CodeForm(request.POST if is_code else None)
    phone_form = PhoneForm(request.POST if is_number else None, initial={"address": method.address if method else ""})
    if method is not None and is_code and code_form.is_valid() and _confirm(request, method, code_form):
        return redirect("onboarding_push")
    if is_number and phone_form.is_valid() and (saved := _save_phone(request, method, phone_form)):
        send(request, saved)
        return redirect("onboarding_phone")
    if method is not None and request.method == "POST" and "send" in request.POST:
        send(request, method)
        return redirect("onboarding_phone")
    context = {
        "method": method,
        "phone_form": phone_form,
        "code_form": code_form,
        "is_sent": method is not None and verification.is_waiting(method, request.now),
    }
    status = 422 if code_form.errors or phone_form.errors else 200
    return render_view(request, "me/onboarding_phone.html", context, status=status)


@require_safe
def push(request: SignedInRequest) -> HttpResponse:
    """Subscribe this device to push notifications; the subscription itself is posted to the devices."""
    context = {
        "devices": list(request.user.push_devices.filter(gone_at=None)),
        "key": web_push.public(request.now),
        "name": device_name(request.headers.get("User-Agent", "")),
    }
    return render_view(request, "me/onboarding_push.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def send_onboarding_test(request: SignedInRequest, notification_id: UUID | None = None) -> HttpResponse:
    """Send a test on a contact method of choice, and show live what becomes of it."""
    if request.method == "POST":
        number = request.POST.get("method", "")
        method = find_row(_usable(request.user), int(number) if number.isdigit() else 0, "contact method")
        test_id = queue(request, method)
        return redirect("onboarding_test") if test_id is None else redirect("onboarding_test_result", test_id)
    methods = sorted(_usable(request.user), key=lambda method: -CHANNELS[method.channel].quietness)
    context = {
        "methods": [(method, CHANNELS[method.channel], channel_name(method.channel)) for method in methods],
        **(result_context(request.user, notification_id) if notification_id else {}),
    }
    return render_view(request, "me/onboarding_test.html", context, partials=("result",))


@require_safe
def done(request: SignedInRequest) -> HttpResponse:
    """Render how the user can be reached now."""
    methods = [(method, channel_name(method.channel)) for method in request.user.contact_methods.all()]
    can_ring = any(is_loud(method.channel) for method in _usable(request.user))
    return render_view(request, "me/onboarding_done.html", {"methods": methods, "is_loud": can_ring})


def _usable(user: User) -> QuerySet[ContactMethod]:
    return user.contact_methods.filter(is_enabled=True, awaits_code=False, channel__in=CHANNELS)


def _phones(user: User) -> list[ContactMethod]:
    return list(user.contact_methods.filter(channel__in=addresses.phone_channels()))


def _unverified_phone(user: User) -> ContactMethod | None:
    """Return the phone to verify; None if there is no phone, or one that is verified."""
    phones = _phones(user)
    is_verified = any(method.verified_at is not None for method in phones)
    return None if is_verified or not phones else phones[0]


def _channels() -> list[str]:
    """Return the phone channels that a provider carries; without any, all of them, for the sandbox. The first takes the
    code.
    """
    carried = {channel for row in Provider.objects.filter(is_enabled=True) for channel in row.channels}
    channels = addresses.phone_channels()
    return [channel for channel in channels if channel in carried] or list(channels)


def _save_phone(request: SignedInRequest, method: ContactMethod | None, form: PhoneForm) -> ContactMethod | None:
    address = form.cleaned_data["address"]
    spec = (
        users.contact_method_spec(method) | {"address": address}
        if method is not None
        else _new_phone(request.user, _channels()[0], address)
    )
    with rejections_shown(form):
        return users.save_contact_method(request.user, spec, existing=method, actor=actor(request), now=request.now)
    return None


def _confirm(request: SignedInRequest, method: ContactMethod, form: CodeForm) -> bool:
    """Verify the phone, and use it on the other channels of a phone too."""
    with rejections_shown(form):
        verification.confirm(method, form.cleaned_data["code"], actor=actor(request), now=request.now)
        used = {one.channel for one in _phones(request.user)}
        for channel in _channels():
            if channel not in used:
                spec = _new_phone(request.user, channel, method.address)
                users.save_contact_method(request.user, spec, actor=actor(request), now=request.now)
        messages.success(request, _("%(label)s verified.") % {"label": method.address})
        return True
    return False


def _new_phone(user: User, channel: str, address: str) -> dict[str, str]:
    """Return a new contact method with a label that the user does not have yet."""
    taken = {label.casefold() for label in user.contact_methods.values_list("label", flat=True)}
    name = CHANNELS[channel].label
    labels = (name if number == 1 else f"{name} {number}" for number in range(1, len(taken) + 2))
    label = next(one for one in labels if one.casefold() not in taken)
    return {"label": label, "channel": channel, "address": address}
