"""The installation's health as `tocsin doctor` reports it, and the pre-flight check of a critical alert."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from ninja import Body, Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.moments import ScheduleMoment, UtcDatetime
from tocsin.api.framework.pagination import PaginatedList
from tocsin.api.reasons import ReasonCode, ReasonData, ReasonSchema
from tocsin.core.config import last_backup, settings_store
from tocsin.core.db import database
from tocsin.core.reason_json import show_fields, show_reason
from tocsin.inbound.config import registry
from tocsin.operate import doctor, node_heartbeat
from tocsin.operate.finding import HealthFinding
from tocsin.simulate import preflight
from tocsin.simulate.escalation import SimulatedPage

routes = AuthorizedRouter("system")

#: The hour of the pre-flight check if no time is given.
DEFAULT_HOUR = 3


class HealthFindingSchema(BaseModel):
    """One finding. `about` names its subject if several are possible."""

    id: str
    detail: str
    detail_code: ReasonCode
    detail_data: ReasonData
    remedy: str
    remedy_code: ReasonCode
    remedy_data: ReasonData
    about: str


class DoctorResponse(BaseModel):
    """Problems and notes. `ok` is true if there is no problem."""

    ok: bool
    problems: list[HealthFindingSchema]
    notes: list[HealthFindingSchema]


class PreflightPageSchema(BaseModel):
    """One page that would be sent. `problem` explains why it could not be."""

    at: datetime
    to: str
    label: str
    channel: str
    address: str
    problem: str
    problem_code: ReasonCode
    problem_data: ReasonData


class PreflightRouteSchema(BaseModel):
    """One path that an alert may take: by a route that matches at that time, or by none (`route` is null)."""

    route: str | None
    #: For a route with a client table: its clients on this path. Empty: clients that are not in the table.
    clients: list[str] | None
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
    """Whom a critical alert at `at` would page if no one responded."""

    at: datetime
    integrations: list[PreflightIntegrationSchema]


class NodeSchema(BaseModel):
    """A process of this installation, which reports every few seconds. `alive` is false a minute after its last
    report."""

    id: UUID
    name: str
    role: str
    version: str
    started_at: datetime
    seen_at: datetime
    alive: bool
    stuck_senders: dict[str, int] = Field(description="Number of sends that do not return, by provider.")


class LastBackupBody(BaseModel):
    """A backup. Without `at`, it was made now."""

    location: str = Field(min_length=1, max_length=500)
    at: UtcDatetime | None = None
    size_bytes: int | None = Field(None, ge=0)


class LastBackupResponse(BaseModel):
    """The last backup. `at` is null if there was none."""

    at: datetime | None
    location: str
    size_bytes: int | None
    overdue: bool


@routes.get("/doctor", Permission.ADMINISTER, answers=DoctorResponse, summary="What is wrong, and what to do about it")
def get_doctor(request: HttpRequest) -> dict[str, Any]:
    """Runs the checks of `tocsin doctor`. Takes seconds, because providers and the public address are contacted."""
    findings = doctor.examine(caller(request).now)
    problems = [_finding(finding) for finding in findings if finding.is_problem]
    notes = [_finding(finding) for finding in findings if not finding.is_problem]
    return {"ok": not problems, "problems": problems, "notes": notes}


@routes.get(
    "/preflight",
    Permission.ADMINISTER,
    answers=PreflightResponse,
    summary="Whom a critical alert would page at a moment, for each integration; sends nothing",
)
def get_preflight(request: HttpRequest, at: Query[ScheduleMoment | None] = None) -> dict[str, Any]:
    """Without `at`, the check is for the next 03:00 in the installation's time zone."""
    principal = caller(request)
    preflight_at = at or preflight.next_at(
        DEFAULT_HOUR, principal.now.astimezone(ZoneInfo(settings_store.get(settings_store.TIME_ZONE)))
    )
    results = preflight.preflight(preflight_at, registry.shared_registry())
    return {"at": preflight_at, "integrations": [_show_result(result, principal) for result in results]}


@routes.get("/nodes", Permission.ADMINISTER, answers=PaginatedList[NodeSchema], summary="The nodes of the last hour")
def list_nodes(request: HttpRequest) -> dict[str, Any]:
    now = caller(request).now
    with database.transaction() as connection:
        nodes = node_heartbeat.load_nodes(connection)
    items = [
        {
            **show_fields(node, "id", "name", "role", "version", "started_at", "stuck_senders"),
            "seen_at": now - node.age,
            "alive": node.is_alive,
        }
        for node in nodes
    ]
    return {"items": items, "next": None}


@routes.get("/last-backup", Permission.ADMINISTER, answers=LastBackupResponse, summary="When the last backup was made")
def get_last_backup(request: HttpRequest) -> dict[str, Any]:
    """`overdue` is true without a backup for a week."""
    with database.transaction() as connection:
        return _show_backup(last_backup.load_status(connection, caller(request).now))


@routes.put(
    "/last-backup", Permission.ADMINISTER, answers=LastBackupResponse, summary="Report a backup made by other means"
)
def put_last_backup(request: HttpRequest, body: Body[LastBackupBody]) -> dict[str, Any]:
    """For a database that is not saved by `tocsin backup`, which reports by itself."""
    now = caller(request).now
    with database.transaction() as connection:
        at = min(body.at or now, now)
        last_backup.record(connection, last_backup.LastBackup(at, body.location, body.size_bytes))
        return _show_backup(last_backup.load_status(connection, now))


def _show_backup(status: last_backup.BackupStatus) -> dict[str, Any]:
    last = status.last
    return {
        "at": last.at if last else None,
        "location": last.location if last else "",
        "size_bytes": last.size_bytes if last else None,
        "overdue": status.is_overdue,
    }


def _finding(finding: HealthFinding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "about": finding.about,
        **show_reason(finding.detail, "detail"),
        **show_reason(finding.remedy, "remedy"),
    }


def _show_result(result: preflight.PreflightResult, principal: Principal) -> dict[str, Any]:
    paths = [
        {
            "route": path.route or None,
            "clients": None if path.clients is None else list(path.clients),
            "policy": path.policy or None,
            "pages": [_page(page, principal) for page in path.pages],
            "notes": [show_reason(reason) for reason in path.notes],
        }
        for path in result.routes
    ]
    return {"integration": result.name, "mode": str(result.mode), "fine": result.is_fine, "ways": paths}


def _page(page: SimulatedPage, principal: Principal) -> dict[str, Any]:
    return {
        "at": page.at,
        "to": page.name,
        "label": page.label,
        "channel": page.channel,
        "address": principal.viewer.address(page.user_id, page.channel, page.address),
        **show_reason(page.problem, "problem"),
    }
