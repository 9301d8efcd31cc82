"""Schemas of what `simulate` and `inbound.inspect` explain: simulated pages and alerts, traces, backtests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from tocsin.alerts.states import Priority
from tocsin.api.errors import ReasonSchema, show
from tocsin.core.reasons import show_reason
from tocsin.simulate.escalation import PreflightResult, SimulatedPage


class TraceStepSchema(BaseModel):
    """One alternative of a field: where it looked, what it found, and the outcome."""

    place: str = Field(description="Its path in the definition, such as `mapping.source_status[2]`.")
    source: str
    found: str | None
    outcome: ReasonSchema | None


class FieldTraceSchema(BaseModel):
    """A mapped field, and how its value was found."""

    field: str
    label: str
    value: str | None
    steps: list[TraceStepSchema]


class RuleTraceSchema(BaseModel):
    """A rule, filter or route with its result."""

    name: str
    is_true: bool
    reason: ReasonSchema | None
    is_deciding: bool = Field(description="Whether evaluation stopped here.")


class TraceSchema(BaseModel):
    """How a message was parsed and decided. If it is unreadable, `problem` is set and the rest is empty."""

    notes: list[ReasonSchema]
    problem: ReasonSchema | None
    fields: list[FieldTraceSchema]
    tags: list[FieldTraceSchema]
    custom: list[FieldTraceSchema]
    intent: str = Field(description="What the message requests.")
    reason: ReasonSchema | None
    rules: list[RuleTraceSchema]
    opening: list[RuleTraceSchema] = Field(description="Vetoes and filters.")
    routes: list[RuleTraceSchema]
    route: ReasonSchema | None
    gate: list[RuleTraceSchema] = Field(description="What noise reduction and maintenance decided at the time.")


class SimulatedPageSchema(BaseModel):
    """One page that would be sent."""

    at: datetime
    minutes: int | float = Field(description="Since the alert opened.")
    to: str
    user_id: int | None
    label: str
    channel: str
    address: str
    reason: ReasonSchema | None
    problem: ReasonSchema | None = Field(description="Why it could not be sent.")


class SimulatedEventSchema(BaseModel):
    """One entry that the alert's timeline would have."""

    at: datetime
    minutes: int | float = Field(description="Since the alert opened.")
    reason: ReasonSchema | None


class SimulatedRunResponse(BaseModel):
    """Whom an alert would page if no one acted. Nothing is stored or sent."""

    pages: list[SimulatedPageSchema]
    timeline: list[SimulatedEventSchema]
    notes: list[ReasonSchema]


class PolicySimulationResponse(SimulatedRunResponse):
    """Whom an alert with the policy would page."""

    policy: str
    at: datetime
    priority: Priority


class SimulatedAlertSchema(BaseModel):
    """The alert that a message would open."""

    subject: str
    priority: Priority
    source: str
    source_name: str
    source_id: str
    source_status: str = ""
    source_priority: str = ""
    source_agent: str = ""
    source_url: str = ""
    client: str = ""
    site: str = ""
    team: str = ""
    requester: str = ""
    requester_phone: str = ""
    short_text: str = ""
    long_text: str = ""
    tags: dict[str, str]
    custom: dict[str, str]
    dry_run: bool


class SimulatedOutcomeSchema(SimulatedRunResponse):
    """What would become of one message."""

    status: str
    reason: ReasonSchema | None
    alert_id: int | None = Field(description="The existing alert that it would change.")
    alert: SimulatedAlertSchema | None
    mode: str | None
    route: ReasonSchema | None
    why: ReasonSchema | None
    trace: TraceSchema | None


class SimulationResponse(BaseModel):
    """What would become of a payload, by message."""

    integration: str
    at: datetime
    messages: list[SimulatedOutcomeSchema]
    partial: ReasonSchema | None = Field(description="Why some messages have no outcome; null: all have one.")


class BacktestChangeSchema(BaseModel):
    """What differs."""

    kind: str
    says: ReasonSchema


class BacktestOutcomeSchema(BaseModel):
    """What becomes of a message."""

    status: str
    reason: ReasonSchema | None
    key: str | None
    route: ReasonSchema | None
    mode: str | None
    why: ReasonSchema | None
    priority: Priority | None


class BacktestDifferenceSchema(BaseModel):
    """A message whose outcome differs."""

    message_id: str
    received_at: datetime
    subject: str
    source_id: str
    changes: list[BacktestChangeSchema]
    before: BacktestOutcomeSchema
    after: BacktestOutcomeSchema


class PreflightPageSchema(BaseModel):
    """One page that would be sent. `problem` explains why it could not be."""

    at: datetime
    to: str
    label: str
    channel: str
    address: str
    problem: ReasonSchema | None


class PreflightRouteSchema(BaseModel):
    """One path that an alert may take: by a route that matches at that time, or by none (`route` is null)."""

    route: str | None
    clients: list[str] | None = Field(
        description="For a route with a client table: its clients on this path. Empty: those that are not in it."
    )
    policy: str | None
    pages: list[PreflightPageSchema]
    notes: list[ReasonSchema]


class PreflightIntegrationSchema(BaseModel):
    """One integration. `fine` is true if someone would be reached on every path."""

    integration: str
    mode: str
    fine: bool
    ways: list[PreflightRouteSchema]


class PreflightResponse(BaseModel):
    """Whom an alert at `at` would page if no one responded."""

    at: datetime
    integrations: list[PreflightIntegrationSchema]


def show_preflight(
    at: datetime, results: Iterable[PreflightResult], format_address: Callable[[int | None, str, str], str]
) -> dict[str, Any]:
    """Returns what alerts at `at` would do, in the shape of `PreflightResponse`; `format_address` masks addresses."""
    return {"at": at, "integrations": [_show_integration(result, format_address) for result in results]}


def _show_integration(result: PreflightResult, format_address: Callable[[int | None, str, str], str]) -> dict[str, Any]:
    def page(one: SimulatedPage) -> dict[str, Any]:
        return show(
            PreflightPageSchema, one, to=one.name, address=format_address(one.user_id, one.channel, one.address)
        )

    paths = [
        {
            "route": path.route or None,
            "clients": None if path.clients is None else list(path.clients),
            "policy": path.policy or None,
            "pages": [page(one) for one in path.pages],
            "notes": [show_reason(reason) for reason in path.notes],
        }
        for path in result.routes
    ]
    return {"integration": result.name, "mode": str(result.mode), "fine": result.is_fine, "ways": paths}
