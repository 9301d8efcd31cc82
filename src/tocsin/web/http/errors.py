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

from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary
from tocsin.web.http.machine_paths import MACHINE_PATHS


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Return 400, or 413 if the request exceeds the size limit of forms."""
    if isinstance(exception, RequestDataTooBig):
        text = _("At most 5 MB can be sent from a page. Go back and paste less; try larger messages from the log.")
        return _error_response(request, 413, _("This is too large"), text)
    return _error_response(
        request, 400, _("This request could not be read"), _("Go back, and try it again from the page.")
    )


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Return 403 with the reason of the PermissionDenied."""
    detail = str(exception) or _("Your role does not reach that far.")
    return _error_response(
        request, 403, _("You may not do this"), f"{detail} {_('An administrator can change your role.')}"
    )


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Return 403 for a form with a missing or outdated CSRF token."""
    text = _("The page was open for too long, or cookies are blocked. Go back, load it again, and send it once more.")
    return _error_response(request, 403, _("This form is out of date"), text)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Return 404 with the sentence of the Http404, if it has one."""
    detail = exception.args[0] if exception.args and isinstance(exception.args[0], str) else ""
    text = detail or _("The address may be mistyped, or what was there is gone.")
    return _error_response(request, 404, _("There is nothing here"), text)


def failed(request: HttpRequest) -> HttpResponseBase:
    """Return 500, or 503 while the database is unavailable. Django calls this inside the exception handler."""
    if database.is_unavailable(sys.exception()):
        text = _("The database does not answer. Load the page again in a moment; if it stays, tell an administrator.")
        if request.path_info.startswith(MACHINE_PATHS):
            response = _json_error(503, "temporary", "The database does not answer. Try again.")
        else:
            response = _error_response(request, 503, _("Tocsin cannot answer for the moment"), text)
        response["Retry-After"] = "5"
        return response
    if request.path_info.startswith(MACHINE_PATHS):
        template = "Something went wrong in Tocsin, and was logged as {}. Quote that number when you ask."
        return _json_error(500, "internal", template.format(getattr(request, "id", "–")))
    text = _("It is noted in the log. Try again; if it stays, tell an administrator this id.")
    return _error_response(request, 500, _("Something failed in Tocsin"), text)


def tocsin_error(request: HttpRequest, error: Permanent | Temporary) -> HttpResponseBase:
    """Return 503 for a Temporary and 500 for a Permanent error, with the error's own sentence."""
    if isinstance(error, Temporary):
        return _error_response(
            request,
            503,
            _("This does not work just now"),
            f"{error.full_reason.localized()} {_('Try again in a moment.')}",
        )
    return _error_response(request, 500, _("This needs an administrator"), error.full_reason.localized())


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
