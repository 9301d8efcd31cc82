"""Endpoints of the audit log, imports, reports, settings and health."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Body, Query, Schema
from pydantic import BaseModel, ConfigDict, Field

from tocsin.access import audit_log as audit_export
from tocsin.access.audit import change_settings
from tocsin.access.audit_log import ExportFormat
from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework import auth
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Moment,
    PaginatedList,
    PaginationQuery,
    Principal,
    ScheduleMoment,
    UtcDatetime,
    audit_actor_of,
    caller,
    narrowed,
    page,
    require,
)
from tocsin.api.framework.resources import AuditEntrySchema, SpecSchema, show_entries
from tocsin.api.framework.simulation_schemas import PreflightResponse, show_preflight
from tocsin.configure.models import ImportRun
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Term, reason_from_json, sentence, show_reason
from tocsin.core.validation.inputs import AT_PATH
from tocsin.importers import import_runs
from tocsin.inbound.config import registry
from tocsin.operate import doctor, node_heartbeat
from tocsin.people import permissions
from tocsin.resources.resource import NO_SUCH_OBJECT, find
from tocsin.simulate import escalation

# ---------- system
# The installation's health as `tocsin doctor` reports it, and the pre-flight check of a critical alert.


routes = AuthorizedRouter("system")

#: The hour of the pre-flight check if no time is given.
DEFAULT_HOUR = 3


class HealthFindingSchema(BaseModel):
    """One finding. `about` names its subject if several are possible."""

    id: str
    detail: ReasonSchema
    remedy: ReasonSchema | None
    about: str


class DoctorResponse(BaseModel):
    """Problems and notes. `ok` is true if there is no problem."""

    ok: bool
    problems: list[HealthFindingSchema]
    notes: list[HealthFindingSchema]


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
    problems = [show(HealthFindingSchema, finding) for finding in findings if finding.is_problem]
    notes = [show(HealthFindingSchema, finding) for finding in findings if not finding.is_problem]
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
    preflight_at = at or escalation.next_at(
        DEFAULT_HOUR, principal.now.astimezone(ZoneInfo(settings_store.get(settings_store.TIME_ZONE)))
    )
    results = escalation.preflight(preflight_at, registry.shared_registry())
    return show_preflight(preflight_at, results, principal.viewer.address)


@routes.get("/nodes", Permission.ADMINISTER, answers=PaginatedList[NodeSchema], summary="The nodes of the last hour")
def list_nodes(request: HttpRequest) -> dict[str, Any]:
    now = caller(request).now
    with database.transaction() as connection:
        nodes = node_heartbeat.load_nodes(connection)
    items = [show(NodeSchema, node, seen_at=now - node.age, alive=node.is_alive) for node in nodes]
    return {"items": items, "next": None}


@routes.get("/last-backup", Permission.ADMINISTER, answers=LastBackupResponse, summary="When the last backup was made")
def get_last_backup(request: HttpRequest) -> dict[str, Any]:
    """`overdue` is true without a backup for a week."""
    with database.transaction() as connection:
        return _show_backup(settings_store.load_backup_status(connection, caller(request).now))


@routes.put(
    "/last-backup", Permission.ADMINISTER, answers=LastBackupResponse, summary="Report a backup made by other means"
)
def put_last_backup(request: HttpRequest, body: Body[LastBackupBody]) -> dict[str, Any]:
    """For a database that is not saved by `tocsin backup`, which reports by itself."""
    now = caller(request).now
    with database.transaction() as connection:
        at = min(body.at or now, now)
        settings_store.record_backup(connection, settings_store.LastBackup(at, body.location, body.size_bytes))
        return _show_backup(settings_store.load_backup_status(connection, now))


def _show_backup(status: settings_store.BackupStatus) -> dict[str, Any]:
    last = status.last
    return {
        "at": last.at if last else None,
        "location": last.location if last else "",
        "size_bytes": last.size_bytes if last else None,
        "overdue": status.is_overdue,
    }


# ---------- settings
# The installation's settings by name. `core.config.settings_store` defines them with defaults and limits.


settings_routes = AuthorizedRouter("settings")


_SCHEMA = SpecSchema(settings_store.settings_spec(), has_id=False)


@settings_routes.get("", Permission.ADMINISTER, answers=_SCHEMA.whole, summary="All settings by name", tagged=True)
def get_settings(request: HttpRequest, response: HttpResponse) -> dict[str, Any]:
    return _all(response)


@settings_routes.patch(
    "",
    Permission.ADMINISTER,
    answers=_SCHEMA.whole,
    body=_SCHEMA.changes,
    summary="Change the named settings; the others stay",
    tagged=True,
    example={"message_retention_days": 30},
)
def patch_settings(request: HttpRequest, response: HttpResponse, body: Body[dict[str, Any]]) -> dict[str, Any]:
    principal = caller(request)
    with settings_store.exclusive():
        auth.check(request, settings_store.all_settings(), "settings", "")
        change_settings(body, actor=audit_actor_of(principal), now=principal.now)
        return _all(response)


def _all(response: HttpResponse) -> dict[str, Any]:
    values = settings_store.all_settings()
    auth.tag(response, values)
    return values


# ---------- audit log
# The audit log: configuration changes with their old and new values, and sign-ins. Read only.
#
# Managers read the entries about objects of their groups, without IP addresses.


audit_log_routes = AuthorizedRouter("audit-log")

_FILES = {kind: {"schema": {"type": "string"}} for kind in ("application/jsonl", "text/csv")}


class AuditFilters(Schema):
    actor: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    object_name: str | None = None
    via: str | None = None
    at_after: Moment | None = None
    at_before: Moment | None = None


class AuditListQuery(AuditFilters, PaginationQuery):
    pass


class AuditExportQuery(AuditFilters):
    format: ExportFormat = Field(
        default=ExportFormat.JSON_LINES, description="`jsonl`: one entry a line, as in the list."
    )


@audit_log_routes.get(
    "", Permission.READ_AUDIT_LOG, answers=PaginatedList[AuditEntrySchema], summary="The audit log, newest first"
)
def list_entries(request: HttpRequest, query: Query[AuditListQuery]) -> dict[str, Any]:
    principal = caller(request)

    def show_page(entries: Sequence[AuditEntry]) -> list[dict[str, Any]]:
        return show_entries(entries, with_address=principal.sees_addresses_of_actors)

    return page(_filtered(principal, query), query, show_page, newest_first=True)


@audit_log_routes.get(
    "/export",
    Permission.READ_AUDIT_LOG,
    answers=None,
    extra={"responses": {200: {"description": "The file.", "content": _FILES}}},
    summary="The whole log as CSV or JSON lines, newest first",
)
def export_entries(request: HttpRequest, query: Query[AuditExportQuery]) -> StreamingHttpResponse:
    principal = caller(request)
    rows = _filtered(principal, query).order_by("-pk").iterator(chunk_size=500)
    lines = audit_export.export(rows, query.format, with_address=principal.sees_addresses_of_actors)
    return StreamingHttpResponse(lines, content_type=query.format.content_type)


class ForwardingResponse(BaseModel):
    """How far the audit log was forwarded to the setting `audit_forwarding`."""

    target: str = Field(description="The setting; empty: the log is not forwarded.")
    cursor: int = Field(description="The sequence of the last entry that was sent.")
    waiting: int = Field(description="The number of entries that wait.")
    sent_at: datetime | None
    failed_since: datetime | None
    reason: ReasonSchema | None = Field(description="Why the last attempt failed; null if it did not.")
    signing_secret: str = Field(description="Signs the requests of a webhook, as of Standard Webhooks.")


@audit_log_routes.get(
    "/forwarding", Permission.ADMINISTER, answers=ForwardingResponse, summary="The forwarding to syslog or a webhook"
)
def get_forwarding(request: HttpRequest) -> dict[str, Any]:
    with database.transaction() as connection:
        state = audit_export.load_state(connection)
        target = settings_store.load(connection)[settings_store.AUDIT_FORWARDING.name]
    return show(ForwardingResponse, state, target=target, reason=show_reason(state.problem))


@audit_log_routes.get("/{int:id}", Permission.READ_AUDIT_LOG, answers=AuditEntrySchema, summary="One entry")
def get_entry(request: HttpRequest, id: int) -> dict[str, Any]:
    principal = caller(request)
    entry = find(AuditEntry.objects.all(), str(id), label="audit entry")
    require(principal, Permission.READ_AUDIT_LOG, entry.group_id)
    return show_entries([entry], with_address=principal.sees_addresses_of_actors)[0]


def _filtered(principal: Principal, query: AuditFilters) -> QuerySet[AuditEntry]:
    return narrowed(
        permissions.visible_audit_entries(principal.viewer),
        query,
        *("action", "object_type", "object_id", "via"),
        actor="actor_name__iexact",
        object_name="object_name__iexact",
        at_after="at__gte",
        at_before="at__lt",
    )


# ---------- imports
# Imports from other products: start one, follow its progress, read plan and report, apply or discard it.


imports_routes = AuthorizedRouter("imports")


class ImportBody(BaseModel):
    """The source of an import: an account by its API key, or an exported file in base64. The key is used once and never
    stored."""

    model_config = ConfigDict(extra="forbid")

    product: str
    key: str = ""
    api_base: str = ""
    export: str = ""
    #: Reads the demo's sample account of the product instead.
    sample: bool = False
    with_keys: bool = False


class ImportFindingSchema(BaseModel):
    """One difference between the original and the imported configuration."""

    weight: Literal["left out", "changed", "to do"]
    object: ReasonSchema | None
    what: ReasonSchema | None
    why: ReasonSchema | None
    remedy: ReasonSchema | None


class ImportSchema(BaseModel):
    """An import. `plan` contains the lines that `tocsin apply` would print; `refusals` explain why the import cannot be
    applied."""

    id: int
    product: str
    source: str
    state: Literal["reading", "ready", "applying", "applied", "failed"]
    progress: ReasonSchema | None
    problem: ReasonSchema | None
    started_by: str
    started_at: datetime
    counts: dict[str, int]
    findings: list[ImportFindingSchema]
    plan: list[str]
    refusals: list[ReasonSchema]


class ConfigurationResponse(BaseModel):
    """The configuration as YAML. It contains users' phone numbers, and keys of senders if they were requested."""

    yaml: str


@imports_routes.get(
    "",
    Permission.ADMINISTER,
    answers=PaginatedList[ImportSchema],
    summary="The import that there is, if there is one. A new one replaces it",
)
def list_imports(request: HttpRequest) -> dict[str, Any]:
    run = import_runs.latest_run(caller(request).now)
    return {"items": [] if run is None else [_show(run)], "next": None}


@imports_routes.post(
    "", Permission.ADMINISTER, status=201, answers=ImportSchema, summary="Begin to read an account or an export"
)
def create(request: HttpRequest, body: ImportBody) -> dict[str, Any]:
    """Replaces an earlier import and runs in the background. Poll the import until its state is `ready`."""
    principal = caller(request)
    try:
        export_content = base64.b64decode(body.export, validate=True) if body.export else None
    except (binascii.Error, ValueError):
        raise Rejected("invalid", AT_PATH(path="export", problem=sentence("must be base64.")), "export") from None
    run = import_runs.start(
        body.product,
        key=body.key,
        base=body.api_base,
        export_content=export_content,
        is_sample=body.sample,
        with_keys=body.with_keys,
        actor=audit_actor_of(principal),
        now=principal.now,
    )
    return _show(run)


@imports_routes.get(
    "/{int:id}", Permission.ADMINISTER, answers=ImportSchema, summary="How far it is, its plan and its report"
)
def get(request: HttpRequest, id: int) -> dict[str, Any]:
    return _show(_find(request, id))


@imports_routes.get(
    "/{int:id}/configuration", Permission.ADMINISTER, answers=ConfigurationResponse, summary="What was read, as YAML"
)
def configuration(request: HttpRequest, id: int) -> dict[str, Any]:
    """The YAML is empty once the import has been applied."""
    return {"yaml": import_runs.decrypted_yaml(_find(request, id))}


@imports_routes.post(
    "/{int:id}/apply", Permission.ADMINISTER, status=202, answers=ImportSchema, summary="Apply it: all, or nothing"
)
def apply(request: HttpRequest, id: int) -> dict[str, Any]:
    """Runs in the background. Poll the import until its state is `applied` or `failed`."""
    principal = caller(request)
    import_runs.apply(_find(request, id), actor=audit_actor_of(principal), now=principal.now)
    return _show(_find(request, id))


@imports_routes.delete("/{int:id}", Permission.ADMINISTER, status=204, answers=None, summary="Throw it away")
def delete(request: HttpRequest, id: int) -> None:
    import_runs.discard(_find(request, id))


def _find(request: HttpRequest, import_id: int) -> ImportRun:
    run = import_runs.latest_run(caller(request).now)
    if run is None or run.pk != import_id:
        raise Rejected("not_found", NO_SUCH_OBJECT(label=Term("import"), name=str(import_id)))
    return run


def _show(run: ImportRun) -> dict[str, Any]:
    return show(
        ImportSchema,
        run,
        findings=[{name: _read(value) for name, value in stored.items()} for stored in run.findings],
        refusals=[_read(stored) for stored in run.refusals],
    )


def _read(stored: Any) -> Any:
    """A stored reason as the API shows it; a text as it is."""
    return stored if isinstance(stored, str) else show_reason(reason_from_json(stored))
