"""Notification providers: the accounts and servers that send messages. For administrators; secrets are write-only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.runtime import clock
from tocsin.notify.enqueue import provider_tests
from tocsin.notify.models import Provider
from tocsin.notify.providers import commands, rejections
from tocsin.notify.providers import status as provider_status
from tocsin.notify.providers.pool import ENVIRONMENT

routes = AuthorizedRouter("providers")

EXAMPLE = {"name": "Phones", "kind": "ntfy", "api_base": "https://ntfy.sh", "order": 1}


class ProviderFilters(PaginationQuery):
    name: str | None = None
    kind: str | None = None
    channel: str | None = None
    enabled: bool | None = None


class ProviderTestBody(BaseModel):
    """The recipient of a test message."""

    channel: str
    address: str


class ProviderTestQueuedResponse(BaseModel):
    """A test message that was queued."""

    notification_id: UUID


class ProviderTestResponse(BaseModel):
    """The other side responds and accepts the credentials."""

    ok: bool
    detail: str


@routes.get("", Permission.ADMINISTER, answers=PaginatedList[dict[str, Any]], summary="Providers")
def list_providers(request: HttpRequest, query: Query[ProviderFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.kind is not None:
        rows = rows.filter(kind=query.kind)
    if query.channel is not None:
        rows = rows.filter(channels__contains=[query.channel])
    if query.enabled is not None:
        rows = rows.filter(is_enabled=query.enabled)
    now = caller(request).now
    return page(rows, query, lambda page_rows: _show_all(page_rows, now))


@routes.post(
    "/{id}/test",
    Permission.ADMINISTER,
    answers=ProviderTestResponse,
    summary="Try address and credentials; nothing is sent",
)
def test_provider(request: HttpRequest, id: str) -> dict[str, Any]:
    """A failure is returned as an error: 502, or 503 if a retry may succeed. `SMTP (environment)` tests the server
    configured by TOCSIN_SMTP_URL."""
    if id.lower() == ENVIRONMENT.lower():
        return {"ok": True, "detail": str(commands.test_environment())}
    return {"ok": True, "detail": str(commands.test_provider(PROVIDERS.find(id)))}


TO_SMS = {"channel": "sms", "address": "+41790000001"}


@routes.post(
    "/{id}/send-test",
    Permission.ADMINISTER,
    status=202,
    answers=ProviderTestQueuedResponse,
    summary="Send a test through it alone, and see in `deliveries?notification_id=` what becomes of it",
    extra={"requestBody": {"content": {"application/json": {"example": TO_SMS}}}},
)
def send_test(request: HttpRequest, id: str, body: ProviderTestBody) -> dict[str, Any]:
    principal, provider = caller(request), PROVIDERS.find(id)
    sent = provider_tests.send_test(provider, body.channel, body.address, user_id=principal.user.pk, now=principal.now)
    return {"notification_id": sent}


def _rows() -> QuerySet[Provider]:
    return Provider.objects.all()


def _show(provider: Provider, _principal: Principal | None = None) -> dict[str, Any]:
    return _show_all([provider], clock.now())[0]


def _show_all(providers: Sequence[Provider], now: datetime) -> list[dict[str, Any]]:
    statuses, rejections_by_name = provider_status.statuses(), rejections.recent_rejections(now)
    return [
        _show_provider(
            row, statuses.get(row.name, provider_status.ProviderStatus()), rejections_by_name.get(row.name, ())
        )
        for row in providers
    ]


def _show_provider(
    provider: Provider, status: provider_status.ProviderStatus, recent: Sequence[rejections.Rejection]
) -> dict[str, Any]:
    secrets = sorted(commands.secrets_set(provider))
    return {
        "id": provider.pk,
        **commands.provider_spec(provider),
        "secrets_set": secrets,
        "callbacks": {endpoint.name: address for endpoint, address in provider_status.webhook_urls(provider)},
        "health": {
            "state": status.state,
            "error": str(status.error),
            "worked_at": status.worked_at,
            "failed_at": status.failed_at,
        },
        "refused": [
            {
                "error": str(rejection.error),
                "count": rejection.count,
                "last_at": rejection.last_at,
                "alert_id": rejection.alert_id,
            }
            for rejection in recent
        ],
    }


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Provider | None) -> Provider:
    return commands.save_provider(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)


def _delete(provider: Provider, actor: AuditActor, principal: Principal) -> None:
    commands.delete_provider(provider, actor=actor, now=principal.now)


PROVIDERS = ApiResource(
    routes=routes,
    label="provider",
    change_permission=Permission.ADMINISTER,
    rows=_rows,
    to_spec=commands.provider_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda _provider: None,
    example=EXAMPLE,
    read_only_keys=frozenset({"id", "secrets_set", "callbacks", "health", "refused"}),
    see_permission=Permission.ADMINISTER,
    to_state=commands.provider_state,
)
register(PROVIDERS)
