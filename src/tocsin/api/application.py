"""Assembles the REST API, version 1, from its resources, with JSON parsing, rendering and a single error format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, wraps
from typing import Any, cast

import msgspec
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import URLPattern, path, re_path
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.parser import Parser
from ninja.renderers import BaseRenderer

from tocsin.api import (
    alerts,
    calls,
    docs,
    errors,
    escalation_policies,
    inbound_messages,
    integrations,
    maintenance_windows,
    notifications,
    on_call,
    outbound_integrations,
    personal_settings,
    providers,
    reports,
    schedules,
    sign_in,
    swaps,
    system,
    users,
    workflows,
)
from tocsin.api.docs import DocsPage
from tocsin.api.framework import resources
from tocsin.api.framework.auth import record_refusal
from tocsin.core.errors import Permanent, Rejected, Temporary

#: In the order of the documentation.
_RESOURCES = (
    alerts.routes,
    alerts.client_alerts_routes,
    inbound_messages.routes,
    notifications.notifications_routes,
    notifications.routes,
    notifications.mail_replies_routes,
    notifications.sandbox_messages_routes,
    integrations.routes,
    outbound_integrations.routes,
    workflows.routes,
    inbound_messages.heartbeats_routes,
    escalation_policies.routes,
    integrations.client_tables_routes,
    calls.call_routes_routes,
    calls.routes,
    inbound_messages.delayed_alerts_routes,
    maintenance_windows.routes,
    users.routes,
    users.preferences_routes,
    personal_settings.contact_methods_routes,
    personal_settings.notification_rules_routes,
    personal_settings.push_devices_routes,
    users.groups_routes,
    sign_in.routes,
    sign_in.linked_identities_routes,
    sign_in.signed_in_devices_routes,
    on_call.calendar_routes,
    schedules.routes,
    swaps.routes,
    swaps.swaps_routes,
    on_call.routes,
    personal_settings.out_of_office_routes,
    personal_settings.shift_reminders_routes,
    on_call.calendar_feeds_routes,
    schedules.holiday_calendars_routes,
    schedules.support_hours_routes,
    providers.routes,
    notifications.pause_routes,
    sign_in.tokens_routes,
    sign_in.service_accounts_routes,
    system.settings_routes,
    system.audit_log_routes,
    system.routes,
    reports.routes,
    reports.client_reports_routes,
    system.imports_routes,
)
_DESCRIPTION = """\
Send `Authorization: Bearer TOKEN`; a token acts as its user. `{id}` of a named object may be its name, URL-encoded.
Lists take `limit` (1–500, default 50) and `cursor`, and answer `{"items": […], "next": …}`; a filter is a field's name.
Errors are `{"error": coarse code, "detail": text}`, with `field` if one is wrong, and `fields` if several are.
A reason is `{"text": …, "code": …, "data": {…}}`, or null; texts are in the language of
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
        resources.resolve(schema)
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


# ---------- urls
# URLs under /api/v1/. Errors outside of Ninja's operations are returned in the API's error format too.


type ApiView = Callable[..., HttpResponseBase]


def _with_error_format(view: ApiView) -> ApiView:
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
        except Http404:
            response = errors.not_found(request)
        except Exception as error:  # noqa: BLE001 - outermost handler: errors keep the API's format
            response = errors.unexpected(request, error)
        if response.status_code == 405:
            response = errors.not_allowed(request, response["Allow"])
        response.setdefault("Cache-Control", "no-store")
        return response

    wrapped.csrf_exempt = True  # type: ignore[attr-defined] # ApiAuth checks session requests
    return wrapped


def _wrapped_patterns() -> Iterator[URLPattern]:
    for pattern in api.urls[0]:
        assert isinstance(pattern, URLPattern)
        pattern.callback = _with_error_format(pattern.callback)
        yield pattern


app_name = "api"
urlpatterns = [
    path("docs.css", docs.stylesheet),
    *_wrapped_patterns(),
    re_path(r"", _with_error_format(lambda request: errors.not_found(request))),
]
