"""Current problems for Home: what the cheap health checks find, each with the view that resolves it. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.cache import caches
from django.db.models import Model
from django.urls import reverse

from tocsin.access import boundary
from tocsin.alerts.models import Alert
from tocsin.core.config import config_version, environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.inbound.models import Integration, MaintenanceWindow
from tocsin.oncall.models import Schedule
from tocsin.operate import doctor
from tocsin.operate.checks import address
from tocsin.operate.finding import HealthFinding
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group
from tocsin.resources import visibility
from tocsin.workflows.models import Workflow

#: Coverage gaps that begin later than this are only shown with the schedule, and by `tocsin doctor`.
_AHEAD = timedelta(days=14)

#: Cache lifetime in seconds of the slower checks.
_CACHE_SECONDS = 300

#: The view that resolves a finding, by its id or the area before the dot: a URL name, and its query. The view takes the
#: object's id, unless the finding has none.
_VIEWS = {
    "alert": ("alert", ""),
    "identity": ("identity_provider", ""),
    "integration": ("integration", ""),
    "integration.old_url": ("integration_security", ""),
    "integration.refused": ("integration_security", ""),
    "mailbox.unread": ("integration_security", ""),
    "maintenance": ("maintenance_window", ""),
    "mailbox.replies_unread": ("provider", ""),
    "messages.unreadable": ("inbound_log", "?outcome=failed"),
    "messages.unsent": ("providers", ""),
    "oncall": ("group_schedule", ""),
    "oncall.calendar": ("schedule", ""),
    "outbound": ("outbound", ""),
    "outbound.dead": ("outbound_log", "?show=dead"),
    "people": ("user", ""),
    "people.no_administrator": ("users", ""),
    "provider": ("providers", ""),
    "workflow": ("workflow", ""),
    "workflow.stuck": ("workflow_log", "?show=stuck"),
}

#: The list that resolves a finding about several objects, by the view of one.
_LISTS = {"alert": "alerts"}

#: What a finding is about, by the same ids. A viewer with a boundary sees the findings about visible objects only.
_MODELS: dict[str, type[Model]] = {
    "alert": Alert,
    "integration": Integration,
    "mailbox.unread": Integration,
    "maintenance": MaintenanceWindow,
    "oncall": Group,
    "oncall.calendar": Schedule,
    "outbound": OutboundIntegration,
    "workflow": Workflow,
}


@dataclass(frozen=True, slots=True)
class HealthWarning:
    """One problem: a sentence, the URL that resolves it, and whether it is urgent."""

    text: str
    url: str
    is_urgent: bool


def find_warnings(now: datetime) -> list[HealthWarning]:
    """Return every problem, urgent ones first."""
    with database.connection() as connection:
        findings = [
            *address.check_reach(environment.current().base_url),
            *(finding for check in doctor.CHECKS if check.is_cheap for finding in _run(check, connection, now)),
        ]
    findings = [finding for finding in findings if finding.is_problem and (finding.begins_at or now) < now + _AHEAD]
    if boundary.current() is not None:
        findings = [finding for finding in findings if _is_visible(finding)]
    warnings = [HealthWarning(finding.detail.localized(), _url(finding), finding.is_urgent) for finding in findings]
    return sorted(warnings, key=lambda warning: not warning.is_urgent)


def _run(check: doctor.HealthCheck, connection: Connection, now: datetime) -> list[HealthFinding]:
    if not check.is_cached:
        return list(check.run(connection, now))
    area = check.area.text.replace(" ", "_")
    key = f"health:{area}:{config_version.current_version(connection)}"
    findings: list[HealthFinding] | None = caches["process"].get(key)
    if findings is None:
        findings = list(check.run(connection, now))
        caches["process"].set(key, findings, _CACHE_SECONDS)
    return findings


def _is_visible(finding: HealthFinding) -> bool:
    model = _of(finding, _MODELS)
    return model is not None and visibility.visible(model).filter(pk=finding.object_id).exists()


def _of[T](finding: HealthFinding, by_id: Mapping[str, T]) -> T | None:
    """Return the entry of the finding's id, or of the area before the dot."""
    return by_id.get(finding.id) or by_id.get(finding.id.partition(".")[0])


def _url(finding: HealthFinding) -> str:
    name, query = _of(finding, _VIEWS) or ("system", "")
    if finding.is_about_several:
        return reverse(_LISTS[name]) + query
    return reverse(name, args=[] if finding.object_id is None else [finding.object_id]) + query
