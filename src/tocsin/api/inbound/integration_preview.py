"""Trying out an integration: simulation and backtest, which store and send nothing, and posting a real sample."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import audit_actor_of, caller
from tocsin.api.framework.moments import ScheduleMoment
from tocsin.api.framework.simulation_schemas import BacktestDifferenceSchema, BacktestEffectSchema, SimulationResponse
from tocsin.api.framework.spec_schemas import written_as
from tocsin.api.inbound.integrations import INTEGRATIONS, routes
from tocsin.api.reasons import ReasonCode, ReasonData
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import sample
from tocsin.inbound.config import registry
from tocsin.inbound.config.noise_settings import AlertRateLimitSpec, DelaySpec, FlappingSpec, GroupingSpec
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.config.routes import RouteSpec
from tocsin.inbound.config.rules import RulesSpec
from tocsin.inbound.expressions.conditions import ConditionSpec
from tocsin.inbound.mapping.specs import MappingSpec
from tocsin.simulate import backtest, backtest_report, chain, reasons, report

_PAYLOAD = {
    "required": True,
    "content": {
        "application/json": {"schema": {"type": "object"}, "example": {"id": "1", "title": "Disk almost full"}},
        "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
    },
}


class SampleBody(Schema):
    model_config = {"extra": "forbid"}

    sample: str | None = Field(default=None, description="The name of one of the kind's samples; else one that opens.")


class SampleResponse(BaseModel):
    """The response of the public URL, and the outcome of the sample."""

    sample: str
    source_id: str
    message_id: UUID
    status: str
    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData
    alert_id: int | None
    took: int = Field(description="There and back, in milliseconds.")


class BacktestBody(Schema):
    """The edited parts in spec form. An omitted part stays as it is; null restores the integration type's default."""

    model_config = {"extra": "forbid"}

    mapping: Annotated[dict[str, Any], written_as(MappingSpec)] | None = None
    rules: Annotated[dict[str, Any], written_as(RulesSpec)] | None = None
    filters: Annotated[Any, written_as(ConditionSpec)] = None
    routes: list[Annotated[Any, written_as(RouteSpec)]] | None = None
    dedup_key: str | None = Field(default=None, max_length=5_000)
    parent: str | None = Field(default=None, max_length=5_000)
    grouping: Annotated[dict[str, Any], written_as(GroupingSpec)] | None = None
    flapping: Annotated[dict[str, Any], written_as(FlappingSpec)] | None = None
    delay: Annotated[dict[str, Any], written_as(DelaySpec)] | None = None
    flood: Annotated[dict[str, Any], written_as(AlertRateLimitSpec)] | None = None
    limit: int = Field(
        default=backtest.DEFAULT_MESSAGES, ge=1, le=backtest.MAX_MESSAGES, description="Number of the newest messages."
    )


class BacktestTotalsSchema(BaseModel):
    """Totals over all messages."""

    statuses: dict[str, int]
    opened: int
    pages: int = Field(description="Alerts that page someone, or would outside dry-run mode.")
    at_night: int = Field(description="Of those, in the `night_hours` of the settings where the recipients are.")


class BacktestResponse(BaseModel):
    """The differences, newest first, and the totals of both versions."""

    looked_at: int
    from_: datetime | None = Field(alias="from")
    to: datetime | None
    milliseconds: int
    before: BacktestTotalsSchema
    after: BacktestTotalsSchema
    differing: int
    counts: dict[str, int] = Field(description="Messages that differ by `outcome`, `key`, `paging`, `fields`.")
    effects: list[BacktestEffectSchema] = Field(
        description="How the change affects who is paged: a sentence each, with its code and the number of messages."
    )
    differences: list[BacktestDifferenceSchema]
    more: int
    left_out: int = Field(description="Messages that are neither in the totals nor in the differences.")
    partial: str = Field(description="Why messages were left out; empty: none was.")
    partial_code: ReasonCode
    partial_data: ReasonData


_EMPTY = SampleBody()


@routes.post(
    "/{id}/test",
    Permission.TEST_INTEGRATIONS,
    answers=SimulationResponse,
    summary="What a payload would do, now or `at` a moment, and who would be paged: the body is the payload",
    extra={"requestBody": _PAYLOAD},
)
def try_payload(request: HttpRequest, id: str, at: Query[ScheduleMoment | None] = None) -> dict[str, Any]:
    """Nothing is stored or sent. The response has one entry in `messages` for each message of the payload: its status
    and reason, the alert, the pages with their minutes after the opening, and the trace of the mapping and rules."""
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.TEST_INTEGRATIONS)
    content_type = request.headers.get("Content-Type", "")
    try:
        simulation = chain.simulate(
            integration, request.body, content_type, at or principal.now, registry.shared_registry()
        )
    except UnknownIntegration:
        raise Rejected("not_possible", reasons.NOT_COMPILED(integration=integration.name)) from None
    return report.as_json(simulation, principal.viewer.address)


@routes.post(
    "/{id}/backtest",
    Permission.TEST_INTEGRATIONS,
    answers=BacktestResponse,
    by_alias=True,
    summary="What edited mapping, rules or routes would change for the last messages, before they are saved",
)
def try_parts(request: HttpRequest, id: str, body: BacktestBody) -> dict[str, Any]:
    """The messages are processed in order by the production code, starting from a state without open alerts. Nothing is
    stored or sent."""
    integration = INTEGRATIONS.find_authorized(id, caller(request), Permission.TEST_INTEGRATIONS)
    parts = {name: getattr(body, name) for name in body.model_fields_set if name != "limit"}
    return backtest_report.as_json(backtest.backtest(integration, parts, limit=body.limit))


@routes.post(
    "/{id}/send-sample",
    Permission.TEST_INTEGRATIONS,
    answers=SampleResponse,
    summary="Post the kind's sample through the public URL: a real row, and an alert badged TEST that pages only you",
)
def send_sample(request: HttpRequest, id: str, body: SampleBody = _EMPTY) -> dict[str, Any]:
    """If the public URL does not lead to this installation, the error (502) describes what responded instead."""
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.TEST_INTEGRATIONS)
    return sample.send_sample(integration, audit_actor_of(principal), body.sample, now=principal.now).to_json()
