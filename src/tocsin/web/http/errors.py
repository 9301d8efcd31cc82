"""Error responses: what happened, what to do next, and a request id to quote. They never show a stack trace."""

from __future__ import annotations

import sys
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from tocsin.access.audit import AuditActor
from tocsin.access.refusals import record_refusal
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary
from tocsin.web.http.machine_paths import MACHINE_PATHS
from tocsin.web.http.request import address_of, moment_of


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
            request,
            503,
            _("Temporarily unavailable"),
            f"{error.full_reason.localized()} {_('Try again in a moment.')}",
        )
    return _error_response(request, 500, _("Administrator required"), error.full_reason.localized())


def _json_error(status: int, code: str, detail: str) -> HttpResponse:
    """Return a JSON error in the API's format for machine paths, for failures before the API or webhook view ran."""
    body = {"error": code, "detail": detail, "fields": {}}
    return JsonResponse(body, status=status)


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
