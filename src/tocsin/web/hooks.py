"""Callbacks of notification providers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from tocsin.access.models import AuditEntry
from tocsin.core.config import crypto, environment
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.inbound import responder_actions
from tocsin.notify.interfaces import Callback, InvalidWebhookSignature, WebhookProvider
from tocsin.notify.models import Provider
from tocsin.notify.providers import pool
from tocsin.notify.providers.pool import KINDS

# ---------- views
# `/hooks/{provider}/{what}`: callbacks of notification providers.
#
# The provider type verifies the signature. Without a valid one the response is 403 and nothing else happens.


@csrf_exempt
@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def hook(request: HttpRequest, provider: str, endpoint: str) -> HttpResponse:
    now = clock.now()
    row, name = _find(provider, now)
    kind = KINDS.get(row.kind) if row else None
    if row is None or kind is None or not isinstance(kind, WebhookProvider):
        return HttpResponse("There is no such provider.\n", status=404, content_type="text/plain")
    secrets = crypto.decrypt_bundle(row.secrets)
    account = pool.account_of(name, row.pk, kind, row.settings, secrets)
    callback = Callback(
        endpoint=endpoint,
        method=request.method or "POST",
        url=f"{environment.current().public_url}{request.get_full_path()}",
        headers={name.lower(): value for name, value in request.headers.items()},
        query=request.GET.dict(),
        body=request.body,
        at=now,
    )
    try:
        response = kind.handle_webhook(account, callback, ProviderEventReceiver(name, callback.at))
    except InvalidWebhookSignature:
        return HttpResponse("The signature is missing or not valid.\n", status=403, content_type="text/plain")
    except Rejected as rejected:
        status = {"not_found": 404, "forbidden": 403}.get(rejected.code, 400)
        return HttpResponse(f"{rejected.detail}\n", status=status, content_type="text/plain")
    return HttpResponse(response.body, status=response.status, content_type=response.content_type)


def _find(slug: str, now: datetime) -> tuple[Provider | None, str]:
    """Return the provider with that slug, and the name under which it sent the messages.

    A disabled provider sends nothing, but its callbacks are still processed, because a user may be answering a page
    that it sent. A disabled provider without outgoing channels is ignored.
    """
    rows = {str(row.pk): row for row in Provider.objects.all() if row.is_enabled or row.channels}
    for row in rows.values():
        if pool.slug(row.name, row.pk) == slug:
            return row, row.name
    for number, name in _names_before(rows, now):
        if pool.slug(name, rows[number].pk) == slug:
            return rows[number], name
    return None, ""


def _names_before(rows: Collection[str], now: datetime) -> Iterable[tuple[str, str]]:
    """Return (id, former name) of providers that were renamed recently, newest first."""
    changes = AuditEntry.objects.filter(
        at__gt=now - responder_actions.RECENT_WITHIN, object_type="provider", object_id__in=rows, action="update"
    )
    renames = changes.order_by("-at").values_list("object_id", "before__name")
    return [(number, name) for number, name in renames if name]
