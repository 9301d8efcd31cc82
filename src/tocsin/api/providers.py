"""Notification providers: the accounts and servers that send messages. For administrators; secrets are write-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import PaginationQuery, Principal, caller
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text
from tocsin.notify import notices
from tocsin.notify.models import Provider
from tocsin.notify.providers import commands, health
from tocsin.notify.providers import pool as provider_status
from tocsin.notify.providers.pool import ENVIRONMENT, ProviderState
from tocsin.notify.states import DeliveryState
from tocsin.people.changes.users import Channel
from tocsin.resources import registry

_NO_PACKAGE = Text("This provider has no package.")


class ProviderFilters(PaginationQuery):
    channel: Channel | None = None


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


class QuotaSchema(BaseModel):
    """The vendor's own quota, as it last reported it."""

    limit: int = Field(description="Messages in a period.")
    left: int
    resets_at: datetime = Field(description="When the next period begins.")


class ProviderHealthSchema(BaseModel):
    """Whether messages pass through it."""

    state: ProviderState
    error: ReasonSchema | None
    worked_at: datetime | None
    failed_at: datetime | None
    quota: QuotaSchema | None = None


class RejectedAddressSchema(BaseModel):
    """An error that the vendor returned for some addresses lately."""

    error: ReasonSchema | None
    count: int
    last_at: datetime
    alert_id: int | None


class TimesSchema(BaseModel):
    """The median and the 90th percentile; null without any."""

    p50_seconds: float | None
    p90_seconds: float | None


class ChargesSchema(BaseModel):
    """What the vendor charged in one currency, and for how many messages it said so."""

    currency: str
    amount: float
    count: int


class ProviderFiguresSchema(BaseModel):
    """What became of the messages that the provider was given in the last days."""

    days: int
    messages: int
    attempts: int = Field(description="Retries included.")
    accepted: int
    delivered: int = Field(description="As its receipts say; 0 without receipts.")
    unanswered: int = Field(description="The line was busy, no one answered, or a machine did.")
    failed: int
    until_accepted: TimesSchema = Field(description="From the moment at which a message was due.")
    until_delivered: TimesSchema = Field(description="From its acceptance until its receipt.")
    failures: list[RejectedAddressSchema] = Field(description="The most frequent errors.")
    other_failures: int
    charges: list[ChargesSchema] = Field(description="Empty where the vendor does not say.")
    is_cut: bool = Field(description="Whether only the newest messages were counted.")


class DailyTestSchema(BaseModel):
    """The latest daily test on one channel: `state` is null if there was none yet. Delivered is not answered."""

    channel: str
    username: str
    due_at: datetime
    sent_at: datetime | None
    state: DeliveryState | None
    answered_at: datetime | None
    error: ReasonSchema | None
    problem: bool = Field(description="Whether it was not sent, or not answered within an hour.")


class ProviderFiguresResponse(BaseModel):
    """The health of a provider: its state, and its figures over a day, a week and 30 days."""

    state: ProviderState
    periods: list[ProviderFiguresSchema]
    daily_tests: list[DailyTestSchema]


class ProviderFields(BaseModel):
    """What is shown of a provider besides its settings."""

    secrets_set: list[str] = Field(description="Names of the stored secrets.")
    callbacks: dict[str, str] = Field(description="Addresses that the vendor calls, by name.")
    health: ProviderHealthSchema
    refused: list[RejectedAddressSchema]


def _narrow(rows: QuerySet[Provider], query: ProviderFilters, _principal: Principal) -> QuerySet[Provider]:
    return rows if query.channel is None else rows.filter(channels__contains=[query.channel])


def _show(rows: Sequence[Provider], principal: Principal) -> Iterator[dict[str, Any]]:
    statuses, rejections_by_name = provider_status.statuses(principal.now), health.recent_rejections(principal.now)
    for row, spec in zip(rows, registry.PROVIDERS.specs(rows), strict=True):
        status = statuses.get(row.name, provider_status.ProviderStatus())
        yield {
            **spec,
            "secrets_set": sorted(commands.secrets_set(row)),
            "callbacks": {endpoint.name: address for endpoint, address in provider_status.webhook_urls(row)},
            "health": show(ProviderHealthSchema, status, quota=status.quota and show(QuotaSchema, status.quota)),
            "refused": [show(RejectedAddressSchema, one) for one in rejections_by_name.get(row.name, ())],
        }


PROVIDERS = ApiResource(
    registry.PROVIDERS,
    query=ProviderFilters,
    narrow=_narrow,
    filters={"kind": (str, "kind"), "enabled": (bool, "is_enabled")},
    show=_show,
    read_only=ProviderFields,
)
routes = PROVIDERS.routes


@routes.post(
    "/{id}/test",
    Permission.ADMINISTER,
    answers=ProviderTestResponse,
    summary="Try address and credentials; nothing is sent",
)
def test_provider(request: HttpRequest, id: str) -> dict[str, Any]:
    """A failure is returned as an error: 502, or 503 if a retry may succeed. `SMTP (default)` tests the server
    of TOCSIN_SMTP_URL or the setting `smtp_url`."""
    if id.lower() == ENVIRONMENT.lower():
        return {"ok": True, "detail": str(commands.test_environment())}
    return {"ok": True, "detail": str(commands.test_provider(PROVIDERS.find(id)))}


@routes.get(
    "/{id}/health",
    Permission.ADMINISTER,
    answers=ProviderFiguresResponse,
    summary="Accepted, delivered and failed messages, how fast, by which errors, at what cost",
)
def provider_health(request: HttpRequest, id: str) -> dict[str, Any]:
    """`SMTP (default)` is the server of TOCSIN_SMTP_URL or the setting `smtp_url`."""
    now = caller(request).now
    name = ENVIRONMENT if id.lower() == ENVIRONMENT.lower() else PROVIDERS.find(id).name
    with database.transaction() as connection:
        periods = [health.figures(connection, [name], days, now)[name] for days in health.PERIODS]
        tests = [one for one in notices.daily_tests(connection, now) if one.provider == name]
    state = provider_status.statuses(now).get(name, provider_status.ProviderStatus()).state
    return {
        "state": state,
        "periods": [_show_figures(one) for one in periods],
        "daily_tests": [show(DailyTestSchema, one, problem=one.is_problem(now)) for one in tests],
    }


def _show_figures(one: health.ProviderFigures) -> dict[str, Any]:
    return show(
        ProviderFiguresSchema,
        one,
        until_accepted=_show_times(one.until_accepted),
        until_delivered=_show_times(one.until_delivered),
        failures=[show(RejectedAddressSchema, failure) for failure in one.failures],
        charges=[show(ChargesSchema, charges) for charges in one.charges],
    )


def _show_times(times: health.Times) -> dict[str, float | None]:
    return {
        f"{name}_seconds": None if at is None else round(at.total_seconds(), 3)
        for name, at in (("p50", times.p50), ("p90", times.p90))
    }


_PACKAGE = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in sorted({kind.package_type for kind in provider_status.KINDS.values() if kind.package_name})
}


@routes.get(
    "/{id}/package",
    Permission.ADMINISTER,
    answers=None,
    summary="The file for the vendor, such as the app package of Microsoft Teams or a hotline's voicemail",
    extra={"responses": {200: {"description": "The file.", "content": _PACKAGE}}},
)
def get_package(request: HttpRequest, id: str) -> HttpResponse:
    """A provider that needs none is answered with 404."""
    row = PROVIDERS.find(id)
    if not (content := provider_status.build_package(row)):
        raise Rejected("not_found", _NO_PACKAGE())
    return HttpResponse(content, content_type=provider_status.KINDS[row.kind].package_type)


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
    sent = notices.send_test(provider, body.channel, body.address, user=principal.user, now=principal.now)
    return {"notification_id": sent}


register(PROVIDERS)
