"""Request middleware: one `now` and one id per request, the user's time zone and language, sign-in required by
default."""

from __future__ import annotations

import logging
import secrets
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject

from tocsin.access import boundary
from tocsin.access.boundary import Boundary
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.people import permissions
from tocsin.people.permissions import Viewer
from tocsin.resources import visibility
from tocsin.web.http import errors
from tocsin.web.http.machine_paths import MACHINE_PATHS
from tocsin.web.http.request import HTMX_HEADER, PARTIAL_HEADER

#: The views of client observers, besides those of every account.
CLIENT_VIEWS = frozenset(
    {
        "client_alerts",
        "client_history",
        "client_alert",
        "reports",
        "sla_report",
        "report_file",
        # The own account.
        "me",
        "browser_sessions",
        "end_session",
        "end_all_sessions",
        "remove_identity_link",
        "new_token",
        "revoke_token",
    }
)
_SAFE_METHODS = ("GET", "HEAD")
_FOR_EVERYBODY = ("account/", "api/", "status/", "service-worker.js", "offline/")

type GetResponse = Callable[[HttpRequest], HttpResponseBase]

log = logging.getLogger(__name__)


class RequestTimeMiddleware:
    """Reads the clock once per request and assigns the request id that error responses show."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.now = clock.now()  # type: ignore[attr-defined]
        request.id = secrets.token_hex(4)  # type: ignore[attr-defined]
        _replace_host_header(request)
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Log the exception under the request id. Permanent and Temporary errors become a response with their own
        sentence."""
        if database.is_unavailable(error):
            log.warning("Request %s: the database does not answer: %s", _id(request), error)
            return None
        if isinstance(error, Http404 | PermissionDenied | SuspiciousOperation):
            return None
        log.error("Request %s: %s %s failed.", _id(request), request.method, request.path, exc_info=error)
        if isinstance(error, Permanent | Temporary) and not request.path_info.startswith(MACHINE_PATHS):
            return errors.tocsin_error(request, error)
        return None


class UserPreferencesMiddleware:
    """Activates the time zone and language of the signed-in user."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        user = request.user
        if not user.is_authenticated:
            return self.get_response(request)
        with timezone.override(zone(user.time_zone)):
            if user.language not in dict(settings.LANGUAGES):
                return self.get_response(request)
            with translation.override(user.language):
                response = self.get_response(request)
                response.setdefault("Content-Language", user.language)
                return response


class BoundaryMiddleware:
    """Limits all queries of a request to what its user may see. Requests without a session begin without a limit: the
    views that recognise their user by something else set it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        user = request.user
        limit = None
        if user.is_authenticated:
            viewer = SimpleLazyObject(partial(permissions.viewer, user, None))
            request.viewer = viewer  # type: ignore[attr-defined]
            limit = visibility.boundary_of_user(user, cast(Viewer, viewer))
        with boundary.limited_to(limit):
            # One transaction names the viewer to the database once. Without it, each statement does.
            is_read = limit is not None and request.method in _SAFE_METHODS
            with transaction.atomic() if is_read else nullcontext():
                response = self.get_response(request)
            limit = boundary.current()
        if response.streaming and limit is not None:
            # The content is made after this function has returned.
            response.streaming_content = _limited(iter(response), limit)  # type: ignore[attr-defined]
        return response

    def process_view(
        self,
        request: HttpRequest,
        view_func: Callable[..., HttpResponseBase],
        view_args: tuple[Any, ...],
        view_kwargs: dict[str, Any],
    ) -> HttpResponseBase | None:
        """Keep client observers on their own views. The API decides by itself."""
        limit, match = boundary.current(), request.resolver_match
        if limit is None or not limit.clients or match is None or match.route.startswith(_FOR_EVERYBODY):
            return None
        if match.url_name in ("home", "alerts"):
            return redirect("client_alerts")
        if match.url_name == "alert":
            return redirect("client_alert", view_kwargs["number"])
        if match.url_name not in CLIENT_VIEWS:
            raise Http404
        return None


def _limited(parts: Iterator[bytes], limit: Boundary) -> Iterator[bytes]:
    while True:
        with boundary.limited_to(limit):
            part = next(parts, None)
        if part is None:
            return
        yield part


class SignInRequiredMiddleware(LoginRequiredMiddleware):
    """Requires sign-in for every view that is not exempt. Machine paths authenticate by themselves and are skipped."""

    def process_view(
        self,
        request: HttpRequest,
        view_func: Callable[..., HttpResponseBase],
        view_args: tuple[Any, ...],
        view_kwargs: dict[str, Any],
    ) -> HttpResponseBase | None:
        if request.path_info.startswith(MACHINE_PATHS):
            return None
        response = super().process_view(request, view_func, view_args, view_kwargs)
        if response is not None and (PARTIAL_HEADER in request.headers or HTMX_HEADER in request.headers):
            # A redirect would render the sign-in form inside another view, so the script gets a 401 and reacts itself.
            return HttpResponse(status=401)
        return response


def zone(name: str) -> zoneinfo.ZoneInfo:
    """Return the time zone `name`, or UTC if it is unknown on this machine."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return zoneinfo.ZoneInfo("UTC")


def _replace_host_header(request: HttpRequest) -> None:
    """Replace the Host header by the configured public address, so that a forged header never ends up in a link."""
    base = environment.current().base_url
    if base:
        request.META["HTTP_HOST"] = urlsplit(base).netloc


def _id(request: HttpRequest) -> str:
    return str(getattr(request, "id", "-"))
