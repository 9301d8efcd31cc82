"""Inbound integrations: settings, webhook URL, versions and previews.

The URL contains the integration's secret, so it is shown only to callers who may change the integration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts.states import Priority
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    ScheduleMoment,
    audit_actor_of,
    caller,
    page,
    require,
)
from tocsin.api.framework.resources import ApiResource, SpecSchema, register, written_as
from tocsin.api.framework.simulation_schemas import (
    BacktestDifferenceSchema,
    PreflightResponse,
    SimulationResponse,
    show_preflight,
)
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.validation import inputs
from tocsin.inbound import email
from tocsin.inbound.admin import commands, sample, secrets, simple_rules, specs
from tocsin.inbound.admin.simple_rules import StatusEffect
from tocsin.inbound.admin.specs import DefinitionSpec
from tocsin.inbound.conditions import ConditionSpec
from tocsin.inbound.config import registry as config_registry
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.config.rules import AlertRateLimitSpec, DelaySpec, FlappingSpec, GroupingSpec, RouteSpec, RulesSpec
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.mapping.mapping import MappingSpec
from tocsin.inbound.models import Integration, IntegrationVersion
from tocsin.outbound.connectors.tickets import statuses_by_effect
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.models import OutboundIntegration
from tocsin.resources import registry
from tocsin.resources.resource import ResourceSpec
from tocsin.simulate import backtest, chain, escalation


class IntegrationFields(BaseModel):
    """What is shown of an integration besides its settings."""

    url: str | None = Field(description="The webhook URL, for callers who may change the integration.")
    version: int | None = Field(description="Number of the current version of its definition.")
    created_at: datetime
    old_token_until: datetime | None = Field(description="Until when the previous URL works.")
    previous_token_requests: int = Field(description="Requests to the previous URL since the last rotation.")


class RotateBody(Schema):
    model_config = {"extra": "forbid"}

    overlap: str | None = Field(
        default=None, max_length=20, description="How long the old URL still works, such as `1d`; else one day."
    )
    token: str | None = Field(default=None, max_length=300, description="The new token; else one is made.")


class RotateResponse(BaseModel):
    """The new URL, and until when the old one works."""

    token: str
    url: str
    old_token_until: datetime | None


class IntegrationTestResponse(BaseModel):
    """The other side responds and accepts the credentials."""

    ok: bool
    detail: str


_EMPTY = RotateBody()


def _show(integrations: Sequence[Integration], principal: Principal) -> Iterator[dict[str, Any]]:
    for integration, spec in zip(integrations, registry.INTEGRATIONS.specs(integrations), strict=True):
        may_see_url = principal.viewer.may(Permission.MANAGE_ROUTING, integration.group_id)
        yield {
            **spec,
            "url": (secrets.masked_url(integration) or None) if may_see_url else None,
            "version": integration.current_version.number if integration.current_version else None,
            "created_at": integration.created_at,
            "old_token_until": integration.old_token_until,
            "previous_token_requests": integration.previous_token_requests,
        }


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Integration | None) -> Integration:
    previous_outbound_id = existing.outbound_id if existing is not None else None
    saved = commands.save_integration(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)
    if saved.outbound_id is not None and saved.outbound_id != previous_outbound_id:
        # Everybody who sends to the integration then writes to this outbound integration, so changing it needs
        # permission on it.
        require(caller, Permission.MANAGE_ROUTING, OutboundIntegration.objects.get(pk=saved.outbound_id).group_id)
    return saved


INTEGRATIONS = ApiResource(
    registry.INTEGRATIONS,
    filters={"kind": (str, "kind"), "mode": (IntegrationMode, "mode")},
    show=_show,
    save=_save,
    read_only=IntegrationFields,
)
routes = INTEGRATIONS.routes


@routes.post("/{id}/rotate-token", Permission.MANAGE_ROUTING, answers=RotateResponse, summary="Give it a new URL")
def rotate_token(request: HttpRequest, id: str, body: RotateBody = _EMPTY) -> dict[str, Any]:
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    overlap = secrets.DEFAULT_OVERLAP if body.overlap is None else inputs.parse_duration(body.overlap, "overlap")
    token = secrets.rotate_token(
        integration, overlap=overlap, token=body.token, actor=audit_actor_of(principal), now=principal.now
    )
    halo_commands.schedule_webhook_update(integration, principal.now)
    return {"token": token, "url": secrets.url_of(integration), "old_token_until": integration.old_token_until}


@routes.post(
    "/{id}/test-mailbox",
    Permission.MANAGE_ROUTING,
    answers=IntegrationTestResponse,
    summary="Sign in to the mailbox it reads; nothing is read",
)
def test_mailbox(request: HttpRequest, id: str) -> dict[str, Any]:
    """A failure is returned as an error: 400 without a mailbox, 502, or 503 if a retry may succeed."""
    integration = INTEGRATIONS.find_authorized(id, caller(request), Permission.MANAGE_ROUTING)
    imap = secrets.credentials_of(integration).get("imap", {})
    report = email.check_mailbox(imap.get("mailbox", ""), imap.get("password", ""))
    return {"ok": True, "detail": str(report)}


register(INTEGRATIONS)


# ---------- integration preview
# Trying out an integration: simulation and backtest, which store and send nothing, and posting a real sample.


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
    reason: ReasonSchema | None
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
    effects: list[ReasonSchema] = Field(
        description="How the change affects who is paged: a sentence each, with its code and the number of messages."
    )
    differences: list[BacktestDifferenceSchema]
    more: int
    left_out: int = Field(description="Messages that are neither in the totals nor in the differences.")
    partial: ReasonSchema | None = Field(description="Why messages were left out; null: none was.")


_INTEGRATION_PREVIEW_EMPTY = SampleBody()


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
            integration, request.body, content_type, at or principal.now, config_registry.shared_registry()
        )
    except UnknownIntegration:
        raise Rejected("not_possible", chain.NOT_COMPILED(integration=integration.name)) from None
    return chain.as_json(simulation, principal.viewer.address)


class PreflightQuery(Schema):
    """The hypothetical alert."""

    at: ScheduleMoment | None = Field(default=None, description="When; now, if it is left out.")
    priority: Priority = Priority.CRITICAL
    client: str | None = Field(default=None, max_length=200, description="Only the paths that its alerts may take.")


@routes.get(
    "/{id}/preflight",
    Permission.VIEW_ALERTS,
    answers=PreflightResponse,
    summary="Whom an alert of it would page, now or `at` a moment, by each route that is active then; sends nothing",
)
def get_integration_preflight(request: HttpRequest, id: str, query: Query[PreflightQuery]) -> dict[str, Any]:
    """Conditions of a route on the message are not known: every route that is active at that time is a path. A disabled
    integration has none."""
    principal, integration = caller(request), INTEGRATIONS.find(id)
    at = query.at or principal.now
    results = escalation.preflight(at, config_registry.shared_registry(), priority=query.priority, only=integration)
    if query.client is not None:
        results = [result.for_client(query.client) for result in results]
    return show_preflight(at, results, principal.viewer.address)


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
    return backtest.as_json(backtest.backtest(integration, parts, limit=body.limit))


@routes.post(
    "/{id}/send-sample",
    Permission.TEST_INTEGRATIONS,
    answers=SampleResponse,
    summary="Post the kind's sample through the public URL: a real row, and an alert badged TEST that pages only you",
)
def send_sample(request: HttpRequest, id: str, body: SampleBody = _INTEGRATION_PREVIEW_EMPTY) -> dict[str, Any]:
    """If the public URL does not lead to this installation, the error (502) describes what responded instead."""
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.TEST_INTEGRATIONS)
    return sample.send_sample(integration, audit_actor_of(principal), body.sample, now=principal.now).to_json()


# ---------- integration versions
# An integration's versions: list, compare, restore; and the observed statuses with their effect.


#: The schema of a version's definition.
DEFINITION = SpecSchema(DefinitionSpec, has_id=False)


class IntegrationVersionSchema(BaseModel):
    """Mapping, rules, filters and routes, effective from one moment on."""

    number: int
    created_at: datetime
    created_by: str | None
    definition: Annotated[dict[str, Any], DEFINITION.whole.annotation]
    current: bool


class VersionChangeSchema(BaseModel):
    """One part that differs between two versions. Null means the integration type's default."""

    part: str
    before: Any = Field(description="The part as the version has it; its form depends on the part.")
    after: Any = Field(description="The part as the other version has it.")


class VersionChangesResponse(BaseModel):
    changes: list[VersionChangeSchema]


class VersionChangesQuery(Schema):
    model_config = {"extra": "forbid"}

    to: Number | None = Field(default=None, description="The version to compare with; else the one in force.")


class ObservedStatusSchema(BaseModel):
    """A status that was received in the last 30 days."""

    name: str
    count: int
    count_week: int
    last_at: datetime
    does: StatusEffect | None
    opened_nothing: int = Field(description="Tickets of the last 7 days that came with it first, and opened nothing.")


class ObservedStatusesResponse(BaseModel):
    statuses: list[ObservedStatusSchema]
    warning: str
    partial: str = Field(description="Why messages of new tickets were left out; null: none was.")
    in_halo: dict[StatusEffect, list[str]] = Field(
        description="The names of the connected ticket system's statuses by what each does; empty if none is connected."
    )


class StatusBody(Schema):
    model_config = {"extra": "forbid"}

    status: str = Field(max_length=100)
    does: StatusEffect


@routes.get(
    "/{id}/versions",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[IntegrationVersionSchema],
    summary="Its versions, newest first",
)
def list_versions(request: HttpRequest, id: str, query: Query[PaginationQuery]) -> dict[str, Any]:
    integration = INTEGRATIONS.find(id)
    rows = IntegrationVersion.objects.filter(integration=integration).select_related("created_by")
    return page(rows, query, lambda page_rows: _show_versions(integration, page_rows), newest_first=True)


@routes.get(
    "/{id}/versions/{int:number}/changes",
    Permission.VIEW_ALERTS,
    answers=VersionChangesResponse,
    summary="What differs between a version and another",
)
def compare_versions(request: HttpRequest, id: str, number: int, query: Query[VersionChangesQuery]) -> dict[str, Any]:
    integration, names = INTEGRATIONS.find(id), specs.load_reference_names()
    before = commands.describe_version(commands.find_version(integration, number), names)
    other_version = (
        commands.find_version(integration, query.to) if query.to is not None else integration.current_version
    )
    after = commands.describe_version(other_version, names) if other_version is not None else {}
    version_changes = commands.compare(before, after)
    return {"changes": [show(VersionChangeSchema, change) for change in version_changes]}


@routes.post(
    "/{id}/versions/{int:number}/restore",
    Permission.MANAGE_ROUTING,
    answers=INTEGRATIONS.schema.whole,
    summary="Bring a version back: its mapping, rules, filters and routes become a new version",
)
def restore_version(request: HttpRequest, id: str, number: int) -> dict[str, Any]:
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    commands.restore_version(integration, number, actor=audit_actor_of(principal), now=principal.now)
    return INTEGRATIONS.show_one(INTEGRATIONS.find(str(integration.pk)), principal)


@routes.get(
    "/{id}/statuses",
    Permission.VIEW_ALERTS,
    answers=ObservedStatusesResponse,
    summary="The statuses that came, how often, and what each does",
)
def list_statuses(request: HttpRequest, id: str) -> dict[str, Any]:
    return _statuses(INTEGRATIONS.find(id), caller(request).now)


@routes.put(
    "/{id}/statuses",
    Permission.MANAGE_ROUTING,
    answers=ObservedStatusesResponse,
    summary="Say what a status does: open, update or close. A new version of the rules",
)
def set_status(request: HttpRequest, id: str, body: StatusBody) -> dict[str, Any]:
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    saved = simple_rules.set_status(
        integration, body.status, body.does, actor=audit_actor_of(principal), now=principal.now
    )
    return _statuses(INTEGRATIONS.find(str(saved.pk)), principal.now)


def _statuses(integration: Integration, now: datetime) -> dict[str, Any]:
    observed = simple_rules.load_observed_statuses(integration, now)
    return {
        "statuses": [show(ObservedStatusSchema, status) for status in observed.statuses],
        "warning": str(observed.warning),
        "partial": str(observed.partial),
        "in_halo": statuses_by_effect(integration),
    }


def _show_versions(integration: Integration, page_rows: Sequence[IntegrationVersion]) -> list[dict[str, Any]]:
    names = specs.load_reference_names()
    return [
        {
            "number": version.number,
            "created_at": version.created_at,
            "created_by": version.created_by.username if version.created_by else None,
            "definition": commands.describe_version(version, names),
            "current": version.pk == integration.current_version_id,
        }
        for version in page_rows
    ]


# ---------- client tables
# Client tables: which group and escalation policy are responsible for which client; as rows or CSV.


CLIENT_TABLES = ApiResource(registry.CLIENT_TABLES)
client_tables_routes = CLIENT_TABLES.routes


class CsvBody(Schema):
    model_config = {"extra": "forbid"}

    csv: str = Field(description="client, group, policy: one client a row.", max_length=2_000_000)


@client_tables_routes.post(
    "/{id}/import",
    Permission.MANAGE_ROUTING,
    answers=CLIENT_TABLES.schema.whole,
    summary="Make its clients those of a CSV; nothing changes on an error",
    tagged=True,
)
def import_csv(request: HttpRequest, response: HttpResponse, id: str, body: CsvBody) -> dict[str, Any]:
    principal, clients = caller(request), specs.from_csv(body.csv)
    with settings_store.exclusive():
        table = CLIENT_TABLES.find_for_change(request, id)
        spec = {**specs.CLIENT_TABLES.spec(table), "clients": clients}
        saved = specs.save_client_table(spec, existing=table, actor=audit_actor_of(principal), now=principal.now)
        return CLIENT_TABLES.show_tagged(saved, principal, response)


register(CLIENT_TABLES)
