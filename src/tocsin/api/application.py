"""Assembles the REST API, version 1, from its resources, with JSON parsing, rendering and a single error format."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import msgspec
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.parser import Parser
from ninja.renderers import BaseRenderer

from tocsin.api import errors
from tocsin.api.alerts import (
    alert_commands,
    alert_creation,
    alerts,
    client_alerts,
    delayed_alerts,
    manual_workflows,
    pause,
)
from tocsin.api.docs import DocsPage
from tocsin.api.framework import spec_schemas
from tocsin.api.framework.auth import record_refusal
from tocsin.api.inbound import (
    client_tables,
    heartbeats,
    inbound_messages,
    integration_preview,
    integration_versions,
    integrations,
    maintenance_windows,
    message_replay,
)
from tocsin.api.notify import deliveries, mail_replies, notifications, providers, sandbox_messages
from tocsin.api.oncall import (
    calendar,
    calendar_feeds,
    handovers,
    holiday_calendars,
    on_call,
    out_of_office,
    overrides,
    readiness,
    schedule_preview,
    schedules,
    shift_reminders,
    support_hours,
    swaps,
)
from tocsin.api.people import (
    contact_methods,
    groups,
    identity_providers,
    linked_identities,
    notification_rules,
    preferences,
    push_devices,
    scim_tokens,
    service_accounts,
    signed_in_devices,
    tokens,
    users,
)
from tocsin.api.response import escalation_policies, outbound_integrations, workflows
from tocsin.api.system import audit_log, fairness, imports, reports, settings, system
from tocsin.core.errors import Permanent, Rejected, Temporary

#: In the order of the documentation.
_RESOURCES = (
    alerts.routes,
    client_alerts.routes,
    inbound_messages.routes,
    notifications.routes,
    deliveries.routes,
    mail_replies.routes,
    sandbox_messages.routes,
    integrations.routes,
    outbound_integrations.routes,
    workflows.routes,
    heartbeats.routes,
    escalation_policies.routes,
    client_tables.routes,
    delayed_alerts.routes,
    maintenance_windows.routes,
    users.routes,
    preferences.routes,
    contact_methods.routes,
    notification_rules.routes,
    push_devices.routes,
    groups.routes,
    identity_providers.routes,
    linked_identities.routes,
    signed_in_devices.routes,
    calendar.routes,
    schedules.routes,
    overrides.routes,
    swaps.routes,
    readiness.routes,
    out_of_office.routes,
    shift_reminders.routes,
    calendar_feeds.routes,
    holiday_calendars.routes,
    support_hours.routes,
    providers.routes,
    pause.routes,
    tokens.routes,
    service_accounts.routes,
    settings.routes,
    audit_log.routes,
    system.routes,
    reports.routes,
    imports.routes,
)
#: Modules that add endpoints to the routers of the resources above.
_ADDITIONAL_MODULES = (
    alert_creation,
    alert_commands,
    manual_workflows,
    integration_preview,
    integration_versions,
    message_replay,
    on_call,
    schedule_preview,
    handovers,
    fairness,
    scim_tokens,
)

_DESCRIPTION = """\
Send `Authorization: Bearer TOKEN`; a token acts as its user. `{id}` of a named object may be its name, URL-encoded.
Lists take `limit` (1–500, default 50) and `cursor`, and answer `{"items": […], "next": …}`; a filter is a field's name.
Errors are `{"error": coarse code, "detail": text, "reason_code": code, "reason_data": {…}, "fields": {…}}`.
Beside each `reason` are its `reason_code` and `reason_data`; texts are in the language of
`Accept-Language`, else in English.
A configured object has an `ETag`; sent back as `If-Match`, it has a change of another state of it refused (412).
"""


class _Renderer(BaseRenderer):
    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return msgspec.json.encode(data)


class _Parser(Parser):
    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        return cast(dict[str, Any], errors.read_json(request.body))


class _Api(NinjaAPI):
    def get_openapi_schema(self, **_kwargs: Any) -> OpenAPISchema:
        """Return the OpenAPI document with the schemas of errors and of configured objects. It is made once."""
        return self._openapi

    @cached_property
    def _openapi(self) -> OpenAPISchema:
        schema = super().get_openapi_schema()
        schema["components"]["schemas"]["Error"] = errors.ERROR_SCHEMA
        spec_schemas.resolve(schema)
        return schema


def _rejected(request: HttpRequest, error: Rejected) -> HttpResponse:
    """Answer a rejection; a refusal is recorded in the audit log."""
    if error.code == "forbidden":
        record_refusal(request)
    return errors.rejected(request, error)


def build() -> NinjaAPI:
    """Return the API with all its resources."""
    api = _Api(
        title="Tocsin",
        version="1",
        description=_DESCRIPTION,
        urls_namespace="api",
        docs=DocsPage(),
        renderer=_Renderer(),
        parser=_Parser(),
    )
    for error, handler in (
        (Rejected, _rejected),
        (Temporary, errors.temporary),
        (Permanent, errors.permanent),
        (ValidationError, errors.invalid),
        (HttpError, errors.http_error),
        (Http404, errors.not_found),
        (Exception, errors.unexpected),
    ):
        api.add_exception_handler(error, cast(Any, handler))
    for routes in _RESOURCES:
        api.add_router(f"/{routes.resource_name}", routes.router)
    return api


api = build()
