"""URLs under /api/v1/. Errors outside of Ninja's operations are returned in the API's error format too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import URLPattern, path, re_path

from tocsin.api import docs, errors
from tocsin.api.application import api

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
