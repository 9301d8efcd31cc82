"""The installation's health as `tocsin doctor` reports it, and the pre-flight check of a critical alert."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import ScheduleMoment
from tocsin.core.config import settings_store
from tocsin.inbound.config import registry
from tocsin.operate import doctor
from tocsin.operate.finding import HealthFinding
from tocsin.simulate import preflight
from tocsin.simulate.escalation import SimulatedPage

routes = AuthorizedRouter("system")

#: The hour of the pre-flight check if no time is given.
NIGHT = 3


class HealthFindingSchema(BaseModel):
    """One finding. `about` names its subject if several are possible."""

    id: str
    detail: str
    remedy: str
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


class PreflightRouteSchema(BaseModel):
    """One path that an alert may take: by a route that matches at that time, or by none (`route` is null)."""

    route: str | None
    #: For a route with a client table: its clients on this path. Empty: clients that are not in the table.
    clients: list[str] | None
    policy: str | None
    pages: list[PreflightPageSchema]
    notes: list[str]


class PreflightIntegrationSchema(BaseModel):
    """One integration. `fine` is true if somebody would be reached on every path."""

    integration: str
    mode: str
    fine: bool
    ways: list[PreflightRouteSchema]


class PreflightResponse(BaseModel):
    """Whom a critical alert at `at` would page if nobody responded."""

    at: datetime
    integrations: list[PreflightIntegrationSchema]


@routes.get("/doctor", Permission.ADMINISTER, answers=DoctorResponse, summary="What is wrong, and what to do about it")
def get_doctor(request: HttpRequest) -> dict[str, Any]:
    """Runs the checks of `tocsin doctor`. Takes seconds, because providers and the public address are contacted."""
    found = doctor.examine(caller(request).now)
    problems = [_finding(finding) for finding in found if finding.is_problem]
    notes = [_finding(finding) for finding in found if not finding.is_problem]
    return {"ok": not problems, "problems": problems, "notes": notes}


@routes.get(
    "/preflight",
    Permission.ADMINISTER,
    answers=PreflightResponse,
    summary="Whom a critical alert would page at a moment, for each integration; sends nothing",
)
def get_preflight(request: HttpRequest, at: Query[ScheduleMoment | None] = None) -> dict[str, Any]:
    """Without `at`, the check is for the next 03:00 in the installation's time zone."""
    who = caller(request)
    moment = at or preflight.next_at(NIGHT, who.now.astimezone(ZoneInfo(settings_store.get(settings_store.TIME_ZONE))))
    checked = preflight.preflight(moment, registry.shared_registry())
    return {"at": moment, "integrations": [_checked(one, who) for one in checked]}


def _finding(finding: HealthFinding) -> dict[str, str]:
    return {name: value for name, value in asdict(finding).items() if name != "level"}


def _checked(one: preflight.PreflightResult, who: Principal) -> dict[str, Any]:
    ways = [
        {
            "route": way.route or None,
            "clients": None if way.clients is None else list(way.clients),
            "policy": way.policy or None,
            "pages": [_page(page, who) for page in way.pages],
            "notes": list(way.notes),
        }
        for way in one.ways
    ]
    return {"integration": one.name, "mode": str(one.mode), "fine": one.is_fine, "ways": ways}


def _page(page: SimulatedPage, who: Principal) -> dict[str, Any]:
    return {
        "at": page.at,
        "to": page.name,
        "label": page.label,
        "channel": page.channel,
        "address": who.viewer.address(page.user_id, page.channel, page.address),
        "problem": page.problem,
    }
