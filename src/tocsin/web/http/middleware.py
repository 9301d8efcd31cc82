"""Request middleware: one `now` and one id per request, the user's time zone and language, sign-in required by
default.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import MissingFileError

from tocsin.access import boundary
from tocsin.access.audit import AuditActor, record_refusal
from tocsin.access.boundary import Boundary
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.people import permissions
from tocsin.people.permissions import Viewer
from tocsin.resources import visibility
from tocsin.web.http.assets import COMPRESSED, PREFIX, STATIC, static_url
from tocsin.web.http.request import HTMX_HEADER, PARTIAL_HEADER, address_of, moment_of

# ---------- machine paths
# URL prefixes for programs. These paths authenticate without a session and respond in their own formats.

MACHINE_PATHS = (
    *("/api/", "/hooks/", "/in/", "/mcp", "/scim/", "/v2/", "/.well-known/"),
    *("/healthz", "/readyz", "/metrics"),
)


# ---------- errors


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Return 400, or 413 if the request exceeds the size limit of forms."""
    if isinstance(exception, RequestDataTooBig):
        text = _("Uploads are limited to 5 MB. Go back and use less data; test larger messages from the log.")
        return _error_response(request, 413, _("Too large"), text)
    return _error_response(request, 400, _("Bad request"), _("Go back and try again."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Return 403 with the reason of the PermissionDenied, and record the refusal."""
    if request.user.is_authenticated:
        actor = AuditActor.from_user(request.user, "web", address_of(request), limits=None)
        record_refusal(actor, f"{request.method} {request.path}", now=moment_of(request))
    detail = str(exception) or _("Your role does not have this permission.")
    return _error_response(request, 403, _("Access denied"), f"{detail} {_('An administrator can change your role.')}")


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Return 403 for a form with a missing or outdated CSRF token."""
    text = _("The form has expired, or cookies are blocked. Go back, reload the page and submit it again.")
    return _error_response(request, 403, _("Form expired"), text)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Return 404 with the sentence of the Http404, if it has one."""
    detail = exception.args[0] if exception.args and isinstance(exception.args[0], str) else ""
    text = detail or _("Check the address. The page may have been deleted.")
    return _error_response(request, 404, _("Page not found"), text)


def failed(request: HttpRequest) -> HttpResponseBase:
    """Return 500, or 503 while the database is unavailable. Django calls this inside the exception handler."""
    if database.is_unavailable(sys.exception()):
        text = _(
            "The database is not responding. Reload the page in a moment; if the problem "
            "persists, contact an administrator."
        )
        if request.path_info.startswith(MACHINE_PATHS):
            response = _json_error(503, "temporary", "The database does not answer. Try again.")
        else:
            response = _error_response(request, 503, _("Tocsin is temporarily unavailable"), text)
        response["Retry-After"] = "5"
        return response
    if request.path_info.startswith(MACHINE_PATHS):
        template = "Something went wrong in Tocsin, and was logged as {}. Quote that number when you ask."
        return _json_error(500, "internal", template.format(getattr(request, "id", "–")))
    text = _("The error was logged. Try again; if it persists, give an administrator this ID.")
    return _error_response(request, 500, _("Internal error"), text)


def tocsin_error(request: HttpRequest, error: Permanent | Temporary) -> HttpResponseBase:
    """Return 503 for a Temporary and 500 for a Permanent error, with the error's own sentence."""
    if isinstance(error, Temporary):
        return _error_response(
            request, 503, _("Temporarily unavailable"), f"{error.full_reason.localized()} {_('Try again in a moment.')}"
        )
    return _error_response(request, 500, _("Administrator required"), error.full_reason.localized())


def _json_error(status: int, code: str, detail: str) -> HttpResponse:
    """Return a JSON error in the API's format for machine paths, for failures before the API or webhook view ran."""
    return JsonResponse({"error": code, "detail": detail}, status=status)


def _error_response(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    """Render the error without the application shell, because the shell itself may be the failing part."""
    context: dict[str, Any] = {
        "title": title,
        "text": text,
        "status": status,
        "id": getattr(request, "id", "–"),
        "LANGUAGE_CODE": get_language() or "en",
        "request": request,
        "theme": _theme(request) if status < 500 else "",
    }
    return HttpResponse(render_to_string("error.html", context), status=status)


def _theme(request: HttpRequest) -> str:
    user = getattr(request, "user", None)
    return str(user.theme) if user is not None and user.is_authenticated else ""


#: The views of client observers, besides those of every account.
CLIENT_VIEWS = frozenset(
    {
        "client_alerts",
        "client_history",
        "client_alert",
        "reports",
        "sla_report",
        "client_month",
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
    """Reads the clock once per request, assigns the request id that error responses show, and keeps the cookies of an
    encrypted response to encrypted requests."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.now = clock.now()  # type: ignore[attr-defined]
        request.id = secrets.token_hex(4)  # type: ignore[attr-defined]
        _replace_host_header(request)
        response = self.get_response(request)
        if request.is_secure():
            for cookie in response.cookies.values():
                cookie["secure"] = True
        return response

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
            return tocsin_error(request, error)
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
    base = environment.current().base_url_of(request.META.get("HTTP_HOST", ""))
    if base:
        request.META["HTTP_HOST"] = urlsplit(base).netloc


def _id(request: HttpRequest) -> str:
    return str(getattr(request, "id", "-"))


# ---------- static files
# Serves the static files of `web.http.assets`, the service worker and the offline view.


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise that also serves URLs with another version's digest, so views rendered before an upgrade keep
    working."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:  # type: ignore[override] # Django's middleware signature
        path = request.path_info
        if path.startswith(PREFIX) and not path.startswith(static_url()):
            return self._serve_other_version(request)
        response: HttpResponseBase = super().__call__(request)  # type: ignore[no-untyped-call]
        return response

    def get_static_file(self, path: str, url: str, stat_cache: Mapping[str, os.stat_result] | None = None) -> Any:
        """Look up a file as WhiteNoise does, but ignore a compressed variant older than its file (left over from an
        edit)."""
        variants = [path, *(path + ending for ending in COMPRESSED)]
        stats = (
            {variant: os.stat(variant) for variant in variants if os.path.isfile(variant)}  # noqa: PTH116, PTH113
            if stat_cache is None
            else stat_cache
        )
        if path not in stats:
            raise MissingFileError(path)
        modified_at = stats[path].st_mtime
        fresh = {
            variant: stats[variant]
            for variant in variants
            if variant in stats and stats[variant].st_mtime >= modified_at
        }
        return super().get_static_file(path, url, stat_cache=fresh)  # type: ignore[no-untyped-call]

    def _serve_other_version(self, request: HttpRequest) -> HttpResponseBase:
        _, _, name = request.path_info[len(PREFIX) :].partition("/")
        request.path_info = static_url() + name
        response: HttpResponseBase = super().__call__(request)  # type: ignore[no-untyped-call]
        response["Cache-Control"] = "no-cache"
        return response


# ---------- pwa
# Progressive web app: the service worker at the site root and the offline view.
#
# Both are stored on the device, so neither contains data about a user or an alert.

#: Files that every view loads. The service worker precaches them, so the first view after installation needs only HTML.
PRECACHED_FILES = (
    "vendor/inter/inter.css",
    "vendor/inter/files/inter-latin-wght-normal.woff2",
    "vendor/tabler/tabler.min.css",
    "vendor/htmx/htmx.min.js",
    "vendor/icons.svg",
    "tocsin/tokens.css",
    "tocsin/tocsin.css",
    "tocsin/app.js",
    "tocsin/keyboard.js",
    "tocsin/palette.js",
    "tocsin/live.js",
    "tocsin/offline.js",
    "tocsin/bell.svg",
    "tocsin/icons/app-192.png",
    "tocsin/icons/badge-96.png",
)

_SCRIPT = STATIC / "tocsin" / "service-worker.js"


@login_not_required
@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """Serve the service worker from the root, so that its scope covers every view. Browsers check it for
    updates daily."""
    version = static_url().strip("/").rpartition("/")[2]
    config = {
        "version": version,
        "static": static_url(),
        "files": [static(name) for name in PRECACHED_FILES],
        "icon": static("tocsin/icons/app-192.png"),
        "badge": static("tocsin/icons/badge-96.png"),
        "push": static("tocsin/push-worker.js"),
        "offline": reverse("offline"),
        "texts": {
            "details": _("Open Tocsin for details."),
            "unreachable": _("Tocsin can't be reached. Nothing was changed."),
            "tap": _("Tap to open the alert and respond there."),
        },
    }
    text = f"const tocsin = {json.dumps(config)};\n{_SCRIPT.read_text()}"
    return HttpResponse(text, content_type="text/javascript; charset=utf-8", headers={"Cache-Control": "no-cache"})


@login_not_required
@require_safe
def offline(request: HttpRequest) -> HttpResponse:
    """Render the view that the service worker shows while the server is unreachable."""
    response = render(request, "offline.html")
    response["Cache-Control"] = "no-cache"
    return response
