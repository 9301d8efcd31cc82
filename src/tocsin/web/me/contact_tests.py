"""Sends a test to a contact method, and shows its result: pending, sent, confirmed by a key, or why it failed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import each_of
from tocsin.notify.enqueue import contact_tests
from tocsin.notify.models import Notification
from tocsin.notify.rules.delivery_reasons import KEY_PRESSED
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.people.models import ContactMethod, User
from tocsin.web.http.objects import find_row
from tocsin.web.http.request import SignedInRequest, render_view


@require_POST
def send_test(request: SignedInRequest, number: int) -> HttpResponse:
    """Send a test message to a contact method and show its result."""
    method = find_row(ContactMethod.objects.filter(user=request.user), number, "contact method")
    test_id = queue(request, method)
    return redirect("me") if test_id is None else redirect("test_result", test_id)


@require_safe
def test_result(request: SignedInRequest, notification_id: UUID) -> HttpResponse:
    """Render the result of a test."""
    context = result_context(request.user, notification_id)
    return render_view(request, "me/test_result.html", context, partials=("result",))


def queue(request: SignedInRequest, method: ContactMethod) -> UUID | None:
    """Queue a test and return its id; None if it was rejected, which a message says."""
    try:
        with database.transaction() as connection:
            test_id = contact_tests.queue_test(connection, method, request.now)
            database.notify(connection, "outbox")
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
        return None
    return test_id


def result_context(user: User, notification_id: UUID) -> dict[str, Any]:
    """Return what `me/test_result_body.html` shows. Raises Http404."""
    rows = Notification.objects.filter(pk=notification_id, user=user, purpose=Purpose.TEST)
    notification = rows.prefetch_related("deliveries").first()
    if notification is None:
        raise Http404(_("Test not found."))
    delivery = next(iter(notification.deliveries.all()), None)
    is_done = delivery is not None and delivery.status not in (DeliveryStatus.QUEUED, DeliveryStatus.SENDING)
    pressed = (
        next((one for one in each_of(delivery.reason) if one.code == KEY_PRESSED.code), None) if delivery else None
    )
    return {
        "notification": notification,
        "delivery": delivery,
        "is_done": is_done,
        "pressed_key": pressed["key"] if pressed else "",
    }
