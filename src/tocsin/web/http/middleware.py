"""What happens around every page: one `now`, an id to quote, the reader's zone and language, sign-in by default."""

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
from tocsin.web.http.machine_paths import PROGRAMS
from tocsin.web.http.request import IN_PLACE, PART

type Respond = Callable[[HttpRequest], HttpResponseBase]

log = logging.getLogger(__name__)


class RequestTimeMiddleware:
    """Reads the clock once, and gives the request an id that is shown where a page fails."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.now = clock.now()  # type: ignore[attr-defined]
        request.id = secrets.token_hex(4)  # type: ignore[attr-defined]
        _take_public_host(request)
        return self.respond(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Logs what the page only names by its id. What a person can do about it, where that is known, it says."""
        if database.is_unavailable(error):
            log.warning("Request %s: the database does not answer: %s", _id(request), error)
            return None
        if isinstance(error, Http404 | PermissionDenied | SuspiciousOperation):
            return None
        log.error("Request %s: %s %s failed.", _id(request), request.method, request.path, exc_info=error)
        if isinstance(error, Permanent | Temporary) and not request.path_info.startswith(PROGRAMS):
            return errors.trouble(request, error)
        return None


class UserPreferencesMiddleware:
    """Activates the signed-in person's time zone and language."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        user = request.user
        if not user.is_authenticated:
            return self.respond(request)
        with timezone.override(zone(user.time_zone)):
            if user.language not in dict(settings.LANGUAGES):
                return self.respond(request)
            with translation.override(user.language):
                response = self.respond(request)
                response.setdefault("Content-Language", user.language)
                return response


class SignInRequiredMiddleware(LoginRequiredMiddleware):
    """Every page needs a signed-in person unless its view says otherwise; programs' doors are left alone."""

    def process_view(
        self,
        request: HttpRequest,
        view_func: Callable[..., HttpResponseBase],
        view_args: tuple[Any, ...],
        view_kwargs: dict[str, Any],
    ) -> HttpResponseBase | None:
        if request.path_info.startswith(PROGRAMS):
            return None
        response = super().process_view(request, view_func, view_args, view_kwargs)
        if response is not None and (PART in request.headers or IN_PLACE in request.headers):
            # The page to sign in would stand in the middle of another one: whoever asked says it in its own words.
            return HttpResponse(status=401)
        return response


def zone(name: str) -> zoneinfo.ZoneInfo:
    """The zone by that name; UTC when it is not known here."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return zoneinfo.ZoneInfo("UTC")


def _take_public_host(request: HttpRequest) -> None:
    """With a public address set, that is the host; what the request names is never trusted for a link."""
    base = environment.current().base_url
    if base:
        request.META["HTTP_HOST"] = urlsplit(base).netloc


def _id(request: HttpRequest) -> str:
    return str(getattr(request, "id", "-"))
