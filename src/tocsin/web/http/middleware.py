"""Request middleware: one `now` and one id per request, the user's time zone and language, sign-in required by
default."""

from __future__ import annotations

import logging
import secrets
import zoneinfo
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone, translation

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.web.http import errors
from tocsin.web.http.machine_paths import MACHINE_PATHS
from tocsin.web.http.request import HTMX_HEADER, PARTIAL_HEADER

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
