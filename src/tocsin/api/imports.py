"""Imports from other products: start one, follow its progress, read plan and report, apply or discard it."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from pydantic import BaseModel, ConfigDict

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema
from tocsin.api.framework.auth import AuthorizedRouter, PaginatedList, audit_actor_of, caller, shaped
from tocsin.configure.models import ImportRun
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Term, reason_from_json, sentence, show_reason
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.importers import import_runs
from tocsin.resources.resource import NO_SUCH_OBJECT

routes = AuthorizedRouter("imports")


class ImportBody(BaseModel):
    """The source of an import: an account by its API key, or an exported file in base64. The key is used once and never
    stored."""

    model_config = ConfigDict(extra="forbid")

    product: str
    key: str = ""
    api_base: str = ""
    export: str = ""
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


@routes.get(
    "",
    Permission.ADMINISTER,
    answers=PaginatedList[ImportSchema],
    summary="The import that there is, if there is one. A new one replaces it",
)
def list_imports(request: HttpRequest) -> dict[str, Any]:
    run = import_runs.latest_run(caller(request).now)
    return {"items": [] if run is None else [_show(run)], "next": None}


@routes.post(
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
        with_keys=body.with_keys,
        actor=audit_actor_of(principal),
        now=principal.now,
    )
    return _show(run)


@routes.get("/{int:id}", Permission.ADMINISTER, answers=ImportSchema, summary="How far it is, its plan and its report")
def get(request: HttpRequest, id: int) -> dict[str, Any]:
    return _show(_find(request, id))


@routes.get(
    "/{int:id}/configuration", Permission.ADMINISTER, answers=ConfigurationResponse, summary="What was read, as YAML"
)
def configuration(request: HttpRequest, id: int) -> dict[str, Any]:
    """The YAML is empty once the import has been applied."""
    return {"yaml": import_runs.decrypted_yaml(_find(request, id))}


@routes.post(
    "/{int:id}/apply", Permission.ADMINISTER, status=202, answers=ImportSchema, summary="Apply it: all, or nothing"
)
def apply(request: HttpRequest, id: int) -> dict[str, Any]:
    """Runs in the background. Poll the import until its state is `applied` or `failed`."""
    principal = caller(request)
    import_runs.apply(_find(request, id), actor=audit_actor_of(principal), now=principal.now)
    return _show(_find(request, id))


@routes.delete("/{int:id}", Permission.ADMINISTER, status=204, answers=None, summary="Throw it away")
def delete(request: HttpRequest, id: int) -> None:
    import_runs.discard(_find(request, id))


def _find(request: HttpRequest, import_id: int) -> ImportRun:
    run = import_runs.latest_run(caller(request).now)
    if run is None or run.pk != import_id:
        raise Rejected("not_found", NO_SUCH_OBJECT(label=Term("import"), name=str(import_id)))
    return run


def _show(run: ImportRun) -> dict[str, Any]:
    return shaped(
        ImportSchema,
        run,
        findings=[{name: _read(value) for name, value in stored.items()} for stored in run.findings],
        refusals=[_read(stored) for stored in run.refusals],
    )


def _read(stored: Any) -> Any:
    """A stored reason as the API shows it; a text as it is."""
    return stored if isinstance(stored, str) else show_reason(reason_from_json(stored))
