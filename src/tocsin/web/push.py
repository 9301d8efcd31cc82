"""Web push devices and notification buttons."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from tocsin.access.audit import AuditActor as ConfigurationActor
from tocsin.alerts.states import CommandChannel
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.channels.chat import PLAIN_BUTTONS
from tocsin.notify.inbound import responder_actions
from tocsin.notify.integrations import web_push as rows
from tocsin.notify.models import PushDevice
from tocsin.notify.pages import load_recipients
from tocsin.notify.rules import responder_readiness
from tocsin.notify.text import signed_links
from tocsin.notify.text.formatting import localize
from tocsin.people.models import User
from tocsin.web.http.request import SignedInRequest, actor, find_row, next_url, render_view
from tocsin.web.ui.forms import rejections_shown

# ---------- browsers
# Derives a default name for a push device from the User-Agent. Pure; the user can rename the device.

#: Order matters: most browsers also contain the names of others.
_BROWSERS = (
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_PLATFORMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "Chromebook"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
)


def device_name(user_agent: str) -> str:
    """Return a name such as "Chrome on Android", or "This device" for an unknown User-Agent."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    platform = next((name for mark, name in _PLATFORMS if mark in user_agent), "")
    if browser and platform:
        return f"{browser} on {platform}"
    return browser or platform or "This device"


# ---------- views
# Web push on the user's devices: subscribe, rename, remove; and the endpoint for notification buttons.
#
# The service worker has no session. A button is authenticated by the signed token of its notification, and only by
# POST.

_COMMANDS = frozenset(PLAIN_BUTTONS)


@require_http_methods(["GET", "HEAD", "POST"])
def devices(request: SignedInRequest) -> HttpResponse:
    """Render the user's devices; a POST contains the browser's subscription."""
    if request.method == "POST":
        return _subscribe(request)
    push_devices = list(request.user.push_devices.all())
    context = {
        "devices": push_devices,
        "method": rows.contact_method(request.user),
        "is_push_only": is_push_only(request.user),
        "key": rows.public(request.now),
        "name": device_name(request.headers.get("User-Agent", "")),
    }
    return render_view(request, "me/devices.html", context)


def is_push_only(user: User) -> bool:
    """Return whether the user is reachable only by push at a high priority, so that a phone that is off or muted misses
    pages."""
    with database.transaction() as connection:
        person = load_recipients(connection, {user.pk}).get(user.pk)
    return person is not None and bool(responder_readiness.push_only_priorities(person))


@require_POST
def rename(request: SignedInRequest, number: int) -> HttpResponse:
    with rejections_shown(request):
        rows.rename(_find(request, number), request.POST.get("name", ""), actor=actor(request), now=request.now)
    return redirect("devices")


@require_POST
def remove(request: SignedInRequest, number: int) -> HttpResponse:
    device = _find(request, number)
    rows.remove(device, actor=actor(request), now=request.now)
    messages.success(request, _("%(name)s no longer receives push notifications.") % {"name": device.name})
    return redirect("devices")


@csrf_exempt
@login_not_required
@never_cache
@require_POST
def act(request: SignedInRequest) -> HttpResponse:
    """Handle a notification button: `{"token", "command"}`. Responds `{"text"}`, a sentence that the worker shows."""
    payload = _json(request)
    try:
        number, user_id = signed_links.verify(str(payload.get("token", "")), request.now)
    except Rejected as rejected:
        return _json_answer(rejected.reason.localized(), 410)
    command = payload.get("command")
    if command not in _COMMANDS:
        return _json_answer(_("Unknown button."), 422)
    result, language = responder_actions.press_button(user_id, number, command, CommandChannel.PUSH, request.now)
    return _json_answer(localize(result.answer, language), 200 if result.done_count else 409)


@csrf_exempt
@login_not_required
@never_cache
@require_POST
def changed(request: SignedInRequest) -> HttpResponse:
    """Replace a subscription that the browser renewed: `{"before", "after"}`. Knowing the old endpoint is the
    authorization."""
    payload = _json(request)
    try:
        device = rows.device_by_endpoint(str(payload.get("before", "")))
        if device is not None:
            device_owner = ConfigurationActor.from_user(device.user, "web", limits=None)
            rows.replace(device, payload.get("after"), actor=device_owner, now=request.now)
    except Rejected as rejected:
        return _json_answer(rejected.reason.localized(), 422)
    return _json_answer("", 200 if device else 404)


def _subscribe(request: SignedInRequest) -> HttpResponse:
    try:
        subscription = json.loads(request.POST.get("subscription", ""))
    except ValueError:
        subscription = None
    with rejections_shown(request):
        device = rows.subscribe(
            request.user, subscription, request.POST.get("name", ""), actor=actor(request), now=request.now
        )
        messages.success(request, _("%(name)s now receives your pages. Send a test.") % {"name": device.name})
    return redirect(next_url(request, "devices"))


def _find(request: SignedInRequest, number: int) -> PushDevice:
    return find_row(PushDevice.objects.select_related("user").filter(user=request.user), number, "device")


def _json(request: SignedInRequest) -> dict[str, Any]:
    try:
        payload = json.loads(request.body)
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _json_answer(text: str, status: int) -> JsonResponse:
    return JsonResponse({"text": text}, status=status)
